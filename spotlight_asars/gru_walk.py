"""
A GRU over sequences of unequal length, one step for all that are that long, with its own backward pass.

torch's autograd would visit a dozen small tensors a step and add up the weights' gradients at each. Here a step is four
operations either way: what does not depend on the step before is done for all events at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
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
