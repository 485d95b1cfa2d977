"""Scores of all items for the states of live sessions.

The items that sessions have seen, for nets that point back at them and for leaving them out.
"""

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


class LiveScores:
    """
    Scores of all items but the padding, as ``score_all_items`` gives them for states with their history.

    Parameters
    ----------
    net : module
    num_items : int
        The padding included.
    """

    def __init__(self, net: nn.Module, num_items: int) -> None:
        self._net, self._num_items = net, num_items
        self._device = next(net.parameters()).device
        self._points_back = points_back(net)
        self._product = None
        if _is_plain_product(net):
            first = PADDING_ITEM + 1
            self._product = Linear(net.item_embeddings.weight[first:], net.item_biases.weight[first:, 0])

    def of(self, states: np.ndarray, seen: SeenItems, rows: np.ndarray) -> np.ndarray:
        """
        Scores for some sessions.

        Parameters
        ----------
        states : array of shape (sessions, dim)
        seen : SeenItems
            What these and further sessions have seen.
        rows : int array of shape (sessions,)
            Where they stand in `seen`.

        Returns
        -------
        array of shape (sessions, num_items - 1)
        """
        scores = self._without_history(states)
        if self._points_back:
            row, item, place = seen.places_of(rows)  # (entries,) each
            weights = states[:, self._net.embedding_dim :]  # (sessions, places)
            # Of what stands there for an item more than once the last holds, which is the most recent.
            scores[row, item - 1] = scores[row, item - 1] + weights[row, place]
        return scores

    def _without_history(self, states: np.ndarray) -> np.ndarray:
        # Where one session asks, the calls of torch cost a fifth of the product; for many its product is the faster.
        if self._product is not None and len(states) == 1:
            return self._product(states[:, : self._net.embedding_dim])
        with torch.no_grad():
            return as_array(score_all_items(self._net, torch.from_numpy(states).to(self._device), self._num_items))


def _is_plain_product(net: nn.Module) -> bool:
    """Whether a score is the dot product with a row of a table in main memory, and a bias from one."""
    if not scores_by_dot_product(net):
        return False
    if isinstance(net, SessionNet) and type(net).score_shared is not SessionNet.score_shared:
        return False
    return is_plain_table(net.item_embeddings) and is_plain_table(net.item_biases)
