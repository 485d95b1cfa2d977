"""Scores of all items from the states of a net, for live sessions."""

import numpy as np
import torch
from torch import nn

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.sequence.online.cells import Linear, as_array, is_plain_table
from spotlight_asars.sequence.online.seen_items import SessionItems
from spotlight_asars.sequence.representations.scoring import points_back, score_all_items, scores_by_dot_product
from spotlight_asars.sequence.representations.session_net import SessionNet


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
