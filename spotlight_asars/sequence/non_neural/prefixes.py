"""
The events before each target, as references into flat arrays, and the events of a training part, each once.

:class:`Histories` are what a system may read of the events before a target. :class:`Prefixes` are such histories in the
rows of a log, ``LiveHistories`` of ``live.py`` those of live sessions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import changes


@dataclass(frozen=True)
class NewestEvents:
    """The newest events of each target's session, ordered by target, then by time: arrays of shape (events,)."""

    target: np.ndarray
    lag: np.ndarray  # 1 is the newest event
    item: np.ndarray
    bin: np.ndarray  # of its dwell


class Histories(Protocol):
    """
    What a system reads of the events before each of some targets. A slice is such an object too.

    Attributes
    ----------
    lengths : int64 array of shape (targets,)
        Number of events of the session.
    has_earlier : bool array of shape (targets,)
        Whether the row has earlier sessions.
    costs : int64 array of shape (targets,)
        How many cells it takes to read everything.
    """

    lengths: np.ndarray
    has_earlier: np.ndarray
    costs: np.ndarray

    def __len__(self) -> int:
        """Return the number of targets."""

    def __getitem__(self, chosen: slice | np.ndarray) -> "Histories":
        """Return the histories of some targets."""

    def last_items(self) -> np.ndarray:
        """Return the last item of each session, the padding if there is none: int64, (targets,)."""

    def last_times(self) -> np.ndarray:
        """Return the time of each session's last event, as in the TIME channel: int64, (targets,)."""

    def newest_events(self, most: int) -> NewestEvents:
        """Return the newest events of each session, at most this many."""

    def distinct_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the distinct items of each session, ordered by target, then by their last event.

        Returns
        -------
        target, item, steps : int arrays of shape (entries,)
            `steps` is the number of steps from the item's last event to the target, 1 for the newest event.
        """

    def session_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the items of each session, with what is counted of them.

        Returns
        -------
        target, item, count, dwell : int arrays of shape (entries,)
            `count` is a number of events, `dwell` the sum of their dwell bins above the unknown bin, without that of
            the newest event. An item may have several entries, which add up.
        """

    def earlier_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the items of the row's earlier sessions.

        Returns
        -------
        target, item, count : int arrays of shape (entries,)
            Numbers of events; those of an item with several entries add up.
        """


def earlier_shares(histories: Histories) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return each item's share of the events of the row's earlier sessions.

    Returns
    -------
    target, item, share : arrays of shape (entries,)
        The shares of an item with several entries add up.
    """
    target, item, count = histories.earlier_items()
    total = np.bincount(target, count, minlength=len(histories))  # (targets,)
    return target, item, count / total[target]


@dataclass(frozen=True)
class RowEvents:
    """
    The events of some rows, shared by all slices of their prefixes.

    Attributes
    ----------
    items, bins, times : int32 arrays of shape (events,)
        Item ids, dwell bins, and times as in the TIME channel.
    piece : int64 array of shape (events,)
        Which run of one session inside one row the event belongs to, see :func:`session_pieces`.
    """

    items: np.ndarray
    bins: np.ndarray
    times: np.ndarray
    piece: np.ndarray

    @cached_property
    def next_same(self) -> np.ndarray:
        """The next event of the same item in the same piece, or the number of events: int64, (events,)."""
        items, piece = self.items, self.piece
        order = np.lexsort((items, piece))  # stable: by time inside
        next_same = np.full(len(items), len(items), dtype=np.int64)
        again = (piece[order][1:] == piece[order][:-1]) & (items[order][1:] == items[order][:-1])
        next_same[order[:-1][again]] = order[1:][again]
        return next_same


