"""Scores of the negatives of a mini-batch, drawn for each target or shared by all of them."""

import warnings
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.sampling import PopularitySampler, SeenItems, log_popularity, sample_local_items
from spotlight_asars.sequence.representations.pointer import pairs_of_equals
from spotlight_asars.sequence.representations.scoring import TargetStates, score_items, score_shared_items

SAMPLINGS = ("local", "shared")
MOST_TARGETS = 1024


def check_sampling(sampling: str, options: dict) -> None:
    """Raise a ValueError where there is no such sampling, or it has no such options."""
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling is {sampling!r}: choose one of {', '.join(SAMPLINGS)}")
    if set(options) - {"alpha", "most_targets"} or (options and sampling != "shared"):
        raise ValueError(f"sampling_options are {options}: there are alpha and most_targets, for sampling='shared'")
    most = options.get("most_targets", MOST_TARGETS)
    if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < 0:
        raise ValueError(f"most_targets is {most!r}: give a whole number of at least 0")


class Negatives(Protocol):
    """A way to draw negatives."""

    def score(self, net: nn.Module, targets: TargetStates, corrected: bool) -> Tensor:
        """
        Scores of the negatives of a mini-batch, (negatives, targets); -inf where one is the target itself.

        With `corrected`, less the logarithm of how often each is drawn, relative to the target's own: only
        differences to the target's score count, so its own correction may stand here.
        """


class LocalNegatives:
    """
    Negatives of each target's own, by popularity in the mini-batch, never of the user's history (paper section 2.4).

    Parameters
    ----------
    seen : SeenItems
    num_negative_samples : int
        Negatives a target.
    """

    def __init__(self, seen: SeenItems, num_negative_samples: int) -> None:
        self._seen, self._num_negative_samples = seen, num_negative_samples
        self._fallback_said = False

    def score(self, net: nn.Module, targets: TargetStates, corrected: bool) -> Tensor:
        """See :meth:`Negatives.score`."""
        items = targets.events[:, :, ITEM]  # (batch, time)
        negatives, fallbacks = sample_local_items(items, targets.users, self._seen, self._num_negative_samples)
        if fallbacks and not self._fallback_said:
            self._fallback_said = True
            warnings.warn(
                "a user has every item of his mini-batch, so his negatives are drawn from all items by popularity; "
                "a larger batch_size makes this rarer (said once)",
                stacklevel=2,
            )
        negatives = negatives[:, targets.is_target][:, targets.own]  # (negatives, targets)
        scores = score_items(net, targets.states, negatives)
        if corrected:
            log_q = log_popularity(items, torch.cat([negatives, targets.items[None]]))  # (negatives + 1, targets)
            scores = scores - log_q[:-1] + log_q[-1]
        return scores


class SharedNegatives:
    """
    The same negatives for all targets: the mini-batch's targets, and items drawn by a power of their popularity.

    As GRU4Rec draws them (Hidasi and Karatzoglou 2018, section 3.1). All scores are one matrix product, so thousands
    of negatives cost little. Of a mini-batch with many targets only some are shared, drawn anew each time: all by all
    would take the square of their number. Corrected for how often each is drawn, only targets of other rows are shared.

    Parameters
    ----------
    popularity : float tensor of shape (num_items,)
    num_negative_samples : int
        Items drawn beside the mini-batch's targets.
    alpha : float
        The power.
    most_targets : int, optional
        How many of the mini-batch's targets are shared.
    """

    def __init__(
        self, popularity: Tensor, num_negative_samples: int, alpha: float, most_targets: int = MOST_TARGETS
    ) -> None:
        self._num_negative_samples, self._most_targets = num_negative_samples, most_targets
        self._drawn = PopularitySampler(popularity, alpha)
        # An item that was never a target, as one of the validation rows may be, counts as if it had been one once.
        self._share = popularity.clamp(min=1).double() / popularity.sum()  # (num_items,)

    def score(self, net: nn.Module, targets: TargetStates, corrected: bool) -> Tensor:
        """See :meth:`Negatives.score`."""
        all_items, rows = targets.all_items, targets.rows  # (targets,) each, of the whole mini-batch
        shared = self._shared(len(all_items))  # (shared,), places
        own, everyones = targets.items, all_items[shared]  # (targets,), (shared,)
        negatives = torch.cat([everyones, self._drawn.draw(self._num_negative_samples)])  # (negatives,)
        scores = score_shared_items(net, targets.states, negatives)  # (targets, negatives)
        none = [pairs_of_equals(own, negatives)]
        if corrected:
            # What stands in a target's own row stands there for certain, however seldom it is expected.
            none.append(pairs_of_equals(rows[targets.own], rows[shared]))
            from_others = _targets_of_other_rows(rows, shared)
            log_count = self._expected(negatives, from_others).log().to(scores.dtype)  # (negatives,)
            # The target stands in the loss once, however often it is expected: what counts is whether it is at all.
            # With its expected number it would fade from the loss as the samples grow, and the loss not become
            # the full softmax.
            log_chance = (-torch.expm1(-self._expected(own, from_others))).log().to(scores.dtype)  # (targets,)
            scores = scores.sub_(log_count).add_(log_chance[:, None])
        # Nothing behind looks at these few, so there is no gradient to be held back from them.
        for pairs in none:
            scores.detach()[pairs] = -torch.inf
        return scores.T  # (negatives, targets)

    def _shared(self, targets: int) -> Tensor | slice:
        """Which of so many targets of the mini-batch all of them get as negatives."""
        return slice(None) if targets <= self._most_targets else torch.randperm(targets)[: self._most_targets]

    def _expected(self, items: Tensor, targets: Tensor) -> Tensor:
        """How often an item is expected among the negatives: in the draws, and as a shared target."""
        return self._num_negative_samples * self._drawn.log_share(items).double().exp() + targets * self._share[items]


def _targets_of_other_rows(rows: Tensor, shared: Tensor | slice) -> Tensor:
    """How many of the shared targets stand in another row than a target does, on average; at least one."""
    in_row, shared_in_row = rows.bincount(), rows[shared].bincount(minlength=int(rows.max()) + 1)  # (batch,) each
    return (shared_in_row.sum() - (in_row * shared_in_row).sum() / len(rows)).clamp(min=1.0)
