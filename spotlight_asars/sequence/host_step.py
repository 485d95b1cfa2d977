"""What the host's fitting loop sees while our model fits: a step on the target events of a mini-batch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from spotlight_asars.rows import TARGET, USER
from spotlight_asars.sequence.scoring import score_items, states_at_targets


@dataclass(frozen=True)
class EventRows:
    """The little of SequenceInteractions that the host's `fit` reads: one mini-batch of events."""

    sequences: np.ndarray  # (batch, time, channel)
    num_items: int


@dataclass(frozen=True)
class TargetStates:
    """A mini-batch's events, and the states from which its target events are predicted."""

    events: Tensor  # (batch, time, channel)
    states: Tensor  # (targets, *state)
    items: Tensor  # (targets,)

    @property
    def users(self) -> Tensor:
        """(batch,)"""
        return self.events[:, :, USER].amax(dim=1)

    @property
    def is_target(self) -> Tensor:
        """(batch, time)"""
        return self.events[:, :, TARGET] != 0


class HostStep(nn.Module):
    """
    Stands in for the net inside the host's loop, which hands its results from call to call without looking.

    The host would score every position of every row, padding too; here only targets are scored, and the events stay
    beside their states, since negatives depend on the whole mini-batch.
    """

    def __init__(self, net: nn.Module, negatives: object | None, loss_func: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.negatives = negatives
        self._loss_func = loss_func
        self._loss: Tensor | None = None

    def user_representation(self, events: Tensor) -> tuple[TargetStates, None]:
        """Called first by the host."""
        states, items = states_at_targets(self.net, events)
        return TargetStates(events, states, items), None

    def forward(self, targets: TargetStates, events: Tensor) -> Tensor:
        """Called second: scores of the target items, (targets,)."""
        return score_items(self.net, targets.states, targets.items)

    def measure(self, positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
        """Called last; the host's mask is not needed, as only targets are here."""
        loss = self._loss_func(positive, negative)
        self._loss = loss.detach()
        return loss

    def take_loss(self) -> float | None:
        """The last mini-batch's mean loss, once; None where none was measured."""
        loss, self._loss = self._loss, None
        return None if loss is None else float(loss)
