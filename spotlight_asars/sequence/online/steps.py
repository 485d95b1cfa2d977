"""Which nets can be stepped event by event, and by what."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.host import CNNNet, LSTMNet, PoolNet
from spotlight_asars.sequence.online.cells import Memory, as_array
from spotlight_asars.sequence.online.host_net_steps import CNNSteps, LSTMSteps, PoolSteps
from spotlight_asars.sequence.online.net_steps import (
    ChainSteps,
    DynamicsSteps,
    MeanSteps,
    SessionSteps,
    TimeAttentionSteps,
    TimeSVDSteps,
    UserAttentionSteps,
    UserSteps,
    WaitingSteps,
    WaveNetSteps,
)
from spotlight_asars.sequence.representations.asars import AsarsTimeAttNet, AsarsTimeCatNet, AsarsUserAttNet
from spotlight_asars.sequence.representations.baselines import WaveNetNet, YouTubeDNNNet
from spotlight_asars.sequence.representations.dynamics import AsarsDynamicsNet
from spotlight_asars.sequence.representations.factorization import BPRMFNet, FPMCNet, TimeSVDNet
from spotlight_asars.sequence.representations.registry import representation_factory, representation_names
from spotlight_asars.sequence.representations.session_net import SessionNet


class Steps(Protocol):
    """
    How a net takes one event after the other, at the same cost however long a session is.

    An event comes in two parts: the item when it is observed, its dwell when the next one tells it. `events` is an
    int64 array of shape (sessions, 4, channel), see :class:`LiveNet`; a memory holds arrays of shape (sessions, ...).
    None of these functions changes what it is given.
    """

    def empty_memory(self, sessions: int) -> Memory:
        """What is kept of sessions before their first event."""

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """What changes of the memory as the newest events are observed."""

    def dwelt_on(self, memory: Memory, events: np.ndarray) -> Memory:
        """What changes of it once the newest events, one in each session, have the dwell that stands there."""

    def states(self, memory: Memory, events: np.ndarray) -> np.ndarray:
        """The states after the newest events, were their dwell as it stands there; some sessions may have none."""


class LiveNet(Protocol):
    """A net that takes one event after the other; any module with these two methods is one."""

    def empty_memory(self, sessions: int) -> dict[str, Tensor]:
        """What :meth:`step` keeps of a session before its first event: tensors with a first axis of sessions."""

    def step(self, memory: dict[str, Tensor], events: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """
        One more event for each of some sessions, at the same cost however long they are.

        Parameters
        ----------
        memory : dict of tensors of shape (sessions, ...)
            From :meth:`empty_memory` or the step before; they are not to be changed.
        events : int64 tensor of shape (sessions, 4, channel)
            A row that stands for the whole one, as its times and bins go: the first event of the row, the first of the
            session, the one before the newest, the newest. Those that are missing are zeros at an unknown time.
            The newest event's dwell counts, whatever the rule: under ``dwell='known'`` it is to be unknown for the
            state, and the true one for the memory.

        Returns
        -------
        (states, memory) : tensor of shape (sessions, dim), what ``score`` takes, and the memory after the event
            Those of a session without any event are what they were before.
        """


class TorchSteps:
    """
    Steps of a :class:`LiveNet`: an event waits outside its memory until its dwell is known.

    Parameters
    ----------
    net : LiveNet
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._device = next(net.parameters()).device

    def empty_memory(self, sessions: int) -> Memory:
        """See :class:`Steps`."""
        return {name: as_array(tensor) for name, tensor in self._net.empty_memory(sessions).items()}

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """Nothing."""
        return {}

    def dwelt_on(self, memory: Memory, events: np.ndarray) -> Memory:
        """See :class:`Steps`."""
        return {name: as_array(tensor) for name, tensor in self._step(memory, events)[1].items()}

    def states(self, memory: Memory, events: np.ndarray) -> np.ndarray:
        """See :class:`Steps`."""
        return as_array(self._step(memory, events)[0])

    def _step(self, memory: Memory, events: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        tensors = {name: torch.from_numpy(array).to(self._device) for name, array in memory.items()}
        with torch.no_grad():
            return self._net.step(tensors, torch.from_numpy(events).to(self._device))


_STEPS = {
    PoolNet: PoolSteps,
    LSTMNet: LSTMSteps,
    CNNNet: CNNSteps,
    SessionNet: SessionSteps,
    BPRMFNet: UserSteps,
    FPMCNet: ChainSteps,
    TimeSVDNet: TimeSVDSteps,
    YouTubeDNNNet: MeanSteps,
    WaveNetNet: WaveNetSteps,
    AsarsTimeCatNet: WaitingSteps,
    AsarsUserAttNet: UserAttentionSteps,
    AsarsTimeAttNet: TimeAttentionSteps,
    AsarsDynamicsNet: DynamicsSteps,
}
# Methods of a net that its steps have to agree with. A class that changes one of them and brings no steps of its own is
# no longer the net whose steps it would inherit.
_FORMULAS = {
    "user_representation",
    "states_before",
    "encode",
    "recur",
    "hidden_states",
    "mix",
    "attention_scores",
    "finish",
}
_LIVE_NET = {"empty_memory", "step"}


def live_net(net: nn.Module) -> Steps:
    """
    Steps of a net, on its weights as they are.

    Raises
    ------
    InputError
        If there is no way but to read the whole session again.
    """
    steps = _steps_of(type(net))
    if steps is None:
        names = representation_names()
        able = [name for name in names if _steps_of(representation_factory(name)) is not None]
        raise InputError(
            f"{type(net).__name__} cannot take one event after the other: choose one of {', '.join(able)}, "
            "pooling, lstm, cnn, or a net with empty_memory and step; or give whole sessions to recommend"
        )
    return steps(net)


def _steps_of(made_by: object) -> type | None:
    """What makes the steps of a net of this class: those that the nearest class with formulas or steps has."""
    if not isinstance(made_by, type):
        return None
    is_live = all(hasattr(made_by, name) for name in _LIVE_NET)
    for one in made_by.__mro__:
        if one in _STEPS:
            return _STEPS[one]
        if _LIVE_NET & vars(one).keys():
            return TorchSteps if is_live else None
        if _FORMULAS & vars(one).keys():
            return TorchSteps if is_live and not issubclass(made_by, SessionNet) else None
    return None
