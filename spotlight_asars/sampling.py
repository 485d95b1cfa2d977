"""
Negative sampling.

Local negatives are drawn by popularity within the mini-batch, and never from the user's own history (paper section
2.4). Shared negatives are the same for all targets of a mini-batch: its other targets, and items drawn by a power of
their popularity (:class:`PopularitySampler`).
"""

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.layers.padding import entries_of


class SeenItems:
    """
    The items that each known user has interacted with, and the popularity of every item.

    Parameters
    ----------
    user_ids, item_ids : int arrays of shape (events,)
        The training log. User 0 is anonymous and has no history beyond the row at hand.
    num_users, num_items : int
        Number of ids, including 0.
    device : torch device or str, optional

    Attributes
    ----------
    items : int64 tensor of shape (pairs,)
        The distinct items of user 0, then of user 1, and so on.
    offsets : int64 tensor of shape (num_users + 1,)
        Where each user's items begin.
    popularity : float32 tensor of shape (num_items,)
        Number of events of each item; 0 for padding.
    num_events : int
        Number of events of all items.
    """

    def __init__(
        self,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        num_users: int,
        num_items: int,
        device: torch.device | str = "cpu",
    ) -> None:
        known = user_ids > 0
        pairs = np.unique(user_ids[known].astype(np.int64) * num_items + item_ids[known])
        offsets = np.searchsorted(pairs, np.arange(num_users + 1, dtype=np.int64) * num_items)
        self.items = torch.from_numpy(pairs % num_items).to(device)  # (distinct pairs,)
        self.offsets = torch.from_numpy(offsets).to(device)  # (num_users + 1,)
        popularity = np.bincount(item_ids, minlength=num_items).astype(np.float32)
        popularity[PADDING_ITEM] = 0.0
        self.num_events = int(popularity.sum(dtype=np.float64))
        self.popularity = torch.from_numpy(popularity).to(device)  # (num_items,)

    def of(self, user_ids: Tensor) -> tuple[Tensor, Tensor]:
        """
        Return the histories of a batch of users as pairs.

        Parameters
        ----------
        user_ids : int64 tensor of shape (batch,)

        Returns
        -------
        (rows, items) : int64 tensors of shape (pairs,)
            The user in a row of `user_ids` has the item.
        """
        begin = self.offsets[user_ids]
        lengths = self.offsets[user_ids + 1] - begin  # (batch,)
        rows, position = entries_of(lengths)
        return rows, self.items[begin[rows] + position]


def sample_local_items(
    items: Tensor,
    user_ids: Tensor,
    seen: SeenItems,
    num_negative_samples: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, int]:
    """
    Draw negatives for every position of a mini-batch, in proportion to popularity within the mini-batch.

    A negative is never padding, the target, or an item of the row or of its user's history. If that excludes every item
    of the mini-batch, the row falls back to the remaining items of the catalogue, by global popularity, or uniformly if
    none of them occurs in the log. If it excludes the whole catalogue, the row draws uniformly from all items but the
    target of each position.

    Parameters
    ----------
    items : int64 tensor of shape (batch, time)
        0 is padding.
    user_ids : int64 tensor of shape (batch,)
        0 is anonymous.
    seen : SeenItems
        On the same device.
    num_negative_samples : int
    generator : torch.Generator, optional
        The global generator by default.

    Returns
    -------
    (negatives, fallbacks) : int64 tensor of shape (num_negative_samples, batch, time), and int
        The negatives, and the number of rows that fell back.

    Raises
    ------
    InputError
        If the mini-batch holds only padding, or a fallback finds only one item in the catalogue.

    Notes
    -----
    Sampling is exact and without rejection, with one weight for each row and each distinct item of the mini-batch. Only
    rows that fall back need memory proportional to the catalogue.
    """
    batch, time = items.shape
    draws = num_negative_samples * time
    candidates, counts = items[items != PADDING_ITEM].unique(return_counts=True)  # (distinct,)
    if not len(candidates):
        raise InputError("a mini-batch holds only padding: there is nothing to sample from")
    weights = counts.to(torch.float32).repeat(batch, 1)  # (batch, distinct)
    rows, history = _excluded(items, user_ids, seen)
    place = torch.searchsorted(candidates, history).clamp(max=len(candidates) - 1)
    inside = candidates[place] == history
    weights[rows[inside], place[inside]] = 0.0

    empty = weights.sum(dim=1) == 0  # (batch,)
    weights[empty] = 1.0  # any weights will do: these draws are replaced below
    drawn = candidates[torch.multinomial(weights, draws, replacement=True, generator=generator)]
    negatives = drawn.view(batch, num_negative_samples, time).transpose(0, 1)  # (negatives, batch, time)
    fallbacks = int(empty.sum())
    if fallbacks:
        negatives = negatives.contiguous()
        for row in empty.nonzero().flatten().tolist():
            negatives[:, row] = _sample_globally(
                items[row], history[rows == row], seen, num_negative_samples, generator
            )
    return negatives, fallbacks


