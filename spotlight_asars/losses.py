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
    positive, negative, there = _prepared(positive, negative, mask)
    if there is not None:
        negative = negative.masked_fill(~there, -torch.inf)
    everything = torch.cat([positive[None], negative])  # (1 + negatives, ...)
    return _mean(log_sum_exp(everything, dim=0) - positive, mask)


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
    positive, negative, there = _prepared(positive, negative, mask)
    if elu is not None:
        positive, negative = F.elu(positive, elu), F.elu(negative, elu)
    return _mean(_BPRMax.apply(positive, negative, there, regularization), mask)


class _BPRMax(torch.autograd.Function):
    """
    :func:`bpr_max_loss` of each positive, with its gradient in closed form: thousands of negatives are many sums.

    One exponential a negative serves both: with ``e_j = exp(r_j - top)`` the share is ``e_j / sum e``, and the sigmoid
    ``won / (won + lost * e_j)``, where ``won = exp(r+ - high)``, ``lost = exp(top - high)`` and `high` is the larger of
    ``r+`` and the largest negative, `top`. So nothing overflows, and `won` cancels but for its logarithm. All of them
    are raised by a factor that cancels too, so that in single precision nothing is lost down to 150 below the largest.
    """

    _RAISED = 64.0  # the logarithm of that factor

    @staticmethod
    def forward(
        ctx: FunctionCtx, positive: Tensor, negative: Tensor, there: Tensor | None, regularization: float
    ) -> Tensor:
        tiny = torch.finfo(negative.dtype).tiny
        nothing = None if there is None else ~there
        top = (negative if nothing is None else negative.masked_fill(nothing, -1 / tiny)).amax(dim=0)
        exponential = (negative - (top - _BPRMax._RAISED)).exp_()  # (negatives, ...)
        if nothing is not None:
            exponential.masked_fill_(nothing, 0.0)
        total = exponential.sum(dim=0)
        high = torch.maximum(positive, top)
        # At least tiny: where r+ and some negatives lie farther below the others, it would be 0 / 0 for those.
        won = (positive - high + _BPRMax._RAISED).exp().clamp(min=tiny)
        divisor = (exponential * (top - high).exp()).add_(won)  # (negatives, ...)
        joint = exponential / divisor  # (negatives, ...), in proportion to share * sigmoid
        joint_total = joint.sum(dim=0)
        share = exponential.div_(total.clamp(min=tiny))
        penalty = (share * negative).mul_(negative).sum(dim=0)
        ctx.regularization = regularization
        joint.div_(joint_total.clamp(min=tiny))
        ctx.save_for_backward(negative, share, divisor.reciprocal_().mul_(won), joint, penalty)
        loss = regularization * penalty + (high - positive) + (total.log() - _BPRMax._RAISED) - joint_total.log()
        return loss if there is None else torch.where(total > 0, loss, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        negative, share, wins, joint, penalty = ctx.saved_tensors
        won = joint * wins  # (negatives, ...)
        # The share's own gradient brings the 1 and the penalty's mean.
        to_share = (negative + 2.0).mul_(negative).sub_(penalty).mul_(ctx.regularization).add_(1.0)
        to_negative = to_share.mul_(share).sub_(won).mul_(slope)
        return (won.sum(dim=0) - joint.sum(dim=0)) * slope, to_negative, None, None


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
    Both with zero where masked out, the negatives with their axis in front, and where there are negatives.

    The last is None where all are there; else the others, given as -inf, are zero.
    """
    if negative.dim() == positive.dim():
        negative = negative[None]
    if negative.shape[1:] != positive.shape:
        raise ValueError(
            f"negative predictions have shape {tuple(negative.shape)} and positive ones {tuple(positive.shape)}: "
            "give the same shape, or one more axis in front"
        )
    if not len(negative):
        raise ValueError("there are no negative predictions: draw at least one for each positive")
    there = None
    nothing = negative.isneginf()
    if nothing.count_nonzero():  # which is several times as fast as any()
        there = ~nothing
        negative = negative.masked_fill(nothing, 0.0)
    if mask is None:
        return positive, negative, there
    if mask.shape != positive.shape:
        raise ValueError(f"the mask has shape {tuple(mask.shape)} and positive predictions {tuple(positive.shape)}")
    # Here and not only in the loss: there, an infinite score at a masked entry would still make its gradient NaN.
    kept = mask.bool()
    return torch.where(kept, positive, 0.0), torch.where(kept, negative, 0.0), there


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
