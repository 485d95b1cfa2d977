"""Negatives of a mini-batch and their scores: drawn for each target, or shared by all targets."""

import math
import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_choice, check_whole
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.sampling import PopularitySampler, SeenItems, log_local_share, sample_local_items
from spotlight_asars.sequence.representations.options import options_of
from spotlight_asars.sequence.representations.pointer import pairs_of_equals
from spotlight_asars.sequence.representations.scoring import TargetStates, score_items, score_shared_items

SAMPLINGS = ("local", "shared")
ALPHA, MOST_TARGETS = 0.5, 1024


@dataclass(frozen=True)
class SamplingOptions:
    """
    How negatives are drawn.

    Attributes
    ----------
    kind : {'local', 'shared'}
        'local' draws each target's own negatives, by popularity in the mini-batch and never from the user's history
        (paper section 2.4). 'shared' gives all targets of a mini-batch the same ones: its other targets, and items
        drawn by a power of their popularity (GRU4Rec).
    alpha : float
        The power of the popularity, for 'shared'.
    most_targets : int
        At most this many targets of a mini-batch are shared.
    """

    kind: str = "local"
    alpha: float = ALPHA
    most_targets: int = MOST_TARGETS

    def __post_init__(self) -> None:
        check_choice("sampling", self.kind, SAMPLINGS)
        if self.kind == "local" and (self.alpha, self.most_targets) != (ALPHA, MOST_TARGETS):
            raise InputError("alpha and most_targets are options of 'shared' sampling: leave them out for 'local'")
        check_whole("most_targets", self.most_targets, least=0)

    @classmethod
    def of(cls, given: "SamplingOptions | str | dict | None") -> "SamplingOptions":
        """Return options given as such, by the kind's name, as a dict of attributes, or as None for the defaults."""
        return options_of(cls, "sampling", {"kind": given} if isinstance(given, str) else given)


class Negatives(Protocol):
    """A way to draw negatives."""

    def score(self, net: nn.Module, targets: TargetStates, corrected: bool) -> Tensor:
        """
        Return the scores of a mini-batch's negatives, (negatives, targets); -inf where a negative is the target.

        With `corrected`, subtract the logarithm of how often each negative is expected, so that the cross-entropy
        against the negatives estimates the one over all items that can be drawn. Losses compare scores only with the
        target's, so the target's own correction can be applied here too.
        """


class LocalNegatives:
    """
    Each target's own negatives, by popularity in the mini-batch, never from the user's history (paper section 2.4).

    Corrected for how often they are drawn, they stand for all items outside the history: as draws and mini-batches
    grow, the cross-entropy approaches the full one over these and the target.

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
                "a user has seen every item of the mini-batch, so that user's negatives are drawn from all items by "
                "popularity; a larger batch_size makes this rarer (reported once)",
                stacklevel=2,
            )
        negatives = negatives[:, targets.is_target][:, targets.own]  # (negatives, targets)
        scores = score_items(net, targets.states, negatives)
        if corrected:
            rows = targets.rows[targets.own]  # (targets,)
            log_share = log_local_share(items, targets.users, self._seen, rows, negatives)  # (negatives, targets)
            # The target is certain to be in the loss, and never among the negatives, so it has no correction.
            scores = scores - log_share - math.log(self._num_negative_samples)
        return scores


class SharedNegatives:
    """
    The same negatives for all targets: the mini-batch's targets, and items drawn by a power of their popularity.

    This is GRU4Rec's sampling (Hidasi and Karatzoglou 2018, section 3.1). All scores are one matrix product, so
    thousands of negatives cost little. At most `most_targets` targets of a mini-batch are shared, drawn at random each
    time, since the cost would grow with the square of their number. When scores are corrected for how often negatives
    are drawn, a target shares only the targets of other rows.

    Parameters
    ----------
    popularity : float tensor of shape (num_items,)
    num_negative_samples : int
        Items drawn beside the mini-batch's targets.
    alpha : float
        The power.
    most_targets : int, optional
        How many of the mini-batch's targets are shared.

    Attributes
    ----------
    sampler : PopularitySampler
        Draws the items beside the mini-batch's targets.
    """

    def __init__(
        self, popularity: Tensor, num_negative_samples: int, alpha: float, most_targets: int = MOST_TARGETS
    ) -> None:
        self.num_negative_samples, self._most_targets = num_negative_samples, most_targets
        self.sampler = PopularitySampler(popularity, alpha)
        # An item that was never a training target, but may be one in validation, counts as if it had been one once.
        self._share = popularity.clamp(min=1).double() / popularity.sum()  # (num_items,)

    def score(self, net: nn.Module, targets: TargetStates, corrected: bool) -> Tensor:
        """See :meth:`Negatives.score`."""
        all_items, rows = targets.all_items, targets.rows  # (targets,) each, of the whole mini-batch
        shared = self._shared(len(all_items))  # (shared,), places
        own, everyones = targets.items, all_items[shared]  # (targets,), (shared,)
        negatives = torch.cat([everyones, self.sampler.draw(self.num_negative_samples)])  # (negatives,)
        scores = score_shared_items(net, targets.states, negatives)  # (targets, negatives)
        none = [pairs_of_equals(own, negatives)]
        if corrected:
            # Targets of the same row are present for certain, however rarely they are expected.
            none.append(pairs_of_equals(rows[targets.own], rows[shared]))
            from_others = _targets_of_other_rows(rows, shared)
            log_count = self._expected(negatives, from_others).log().to(scores.dtype)  # (negatives,)
            # The target enters the loss once, however often it is expected, so its chance of being present counts. With
            # its expected number, the target would vanish from the loss as samples grow, and the loss would not
            # approach the full softmax.
            log_chance = (-torch.expm1(-self._expected(own, from_others))).log().to(scores.dtype)  # (targets,)
            scores = scores.sub_(log_count).add_(log_chance[:, None])
        # No operation before this one needs these scores for its gradient, so they can be overwritten in place.
        for pairs in none:
            scores.detach()[pairs] = -torch.inf
        return scores.T  # (negatives, targets)

    def _shared(self, targets: int) -> Tensor | slice:
        """Return which of the mini-batch's targets are shared."""
        return slice(None) if targets <= self._most_targets else torch.randperm(targets)[: self._most_targets]

    def _expected(self, items: Tensor, targets: Tensor) -> Tensor:
        """Return how often an item is expected among the negatives: in the draws, and as a shared target."""
        return self.num_negative_samples * self.sampler.log_share(items).double().exp() + targets * self._share[items]


def _targets_of_other_rows(rows: Tensor, shared: Tensor | slice) -> Tensor:
    """Return how many shared targets are in another row than a target, on average; at least one."""
    in_row, shared_in_row = rows.bincount(), rows[shared].bincount(minlength=int(rows.max()) + 1)  # (batch,) each
    return (shared_in_row.sum() - (in_row * shared_in_row).sum() / len(rows)).clamp(min=1.0)
