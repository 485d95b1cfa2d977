"""Scores of all items from the states of a net, for live sessions."""

import numpy as np
import torch
from torch import nn

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.sequence.online.cells import as_array, is_plain_table
from spotlight_asars.sequence.online.seen_items import SessionItems
from spotlight_asars.sequence.representations.scoring import points_back, score_all_items, scores_by_dot_product
from spotlight_asars.sequence.representations.session_net import SessionNet

Evidence = tuple[np.ndarray, np.ndarray, np.ndarray]

_LEAST_LENGTH = 1e-12  # of vectors, as in torch's normalize


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
        self._product = _Product(net) if _is_plain_product(net) else None

    def of(
        self, states: np.ndarray, seen: SessionItems, rows: np.ndarray, evidence: Evidence | None = None
    ) -> np.ndarray:
        """
        Return the scores of all items for some sessions.

        Parameters
        ----------
        states : array of shape (sessions, dim)
        seen : SessionItems
            The items that these and other sessions have seen.
        rows : int array of shape (sessions,)
            Where the sessions stand in `seen`.
        evidence : tuple of arrays, optional
            Session, item and evidence of a history kernel, see ``LiveHistory.evidence``.

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
        if evidence is not None:
            row, item, value = evidence  # (found,) each
            scores[row, item - 1] += value * states[row, -1]
        return scores

    def _without_history(self, states: np.ndarray) -> np.ndarray:
        # For one session, calling torch would cost a fifth of the product; for many, torch's product is faster.
        if self._product is not None and len(states) == 1:
            return self._product(states)
        with torch.no_grad():
            return as_array(score_all_items(self._net, torch.from_numpy(states).to(self._device), self._num_items))


class _Product:
    """
    Scores without history, in numpy: the product with the table of item embeddings.

    Cosine scores divide by the length of each embedding afterwards, so that the table is not copied.
    """

    def __init__(self, net: nn.Module) -> None:
        first = PADDING_ITEM + 1
        self._table = as_array(net.item_embeddings.weight[first:]).T  # (embedding, items)
        own = isinstance(net, SessionNet)
        with torch.no_grad():
            self._biases = as_array((net.scored_biases() if own else net.item_biases.weight[:, 0])[first:])  # (items,)
        self._is_cosine = own and net.options.scores == "cosine"
        if self._is_cosine:
            lengths = np.linalg.norm(self._table, axis=0)  # (items,)
            self._per_length = 1.0 / np.maximum(lengths, _LEAST_LENGTH)
            self._temperature = net.options.temperature

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Map states (sessions, dim), whose first columns are the vectors, to scores (sessions, items)."""
        vectors = states[:, : len(self._table)]
        if not self._is_cosine:
            scores = vectors @ self._table
        else:
            lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _LEAST_LENGTH)  # (sessions, 1)
            scores = (vectors / (lengths * self._temperature)) @ self._table
            scores *= self._per_length
        scores += self._biases
        return scores


def _is_plain_product(net: nn.Module) -> bool:
    """Return whether scores are dot products with a table in main memory, plus biases from one."""
    if not scores_by_dot_product(net):
        return False
    if isinstance(net, SessionNet) and any(
        getattr(type(net), name) is not getattr(SessionNet, name) for name in ("score_shared", "scored_embeddings")
    ):
        return False
    return is_plain_table(net.item_embeddings) and is_plain_table(net.item_biases)
