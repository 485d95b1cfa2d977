"""Triangle attention (paper section 2.3), dropout, and the recurrent layers over events."""

from itertools import repeat

import torch
from torch import Tensor, nn

from spotlight_asars.gru_walk import GruWalk, states_before
from spotlight_asars.lstm_walk import walk
from spotlight_asars.running_mixture import RunningMixture, are_small

# Any real score lies far above _MASKED; _FLOOR lies between, so that exp(_MASKED - maximum) is 0 even where all
# is masked and the maximum itself would be _MASKED.
_MASKED = -1e30
_FLOOR = -1e20


class UnitEmbedding(nn.Embedding):
    """
    An embedding whose rows begin with about unit length, normal with deviation ``dim ** -0.5``.

    The host's ScaledEmbedding begins with deviation ``1 / dim``: rows so short that a recurrent layer over them, and
    a score that multiplies two of them, see next to nothing for the first epochs.
    """

    def reset_parameters(self) -> None:
        """Draw the rows anew; the padding row is zero."""
        with torch.no_grad():
            self.weight.normal_(0.0, self.embedding_dim**-0.5)
            if self.padding_idx is not None:
                self.weight[self.padding_idx].zero_()


class ScaledLinear(nn.Linear):
    """
    A linear layer that begins as torch's, but whose weights move `scale` times as far by each step of an optimizer.

    Adam's and Adagrad's steps are as long as the learning rate, however small a gradient is: right for rare items'
    embeddings, and noise in each of the many weights of a wide layer between them and the state. The parameters are the
    weights divided by `scale`.
    """

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        self.scale = scale
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        super().reset_parameters()
        with torch.no_grad():
            for weight in (self.weight, self.bias):
                weight.div_(self.scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., input) to (..., output)."""
        if self.scale == 1.0:
            return super().forward(inputs)
        return nn.functional.linear(inputs, self.weight * self.scale, self.bias * self.scale)


class Dropout(nn.Dropout):
    """
    Dropout as torch has it, with one draw of the random generator for four elements on a CPU.

    There torch draws a number for each element, which takes longer than a small recurrent layer over them. Sixteen bits
    decide as well: the share that is dropped is exact to 1 / 65,536, and what stays is scaled by what it is.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Of any shape, with some elements zero while it trains."""
        if not self.training or not self.p or inputs.device.type != "cpu":
            return super().forward(inputs)
        dropped = round(self.p * 2**16)
        words = torch.empty(inputs.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: inputs.numel()].view(inputs.shape)
        mask = torch.ge(bits, dropped - 2**15, out=torch.empty_like(inputs, memory_format=torch.contiguous_format))
        return inputs * mask.mul_(2**16 / (2**16 - dropped))


class UserDropout(nn.Dropout):
    """Takes users for anonymous at random, while it trains."""

    def forward(self, user_ids: Tensor) -> Tensor:
        """User ids of shape (rows,), some of them 0."""
        if not self.training or not self.p:
            return user_ids
        stays = torch.rand(len(user_ids), device=user_ids.device) >= self.p
        return user_ids * stays


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

    Step t gets ``sum_k w_tk values_k`` over k <= t, with w_t the softmax of the scores of those k. Masked positions
    get zero weight; the zeros of Eq. 18 inside a softmax would not.

    Parameters
    ----------
    scores : tensor of shape (batch, time)
        Score of each event once it is past.
    values : tensor of shape (batch, time, dim)
        What is mixed.
    present : bool tensor of shape (batch, time)
        False at padding.
    current_scores : tensor of shape (batch, time), optional
        Score of each event while it is the newest one and its dwell is not yet known; `scores` by default.
    segments : int tensor of shape (batch, time), optional
        Sessions, non-decreasing: a step attends within its own segment only.
    current_values : tensor of shape (batch, time, dim), optional
        What is mixed of each event while it is the newest one; `values` by default.
    form : {'linear', 'dense'}, optional
        'linear' carries a running sum, O(time) work and memory; 'dense' makes the whole triangle, O(time ** 2), as
        the reference.
    chunk_size : int, optional
        Steps a chunk of the linear form, which carries the sum from chunk to chunk; by default over the whole row at
        once where that keeps all digits, else in chunks of 32.
    slope : scalar tensor, optional
        Added to the scores once for each step an event lies behind the first one, so that old events fade.

    Returns
    -------
    tensor of shape (batch, time, dim)
        Zero where nothing is to attend to.
    """
    if form not in ("linear", "dense"):
        raise ValueError(f"form is {form!r}: choose 'linear' or 'dense'")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size is {chunk_size}: give at least 1")
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


