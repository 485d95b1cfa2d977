"""What the host's fitting loop sees while our model fits: a step on the target events of a mini-batch."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from spotlight_asars.rows import ITEM, TARGET, USER
from spotlight_asars.sequence.distributed import Team
from spotlight_asars.sequence.scoring import score_items, states_at_targets


@dataclass(frozen=True)
class EventRows:
    """The little of SequenceInteractions that the host's `fit` reads: one mini-batch of events."""

    sequences: np.ndarray  # (batch, time, channel)
    num_items: int


@dataclass(frozen=True)
class TargetStates:
    """A mini-batch's events, and the states from which its targets, or some of them, are predicted."""

    events: Tensor  # (batch, time, channel)
    states: Tensor  # (targets, *state)
    items: Tensor  # (targets,)
    own: slice = field(default_factory=lambda: slice(None))  # which of the mini-batch's targets these are

    @property
    def users(self) -> Tensor:
        """(batch,)"""
        return self.events[:, :, USER].amax(dim=1)

    @property
    def is_target(self) -> Tensor:
        """(batch, time)"""
        return self.events[:, :, TARGET] != 0

    @property
    def rows(self) -> Tensor:
        """The row of each target of the mini-batch, (targets,)."""
        return self.is_target.nonzero()[:, 0]

    @property
    def all_items(self) -> Tensor:
        """Those of all targets of the mini-batch, (targets,)."""
        return self.events[:, :, ITEM][self.is_target]


class HostStep(nn.Module):
    """
    Stands in for the net inside the host's loop, which hands its results from call to call without looking.

    The host would score every position of every row, padding too; here only targets are scored, and the events stay
    beside their states, since negatives depend on the whole mini-batch. Of a team, each process takes its part of the
    rows.

    Attributes
    ----------
    measured, loss : float or None
        The mini-batch's mean loss, once the host has measured it: this process's part, and all of it.
    """

    def __init__(
        self,
        net: nn.Module,
        negatives: object | None,
        loss_func: Callable[[Tensor, Tensor], Tensor],
        team: Team,
    ) -> None:
        super().__init__()
        self.net = net
        self.negatives = negatives
        self._loss_func = loss_func
        self._team = team
        self._share = 1.0
        self._measured: Tensor | None = None
        self._loss: float | None = None

    def user_representation(self, events: Tensor) -> tuple[TargetStates, None]:
        """Called first by the host."""
        part = self._team.part(len(events))
        stands_in = part.start == part.stop
        if stands_in:  # a step is taken all the same, with a weight of 0
            part = slice(0, 1)
        with self._team.draws_of_whole(self.net, events, part):
            states, items = states_at_targets(self.net, events[part])
        before, number = (int((events[rows, :, TARGET] != 0).sum()) for rows in (slice(part.start), slice(None)))
        self._share = 0.0 if stands_in else len(items) / max(number, 1)
        return TargetStates(events, states, items, slice(before, before + len(items))), None

    def forward(self, targets: TargetStates, events: Tensor) -> Tensor:
        """Called second: scores of the target items, (targets,)."""
        return score_items(self.net, targets.states, targets.items)

    def measure(self, positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
        """Called last; the host's mask is not needed, as only targets are here."""
        loss = self._loss_func(positive, negative)
        if self._team.size > 1:  # all targets weigh alike, however they lie in the parts
            loss = loss * self._share
        self._measured = loss.detach()
        return loss

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Called by the optimizer before its step, where there is a team."""
        self._loss = self._team.sum_gradients(parameters, self._measured)

    @property
    def measured(self) -> float | None:
        """See the class."""
        return None if self._measured is None else float(self._measured)

    @property
    def loss(self) -> float | None:
        """See the class."""
        return self.measured if self._loss is None else self._loss
