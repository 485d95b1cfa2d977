"""
Ranking losses, ``f(positive, negative, mask=None)`` as in the host, and their registry by name.

Positive predictions have any shape, such as (batch, time). Negative ones have the same shape, or one axis more in
front, (negatives, batch, time), as in the host's adaptive hinge loss. The mask has the shape of the positive ones;
False entries count nothing, and the mean is over the others. Where the mask leaves nothing, the loss is 0.

A negative prediction of -inf is none: a sample shared by many targets hits some of them, and must not count there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from spotlight_asars.host import losses as host_losses

_CELLS_AT_ONCE = 2**16  # scores worked on together, of which there are half a dozen versions at a time
_LOWEST = -1e15  # whose square is still a number
_RAISED = 64.0  # see _bpr_max_and_slopes
_elu_backward = torch.ops.aten.elu_backward


def bpr_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """Bayesian personalised ranking, ``-log sigmoid(r+ - r-)``, the mean over negatives (paper Eq. 21)."""
    positive, negative, there = _prepared(positive, negative, mask)
    return _mean(_mean_of_negatives(-F.logsigmoid(positive - negative), there), mask)


def top1_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    TOP1, ``sigmoid(r- - r+) + sigmoid(r- ** 2)``, the mean over negatives.

    Hidasi et al. 2016; paper Eq. 22 has the sign of the difference turned round and the positive in the square.
    """
    positive, negative, there = _prepared(positive, negative, mask)
    return _mean(_mean_of_negatives(torch.sigmoid(negative - positive) + torch.sigmoid(negative**2), there), mask)


def hinge_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """Hinge, ``max(0, 1 + r- - r+)``, the mean over negatives (paper Eq. 23 has the sign turned round)."""
    positive, negative, there = _prepared(positive, negative, mask)
    return _mean(_mean_of_negatives(F.relu(1.0 + negative - positive), there), mask)


