"""
Ranking losses ``f(positive, negative, mask=None)``, the same signature as in Spotlight, and a registry by name.

Positive scores may have any shape, such as (batch, time). Negative scores have the same shape, or an additional leading
axis, (negatives, batch, time), as in Spotlight's adaptive hinge loss. The mask has the shape of the positive scores. A
loss is the mean over the entries where the mask is true, or 0 if there are none.

A negative score of -inf marks a missing negative: a sample shared by many targets contains some of the targets
themselves, which must not count as their own negatives.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from spotlight_asars.host import losses as host_losses

_CELLS_AT_ONCE = 2**16  # scores per block; about six intermediate results of this size are alive at a time
_LOWEST = -1e15  # its square is still finite
_RAISED = 64.0  # see _bpr_max_and_slopes
_elu_backward = torch.ops.aten.elu_backward


def bpr_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the BPR loss ``-log sigmoid(r+ - r-)``, averaged over negatives (paper Eq. 21)."""
    positive, negative, there = _prepared(positive, negative, mask)
    return _mean(_mean_of_negatives(-F.logsigmoid(positive - negative), there), mask)


def top1_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Return the TOP1 loss ``sigmoid(r- - r+) + sigmoid(r- ** 2)``, averaged over negatives (Hidasi et al. 2016).

    Paper Eq. 22 reverses the sign of the difference and squares the positive score instead.
    """
    positive, negative, there = _prepared(positive, negative, mask)
    return _mean(_mean_of_negatives(torch.sigmoid(negative - positive) + torch.sigmoid(negative**2), there), mask)


def hinge_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the hinge loss ``max(0, 1 + r- - r+)``, averaged over negatives (paper Eq. 23 reverses the sign)."""
    positive, negative, there = _prepared(positive, negative, mask)
    return _mean(_mean_of_negatives(F.relu(1.0 + negative - positive), there), mask)


def cross_entropy_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Return the cross-entropy ``-r+ + log(exp(r+) + sum exp(r-))`` of the positive against itself and the negatives.

    It is the full softmax loss if the negatives are all other items.
    """
    return _mean(_CrossEntropy.apply(*_aligned(positive, negative, mask)), mask)


class _CrossEntropy(torch.autograd.Function):
    """:func:`cross_entropy_loss` of each positive; a negative of -inf adds 0 to the sum and has no gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, positive: Tensor, negative: Tensor) -> Tensor:
        top = torch.maximum(negative.amax(dim=0), positive)
        exponential = (negative - top).exp_()  # (negatives, ...)
        own = (positive - top).exp_()
        total = exponential.sum(dim=0).add_(own)
        ctx.save_for_backward(exponential, own, total)
        return total.log() + (top - positive)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, Tensor]:
        exponential, own, total = ctx.saved_tensors
        factor = slope / total
        return own * factor - slope, exponential * factor


def log_sum_exp(scores: Tensor, dim: int) -> Tensor:
    """Return ``torch.logsumexp``, keeping the exponentials for the backward pass; the maxima must be finite."""
    return _LogSumExp.apply(scores, dim)


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, dim: int) -> Tensor:
        top = scores.amax(dim=dim, keepdim=True)
        exponential = (scores - top).exp_()
        total = exponential.sum(dim=dim, keepdim=True)
        ctx.dim = dim
        ctx.save_for_backward(exponential, total)
        return (total.log() + top).squeeze(dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, None]:
        exponential, total = ctx.saved_tensors
        return exponential * (slope.unsqueeze(ctx.dim) / total), None


def sampled_cross_entropy_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor | None = None,
    positive_log_q: Tensor | None = None,
    negative_log_q: Tensor | None = None,
) -> Tensor:
    """
    Return the cross-entropy against sampled negatives, corrected for the sampling distribution.

    The logarithm of how often an item is drawn is subtracted from its score (Bengio and Senecal 2008), so that popular
    items, which are drawn more often, do not weigh more. With the expected number of draws of each negative, and 0 for
    a positive that is never drawn, the loss approaches the full softmax as the draws grow.

    Parameters
    ----------
    positive, negative, mask :
        See the module.
    positive_log_q, negative_log_q : tensors of the shapes of `positive` and `negative`, optional
        Logarithms of how often these items are drawn; without them, nothing is corrected.

    Raises
    ------
    ValueError
        If only one of `positive_log_q` and `negative_log_q` is given.
    """
    if (positive_log_q is None) != (negative_log_q is None):
        raise ValueError("only one of positive_log_q and negative_log_q is given: give both or none")
    if positive_log_q is not None:
        positive, negative = positive - positive_log_q, negative - negative_log_q
    return cross_entropy_loss(positive, negative, mask)


