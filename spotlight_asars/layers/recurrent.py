"""
LSTM and GRU over events, each with a recurrence written as one autograd function.

Under ``dwell='known'`` an event has no dwell while it is the newest one and gets it with the next event. The state
computed without the dwell must not enter later states, so both layers can apply a second input to the same past state
at every step (`with_newest`).

torch's autograd keeps about twenty small tensors per step and visits each again in the backward pass. The recurrences
here run a few in-place operations per step in either direction, and compute everything that does not depend on the
previous step for all events at once.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


class EventLSTM(nn.LSTM):
    """A one-layer LSTM over events, batch first, with an alternative newest input at every step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the states after each step, (batch, time, input) to (batch, time, hidden)."""
        return super().forward(inputs)[0]

    def with_newest(self, inputs: Tensor, newest: Tensor) -> tuple[Tensor, Tensor]:
        """
        Return the states after each step, and the states if that step's input were the one in `newest`.

        Parameters
        ----------
        inputs : tensor of shape (batch, time, input)
        newest : tensor that broadcasts to the shape of `inputs`

        Returns
        -------
        (states, newest_states) : two tensors of shape (batch, time, hidden)
        """
        return lstm_recurrence(torch.broadcast_tensors(inputs, newest), _weights_of(self))


class EventGRU(nn.GRU):
    """A one-layer GRU over events, batch first, with an alternative newest input at every step."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the states after each step, (batch, time, input) to (batch, time, hidden)."""
        return super().forward(inputs)[0]

    def with_newest(self, inputs: Tensor, newest: Tensor) -> tuple[Tensor, Tensor]:
        """
        Return the states after each step, and the states if that step's input were the one in `newest`.

        Parameters
        ----------
        inputs : tensor of shape (batch, time, input)
        newest : tensor that broadcasts to the shape of `inputs`

        Returns
        -------
        (states, newest_states) : two tensors of shape (batch, time, hidden)
        """
        states = self(inputs)  # (batch, time, hidden)
        past = nn.functional.pad(states[:, :-1], (0, 0, 1, 0))  # (batch, time, hidden): the state before each step
        # The hidden state is a GRU's whole memory, so the alternative steps take one cell call instead of a loop.
        newest = newest.expand(*inputs.shape).flatten(0, 1)  # (batch * time, input)
        newest_states = torch.gru_cell(newest, past.flatten(0, 1), *_weights_of(self))  # (batch * time, hidden)
        return states, newest_states.view_as(states)

    def step_by_step(self, counts: list[int], inputs: Tensor, newest: Tensor | None = None) -> tuple[Tensor, ...]:
        """
        Run over packed sequences of unequal length, see :class:`~spotlight_asars.layers.padding.PackedSteps`.

        Parameters
        ----------
        counts : list of int
            Number of events at each step.
        inputs, newest : tensors of shape (events, input)

        Returns
        -------
        tuple of tensors of shape (events, hidden)
            The states, and with `newest` also the alternative states of :meth:`with_newest`.
        """
        weight, recurrent, bias, recurrent_bias = _weights_of(self)
        given = nn.functional.linear(inputs, weight, bias)  # (events, 3 * hidden)
        states = GRURecurrence.apply(given, recurrent, recurrent_bias, counts)  # (events, hidden)
        if newest is None:
            return (states,)
        return states, torch.gru_cell(newest, previous_states(states, counts), *_weights_of(self))


def _weights_of(layer: nn.RNNBase) -> tuple[Tensor, ...]:
    return layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0


