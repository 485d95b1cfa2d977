"""The rows of a leak audit, and copies of them with changes."""

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

MOST_ITEMS = 4096  # items whose scores are compared, besides those of the rows
_LATEST_TIME = 2**31 - 1  # the largest value of the TIME channel


@dataclass(frozen=True)
class Change:
    """
    Rows with one change.

    Attributes
    ----------
    what : str
        The change, in words.
    rows : SessionSequences
    origin : int64 array of shape (events,)
        The audited event that each event of `rows` was; -1 for a new one.
    still : bool array of shape (audited events,)
        The events before which no score may move.
    """

    what: str
    rows: SessionSequences
    origin: np.ndarray
    still: np.ndarray


class AuditedRows:
    """
    A few rows, short and long ones, and copies of them with changes.

    An event "at the cut" is one target of each row.

    Parameters
    ----------
    rows : SessionSequences
        With at least one target.
    max_rows : int
        The most rows to take.
    seed : int
        Seed of all draws.

    Attributes
    ----------
    rows : SessionSequences
        The chosen rows.
    numbers : int64 array of shape (rows,)
        Their indices among the given rows.
    row, position : int64 arrays of shape (events,)
        Each event's row among the chosen ones, and its position there.
    items : int64 array of shape (items,)
        Items whose scores are compared; all of them unless the catalogue is large.
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

    @property
    def from_end(self) -> np.ndarray:
        """Number of events behind each event in its row: (events,)."""
        return self.rows.lengths[self.row] - 1 - self.position

    def cuts(self, most: int) -> Iterator[np.ndarray]:
        """Yield each event's distance behind its row's cut, (events,), for cuts spread over the row."""
        count = min(most, int(self.rows.targets_a_row.max()))
        for number in range(count):
            yield self.cut((2 * number + 1) / (2 * count))

    def cut(self, share: float) -> np.ndarray:
        """Return each event's distance behind the target at this share of its row's targets: (events,)."""
        targets = self.rows.targets_a_row
        begin = np.cumsum(targets) - targets
        at_cut = self.position[self.is_target][begin + (targets * share).astype(np.int64)]  # (rows,)
        return self.position - at_cut[self.row]

    def selected(self, chosen: np.ndarray) -> tuple[SessionSequences, np.ndarray]:
        """Return some rows in the given order, and the audited event of each of their events."""
        chosen = np.asarray(chosen)
        origin, _, _ = flat_positions(self.rows.offsets[chosen], self.rows.lengths[chosen])
        return self.rows.rows(chosen), origin

    def kept(self, wanted: np.ndarray) -> tuple[SessionSequences, np.ndarray]:
        """Return rows with only the wanted events (bool, (events,)), and the audited event of each."""
        origin = np.flatnonzero(wanted)
        lengths = np.bincount(self.row[origin], minlength=len(self))
        return self.rows.with_events(self.rows.events[origin], self.rows.session_ids[origin], lengths), origin

    def windows(self, wanted: np.ndarray) -> tuple[SessionSequences, np.ndarray]:
        """
        Return rows of about half the length, and the audited event of each of their events.

        Each row's wanted events (bool, (events,)) are taken for a whole history, and cut as histories are.
        """
        kept, origin = self.kept(wanted)
        most = max(3, int(self.rows.lengths.max()) // 2)  # of shorter rows, every target has as much context as it can
        # The session ids carry each event's number through the cut.
        cut = kept.with_events(kept.events, origin).windows(most, most - 1)
        return cut.with_events(cut.events, self.rows.session_ids[cut.session_ids]), cut.session_ids

    def beside(self, rows: SessionSequences, origin: np.ndarray) -> tuple[SessionSequences, np.ndarray]:
        """Return the rows followed by the audited rows, whose events have no origin."""
        joined = self.rows.with_events(
            np.concatenate([rows.events, self.rows.events]),
            np.concatenate([rows.session_ids, self.rows.session_ids + rows.session_ids.max(initial=-1) + 1]),
            np.concatenate([rows.lengths, self.rows.lengths]),
            np.concatenate([rows.user_ids, self.rows.user_ids]),
        )
        return joined, np.concatenate([origin, np.full(len(self.rows.events), -1)])

    def bounded(self, most: int) -> SessionSequences:
        """Return the same rows with another maximum length."""
        rows = self.rows.rows(np.arange(len(self)))
        rows.max_sequence_length = most
        return rows

    def flagged(self, wanted: np.ndarray) -> SessionSequences:
        """Return the same rows with other targets (bool, (events,))."""
        events = self.rows.events.copy()
        events[:, TARGET] = wanted
        return self.rows.with_events(events)

    def other_future(self, at: np.ndarray) -> Change:
        """Change all events after the cut: items, times, sessions, and dwell from the cut on."""
        events, later = self.rows.events.copy(), at > 0
        events[later, ITEM] = self._other_items(later)
        events[at >= 0, DWELL] = self._other_bins(at >= 0)
        events[:, TIME] = self._later_times(later)
        starts = np.where(later, self._draw.rand(len(at)) < 0.3, events[:, SESSION_START])
        gaps = self._draw.randint(UNKNOWN_BIN, max(self.rows.gap_binning.num_bins, UNKNOWN_BIN + 1), size=len(at))
        events[later, SESSION_GAP_BIN] = np.where(starts, gaps, PADDING_BIN)[later]
        events[:, SESSION_START] = starts
        return self._change("the events after it are changed", events, at <= 0, self._sessions_from(later, starts))

    def other_dwell(self, at: np.ndarray, moves_target: bool) -> Change:
        """Change the dwell of the event before the cut, as if the next event came at another time."""
        events = self.rows.events.copy()
        events[at == -1, DWELL] = self._other_bins(at == -1)
        return self._change("the newest event's dwell is another", events, at < 0 if moves_target else at <= 0)

    def later_target(self, at: np.ndarray, moves_target: bool) -> Change:
        """Delay the event at the cut and all that follow."""
        events = self.rows.events.copy()
        events[:, TIME] = self._later_times(at >= 0)
        starts = (at == 0) & (events[:, SESSION_START] != 0)
        events[starts, SESSION_GAP_BIN] = _others(
            events[starts, SESSION_GAP_BIN], UNKNOWN_BIN, self.rows.gap_binning.num_bins, self._draw
        )
        return self._change("the next event comes later", events, at < 0 if moves_target else at <= 0)

    def other_target(self, at: np.ndarray) -> Change:
        """Give the event at the cut another item."""
        events = self.rows.events.copy()
        events[at == 0, ITEM] = self._other_items(at == 0)
        return self._change("the target has another item", events, at <= 0)

    def other_rows(self, of: np.ndarray) -> Change:
        """Give all events of some rows (bool, (rows,)) other items."""
        events, changed = self.rows.events.copy(), of[self.row]
        events[changed, ITEM] = self._other_items(changed)
        return self._change("the other rows hold other items", events, ~changed)

    def _change(self, what: str, events: np.ndarray, still: np.ndarray, sessions: np.ndarray | None = None) -> Change:
        return Change(what, self.rows.with_events(events, sessions), np.arange(len(events)), still)

    def _sessions_from(self, later: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return session ids for new session starts after the cut; ids up to the cut are kept."""
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
    """Return a different value from `low` up to `stop` for each value; the same one only if there is no other."""
    span = stop - low
    return values if span < 2 else low + (values - low + draw.randint(1, span, size=len(values))) % span