def _in_chunks(wholes: tuple[Tensor | None, ...], slope: Tensor | None, chunk_size: int) -> Tensor:
    """The linear form, a chunk after the other; `wholes` as above, (batch, time, ...) each or None."""
    # Split, not sliced: a slice's gradient is as long as the row, so that of all slices takes O(time ** 2).
    split = [repeat(None) if whole is None else whole.split(chunk_size, dim=1) for whole in wholes]
    chunks = list(zip(*split, strict=False))
    carry, mixed = _Carry.empty(wholes[1]), []
    for score, value, here, segment, current_score, current_value in chunks:
        if slope is not None:
            # From the chunk's end, and what lies before falls: over a long row the scores would lose their digits.
            rise = slope * torch.arange(1 - score.shape[1], 1, device=score.device)  # (chunk,)
            carry = carry.fallen(slope * score.shape[1])
            score, current_score = score + rise, None if current_score is None else current_score + rise
        logits = _triangle_logits(score, here, current_score, segment)  # (batch, chunk, chunk)
        mixed.append(carry.attend(logits, value, segment, current_value))  # (batch, chunk, dim)
        if len(mixed) < len(chunks):
            carry = carry.advance(score, value, here, segment)
    return torch.cat(mixed, dim=1)  # (batch, time, dim)


def _one_each(segments: Tensor) -> bool:
    """Whether no row has more than one; they do not decrease."""
    return bool((segments[:, 0] == segments[:, -1]).all())


def triangle_weights(
    scores: Tensor, present: Tensor, current_scores: Tensor | None = None, segments: Tensor | None = None
) -> Tensor:
    """
    The whole triangle of attention weights, as :func:`triangle_attention` uses them.

    Returns
    -------
    tensor of shape (batch, time, time)
        Entry (b, t, k) is the weight of event k at step t; rows sum to 1, or to 0 where nothing is present.
    """
    segments = torch.zeros_like(present, dtype=torch.long) if segments is None else segments
    logits = _triangle_logits(scores, present, current_scores, segments)  # (batch, time, time)
    return logits.softmax(dim=2).masked_fill(logits <= _MASKED, 0.0)


def _mix(weights: Tensor, values: Tensor, current_values: Tensor | None) -> Tensor:
    """Values mixed by weights (batch, time, time), the newest one taken from `current_values`: (batch, time, dim)."""
    if current_values is None:
        return weights @ values
    # Not the difference to `values` on top of their mixture: rounding would let the newest one's through.
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


