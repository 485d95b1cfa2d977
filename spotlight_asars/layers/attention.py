"""
Triangle attention (paper section 2.3): attention at every step to all events up to that step.

The score of an event is the same at every later step, so the attention output is a quotient of running sums, of
``exp(score) * value`` and of ``exp(score)``. It is computed in one of three ways:

- over the whole row at once (:class:`RunningMixture`), if the scores are small enough for plain exponentials and a row
  is a single segment. Subtracting the row's largest score would avoid overflow, but then later events would change the
  last digits of earlier outputs.
- in chunks that carry the sums along, for all other rows.
- as the dense (time, time) triangle, the reference.
"""

import math
from itertools import repeat

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from spotlight_asars.errors import check_choice, check_whole

# Share of the logarithm of the largest number, 40 in single precision; sums and quotients need the rest.
_SHARE_OF_RANGE = 0.45
# Any real score is far above _MASKED. _FLOOR lies between, so that exp(_MASKED - maximum) is 0 even if everything is
# masked and the maximum itself would be _MASKED.
_MASKED = -1e30
_FLOOR = -1e20


def triangle_attention(
    scores: Tensor,
    values: Tensor,
    present: Tensor,
    current_scores: Tensor | None = None,
    segments: Tensor | None = None,
    current_values: Tensor | None = None,
    form: str = "linear",
    chunk_size: int | None = None,
    slope: Tensor | None = None,
) -> Tensor:
    """
    Attend at every step to all events up to it: all rows of the paper's triangle at once (Eq. 16-18).

    The output of step t is ``sum_k w_tk values_k`` over k <= t, where w_t is the softmax of the scores of those k.
    Masked positions get zero weight, which Eq. 18 does not achieve: its zeros are inside the softmax.

    Parameters
    ----------
    scores : tensor of shape (batch, time)
        Score of each event once it is past.
    values : tensor of shape (batch, time, dim)
    present : bool tensor of shape (batch, time)
        False at padding.
    current_scores : tensor of shape (batch, time), optional
        Score of each event while it is the newest one and its dwell is unknown; `scores` by default.
    segments : int tensor of shape (batch, time), optional
        Session numbers, non-decreasing: a step attends within its own segment only.
    current_values : tensor of shape (batch, time, dim), optional
        Value of each event while it is the newest one; `values` by default.
    form : {'linear', 'dense'}, optional
        'linear' carries a running sum, with O(time) work and memory; 'dense' builds the whole triangle, O(time ** 2),
        as the reference.
    chunk_size : int, optional
        Steps per chunk of the linear form. By default the whole row at once where that loses no precision, else 32.
    slope : scalar tensor, optional
        Added to the scores once for each step after the first, so that old events fade.

    Returns
    -------
    tensor of shape (batch, time, dim)
        Zero where there is nothing to attend to.

    Raises
    ------
    InputError
        If the form or the chunk size is invalid.
    """
    check_choice("form", form, ("linear", "dense"))
    if chunk_size is not None:
        check_whole("chunk_size", chunk_size)
    if not values.shape[1]:
        return torch.zeros_like(values)
    segments = torch.zeros_like(present, dtype=torch.long) if segments is None else segments
    newest = scores if current_scores is None else current_scores
    rise = 0.0 if slope is None else slope * torch.arange(values.shape[1], device=values.device)  # (time,)
    if form == "dense":
        weights = triangle_weights(scores + rise, present, newest + rise, segments)
        return _mix(weights, values, current_values)  # (batch, time, dim)
    if chunk_size is None and current_values is None and _one_each(segments):
        there = [(one + rise).masked_fill(~present, 0.0) for one in (scores, newest)]  # (batch, time) each
        if are_small(*there):
            return RunningMixture.apply(*(one.masked_fill(~present, -torch.inf) for one in there), values)
    wholes = (scores, values, present, segments, current_scores, current_values)
    return _in_chunks(wholes, slope, 32 if chunk_size is None else chunk_size)


