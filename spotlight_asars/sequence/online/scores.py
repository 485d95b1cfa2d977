"""Scores of all items for live sessions, and the items that each session has seen."""

import numpy as np
import torch
from torch import nn

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sessionization import changes
from spotlight_asars.sequence.online.cells import Linear, as_array, is_plain_table
from spotlight_asars.sequence.representations.pointer import PLACES
from spotlight_asars.sequence.representations.scoring import points_back, score_all_items, scores_by_dot_product
from spotlight_asars.sequence.representations.session_net import SessionNet

_LEAST_CAPACITY = 8
_NEWEST, _SESSION, _EARLIER = range(len(PLACES))


class SessionItems:
    """
    The items that each live session has seen, earlier sessions of the same user first.

    All items lie in one flat array, in which every session owns a range. A session whose range is full first drops
    duplicates, and the oldest items beyond the most to keep; if more than half of the range is still in use, it moves
    to the end of the array with twice the capacity. The amortised cost of an event is thus constant, and memory grows
    with the number of distinct items.

    Parameters
    ----------
    sessions : int
    most : int, optional
        Most distinct items to keep of each session when its range is full; all by default. A range never holds more
        than twice as many.

    Attributes
    ----------
    most : int or None
    """

    def __init__(self, sessions: int, most: int | None = None) -> None:
        self.most = most
        self._items = np.zeros(0, dtype=np.int64)
        # For each session: begin and capacity of its range, entries in use, and how many of these are of earlier
        # sessions.
        self._begin, self._capacity, self._taken, self._earlier = np.zeros((4, sessions), dtype=np.int64)
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
        self._items[self._begin[rows] + self._taken[rows]] = items
        self._taken[rows] += 1

    def _make_room(self, rows: np.ndarray) -> None:
        """Drop duplicates and the oldest items from full ranges, and double those that stay more than half full."""
        index, owner, position = flat_positions(self._begin[rows], self._taken[rows])
        items, own = self._items[index], position >= self._earlier[rows][owner]  # (entries,) each
        order = np.lexsort((items, own, owner))  # equal items in the order of time
        is_first = changes(items[order]) | changes(own[order]) | changes(owner[order])
        is_last = np.roll(is_first, -1)
        kept = np.sort(order[is_last])  # the latest of equal items, in the order of time
        if self.most is not None:
            held = np.bincount(owner[kept], minlength=len(rows))
            later = np.cumsum(held)[owner[kept]] - np.arange(len(kept))  # entries from each one to its session's end
            kept = kept[later <= self.most]
        items, own, owner = items[kept], own[kept], owner[kept]

        taken = np.bincount(owner, minlength=len(rows))
        capacity = np.maximum(2 * taken, _LEAST_CAPACITY)
        moves = capacity > self._capacity[rows]
        moved = rows[moves]
        self._begin[moved] = self._end + np.cumsum(capacity[moves]) - capacity[moves]
        self._capacity[moved] = capacity[moves]
        self._end += int(capacity[moves].sum())
        if self._end > len(self._items):
            self._items = np.concatenate([self._items, np.zeros(self._end, dtype=np.int64)])
        self._taken[rows], self._earlier[rows] = taken, np.bincount(owner[~own], minlength=len(rows))
        self._items[flat_positions(self._begin[rows], taken)[0]] = items

    def clear(self, rows: np.ndarray) -> None:
        """Forget all items of some sessions."""
        self._taken[rows] = self._earlier[rows] = 0

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
        return owner, self._items[index]

    def places_in(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return what :meth:`seen_by` returns, and the place of each item in the history.

        Returns
        -------
        (row, item, place) : int arrays of shape (entries,)
            `place` is an index into PLACES. In each session the most recent place comes last.
        """
        taken = self._taken[rows]
        index, owner, position = flat_positions(self._begin[rows], taken)
        places = np.where(position < self._earlier[rows][owner], _EARLIER, _SESSION)  # (entries,)
        places[np.cumsum(taken)[taken > 0] - 1] = _NEWEST
        return owner, self._items[index], places

    def take(self, rows: np.ndarray) -> "SessionItems":
        """Return a copy of some sessions' items."""
        taken = self._taken[rows]
        copied = SessionItems(0, self.most)
        copied._items = self._items[flat_positions(self._begin[rows], taken)[0]]
        copied._taken, copied._capacity, copied._earlier = taken, taken.copy(), self._earlier[rows]
        copied._begin, copied._end = np.cumsum(taken) - taken, len(copied._items)
        return copied

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, without the free capacity."""
        items = self.seen_by(np.arange(len(self._taken)))[1]
        return {"items": items, "taken": self._taken.copy(), "earlier": self._earlier.copy()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "SessionItems":
        """Recreate an object from :meth:`arrays`."""
        seen = cls(len(arrays["taken"]))
        seen._items = arrays["items"].astype(np.int64)
        seen._taken, seen._earlier = arrays["taken"].astype(np.int64), arrays["earlier"].astype(np.int64)
        seen._capacity = seen._taken.copy()
        seen._begin, seen._end = np.cumsum(seen._taken) - seen._taken, len(seen._items)
        return seen


class LiveScores:
    """
    Scores of all items but the padding, equal to those of ``score_all_items`` for states with their history.

    Parameters
    ----------
    net : module
    num_items : int
        Number of item ids, the padding included.
    """

    def __init__(self, net: nn.Module, num_items: int) -> None:
        self._net, self._num_items = net, num_items
        self._device = next(net.parameters()).device
        self._points_back = points_back(net)
        self._product = None
        if _is_plain_product(net):
            first = PADDING_ITEM + 1
            self._product = Linear(net.item_embeddings.weight[first:], net.item_biases.weight[first:, 0])

    def of(self, states: np.ndarray, seen: SessionItems, rows: np.ndarray) -> np.ndarray:
        """
        Return the scores of all items for some sessions.

        Parameters
        ----------
        states : array of shape (sessions, dim)
        seen : SessionItems
            The items that these and other sessions have seen.
        rows : int array of shape (sessions,)
            Where the sessions stand in `seen`.

        Returns
        -------
        array of shape (sessions, num_items - 1)
        """
        scores = self._without_history(states)
        if self._points_back:
            row, item, place = seen.places_in(rows)  # (entries,) each
            weights = states[:, self._net.embedding_dim :]  # (sessions, places)
            # For an item with several entries numpy keeps the last assignment, that of the most recent place.
            scores[row, item - 1] = scores[row, item - 1] + weights[row, place]
        return scores

    def _without_history(self, states: np.ndarray) -> np.ndarray:
        # For one session, calling torch would cost a fifth of the product; for many, torch's product is faster.
        if self._product is not None and len(states) == 1:
            return self._product(states[:, : self._net.embedding_dim])
        with torch.no_grad():
            return as_array(score_all_items(self._net, torch.from_numpy(states).to(self._device), self._num_items))


def _is_plain_product(net: nn.Module) -> bool:
    """Return whether scores are dot products with a table in main memory, plus biases from one."""
    if not scores_by_dot_product(net):
        return False
    if isinstance(net, SessionNet) and type(net).score_shared is not SessionNet.score_shared:
        return False
    return is_plain_table(net.item_embeddings) and is_plain_table(net.item_biases)
