"""The items that each live session has seen, with what is counted of them."""

from dataclasses import dataclass

import numpy as np

from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sessionization import changes

NEWEST_PLACE, SESSION_PLACE, EARLIER_PLACE = range(3)  # as in PLACES of ``representations.pointer``
_LEAST_CAPACITY = 8
_ITEM, _COUNT, _POSITION, _DWELL = range(4)  # columns of an entry
_TALLIED = 4


@dataclass(frozen=True)
class Tallies:
    """
    Distinct items of some live sessions, ordered by session.

    Attributes
    ----------
    row, item : int64 arrays of shape (entries,)
    counts : int64 array of shape (entries,)
        Number of events.
    positions : int64 array of shape (entries,)
        Position of the latest event in the session, from 1.
    dwell : int64 array of shape (entries,)
        Sum of the events' dwell bins above the unknown bin.
    """

    row: np.ndarray
    item: np.ndarray
    counts: np.ndarray
    positions: np.ndarray
    dwell: np.ndarray


class SessionItems:
    """
    The items that each live session has seen, earlier sessions of the same user first.

    All items lie in one flat array, in which every session owns a range. A session whose range is full first merges
    duplicates, and drops the oldest items beyond the most to keep; if more than half of the range is still in use, it
    moves to the end of the array with twice the capacity. The amortised cost of an event is thus constant, and memory
    grows with the number of distinct items.

    Parameters
    ----------
    sessions : int
    with_tallies : bool, optional
        Whether to count events, positions and dwell, for :meth:`tallies`.
    most : int, optional
        Most distinct items to keep of each session when its range is full; all by default. A range never holds more
        than twice as many.

    Attributes
    ----------
    most : int or None
    """

    def __init__(self, sessions: int, with_tallies: bool = False, most: int | None = None) -> None:
        self.most = most
        self._entries = np.zeros((_TALLIED if with_tallies else 1, 0), dtype=np.int64)  # (columns, entries)
        # For each session: begin and capacity of its range, entries in use, how many of these are of earlier sessions,
        # and the number of events of the present session.
        self._begin, self._capacity, self._taken, self._earlier, self._lengths = np.zeros((5, sessions), dtype=np.int64)
        self._end = 0  # of all ranges

    def append(self, rows: np.ndarray, items: np.ndarray, starts: np.ndarray) -> None:
        """
        Append one item to some sessions.

        Parameters
        ----------
        rows : int array of shape (n,)
            Distinct sessions.
        items : int array of shape (n,)
        starts : bool array of shape (n,)
            Whether the item begins a new session of the same user.
        """
        full = rows[self._taken[rows] == self._capacity[rows]]
        if len(full):
            self._make_room(full)
        self._earlier[rows] = np.where(starts, self._taken[rows], self._earlier[rows])
        self._lengths[rows] = np.where(starts, 0, self._lengths[rows]) + 1
        index = self._begin[rows] + self._taken[rows]
        self._entries[_ITEM, index] = items
        if self._has_tallies:
            self._entries[_COUNT, index], self._entries[_POSITION, index] = 1, self._lengths[rows]
            self._entries[_DWELL, index] = 0
        self._taken[rows] += 1

    def add_dwell(self, rows: np.ndarray, bins: np.ndarray) -> None:
        """Add the dwell bins, int (n,), of the newest events of some sessions, now that they are known."""
        if not self._has_tallies:
            return
        happened = self._taken[rows] > 0
        newest = self._begin[rows] + self._taken[rows] - 1
        self._entries[_DWELL, newest[happened]] += np.maximum(bins - UNKNOWN_BIN, 0)[happened]

    @property
    def _has_tallies(self) -> bool:
        return len(self._entries) == _TALLIED

    def _make_room(self, rows: np.ndarray) -> None:
        """Merge duplicates and drop the oldest items of full ranges, and double those that stay more than half full."""
        index, owner, position = flat_positions(self._begin[rows], self._taken[rows])
        own = position >= self._earlier[rows][owner]  # (entries,)
        group, entries = _merged(2 * owner + own, np.vstack([self._entries[:, index], position]))
        kept = np.lexsort((entries[-1], group))  # each session's entries by their latest event
        if self.most is not None:
            held = np.bincount(group // 2, minlength=len(rows))  # (rows,)
            # Entries from each one to its session's end, itself included.
            later = np.cumsum(held)[group[kept] // 2] - np.arange(len(kept))  # (entries,)
            kept = kept[later <= self.most]
        owner, own, entries = group[kept] // 2, group[kept] % 2 == 1, entries[:-1, kept]

        taken = np.bincount(owner, minlength=len(rows))
        capacity = np.maximum(2 * taken, _LEAST_CAPACITY)
        moves = capacity > self._capacity[rows]
        moved = rows[moves]
        self._begin[moved] = self._end + np.cumsum(capacity[moves]) - capacity[moves]
        self._capacity[moved] = capacity[moves]
        self._end += int(capacity[moves].sum())
        if self._end > self._entries.shape[1]:
            room = np.zeros((len(self._entries), self._end), dtype=np.int64)
            self._entries = np.concatenate([self._entries, room], axis=1)
        self._taken[rows], self._earlier[rows] = taken, np.bincount(owner[~own], minlength=len(rows))
        self._entries[:, flat_positions(self._begin[rows], taken)[0]] = entries

    def clear(self, rows: np.ndarray) -> None:
        """Forget all items of some sessions."""
        self._taken[rows] = self._earlier[rows] = self._lengths[rows] = 0

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of events of the present session: (rows,)."""
        return self._lengths[rows]

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of entries, the present and earlier sessions together: (rows,)."""
        return self._taken[rows]

    def seen_by(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the items that some sessions have seen.

        Parameters
        ----------
        rows : int array of shape (n,)

        Returns
        -------
        (row, item) : int arrays of shape (entries,)
            Index into `rows`, and the item; a pair may occur twice.
        """
        index, owner, _ = flat_positions(self._begin[rows], self._taken[rows])
        return owner, self._entries[_ITEM, index]

    def places_in(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return what :meth:`seen_by` returns, and the place of each item in the history.

        Returns
        -------
        (row, item, place) : int arrays of shape (entries,)
            `place` is NEWEST_PLACE, SESSION_PLACE or EARLIER_PLACE. In each session the most recent place comes last.
        """
        taken = self._taken[rows]
        index, owner, position = flat_positions(self._begin[rows], taken)
        places = np.where(position < self._earlier[rows][owner], EARLIER_PLACE, SESSION_PLACE)  # (entries,)
        places[np.cumsum(taken)[taken > 0] - 1] = NEWEST_PLACE
        return owner, self._entries[_ITEM, index], places

    def tallies(self, rows: np.ndarray) -> Tallies:
        """Return the tallies of the present session of each row, each session's items by their latest event."""
        begin, earlier = self._begin[rows], self._earlier[rows]
        index, owner, _ = flat_positions(begin + earlier, self._taken[rows] - earlier)
        owner, entries = _merged(owner, self._entries[:, index])
        order = np.lexsort((entries[_POSITION], owner))
        return Tallies(owner[order], *entries[:, order])

    def earlier_tallies(self, rows: np.ndarray) -> Tallies:
        """Return the tallies of all earlier sessions of each row, each row's items by their numbers."""
        index, owner, _ = flat_positions(self._begin[rows], self._earlier[rows])
        owner, entries = _merged(owner, self._entries[:, index])
        return Tallies(owner, *entries)

    def take(self, rows: np.ndarray) -> "SessionItems":
        """Return a copy of some sessions' items."""
        copied = SessionItems(len(rows), self._has_tallies, self.most)
        copied._taken, copied._earlier, copied._lengths = self._taken[rows], self._earlier[rows], self._lengths[rows]
        copied._entries = self._entries[:, flat_positions(self._begin[rows], copied._taken)[0]]
        copied._capacity = copied._taken.copy()
        copied._begin, copied._end = np.cumsum(copied._taken) - copied._taken, copied._entries.shape[1]
        return copied

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, without the free capacity."""
        entries = self._entries[:, flat_positions(self._begin, self._taken)[0]]  # (columns, entries)
        found = {"items": entries[_ITEM], "taken": self._taken.copy(), "earlier": self._earlier.copy()}
        return {**found, "tallies": entries[1:], "lengths": self._lengths.copy()} if self._has_tallies else found

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "SessionItems":
        """Recreate an object from :meth:`arrays`."""
        seen = cls(len(arrays["taken"]))
        columns = [arrays["items"][None], *([arrays["tallies"]] if "tallies" in arrays else [])]
        seen._entries = np.concatenate(columns).astype(np.int64)  # (columns, entries)
        if "lengths" in arrays:
            seen._lengths = arrays["lengths"].astype(np.int64)
        seen._taken, seen._earlier = arrays["taken"].astype(np.int64), arrays["earlier"].astype(np.int64)
        seen._capacity = seen._taken.copy()
        seen._begin, seen._end = np.cumsum(seen._taken) - seen._taken, seen._entries.shape[1]
        return seen


def _merged(group: np.ndarray, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Merge entries (columns, entries) of one item in one group, (entries,); ordered by group, then by item.

    A column beyond those of tallies, or of items, holds what the largest is wanted of.
    """
    order = np.lexsort((entries[_ITEM], group))
    group, entries = group[order], entries[:, order]
    first = np.flatnonzero(changes(group) | changes(entries[_ITEM]))
    if len(first) == len(group):
        return group, entries
    merged = entries[:, first]
    if len(entries) not in (1, _TALLIED):
        merged[-1] = np.maximum.reduceat(entries[-1], first)
    if len(entries) >= _TALLIED:
        for column, merge in ((_COUNT, np.add), (_POSITION, np.maximum), (_DWELL, np.add)):
            merged[column] = merge.reduceat(entries[column], first)
    return group[first], merged