@dataclass(frozen=True)
class Prefixes:
    """
    The events before each target: references into flat arrays, 24 bytes a target. A slice is such an object too.

    Attributes
    ----------
    events : RowEvents
        Of all rows.
    row_begin, begin, end : int64 arrays of shape (targets,)
        Before target t, its row has the events ``row_begin[t]:begin[t]`` of earlier sessions and ``begin[t]:end[t]`` of
        the target's own session; event ``end[t]`` is the target.
    """

    events: RowEvents
    row_begin: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.end)

    def __getitem__(self, chosen: slice | np.ndarray) -> "Prefixes":
        return Prefixes(self.events, self.row_begin[chosen], self.begin[chosen], self.end[chosen])

    @property
    def lengths(self) -> np.ndarray:
        """Number of events of the session before each target: (targets,)."""
        return self.end - self.begin

    @property
    def has_earlier(self) -> np.ndarray:
        """See :class:`Histories`."""
        return self.row_begin < self.begin

    @property
    def costs(self) -> np.ndarray:
        """Number of events of the row before each target: (targets,)."""
        return self.end - self.row_begin

    def last_items(self) -> np.ndarray:
        """See :class:`Histories`."""
        return self._last(self.events.items, PADDING_ITEM)

    def last_times(self) -> np.ndarray:
        """See :class:`Histories`."""
        return self._last(self.events.times, UNKNOWN_TIME)

    def _last(self, values: np.ndarray, empty: int) -> np.ndarray:
        """Return the value (events,) of the last event before each target, `empty` if there is none: (targets,)."""
        last = np.full(len(self), empty, dtype=np.int64)
        some = self.end > self.begin
        last[some] = values[self.end[some] - 1]
        return last

    def newest_events(self, most: int) -> NewestEvents:
        """See :class:`Histories`."""
        begin = np.maximum(self.begin, self.end - most)
        event, target, _ = flat_positions(begin, self.end - begin)
        items, bins = (values[event].astype(np.int64) for values in (self.events.items, self.events.bins))
        return NewestEvents(target, self.end[target] - event, items, bins)

    def distinct_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Histories`."""
        event, target, _ = flat_positions(self.begin, self.lengths)
        last = self.events.next_same[event] >= self.end[target]  # the last event of each item
        event, target = event[last], target[last]
        return target, self.events.items[event], self.end[target] - event

    def session_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Histories`."""
        event, target, _ = flat_positions(self.begin, self.lengths)
        dwell = np.maximum(self.events.bins[event] - UNKNOWN_BIN, 0)
        dwell[event == self.end[target] - 1] = 0
        return target, self.events.items[event], np.ones_like(target), dwell

    def earlier_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See :class:`Histories`."""
        event, target, _ = flat_positions(self.row_begin, self.begin - self.row_begin)
        return target, self.events.items[event], np.ones_like(target)

    @classmethod
    def before_targets(cls, sequences: SessionSequences) -> "Prefixes":
        """Return the prefix of each target, in the order of rows, then of time."""
        events = sequences.events
        end = np.flatnonzero(events[:, TARGET])  # (targets,)
        piece = session_pieces(sequences)
        begin = np.flatnonzero(changes(piece))[piece[end]]
        row_begin = np.repeat(sequences.offsets[:-1], sequences.targets_a_row)
        return cls(RowEvents(events[:, ITEM], events[:, DWELL], events[:, TIME], piece), row_begin, begin, end)


def session_pieces(sequences: SessionSequences) -> np.ndarray:
    """Number the runs of one session inside one row, and return the run of each event: (events,)."""
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)
    starts = changes(row)
    starts[1:] |= sequences.session_ids[1:] != sequences.session_ids[:-1]
    return np.cumsum(starts) - 1


def training_events(sequences: SessionSequences) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Return each event of the training part once, session by session.

    A session inside one row is taken as it is. A long history is split into overlapping rows, where a session may
    appear in pieces and an event twice, but each target once. Such a session is rebuilt from its start and its
    targets, with the pieces in order of time, or else in the order of `to_session_sequences` (the earliest first). Of a
    session without targets in several rows, the longest piece is taken.

    Returns
    -------
    items, sessions, times : arrays of shape (counted,)
        Sessions are numbered 0, 1, ... in the order of their ids; times are in the TIME channel's seconds.
    """
    events = sequences.events
    _, session = np.unique(sequences.session_ids, return_inverse=True)
    piece = session_pieces(sequences)
    piece_begin = np.flatnonzero(changes(piece))
    piece_session = session[piece_begin]  # (pieces,)
    is_target, is_start = events[:, TARGET] != 0, events[:, SESSION_START] != 0

    in_pieces = np.bincount(piece_session) > 1  # (sessions,)
    by_target = in_pieces & (np.bincount(session, weights=is_target) > 0)
    by_size = np.lexsort((np.bincount(piece), piece_session))
    fullest = np.zeros(len(piece_begin), dtype=bool)
    fullest[by_size[np.cumsum(np.bincount(piece_session)) - 1]] = True  # the last of each session
    start = np.flatnonzero(is_start)
    start = start[np.lexsort((~is_target[start], session[start]))]  # a start that is itself a target goes first
    first_start = np.zeros(len(events), dtype=bool)
    first_start[start[changes(session[start])]] = True
    counted = np.where(by_target[session], first_start | (is_target & ~is_start), fullest[piece])

    chosen = np.flatnonzero(counted)
    piece_end = np.append(piece_begin[1:], len(events)) - 1
    # The earlier of two pieces begins and ends no later than the other, and one of both earlier.
    began, ended = (events[at, TIME][piece[chosen]] for at in (piece_begin, piece_end))
    # From the last key to the first: session, its start, then piece by piece.
    chosen = chosen[np.lexsort((piece[chosen], began, ended, ~is_start[chosen], session[chosen]))]
    return events[chosen, ITEM], session[chosen], events[chosen, TIME]


def blocks_of(costs: np.ndarray, budget: int) -> Iterator[slice]:
    """Yield consecutive slices that each cost at most `budget` or hold one entry; `costs` has shape (targets,)."""
    total = np.concatenate([[0], np.cumsum(costs)])
    begin = 0
    while begin < len(costs):
        end = int(np.searchsorted(total, total[begin] + budget, side="right")) - 1
        end = max(end, begin + 1)
        yield slice(begin, end)
        begin = end
