"""
Attention at every step to all events up to it, as two running sums over the whole row, with its own backward pass.

The score of an event is the same at every later step, so the mixture is a running sum of ``exp(score) * value`` over
one of ``exp(score)``. The exponentials are of the scores themselves: less the largest of the row, a mixture would move,
if only in its last digit, with events that come after it. So scores have to be small; ``triangle_attention`` asks
:func:`are_small` first.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Of the logarithm of the largest number, 40 in single precision: sums and quotients need the rest.
_SHARE_OF_RANGE = 0.45


def are_small(*scores: Tensor) -> bool:
    """Whether exponentials of all scores, and sums and quotients of them, neither vanish nor overflow."""
    most = _SHARE_OF_RANGE * math.log(torch.finfo(scores[0].dtype).max)
    return all(bool((one.abs() <= most).all()) for one in scores)


class RunningMixture(torch.autograd.Function):
    """
    Scores of past events and of each as the newest one, (batch, time), and values (batch, time, dim) to the mixtures.

    A score of -inf is of what is not there. A mixture of nothing is zero.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, newest: Tensor, values: Tensor) -> Tensor:
        """Mixtures of shape (batch, time, dim)."""
        past, own = scores.exp(), newest.exp()  # (batch, time) each
        total = own.clone()  # (batch, time)
        total[:, 1:] += past[:, :-1].cumsum(dim=1)
        total.masked_fill_(total == 0.0, torch.inf)
        mixed = values * own[:, :, None]  # (batch, time, dim)
        mixed[:, 1:] += (values[:, :-1] * past[:, :-1, None]).cumsum(dim=1)
        mixed.div_(total[:, :, None])
        ctx.save_for_backward(past, own, total, values, mixed)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of both scores and of the values: sums over the later steps, from the last one back."""
        past, own, total, values, mixed = ctx.saved_tensors
        slope = slope / total[:, :, None]  # (batch, time, dim)
        level = (slope * mixed).sum(dim=2)  # (batch, time)
        later, later_level = _of_later_steps(slope), _of_later_steps(level)
        to_scores = past * ((values * later).sum(dim=2) - later_level)
        to_newest = own * ((values * slope).sum(dim=2) - level)
        to_values = later.mul_(past[:, :, None]).addcmul_(slope, own[:, :, None])
        return to_scores, to_newest, to_values


def _of_later_steps(tensor: Tensor) -> Tensor:
    """The sum of what stands behind each step, along the second axis."""
    found = torch.empty_like(tensor)
    found[:, -1] = 0.0
    found[:, :-1] = tensor[:, 1:].flip(1).cumsum(dim=1).flip(1)
    return found
