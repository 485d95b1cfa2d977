"""Scores of any net that multiplies its states with item embeddings, as ours and most of the host's do."""

import torch
from torch import Tensor, nn


def dot_product_scores(net: nn.Module, states: Tensor, items: Tensor) -> Tensor:
    """``dot(state, e_item) + b_item`` for any net with item embeddings and biases; shapes as SessionNet.score."""
    embedded = net.item_embeddings(items)  # (..., targets, dim)
    return (embedded * states).sum(dim=-1) + net.item_biases(items)[..., 0]


def dot_product_scores_of_shared(net: nn.Module, states: Tensor, items: Tensor | None = None) -> Tensor:
    """The same for items shared by all states, all but the padding by default: (targets, dim) to (targets, items)."""
    biases = net.item_biases.weight[:, 0]  # (num_items,)
    if items is None and hasattr(net.item_embeddings, "weight"):
        return torch.addmm(biases[1:], states, net.item_embeddings.weight[1:].T)
    if items is None:  # an item embedding that is no plain table
        items = torch.arange(1, len(biases), device=states.device)
    embedded = net.item_embeddings(items[None])[0]  # (items, dim)
    return torch.addmm(net.item_biases(items)[:, 0], states, embedded.T)
