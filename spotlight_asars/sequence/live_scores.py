"""Scores of all items for the states of live sessions."""

import numpy as np
import torch
from torch import nn

from spotlight_asars.interactions import PADDING_ITEM
from spotlight_asars.sequence.live_layers import Linear, as_array, is_plain_table
from spotlight_asars.sequence.scoring import points_back, score_all_items, scores_by_dot_product
from spotlight_asars.sequence.seen_items import SeenItems
from spotlight_asars.sequence.session_net import SessionNet


class LiveScores:
    """
    Scores of all items but the padding, as ``score_all_items`` gives them.

    For one session, plain products and biases are taken in numpy, where torch takes a fifth longer: it has to be
    called, and there for each of its operations. For many sessions torch's product is the faster one.

    Parameters
    ----------
    net : module
    num_items : int
        The padding included.
    """

    def __init__(self, net: nn.Module, num_items: int) -> None:
        self._net, self._num_items = net, num_items
        self._device = next(net.parameters()).device
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
        if self._product is not None and len(states) == 1:
            return self._product(states)
        states = torch.from_numpy(states).to(self._device)
        if points_back(self._net):
            states = seen.beside(states, rows)
        with torch.no_grad():
            return as_array(score_all_items(self._net, states, self._num_items))


def _is_plain_product(net: nn.Module) -> bool:
    """Whether a score is the dot product with a row of a table in main memory, and a bias from one."""
    if not scores_by_dot_product(net) or points_back(net):
        return False
    if isinstance(net, SessionNet) and type(net).score_shared is not SessionNet.score_shared:
        return False
    return is_plain_table(net.item_embeddings) and is_plain_table(net.item_biases)