def cross_entropy_loss(positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Cross-entropy of the positive item against itself and the negatives.

    ``-r+ + log(exp(r+) + sum exp(r-))``. It is the full softmax where the negatives are all other items.
    """
    return _mean(_CrossEntropy.apply(*_aligned(positive, negative, mask)), mask)


class _CrossEntropy(torch.autograd.Function):
    """:func:`cross_entropy_loss` of each positive; a negative of -inf has no exponential, and so neither a gradient."""

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
    """As torch has it, for finite largest scores; the exponentials are kept for the gradient instead of made anew."""
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
    Cross-entropy against a sample of negatives, corrected for how often each item is drawn.

    The logarithm of an item's sampling probability is taken off its score, the positive's and the negatives' alike
    (Bengio and Senecal 2008), so that popular items, drawn more often, do not weigh more.

    Parameters
    ----------
    positive, negative, mask :
        As for every loss here.
    positive_log_q, negative_log_q : tensors of the shapes of `positive` and `negative`, optional
        Log probabilities of drawing these items; without them nothing is corrected.
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
    BPR-max (Hidasi and Karatzoglou 2018, Eq. 12).

    ``-log sum_j s_j sigmoid(r+ - r_j) + regularization * sum_j s_j r_j ** 2``, s the softmax over the negatives only.

    Parameters
    ----------
    positive, negative, mask :
        As for every loss here.
    regularization : float, optional
    elu : float, optional
        Pass the predictions through an exponential linear unit that saturates at ``-elu``, as its authors do: the
        penalty then leaves negatives alone once they are low. It keeps the order, so rankings are those of the
        predictions themselves.
    """
    positive, negative = _aligned(positive, negative, mask)
    losses = _BPRMax.apply(positive.flatten(), negative.flatten(1), regularization, elu)
    return _mean(losses.view(positive.shape), mask)


class _BPRMax(torch.autograd.Function):
    """
    :func:`bpr_max_loss` of each positive (targets,) and its negatives (negatives, targets), with closed-form gradients.

    Thousands of negatives are many sums, so losses and gradients are made together, of so few targets at a time that
    all of it stays in the cache.
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
    Losses (targets,) and their derivatives by the positives (targets,) and by the negatives (negatives, targets).

    One exponential a negative serves all: with ``e_j = exp(r_j - top)`` the share is ``e_j / sum e``, and the sigmoid
    ``won / (won + lost * e_j)``, where ``won = exp(r+ - high)``, ``lost = exp(top - high)`` and `high` is the larger of
    ``r+`` and the largest negative, `top`. So nothing overflows, and `won` cancels but for its logarithm. All of them
    are raised by a factor that cancels too, so that in single precision nothing is lost down to 150 below the largest.
    """
    tiny = torch.finfo(negative.dtype).tiny
    scores, own = (negative, positive) if elu is None else (F.elu(negative, elu), F.elu(positive, elu))
    if elu is not None:  # which makes finite what is none: 0 is added to all others
        scores.add_(negative.clamp(max=_LOWEST).sub_(_LOWEST))
    top = scores.amax(dim=0).clamp_(min=_LOWEST)
    exponential = (scores - (top - _RAISED)).exp_()  # (negatives, targets)
    scores = scores.clamp(min=_LOWEST)
    total = exponential.sum(dim=0)
    high = torch.maximum(own, top)
    # At least tiny: where r+ and some negatives lie farther below the others, it would be 0 / 0 for those.
    won = (own - high + _RAISED).exp_().clamp_(min=tiny)
    wins = torch.addcmul(won, exponential, (top - high).exp_()).reciprocal_()  # (negatives, targets)
    joint = exponential * wins  # (negatives, targets), in proportion to share * sigmoid
    joint_total = joint.sum(dim=0)
    share = exponential.div_(total.clamp(min=tiny))
    penalty = (share * scores).mul_(scores).sum(dim=0)
    losses = regularization * penalty + (high - own) + (total.log() - _RAISED) - joint_total.log()

    # The share's own gradient brings the 1 and the penalty's mean: regularization * ((r_j + 2) * r_j - penalty) + 1.
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
    TOP1-max (Hidasi and Karatzoglou 2018, Eq. 8).

    ``sum_j s_j (sigmoid(r_j - r+) + sigmoid(r_j ** 2))``, s the softmax over the negatives only.
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
    """
    As :func:`_aligned`, and where there are negatives: None where all are there, else the others are set to zero.
    """
    positive, negative = _aligned(positive, negative, mask)
    nothing = negative.isneginf()
    if not nothing.count_nonzero():  # which is several times as fast as any()
        return positive, negative, None
    return positive, negative.masked_fill(nothing, 0.0), ~nothing


def _aligned(positive: Tensor, negative: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both with zero where masked out, the negatives with their axis in front."""
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
    # Here and not only in the loss: there, an infinite score at a masked entry would still make its gradient NaN.
    kept = mask.bool()
    return torch.where(kept, positive, 0.0), torch.where(kept, negative, 0.0)


def _mean_of_negatives(values: Tensor, there: Tensor | None) -> Tensor:
    """(negatives, ...) to (...)."""
    if there is None:
        return values.mean(dim=0)
    return values.masked_fill(~there, 0.0).sum(dim=0) / there.sum(dim=0).clamp(min=1)


def _log_share(negative: Tensor, there: Tensor | None) -> Tensor:
    """Logarithm of each negative's share of their softmax, (negatives, ...); finite, and about none where none is."""
    if there is not None:
        # Not -inf, which would make the gradients NaN where there is no negative at all.
        negative = negative.masked_fill(~there, torch.finfo(negative.dtype).min / 4)
    return negative.log_softmax(dim=0)


def _where_any(loss: Tensor, there: Tensor | None) -> Tensor:
    """The loss, zero at positives that have no negative."""
    return loss if there is None else torch.where(there.any(dim=0), loss, 0.0)


def _mean(loss: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return loss.mean() if loss.numel() else loss.sum()
    kept = mask.bool()
    return torch.where(kept, loss, 0.0).sum() / kept.sum().clamp(min=1)