def triangle_weights(
    scores: Tensor, present: Tensor, current_scores: Tensor | None = None, segments: Tensor | None = None
) -> Tensor:
    """
    Return the whole triangle of attention weights of :func:`triangle_attention`.

    Parameters
    ----------
    scores, present, current_scores, segments :
        As for :func:`triangle_attention`.

    Returns
    -------
    tensor of shape (batch, time, time)
        Entry (b, t, k) is the weight of event k at step t; rows sum to 1, or to 0 if nothing is present.
    """
    segments = torch.zeros_like(present, dtype=torch.long) if segments is None else segments
    logits = _triangle_logits(scores, present, current_scores, segments)  # (batch, time, time)
    return logits.softmax(dim=2).masked_fill(logits <= _MASKED, 0.0)


def _one_each(segments: Tensor) -> bool:
    """Return whether each row is a single segment; segment numbers do not decrease."""
    return bool((segments[:, 0] == segments[:, -1]).all())


def _mix(weights: Tensor, values: Tensor, current_values: Tensor | None) -> Tensor:
    """Mix values by weights (batch, time, time), the newest one from `current_values`; (batch, time, dim)."""
    if current_values is None:
        return weights @ values
    # Adding the difference to `values` instead would leak the newest value through rounding.
    return weights.tril(-1) @ values + weights.diagonal(dim1=1, dim2=2)[:, :, None] * current_values


def _triangle_logits(scores: Tensor, present: Tensor, current_scores: Tensor | None, segments: Tensor) -> Tensor:
    steps = scores.shape[1]
    allowed = torch.ones(steps, steps, dtype=torch.bool, device=scores.device).tril()  # (time, time)
    allowed = allowed & present[:, None, :] & (segments[:, None, :] == segments[:, :, None])
    logits = scores[:, None, :].expand(-1, steps, -1)  # (batch, time, time)
    if current_scores is not None:
        newest = torch.eye(steps, dtype=torch.bool, device=scores.device)  # (time, time)
        logits = torch.where(newest, current_scores[:, :, None], logits)
    return logits.masked_fill(~allowed, _MASKED)


def are_small(*scores: Tensor) -> bool:
    """Return whether exponentials of all scores, and sums and quotients of them, neither underflow nor overflow."""
    most = _SHARE_OF_RANGE * math.log(torch.finfo(scores[0].dtype).max)
    return all(bool((one.abs() <= most).all()) for one in scores)