def bpr_max_loss(
    positive: Tensor,
    negative: Tensor,
    mask: Tensor | None = None,
    regularization: float = 1.0,
    elu: float | None = None,
) -> Tensor:
    """
    Return the BPR-max loss (Hidasi and Karatzoglou 2018, Eq. 12).

    ``-log sum_j s_j sigmoid(r+ - r_j) + regularization * sum_j s_j r_j ** 2``, with s the softmax over the negatives.

    Parameters
    ----------
    positive, negative, mask :
        See the module.
    regularization : float, optional
        Weight of the penalty.
    elu : float, optional
        Pass the scores through an exponential linear unit that saturates at ``-elu``, as the authors do, so that the
        penalty no longer acts on low negatives. The unit is monotonic, so rankings do not change.
    """
    positive, negative = _aligned(positive, negative, mask)
    losses = _BPRMax.apply(positive.flatten(), negative.flatten(1), regularization, elu)
    return _mean(losses.view(positive.shape), mask)


class _BPRMax(torch.autograd.Function):
    """
    :func:`bpr_max_loss` of each positive, (targets,), and its negatives, (negatives, targets).

    Losses and closed-form gradients are computed together, in blocks of targets small enough for the cache.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, positive: Tensor, negative: Tensor, regularization: float, elu: float | None
    ) -> Tensor:
        losses, to_positive, to_negative = (torch.empty_like(one) for one in (positive, positive, negative))
        targets = max(1, _CELLS_AT_ONCE // len(negative))
        for begin in range(0, len(positive), targets):
            part = slice(begin, begin + targets)
            found = _bpr_max_and_slopes(positive[part], negative[:, part], regularization, elu)
            losses[part], to_positive[part], to_negative[:, part] = found
        ctx.save_for_backward(to_positive, to_negative)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_positive, to_negative = ctx.saved_tensors
        return to_positive * slope, to_negative * slope, None, None


def _bpr_max_and_slopes(
    positive: Tensor, negative: Tensor, regularization: float, elu: float | None
) -> tuple[Tensor, Tensor, Tensor]:
    """
    Return the losses (targets,) and their derivatives by positives (targets,) and by negatives (negatives, targets).

    Each negative needs a single exponential, ``e_j = exp(r_j - top)``, with `top` the largest negative. Its softmax
    share is ``e_j / sum e``, and its sigmoid ``won / (won + lost * e_j)`` with ``won = exp(r+ - high)``, ``lost =
    exp(top - high)`` and ``high = max(r+, top)``. So nothing overflows, and `won` cancels except for its logarithm. All
    exponentials carry a common factor, ``exp(_RAISED)``, which also cancels: it keeps scores down to 150 below the
    largest from underflowing in single precision.
    """
    tiny = torch.finfo(negative.dtype).tiny
    scores, own = (negative, positive) if elu is None else (F.elu(negative, elu), F.elu(positive, elu))
    if elu is not None:  # keeps missing negatives, which the unit makes finite, far below; adds 0 to all others
        scores.add_(negative.clamp(max=_LOWEST).sub_(_LOWEST))
    top = scores.amax(dim=0).clamp_(min=_LOWEST)
    exponential = (scores - (top - _RAISED)).exp_()  # (negatives, targets)
    scores = scores.clamp(min=_LOWEST)
    total = exponential.sum(dim=0)
    high = torch.maximum(own, top)
    # At least tiny, to avoid 0 / 0 if r+ and some negatives are far below the other negatives.
    won = (own - high + _RAISED).exp_().clamp_(min=tiny)
    wins = torch.addcmul(won, exponential, (top - high).exp_()).reciprocal_()  # (negatives, targets)
    joint = exponential * wins  # (negatives, targets), in proportion to share * sigmoid
    joint_total = joint.sum(dim=0)
    share = exponential.div_(total.clamp(min=tiny))
    penalty = (share * scores).mul_(scores).sum(dim=0)
    losses = regularization * penalty + (high - own) + (total.log() - _RAISED) - joint_total.log()

    # With the gradient of the share: regularization * ((r_j + 2) * r_j - penalty) + 1, completed to a square.
    constant = 1.0 - regularization * (1.0 + penalty)
    to_negative = torch.add(constant, (scores + 1.0).square_(), alpha=regularization).mul_(share)
    divisor = joint_total.clamp(min=tiny)
    joint.mul_(wins.mul_(won))
    to_negative.addcmul_(joint, -1.0 / divisor)
    to_positive = (joint.sum(dim=0) - joint_total) / divisor
    if elu is not None:
        to_negative, to_positive = (
            _elu_backward(slope, elu, 1.0, 1.0, True, result)
            for slope, result in ((to_negative, scores), (to_positive, own))
        )
    return torch.where(total == 0.0, 0.0, losses), to_positive, to_negative


def top1_max_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Return the TOP1-max loss (Hidasi and Karatzoglou 2018, Eq. 8).

    ``sum_j s_j (sigmoid(r_j - r+) + sigmoid(r_j ** 2))``, with s the softmax over the negatives.
    """
    positive, negative, there = _prepared(positive, negative, mask)
    share = _log_share(negative, there).exp()  # (negatives, ...)
    each = torch.sigmoid(negative - positive) + torch.sigmoid(negative**2)
    return _mean(_where_any((share * each).sum(dim=0), there), mask)


