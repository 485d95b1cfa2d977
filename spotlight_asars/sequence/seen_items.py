"""The items that sessions have seen, for nets that point back at them and for leaving them out."""

import numpy as np

from spotlight_asars.cutting import changes
from spotlight_asars.rows import flat_positions
from spotlight_asars.sequence.history import PLACES

_LEAST_ROOM = 8
_NEWEST, _SESSION, _EARLIER = range(len(PLACES))


class SeenItems:
    """
    For each of some sessions the items seen so far, first those of earlier sessions of its row, then its own.

    All lie in one flat array, where each session has room of its own. Where it is full, items that stand there twice
    leave it, and if more than half do not, it moves to the end with twice the room. So an event costs the same however
    many came before it, taken together, and what is kept follows the number of different items.

    Parameters
    ----------
    sessions : int
    """

    def __init__(self, sessions: int) -> None:
        self._items = np.zeros(0, dtype=np.int64)
        # Of each session: where it lies, how many places it has, how many are taken, and how many of them by items of
        # earlier sessions.
        self._begin, self._room, self._taken, self._earlier = np.zeros((4, sessions), dtype=np.int64)
        self._end = 0  # of all rooms

    def append(self, rows: np.ndarray, items: np.ndarray, starts: np.ndarray) -> None:
        """
        One more item for some sessions.

        Parameters
        ----------
        rows : int array of shape (n,)
            Each once.
        items : int array of shape (n,)
        starts : bool array of shape (n,)
            Where the item begins a session.
        """
        full = rows[self._taken[rows] == self._room[rows]]
        if len(full):
            self._make_room(full)
        self._earlier[rows] = np.where(starts, self._taken[rows], self._earlier[rows])
        self._items[self._begin[rows] + self._taken[rows]] = items
        self._taken[rows] += 1

    def _make_room(self, rows: np.ndarray) -> None:
        index, owner, place = flat_positions(self._begin[rows], self._taken[rows])
        items, own = self._items[index], place >= self._earlier[rows][owner]  # (entries,) each
        order = np.lexsort((items, own, owner))
        items, own, owner = items[order], own[order], owner[order]
        first = changes(items) | changes(own) | changes(owner)
        items, own, owner = items[first], own[first], owner[first]

        taken = np.bincount(owner, minlength=len(rows))
        room = np.maximum(2 * taken, _LEAST_ROOM)
        moves = room > self._room[rows]
        moved = rows[moves]
        self._begin[moved] = self._end + np.cumsum(room[moves]) - room[moves]
        self._room[moved] = room[moves]
        self._end += int(room[moves].sum())
        if self._end > len(self._items):
            self._items = np.concatenate([self._items, np.zeros(self._end, dtype=np.int64)])
        self._taken[rows], self._earlier[rows] = taken, np.bincount(owner[~own], minlength=len(rows))
        self._items[flat_positions(self._begin[rows], taken)[0]] = items

    def forget(self, rows: np.ndarray) -> None:
        """Let some sessions have seen nothing."""
        self._taken[rows] = self._earlier[rows] = 0

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For entries of `rows`, which of them, and an item it has seen; (entries,) each, an item maybe twice."""
        index, owner, _ = flat_positions(self._begin[rows], self._taken[rows])
        return owner, self._items[index]

    def places_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As :meth:`of`, from the least to the most recent, and beside each item its place, an index into PLACES."""
        taken = self._taken[rows]
        index, owner, position = flat_positions(self._begin[rows], taken)
        places = np.where(position < self._earlier[rows][owner], _EARLIER, _SESSION)  # (entries,)
        places[np.cumsum(taken)[taken > 0] - 1] = _NEWEST
        return owner, self._items[index], places

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, without the room that is free."""
        items = self.of(np.arange(len(self._taken)))[1]
        return {"items": items, "taken": self._taken.copy(), "earlier": self._earlier.copy()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "SeenItems":
        """What :meth:`arrays` gave."""
        seen = cls(len(arrays["taken"]))
        seen._items = arrays["items"].astype(np.int64)
        seen._taken, seen._earlier = arrays["taken"].astype(np.int64), arrays["earlier"].astype(np.int64)
        seen._room = seen._taken.copy()
        seen._begin, seen._end = np.cumsum(seen._taken) - seen._taken, len(seen._items)
        return seen