class RunningMixture(torch.autograd.Function):
    """
    Scores as past events and as newest events, (batch, time) each, and values (batch, time, dim) to their mixtures.

    A score of -inf excludes an event. A mixture of nothing is zero. Scores must pass :func:`are_small`.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, scores: Tensor, newest: Tensor, values: Tensor) -> Tensor:
        """Return the mixtures, (batch, time, dim)."""
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
        """Return the gradients of both scores and of the values, which are sums over the later steps."""
        past, own, total, values, mixed = ctx.saved_tensors
        slope = slope / total[:, :, None]  # (batch, time, dim)
        level = (slope * mixed).sum(dim=2)  # (batch, time)
        later, later_level = _of_later_steps(slope), _of_later_steps(level)
        to_scores = past * ((values * later).sum(dim=2) - later_level)
        to_newest = own * ((values * slope).sum(dim=2) - level)
        to_values = later.mul_(past[:, :, None]).addcmul_(slope, own[:, :, None])
        return to_scores, to_newest, to_values


def _of_later_steps(tensor: Tensor) -> Tensor:
    """Return the sum over all later steps, along the second axis."""
    found = torch.empty_like(tensor)
    found[:, -1] = 0.0
    found[:, :-1] = tensor[:, 1:].flip(1).cumsum(dim=1).flip(1)
    return found


def _in_chunks(wholes: tuple[Tensor | None, ...], slope: Tensor | None, chunk_size: int) -> Tensor:
    """Compute the linear form chunk by chunk; `wholes` are the arguments, (batch, time, ...) each or None."""
    # Split, not sliced: the gradient of each slice is as long as the row, O(time ** 2) for all of them.
    split = [repeat(None) if whole is None else whole.split(chunk_size, dim=1) for whole in wholes]
    chunks = list(zip(*split, strict=False))
    carry, mixed = _Carry.empty(wholes[1]), []
    for score, value, here, segment, current_score, current_value in chunks:
        if slope is not None:
            # Relative to the end of the chunk, lowering the carry: scores that rise over a long row lose precision.
            rise = slope * torch.arange(1 - score.shape[1], 1, device=score.device)  # (chunk,)
            carry = carry.fallen(slope * score.shape[1])
            score, current_score = score + rise, None if current_score is None else current_score + rise
        logits = _triangle_logits(score, here, current_score, segment)  # (batch, chunk, chunk)
        mixed.append(carry.attend(logits, value, segment, current_value))  # (batch, chunk, dim)
        if len(mixed) < len(chunks):
            carry = carry.advance(score, value, here, segment)
    return torch.cat(mixed, dim=1)  # (batch, time, dim)


class _Carry:
    """
    The running sums of the latest segment: ``sum exp(score - top) * value`` and ``sum exp(score - top)``.

    `top` is the largest score. It cancels in the quotient, so it needs no gradient except through the slope.
    """

    def __init__(self, top: Tensor, weighted: Tensor, weight: Tensor, segment: Tensor | None) -> None:
        self.top = top  # (batch,)
        self.weighted = weighted  # (batch, dim)
        self.weight = weight  # (batch,)
        self.segment = segment  # (batch,)

    @classmethod
    def empty(cls, values: Tensor) -> "_Carry":
        nothing = values.new_zeros(values.shape[0])  # (batch,)
        return cls(nothing + _MASKED, values.new_zeros(values.shape[0], values.shape[2]), nothing, None)

    def fallen(self, by: Tensor) -> "_Carry":
        """Return the same sums with all scores lowered."""
        return _Carry(self.top - by, self.weighted, self.weight, self.segment)

    def attend(self, logits: Tensor, values: Tensor, segments: Tensor, current_values: Tensor | None) -> Tensor:
        """Return the outputs of a chunk, (batch, chunk, dim)."""
        carried = self._top_for(segments)  # (batch, chunk)
        top = torch.maximum(logits.amax(dim=2), carried).detach().clamp(min=_FLOOR)  # (batch, chunk)
        weights = (logits - top[:, :, None]).exp()  # (batch, chunk, chunk)
        share = (carried - top).exp()  # (batch, chunk)
        carried_values = share[:, :, None] * self.weighted[:, None, :]  # (batch, chunk, dim)
        weighted = _mix(weights, values, current_values) + carried_values
        weight = weights.sum(dim=2) + share * self.weight[:, None]  # (batch, chunk)
        # The largest score contributes exp(0), so a sum below 1 is a sum of nothing; dividing by a tiny number there
        # would make the gradients overflow.
        return weighted / weight.clamp(min=1.0)[:, :, None]

    def advance(self, scores: Tensor, values: Tensor, present: Tensor, segments: Tensor) -> "_Carry":
        """Return the sums after a chunk."""
        latest = segments[:, -1]  # (batch,)
        stays = present & (segments == latest[:, None])
        logits = scores.masked_fill(~stays, _MASKED)
        carried = self._top_for(latest)  # (batch,)
        top = torch.maximum(logits.amax(dim=1), carried).detach().clamp(min=_FLOOR)  # (batch,)
        weights = (logits - top[:, None]).exp()  # (batch, chunk)
        share = (carried - top).exp()  # (batch,)
        weighted = torch.einsum("bk,bkd->bd", weights, values) + share[:, None] * self.weighted  # (batch, dim)
        return _Carry(top, weighted, weights.sum(dim=1) + share * self.weight, latest)

    def _top_for(self, segment: Tensor) -> Tensor:
        """Return `top` where a later step is in the carried segment, else _MASKED; the shape of `segment`."""
        if self.segment is None:
            return torch.full_like(segment, _MASKED, dtype=self.top.dtype)
        shape = (-1,) + (1,) * (segment.dim() - 1)
        same = segment == self.segment.view(shape)
        return torch.where(same, self.top.view(shape), _MASKED)