LOSSES = {
    "pointwise": host_losses.pointwise_loss,
    "bpr": bpr_loss,
    "top1": top1_loss,
    "hinge": hinge_loss,
    "adaptive_hinge": host_losses.adaptive_hinge_loss,
    "cross_entropy": cross_entropy_loss,
    "sampled_cross_entropy": sampled_cross_entropy_loss,
    "bpr_max": bpr_max_loss,
    "top1_max": top1_max_loss,
}


def _prepared(positive: Tensor, negative: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Align the scores, and set missing negatives to zero; also return which are present, None if all are."""
    positive, negative = _aligned(positive, negative, mask)
    nothing = negative.isneginf()
    if not nothing.count_nonzero():  # several times as fast as any()
        return positive, negative, None
    return positive, negative.masked_fill(nothing, 0.0), ~nothing


def _aligned(positive: Tensor, negative: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Give the negatives a leading axis, and set masked entries of both to zero."""
    if negative.dim() == positive.dim():
        negative = negative[None]
    if negative.shape[1:] != positive.shape:
        raise ValueError(
            f"negative predictions have shape {tuple(negative.shape)} and positive ones {tuple(positive.shape)}: "
            "give the same shape, or one more axis in front"
        )
    if not len(negative):
        raise ValueError("there are no negative predictions: draw at least one for each positive")
    if mask is None:
        return positive, negative
    if mask.shape != positive.shape:
        raise ValueError(f"the mask has shape {tuple(mask.shape)} and positive predictions {tuple(positive.shape)}")
    # Masking only the loss is not enough: an infinite score at a masked entry would still have a NaN gradient.
    kept = mask.bool()
    return torch.where(kept, positive, 0.0), torch.where(kept, negative, 0.0)


def _mean_of_negatives(values: Tensor, there: Tensor | None) -> Tensor:
    """Average over the negatives that are present, (negatives, ...) to (...)."""
    if there is None:
        return values.mean(dim=0)
    return values.masked_fill(~there, 0.0).sum(dim=0) / there.sum(dim=0).clamp(min=1)


def _log_share(negative: Tensor, there: Tensor | None) -> Tensor:
    """Return the log softmax over the negatives, (negatives, ...); finite, but very low for missing ones."""
    if there is not None:
        # Not -inf, which would make the gradients NaN if all negatives are missing.
        negative = negative.masked_fill(~there, torch.finfo(negative.dtype).min / 4)
    return negative.log_softmax(dim=0)


def _where_any(loss: Tensor, there: Tensor | None) -> Tensor:
    """Return the loss, or zero for positives that have no negative."""
    return loss if there is None else torch.where(there.any(dim=0), loss, 0.0)


def _mean(loss: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return loss.mean() if loss.numel() else loss.sum()
    kept = mask.bool()
    return torch.where(kept, loss, 0.0).sum() / kept.sum().clamp(min=1)
