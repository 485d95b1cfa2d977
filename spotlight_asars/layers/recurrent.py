"""
An LSTM that takes each of its steps for several inputs from the same past, with its own backward pass.

torch's autograd would keep some twenty small tensors a step and visit each again; here a step is a dozen operations in
place, forward and backward, on tensors that stay in the cache. Batches come last inside, so that the gates of a step
lie one after the other; states are turned round a step at a time, while they are in the cache too.

A GRU over sequences of unequal length, one step for all that are that long, with its own backward pass.

torch's autograd would visit a dozen small tensors a step and add up the weights' gradients at each. Here a step is four
operations either way: what does not depend on the step before is done for all events at once.
"""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


class GruWalk(torch.autograd.Function):
    """
    States after each event, (events, hidden), from the input's part of the gates, (events, 3 * hidden).

    Events lie step by step: the first of each sequence, then the second of each that has one, and so on, the longest
    sequence first in each. `counts` says how many a step has. Weights are those of ``nn.GRU``.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, given: Tensor, recurrent: Tensor, bias: Tensor, counts: Sequence[int]) -> Tensor:
        """See the class."""
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
        """Gradients of the gates' part, of the weights and of the bias, from those of the states."""
        recurrent, gates, past, states = ctx.saved_tensors
        counts, hidden = ctx.counts, recurrent.shape[1]
        reset, update, candidate = gates.split(hidden, dim=1)  # (events, hidden) each
        before = states_before(states, counts)  # (events, hidden)
        # A state's gradient times these is that of the gates before their sigmoids and tanh.
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
        later = slopes.new_empty(0, hidden)  # (count, hidden), of the steps behind
        for slope, factor, to_gate, kept in zip(
            *(reversed(whole.split(counts)) for whole in (slopes, by_past, to_past, update)), strict=True
        ):
            slope[: len(later)].add_(later)
            torch.mul(slope[:, None], factor, out=to_gate.view(factor.shape))
            later = torch.addmm(slope * kept, to_gate, recurrent)
        to_given = torch.cat([to_past[:, : 2 * hidden], slopes * by_candidate], dim=1)  # (events, 3 * hidden)
        return to_given, to_past.T @ before, to_past.sum(dim=0), None


def states_before(states: Tensor, counts: Sequence[int]) -> Tensor:
    """The states from which each event is reached, zeros for the first step's: (events, hidden), as `states`."""
    if not counts:
        return states
    earlier = [step[:count] for step, count in zip(states.split(counts), counts[1:], strict=False)]
    return torch.cat([states.new_zeros(counts[0], states.shape[1]), *earlier])


_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input


def walk(kinds: Sequence[Tensor], weights: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """
    States of an LSTM that goes on with the first kind of input, and those it would have after each other kind.

    Parameters
    ----------
    kinds : sequence of tensors of shape (batch, time, input)
    weights : (weight_ih, weight_hh, bias_ih, bias_hh)
        As of ``nn.LSTM``.

    Returns
    -------
    tuple of tensors of shape (batch, time, hidden), one a kind
    """
    weight, recurrent, *biases = weights
    inputs = torch.stack([one.transpose(0, 1) for one in kinds], dim=1)  # (time, kinds, batch, input)
    states = NewestWalk.apply(inputs, *(_sigmoids_first(one) for one in (weight, recurrent, sum(biases))))
    return tuple(one.transpose(0, 1) for one in states)  # (batch, time, hidden) each


def _sigmoids_first(weight: Tensor) -> Tensor:
    """Entry, forget and output gate lie together, and the candidate, which has a tanh, comes last."""
    entry, forget, candidate, output = weight.chunk(4)
    return torch.cat([entry, forget, output, candidate])


class NewestWalk(torch.autograd.Function):
    """
    Inputs (time, kinds, batch, input) to the states of each kind, (time, batch, hidden).

    Weights and bias are in the order of :func:`_sigmoids_first`.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, inputs: Tensor, weight: Tensor, recurrent: Tensor, bias: Tensor
    ) -> tuple[Tensor, ...]:
        """See the class."""
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
        """Gradients of the inputs, of both weights and of the bias, from those of the states."""
        inputs, weight, recurrent, gates, states, cells, squashed = ctx.saved_tensors
        hidden, batch = recurrent.shape[1], inputs.shape[2]
        to_inputs = torch.empty_like(inputs)
        to_weight, to_recurrent = torch.zeros_like(weight), torch.zeros_like(recurrent)
        to_bias, ones = recurrent.new_zeros(len(recurrent)), recurrent.new_ones(batch)
        by_gate = gates.new_empty(1, *gates.shape[1:])  # (1, 4 * hidden, kinds, batch), of one step
        (to_entry,), (to_forget,), (to_output,), (to_candidate,) = _parts(by_gate)
        by_gate = by_gate[0]
        to_state, to_cell = (states.new_empty(states.shape[1:]) for _ in range(2))  # (hidden, kinds, batch)
        later_state = later_cell = inputs.new_zeros(hidden, batch)  # (hidden, batch), of the steps behind
        nothing = torch.zeros_like(later_state)
        # The state and the cell that each step went on from.
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


def _over_kinds(tensor: Tensor) -> Tensor:
    """Sum of (..., kinds, batch) over the kinds, a tensor of its own; torch's sum is slower for few of them."""
    first, *others = tensor.unbind(1)
    return reduce(torch.add, others, first) if others else first.clone()


def _parts(gates: Tensor) -> tuple[Tensor, ...]:
    """Entry, forget, output and candidate of gates (time, 4 * hidden, ...): (time, hidden, ...) each."""
    return gates.chunk(4, dim=1)


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
