"""Rows as the leak audit takes them, and what it changes in them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import PADDING_BIN, UNKNOWN_BIN
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    UNKNOWN_TIME,
)
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import changes

MOST_ITEMS = 4096  # whose scores are compared, besides those of the rows
_LATEST_TIME = 2**31 - 1  # that the TIME channel holds


@dataclass(frozen=True)
class Change:
    """
    Rows in which something was changed.

    Attributes
    ----------
    what : str
        What was done, in words.
    rows : SessionSequences
    origin : int64 array of shape (events,)
        Which of the audited events each of `rows` was, -1 for none of them.
    still : bool array of shape (audited events,)
        Before which events no score may move.
    """

    what: str
    rows: SessionSequences
    origin: np.ndarray
    still: np.ndarray


class AuditedRows:
    """
    A few rows, short and long ones, and copies of them with changes.

    Where an event is "at the cut", each row has its own: one of its targets.

    Parameters
    ----------
    rows : SessionSequences
        With at least one target.
    max_rows : int
        How many rows to take.
    seed : int
        Of all that is drawn.

    Attributes
    ----------
    rows : SessionSequences
        The rows taken.
    numbers : int64 array of shape (rows,)
        Their places among those given.
    row, position : int64 arrays of shape (events,)
        Each event's row among those taken, and its place there.
    items : int64 array of shape (items,)
        Whose scores are compared; all of them in a catalogue of usual size.
    """

    def __init__(self, rows: SessionSequences, max_rows: int, seed: int) -> None:
        self._draw = np.random.RandomState(seed)
        able = np.flatnonzero(rows.targets_a_row)
        by_length = able[np.argsort(rows.lengths[able], kind="stable")]
        places = np.linspace(0, len(able) - 1, min(max_rows, len(able))).round().astype(np.int64)
        self.numbers = np.sort(by_length[places])
        self.rows = rows.rows(self.numbers)
        _, self.row, self.position = flat_positions(self.rows.offsets[:-1], self.rows.lengths)
        self.is_target = self.rows.events[:, TARGET] != 0  # (events,)
        self.items = np.arange(PADDING_ITEM + 1, rows.num_items)
        if len(self.items) > MOST_ITEMS:
            some = self._draw.choice(self.items, MOST_ITEMS, replace=False)
            self.items = np.union1d(some, self.rows.events[:, ITEM]).astype(np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def everywhere(self) -> np.ndarray:
        """True for each event."""
        return np.ones(len(self.rows.events), dtype=bool)

    def cuts(self, most: int) -> Iterator[np.ndarray]:
        """How far each event lies behind its row's cut, (events,); for as many cuts, over all of each row."""
        count = min(most, int(self.rows.targets_a_row.max()))
        for number in range(count):
            yield self.cut((2 * number + 1) / (2 * count))

    def cut(self, share: float) -> np.ndarray:
        """How far each event lies behind the target this far through its row's targets, (events,)."""
        targets = self.rows.targets_a_row
        begin = np.cumsum(targets) - targets
        at_cut = self.position[self.is_target][begin + (targets * share).astype(np.int64)]  # (rows,)
        return self.position - at_cut[self.row]

    def selected(self, chosen: np.ndarray) -> tuple[SessionSequences, np.ndarray]:
        """Some rows in another order, and which of the audited events theirs are."""
        chosen = np.asarray(chosen)
        origin, _, _ = flat_positions(self.rows.offsets[chosen], self.rows.lengths[chosen])
        return self.rows.rows(chosen), origin

    def kept(self, wanted: np.ndarray) -> tuple[SessionSequences, np.ndarray]:
        """Rows with the wanted events (bool, (events,)) only, and which of the audited events these are."""
        origin = np.flatnonzero(wanted)
        lengths = np.bincount(self.row[origin], minlength=len(self))
        return self.rows.with_events(self.rows.events[origin], self.rows.session_ids[origin], lengths), origin

    def beside(self, rows: SessionSequences, origin: np.ndarray) -> tuple[SessionSequences, np.ndarray]:
        """Those rows, and after them the audited rows as company, whose events have no origin."""
        joined = self.rows.with_events(
            np.concatenate([rows.events, self.rows.events]),
            np.concatenate([rows.session_ids, self.rows.session_ids + rows.session_ids.max(initial=-1) + 1]),
            np.concatenate([rows.lengths, self.rows.lengths]),
            np.concatenate([rows.user_ids, self.rows.user_ids]),
        )
        return joined, np.concatenate([origin, np.full(len(self.rows.events), -1)])

    def bounded(self, most: int) -> SessionSequences:
        """The same rows, as if up to so many events stood in a row."""
        rows = self.rows.rows(np.arange(len(self)))
        rows.max_sequence_length = most
        return rows

    def flagged(self, wanted: np.ndarray) -> SessionSequences:
        """The same rows with other targets (bool, (events,))."""
        events = self.rows.events.copy()
        events[:, TARGET] = wanted
        return self.rows.with_events(events)

    def other_future(self, at: np.ndarray) -> Change:
        """All after the event at the cut is other: items, dwell, its own included, times and sessions."""
        events, later = self.rows.events.copy(), at > 0
        events[later, ITEM] = self._other_items(later)
        events[at >= 0, DWELL] = self._other_bins(at >= 0)
        events[:, TIME] = self._later_times(later)
        starts = np.where(later, self._draw.rand(len(at)) < 0.3, events[:, SESSION_START])
        gaps = self._draw.randint(UNKNOWN_BIN, max(self.rows.gap_binning.num_bins, UNKNOWN_BIN + 1), size=len(at))
        events[later, SESSION_GAP_BIN] = np.where(starts, gaps, PADDING_BIN)[later]
        events[:, SESSION_START] = starts
        return self._change("the events after it are other ones", events, at <= 0, self._sessions_from(later, starts))

    def other_dwell(self, at: np.ndarray, moves_target: bool) -> Change:
        """The dwell of the event before the one at the cut is another, as if the next came at another time."""
        events = self.rows.events.copy()
        events[at == -1, DWELL] = self._other_bins(at == -1)
        return self._change("the newest event's dwell is another", events, at < 0 if moves_target else at <= 0)

    def later_target(self, at: np.ndarray, moves_target: bool) -> Change:
        """The event at the cut comes later, and with it all that follow."""
        events = self.rows.events.copy()
        events[:, TIME] = self._later_times(at >= 0)
        starts = (at == 0) & (events[:, SESSION_START] != 0)
        events[starts, SESSION_GAP_BIN] = _others(
            events[starts, SESSION_GAP_BIN], UNKNOWN_BIN, self.rows.gap_binning.num_bins, self._draw
        )
        return self._change("the next event comes later", events, at < 0 if moves_target else at <= 0)

    def other_target(self, at: np.ndarray) -> Change:
        """The event at the cut is of another item."""
        events = self.rows.events.copy()
        events[at == 0, ITEM] = self._other_items(at == 0)
        return self._change("the event to be predicted is of another item", events, at <= 0)

    def other_rows(self, of: np.ndarray) -> Change:
        """All events of some rows (bool, (rows,)) are of other items."""
        events, changed = self.rows.events.copy(), of[self.row]
        events[changed, ITEM] = self._other_items(changed)
        return self._change("the other rows hold other items", events, ~changed)

    def _change(self, what: str, events: np.ndarray, still: np.ndarray, sessions: np.ndarray | None = None) -> Change:
        return Change(what, self.rows.with_events(events, sessions), np.arange(len(events)), still)

    def _sessions_from(self, later: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Session ids where events after the cut have other starts; up to the cut they stay."""
        fresh = later & (starts != 0)
        begins = changes(self.row) | fresh
        begin = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))  # (events,), of their stretch
        ids = self.rows.session_ids
        last_kept = np.maximum.accumulate(np.where(later, 0, np.arange(len(ids))))
        return np.where(fresh[begin], ids.max() + 1 + begin, ids[last_kept])

    def _other_items(self, where: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self.items, self.rows.events[where, ITEM])
        return self.items[_others(places, 0, len(self.items), self._draw)]

    def _other_bins(self, where: np.ndarray) -> np.ndarray:
        return _others(self.rows.events[where, DWELL], UNKNOWN_BIN, self.rows.binning.num_bins, self._draw)

    def _later_times(self, where: np.ndarray) -> np.ndarray:
        seconds = self.rows.events[:, TIME].astype(np.int64)
        shift = self._draw.randint(40_000, 400_000, size=len(self))[self.row]  # another hour, another day
        later = np.minimum(seconds + shift, _LATEST_TIME)
        return np.where(where & (seconds != UNKNOWN_TIME), later, seconds)


def _others(values: np.ndarray, low: int, stop: int, draw: np.random.RandomState) -> np.ndarray:
    """For each value another between `low` and `stop`, the same only where there is no other."""
    span = stop - low
    return values if span < 2 else low + (values - low + draw.randint(1, span, size=len(values))) % span