def lstm_recurrence(kinds: Sequence[Tensor], weights: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """
    Run an LSTM over the first kind of input, and apply the other kinds to the same past state at every step.

    Parameters
    ----------
    kinds : sequence of tensors of shape (batch, time, input)
    weights : (weight_ih, weight_hh, bias_ih, bias_hh)
        As in ``nn.LSTM``.

    Returns
    -------
    tuple of tensors of shape (batch, time, hidden), one for each kind
    """
    weight, recurrent, *biases = weights
    inputs = torch.stack([one.transpose(0, 1) for one in kinds], dim=1)  # (time, kinds, batch, input)
    states = LSTMRecurrence.apply(inputs, *(_sigmoids_first(one) for one in (weight, recurrent, sum(biases))))
    return tuple(one.transpose(0, 1) for one in states)  # (batch, time, hidden) each


def _sigmoids_first(weight: Tensor) -> Tensor:
    """Reorder gates to input, forget, output, candidate, so that the three sigmoid gates are contiguous."""
    entry, forget, candidate, output = weight.chunk(4)
    return torch.cat([entry, forget, output, candidate])


class LSTMRecurrence(torch.autograd.Function):
    """
    Inputs (time, kinds, batch, input) to the states of each kind, (time, batch, hidden).

    Weights and bias are in the gate order of :func:`_sigmoids_first`. The batch is the last axis inside, so that each
    gate of a step is contiguous; states are transposed step by step while they are in the cache.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the states of each kind."""
        time, kinds, batch, _ = inputs.shape
        four, hidden = recurrent.shape
        gates = inputs.new_empty(time, four, kinds, batch)
        states = inputs.new_empty(time, hidden, kinds, batch)
        cells, squashed = torch.empty_like(states), torch.empty_like(states)
        found = inputs.new_empty(kinds, time, batch, hidden)
        past = inputs.new_empty(four, 1, batch)
        state = cell = inputs.new_zeros(hidden, batch)
        for given, gate, sigmoids, entry, forget, output, candidate, new_state, new_cell, new_squashed, turned in zip(
            inputs.flatten(1, 2), gates, gates[:, : 3 * hidden], *_parts(gates), states, cells, squashed,
            found.unbind(1), strict=True,
        ):  # fmt: skip
            torch.mm(weight, given.T, out=gate.view(four, -1))
            torch.addmm(bias[:, None], recurrent, state, out=past[:, 0])
            gate.add_(past)
            sigmoids.sigmoid_()
            candidate.tanh_()
            torch.mul(forget, cell[:, None], out=new_cell).addcmul_(entry, candidate)
            torch.tanh(new_cell, out=new_squashed)
            torch.mul(output, new_squashed, out=new_state)
            turned.copy_(new_state.permute(1, 2, 0))  # (kinds, batch, hidden)
            state, cell = new_state[:, 0], new_cell[:, 0]
        ctx.save_for_backward(inputs, weight, recurrent, gates, states, cells, squashed)
        return found.unbind(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of the inputs, both weights and the bias."""
        inputs, weight, recurrent, gates, states, cells, squashed = ctx.saved_tensors
        hidden, batch = recurrent.shape[1], inputs.shape[2]
        to_inputs = torch.empty_like(inputs)
        to_weight, to_recurrent = torch.zeros_like(weight), torch.zeros_like(recurrent)
        to_bias, ones = recurrent.new_zeros(len(recurrent)), recurrent.new_ones(batch)
        by_gate = gates.new_empty(1, *gates.shape[1:])  # (1, 4 * hidden, kinds, batch), of one step
        (to_entry,), (to_forget,), (to_output,), (to_candidate,) = _parts(by_gate)
        by_gate = by_gate[0]
        to_state, to_cell = (states.new_empty(states.shape[1:]) for _ in range(2))  # (hidden, kinds, batch)
        later_state = later_cell = inputs.new_zeros(hidden, batch)  # (hidden, batch), from the later steps
        nothing = torch.zeros_like(later_state)
        # The state and cell before each step.
        states_before, cells_before = ([nothing, *steps[:-1, :, 0]] for steps in (states, cells))
        for given, wanted, sigmoids, entry, forget, output, candidate, squash, state, cell, *slope in zip(
            *(
                reversed(list(steps))
                for steps in (
                    inputs.flatten(1, 2),
                    to_inputs.flatten(1, 2),
                    gates[:, : 3 * hidden],
                    *_parts(gates),
                    squashed,
                )
            ),
            *(reversed(steps[: len(gates)]) for steps in (states_before, cells_before)),
            *(reversed(steps.unbind(0)) for steps in slopes),
            strict=True,
        ):
            for kind, one in enumerate(slope):
                to_state[:, kind].copy_(one.T)  # (hidden, batch)
            to_state[:, 0].add_(later_state)
            torch.mul(to_state, output, out=to_cell)
            _tanh_backward(to_cell, squash, grad_input=to_cell)[:, 0].add_(later_cell)
            torch.mul(to_cell, candidate, out=to_entry)
            torch.mul(to_cell, cell[:, None], out=to_forget)
            torch.mul(to_state, squash, out=to_output)
            torch.mul(to_cell, entry, out=to_candidate)
            by_sigmoids = by_gate[: 3 * hidden]
            _sigmoid_backward(by_sigmoids, sigmoids, grad_input=by_sigmoids)
            _tanh_backward(to_candidate, candidate, grad_input=to_candidate)
            later_cell = _over_kinds(to_cell.mul_(forget))  # (hidden, batch)
            by_past = _over_kinds(by_gate)  # (4 * hidden, batch)
            later_state = recurrent.T @ by_past  # (hidden, batch)
            by_given = by_gate.flatten(1)  # (4 * hidden, kinds * batch)
            torch.mm(by_given.T, weight, out=wanted)
            to_weight.addmm_(by_given, given)
            to_recurrent.addmm_(by_past, state.T)
            to_bias.addmv_(by_past, ones)
        return to_inputs, to_weight, to_recurrent, to_bias


def _parts(gates: Tensor) -> tuple[Tensor, ...]:
    """Split gates (time, 4 * hidden, ...) into input, forget, output and candidate, (time, hidden, ...) each."""
    return gates.chunk(4, dim=1)


def _over_kinds(tensor: Tensor) -> Tensor:
    """Sum (..., kinds, batch) over the kinds into a new tensor; for few kinds this is faster than torch's sum."""
    first, *others = tensor.unbind(1)
    return reduce(torch.add, others, first) if others else first.clone()


class GRURecurrence(torch.autograd.Function):
    """
    The input's part of the gates, (events, 3 * hidden), to the states after each event, (events, hidden).

    Events are packed step by step: the first event of each sequence, then the second events, and so on, with longer
    sequences first within a step. `counts` is the number of events at each step. Weights are those of ``nn.GRU``.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, given: Tensor, recurrent: Tensor, bias: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the states after each event."""
        hidden = recurrent.shape[1]
        gates, past = torch.empty_like(given), torch.empty_like(given)  # (events, 3 * hidden) each
        states = given.new_empty(len(given), hidden)
        state = given.new_zeros(max(counts, default=0), hidden)
        for count, own, gate, before, new_state in zip(
            counts, *(whole.split(counts) for whole in (given, gates, past, states)), strict=True
        ):
            state = state[:count]  # (count, hidden)
            torch.addmm(bias, state, recurrent.T, out=before)
            reset, update, candidate = gate.split(hidden, dim=1)  # (count, hidden) each
            torch.add(own[:, : 2 * hidden], before[:, : 2 * hidden], out=gate[:, : 2 * hidden]).sigmoid_()
            torch.addcmul(own[:, 2 * hidden :], reset, before[:, 2 * hidden :], out=candidate).tanh_()
            state = torch.lerp(candidate, state, update, out=new_state)
        ctx.counts = counts
        ctx.save_for_backward(recurrent, gates, past[:, 2 * hidden :], states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slopes: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of the input's part of the gates, the weights and the bias."""
        recurrent, gates, past, states = ctx.saved_tensors
        counts, hidden = ctx.counts, recurrent.shape[1]
        reset, update, candidate = gates.split(hidden, dim=1)  # (events, hidden) each
        before = previous_states(states, counts)  # (events, hidden)
        # Multiplied by a state's gradient, these give the gradients of the gates before their sigmoids and tanh.
        by_candidate = (1.0 - update).mul_(1.0 - candidate * candidate)  # (events, hidden)
        by_past = torch.stack(
            [
                by_candidate * past * reset * (1.0 - reset),
                (before - candidate).mul_(update).mul_(1.0 - update),
                by_candidate * reset,
            ],
            dim=1,
        )  # (events, 3, hidden)
        slopes = slopes.clone(memory_format=torch.contiguous_format)
        to_past = torch.empty_like(gates)  # (events, 3 * hidden)
        later = slopes.new_empty(0, hidden)  # (count, hidden), from the later steps
        for slope, factor, to_gate, kept in zip(
            *(reversed(whole.split(counts)) for whole in (slopes, by_past, to_past, update)), strict=True
        ):
            slope[: len(later)].add_(later)
            torch.mul(slope[:, None], factor, out=to_gate.view(factor.shape))
            later = torch.addmm(slope * kept, to_gate, recurrent)
        to_given = torch.cat([to_past[:, : 2 * hidden], slopes * by_candidate], dim=1)  # (events, 3 * hidden)
        return to_given, to_past.T @ before, to_past.sum(dim=0), None


def previous_states(states: Tensor, counts: Sequence[int]) -> Tensor:
    """
    Return the state before each event of packed sequences, zero before a sequence's first event.

    Parameters
    ----------
    states : tensor of shape (events, hidden)
        The state after each event.
    counts : sequence of int
        Number of events at each step.

    Returns
    -------
    tensor of shape (events, hidden)
    """
    if not counts:
        return states
    earlier = [step[:count] for step, count in zip(states.split(counts), counts[1:], strict=False)]
    return torch.cat([states.new_zeros(counts[0], states.shape[1]), *earlier])