class _Carry:
    """
    The running sums of the latest segment: ``sum exp(score - top) * value`` and ``sum exp(score - top)``.

    `top` is their largest score; it cancels in the quotient, so no gradient has to pass through it but by a slope.
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
        """The same with all scores lower."""
        return _Carry(self.top - by, self.weighted, self.weight, self.segment)

    def _top_for(self, segment: Tensor) -> Tensor:
        """`top` where a later step is of the carried segment, else masked; the shape of `segment`."""
        if self.segment is None:
            return torch.full_like(segment, _MASKED, dtype=self.top.dtype)
        shape = (-1,) + (1,) * (segment.dim() - 1)
        same = segment == self.segment.view(shape)
        return torch.where(same, self.top.view(shape), _MASKED)

    def attend(self, logits: Tensor, values: Tensor, segments: Tensor, current_values: Tensor | None) -> Tensor:
        carried = self._top_for(segments)  # (batch, chunk)
        top = torch.maximum(logits.amax(dim=2), carried).detach().clamp(min=_FLOOR)  # (batch, chunk)
        weights = (logits - top[:, :, None]).exp()  # (batch, chunk, chunk)
        share = (carried - top).exp()  # (batch, chunk)
        carried_values = share[:, :, None] * self.weighted[:, None, :]  # (batch, chunk, dim)
        weighted = _mix(weights, values, current_values) + carried_values
        weight = weights.sum(dim=2) + share * self.weight[:, None]  # (batch, chunk)
        # The largest score counts exp(0), so less than 1 means nothing at all; a tiny divisor there would make the
        # gradients overflow.
        return weighted / weight.clamp(min=1.0)[:, :, None]

    def advance(self, scores: Tensor, values: Tensor, present: Tensor, segments: Tensor) -> "_Carry":
        latest = segments[:, -1]  # (batch,)
        stays = present & (segments == latest[:, None])
        logits = scores.masked_fill(~stays, _MASKED)
        carried = self._top_for(latest)  # (batch,)
        top = torch.maximum(logits.amax(dim=1), carried).detach().clamp(min=_FLOOR)  # (batch,)
        weights = (logits - top[:, None]).exp()  # (batch, chunk)
        share = (carried - top).exp()  # (batch,)
        weighted = torch.einsum("bk,bkd->bd", weights, values) + share[:, None] * self.weighted  # (batch, dim)
        return _Carry(top, weighted, weights.sum(dim=1) + share * self.weight, latest)


class EventLSTM(nn.LSTM):
    """
    A one-layer LSTM over events, batch first, that can also say what its state would be for another last input.

    Under ``dwell='known'`` the newest event has an unknown dwell; a moment later the same event has a known one. The
    state for the first must not enter the states that follow, so each step is taken twice from the same past.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """States after each step: (batch, time, input) to (batch, time, hidden)."""
        return super().forward(inputs)[0]

    def with_newest(self, inputs: Tensor, newest: Tensor) -> tuple[Tensor, Tensor]:
        """
        States after each step, and the states had that step's input been the one of `newest`.

        Parameters
        ----------
        inputs : tensor of shape (batch, time, input)
        newest : tensor of shape (batch, time, input)
            Or one that broadcasts to it.

        Returns
        -------
        (states, newest_states) : two tensors of shape (batch, time, hidden)
        """
        return walk(torch.broadcast_tensors(inputs, newest), _weights_of(self))


def _weights_of(layer: nn.RNNBase) -> tuple[Tensor, ...]:
    return layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0


class EventGRU(nn.GRU):
    """A one-layer GRU over events, batch first, with the same question answered as by :class:`EventLSTM`."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """States after each step: (batch, time, input) to (batch, time, hidden)."""
        return super().forward(inputs)[0]

    def with_newest(self, inputs: Tensor, newest: Tensor) -> tuple[Tensor, Tensor]:
        """
        As :meth:`EventLSTM.with_newest`.

        A GRU's whole past lies in its state, so the other last steps need no loop: one step for all of them.
        """
        states = self(inputs)  # (batch, time, hidden)
        past = nn.functional.pad(states[:, :-1], (0, 0, 1, 0))  # (batch, time, hidden): the state before each step
        newest = newest.expand(*inputs.shape).flatten(0, 1)  # (batch * time, input)
        newest_states = torch.gru_cell(newest, past.flatten(0, 1), *_weights_of(self))  # (batch * time, hidden)
        return states, newest_states.view_as(states)

    def step_by_step(self, counts: list[int], inputs: Tensor, newest: Tensor | None = None) -> tuple[Tensor, ...]:
        """
        As :meth:`with_newest`, or as :meth:`forward` in a tuple, for sequences of unequal length.

        Parameters
        ----------
        counts : list of int
            Events of each step, see ``padding.Steps``.
        inputs, newest : tensors of shape (events, input)

        Returns
        -------
        tuple of tensors of shape (events, hidden)
        """
        weight, recurrent, bias, recurrent_bias = _weights_of(self)
        given = nn.functional.linear(inputs, weight, bias)  # (events, 3 * hidden)
        states = GruWalk.apply(given, recurrent, recurrent_bias, counts)  # (events, hidden)
        if newest is None:
            return (states,)
        return states, torch.gru_cell(newest, states_before(states, counts), *_weights_of(self))
