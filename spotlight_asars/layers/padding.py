"""Batches of rows of unequal length: remove and restore padding, pack steps, and run a layer session by session."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable


def by_session(layer: Callable, starts: Tensor, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
    """
    Run a layer over each session separately, so that no state passes from one session to the next.

    Parameters
    ----------
    layer : callable
        Maps tensors of shape (sessions, time, dim) to one such tensor, or to a tuple of them.
    starts : int or bool tensor of shape (batch, time)
        Nonzero where a session begins; every row also begins one.
    inputs : tensors of shape (batch, time, dim)

    Returns
    -------
    tensor of shape (batch, time, dim), or tuple of them, as the layer returns
    """
    first = starts != 0
    first[:, :1] = True
    session = first.flatten().cumsum(0) - 1  # (batch * time,)
    begin = first.flatten().nonzero()[:, 0]  # (sessions,)
    place = torch.arange(len(session), device=session.device) - begin[session]  # (batch * time,)
    shape = (len(begin), int(place.max()) + 1)  # (sessions, longest)
    apart = []
    for tensor in inputs:
        rows = tensor.new_zeros(*shape, tensor.shape[2])  # (sessions, longest, dim)
        rows[session, place] = tensor.flatten(0, 1)
        apart.append(rows)
    results = layer(*apart)
    if isinstance(results, Tensor):
        return results[session, place].view(*starts.shape, -1)
    return tuple(result[session, place].view(*starts.shape, -1) for result in results)


def entries_of(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """
    Enumerate the entries of concatenated lists.

    Parameters
    ----------
    lengths : int64 tensor of shape (lists,)

    Returns
    -------
    (owner, place) : int64 tensors of shape (entries,)
        The list of each entry, and its position in that list.
    """
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    return owner, torch.arange(len(owner), device=lengths.device) - (lengths.cumsum(0) - lengths)[owner]


@dataclass(frozen=True)
class PackedSteps:
    """
    The events of a batch packed step by step without padding, like torch's ``PackedSequence``.

    The first events of all sequences come first, then the second events, and so on. Within a step longer sequences
    come first, so the sequences of a step are the leading ones of the step before.

    Attributes
    ----------
    place : int64 tensor of shape (events,)
        Position of each event in the batch, ``row * time + column``.
    counts : list of int
        Number of events at each step.
    """

    place: Tensor
    counts: list[int]

    @classmethod
    def of(cls, present: Tensor, starts: Tensor | None = None) -> "PackedSteps":
        """
        Pack the sequences of a batch.

        Parameters
        ----------
        present : bool tensor of shape (batch, time)
            False at padding, which must come last in a row.
        starts : int or bool tensor of shape (batch, time), optional
            Nonzero where a sequence begins; every row also begins one.
        """
        first = torch.zeros_like(present) if starts is None else starts != 0
        first[:, :1] = True
        place = present.flatten().nonzero()[:, 0]  # (events,)
        begins = first.flatten()[place]  # (events,)
        begin, sequence = begins.nonzero()[:, 0], begins.cumsum(0) - 1  # (sequences,), (events,)
        step = torch.arange(len(place), device=place.device) - begin[sequence]  # (events,)
        rank = sequence.bincount(minlength=len(begin)).argsort(descending=True, stable=True).argsort()  # (sequences,)
        order = (step * len(begin) + rank[sequence]).argsort()  # (events,)
        return cls(place[order], step.bincount().tolist())

    @property
    def share_of_padding(self) -> float:
        """Share of padding if all sequences were padded to the longest one."""
        return 1.0 - len(self.place) / max(len(self.counts) * max(self.counts, default=0), 1)

    def take(self, inputs: Tensor) -> Tensor:
        """Pack a tensor, (batch, time, dim) to (events, dim)."""
        return picked(inputs.flatten(0, 1), self.place)

    def put(self, states: Tensor, batch: int, time: int) -> Tensor:
        """Unpack states, (events, dim) to (batch, time, dim), with zeros at padding."""
        whole = states.new_zeros(batch * time, states.shape[1])  # (batch * time, dim)
        return whole.index_copy(0, self.place, states).view(batch, time, states.shape[1])


def without_padding(events: Tensor) -> tuple[Tensor, Tensor]:
    """
    Left-align the events of each row and drop the columns that are padding in every row.

    Recurrent layers then start at the first event, so no state depends on the amount of padding before it.

    Parameters
    ----------
    events : int tensor of shape (batch, length, channel)
        Channel 0 holds items; 0 is padding, anywhere in the row.

    Returns
    -------
    (events, seen) : tensors of shape (batch, time, channel) and (batch, length + 1)
        `seen` is the number of events before each position, and the total at its end.
    """
    present = events[:, :, 0] != 0
    if len(events) and present.all():
        return events, torch.arange(events.shape[1] + 1, device=events.device).expand(len(events), -1)
    seen = nn.functional.pad(present.long().cumsum(dim=1), (1, 0))  # (batch, length + 1)
    time = int(seen[:, -1].max()) if seen.numel() else 0
    row, column = present.nonzero(as_tuple=True)  # (events,)
    front = events.new_zeros(events.shape[0], time, events.shape[2])  # (batch, time, channel)
    front[row, seen[row, column]] = events[row, column]
    return front, seen


def at_positions(states: Tensor, seen: Tensor) -> Tensor:
    """
    Return the state at each position of the padded rows.

    Parameters
    ----------
    states : tensor of shape (batch, time + 1, dim)
        States after 0, 1, ... events.
    seen : int tensor of shape (batch, length + 1)
        From :func:`without_padding`.

    Returns
    -------
    tensor of shape (batch, length + 1, dim)
    """
    return states.gather(1, seen[:, :, None].expand(-1, -1, states.shape[2]))


def picked(states: Tensor, places: Tensor) -> Tensor:
    """
    Select distinct rows of a tensor.

    Since no row is selected twice, the gradient is written in place instead of accumulated, which is faster.

    Parameters
    ----------
    states : tensor of shape (states, dim)
    places : int64 tensor of shape (targets,)
        Distinct row numbers; -1, which may repeat, gives zeros.

    Returns
    -------
    tensor of shape (targets, dim)
    """
    nothing = places < 0
    if not nothing.any():
        return _Picked.apply(states, places)
    found = states.new_zeros(len(places), states.shape[1])  # (targets, dim)
    return found.index_put((~nothing,), _Picked.apply(states, places[~nothing]))


class _Picked(torch.autograd.Function):
    """:func:`picked` without -1."""

    @staticmethod
    def forward(ctx: FunctionCtx, states: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.whole = states.shape
        return states.index_select(0, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, slope: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        whole = slope.new_zeros(ctx.whole)
        whole[places] = slope
        return whole, None