class PopularitySampler:
    """
    Sampler that draws items in proportion to a power of their popularity (Hidasi and Karatzoglou 2018, section 3.1).

    Parameters
    ----------
    popularity : float tensor of shape (num_items,)
        Items of popularity 0, such as padding, are never drawn.
    alpha : float
        The power: 1 draws by popularity, 0 uniformly.
    """

    def __init__(self, popularity: Tensor, alpha: float) -> None:
        weights = torch.where(popularity > 0, popularity.double() ** alpha, 0.0)
        self._cumulative = weights.cumsum(0)  # (num_items,)
        self._log_share = (weights / self._cumulative[-1]).log().float()

    def draw(self, samples: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw item ids with replacement, (samples,), in O(samples log items)."""
        total = self._cumulative[-1]
        uniform = torch.rand(samples, dtype=torch.float64, device=total.device, generator=generator)
        return torch.searchsorted(self._cumulative, uniform * total, right=True).clamp(max=len(self._cumulative) - 1)

    def log_share(self, items: Tensor) -> Tensor:
        """Return the log probability of drawing each of these items; the shape of `items`."""
        return self._log_share[items]


def log_local_share(items: Tensor, user_ids: Tensor, seen: SeenItems, rows: Tensor, wanted: Tensor) -> Tensor:
    """
    Return the log probability that a draw of :func:`sample_local_items` for a row is a given item.

    This is the probability over all mini-batches that the row may be part of, not within the one at hand: a rare item
    is in few mini-batches, but drawn often where it is. It is proportional to popularity in the log among the items
    that the row may draw, or uniform if none of them occurs in the log.

    Parameters
    ----------
    items : int64 tensor of shape (batch, time)
        The mini-batch; 0 is padding.
    user_ids : int64 tensor of shape (batch,)
    seen : SeenItems
    rows : int64 tensor of shape (targets,)
        The row of each target.
    wanted : int64 tensor of shape (draws, targets)
        The negatives of each target. An item that is not in the log, as validation rows may hold, counts as if it
        occurred once.

    Returns
    -------
    float32 tensor of shape (draws, targets)
    """
    num_items = len(seen.popularity)
    row, excluded = _excluded(items, user_ids, seen)
    pairs = (row * num_items + excluded).unique()  # (pairs,), each excluded item of a row once
    row, count = pairs // num_items, seen.popularity[pairs % num_items].double()  # whose sums are exact
    left = seen.num_events - count.new_zeros(len(items)).index_add(0, row, count)  # (batch,)
    others = num_items - 1 - row.bincount(minlength=len(items))  # (batch,), without padding
    others = torch.where(others > 0, others, num_items - 2)  # the whole catalogue but the target
    total = torch.where(left > 0, left, others)
    count = torch.where((left > 0)[rows], seen.popularity[wanted].clamp(min=1), 1.0)  # (draws, targets)
    return (count / total[rows]).log().float()


def _excluded(items: Tensor, user_ids: Tensor, seen: SeenItems) -> tuple[Tensor, Tensor]:
    """Return pairs of rows and items they must not draw: the user's history and the items of the row."""
    row, column = (items != PADDING_ITEM).nonzero(as_tuple=True)
    rows, history = seen.of(user_ids)
    return torch.cat([rows, row]), torch.cat([history, items[row, column]])


def _sample_globally(
    items: Tensor,
    excluded: Tensor,
    seen: SeenItems,
    num_negative_samples: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Draw negatives for one row from the whole catalogue, (num_negative_samples, time)."""
    time = len(items)
    anything = torch.ones_like(seen.popularity)  # (num_items,)
    anything[PADDING_ITEM] = 0.0
    for wanted in (seen.popularity, anything):
        weights = wanted.index_fill(0, excluded, 0.0)  # (num_items,)
        if weights.sum() > 0:
            drawn = torch.multinomial(weights, num_negative_samples * time, replacement=True, generator=generator)
            return drawn.view(num_negative_samples, time)
    others = len(anything) - 2  # without padding and the target
    if others < 1:
        raise InputError("the log has only one item: there is no negative to sample")
    drawn = torch.randint(others, (num_negative_samples, time), generator=generator, device=items.device) + 1
    return drawn + (drawn >= items.clamp(min=1)).long()  # skip the target
