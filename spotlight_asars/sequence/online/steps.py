"""Protocols of nets and objects that process a session event by event, and which steps belong to which net."""

import warnings
from collections.abc import Sized
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.host import CNNNet, LSTMNet, PoolNet
from spotlight_asars.sequence.online.cells import as_array
from spotlight_asars.sequence.online.events import Carry
from spotlight_asars.sequence.online.history import LiveHistory
from spotlight_asars.sequence.online.host_net_steps import CNNSteps, LSTMSteps, PoolSteps
from spotlight_asars.sequence.online.net_steps import (
    AsarsDynamicsSteps,
    AsarsTimeAttSteps,
    AsarsUserAttSteps,
    BPRMFSteps,
    DwellInputSteps,
    FPMCSteps,
    SessionSteps,
    TimeSVDSteps,
    WaveNetSteps,
    YouTubeDNNSteps,
)
from spotlight_asars.sequence.online.scores import LiveScores
from spotlight_asars.sequence.online.seen_items import SessionItems
from spotlight_asars.sequence.online.transformer_steps import CORESteps, SASRecSteps
from spotlight_asars.sequence.representations.asars import AsarsTimeAttNet, AsarsTimeCatNet, AsarsUserAttNet
from spotlight_asars.sequence.representations.baselines import WaveNetNet, YouTubeDNNNet
from spotlight_asars.sequence.representations.dynamics import AsarsDynamicsNet
from spotlight_asars.sequence.representations.factorization import BPRMFNet, FPMCNet, TimeSVDNet
from spotlight_asars.sequence.representations.registry import representation_factory, representation_names
from spotlight_asars.sequence.representations.session_net import SessionNet
from spotlight_asars.sequence.representations.transformers import CORENet, SASRecNet
from spotlight_asars.serialization.weights import digest_of


class Steps(Protocol):
    """
    The recurrence of a net in numpy: update the carry of live sessions event by event, and read states from it.

    An event arrives in two parts, its item when it is observed and its dwell when the next event ends it, hence two
    updates. Their cost does not depend on the length of a session. `carry` holds arrays of shape (sessions, ...), and
    `events` is an int64 array of shape (sessions, 4, channel) as described in :class:`LiveNet`. No method changes its
    arguments.
    """

    def initial_carry(self, sessions: int) -> Carry:
        """Return the carry before the first event."""

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Return the entries of the carry that change when the newest events are observed, their dwell unknown."""

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Return the entries of the carry that change when the dwell of the newest events becomes known."""

    def states(self, carry: Carry, events: np.ndarray) -> np.ndarray:
        """Return the states after the newest events, given their dwell in `events`; some sessions may be empty."""


class LiveNet(Protocol):
    """A net that processes one event at a time. Any torch module with these two methods is one."""

    def initial_carry(self, sessions: int) -> dict[str, Tensor]:
        """Return the recurrent state before the first event: tensors whose first axis is `sessions`."""

    def step(self, carry: dict[str, Tensor], events: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Process one more event of each session, at a cost that does not depend on the sessions' lengths.

        Parameters
        ----------
        carry : dict of tensors of shape (sessions, ...)
            From :meth:`initial_carry` or the previous step. It must not be changed in place.
        events : int64 tensor of shape (sessions, 4, channel)
            The first event of the row, the first of the session, the previous event, the newest event (``ROW_FIRST`` to
            ``NEWEST`` of ``online.events``). Missing ones are zeros with an unknown time. The newest event's dwell is
            to be used under both dwell rules: under ``dwell='known'`` it is the unknown bin when the state is wanted,
            and the true bin when the carry is.

        Returns
        -------
        (states, carry) : tensor of shape (sessions, dim), as ``score`` takes it, and the carry after the event
            Both stay as they were for a session without any event.
        """


class TorchSteps:
    """
    The steps of a :class:`LiveNet`. The newest event enters the carry only once its dwell is known.

    Parameters
    ----------
    net : LiveNet
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._device = next(net.parameters()).device
        if hasattr(net, "initial_carry"):
            self._initial_carry = net.initial_carry
        else:
            warnings.warn(
                f"{type(net).__name__}.empty_memory is now called initial_carry, and its old name will go in the "
                "next release: rename it",
                DeprecationWarning,
                stacklevel=4,
            )
            self._initial_carry = net.empty_memory

    def initial_carry(self, sessions: int) -> Carry:
        """See :class:`Steps`."""
        return {name: as_array(tensor) for name, tensor in self._initial_carry(sessions).items()}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Change nothing: the net takes item and dwell together."""
        return {}

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """See :class:`Steps`."""
        return {name: as_array(tensor) for name, tensor in self._step(carry, events)[1].items()}

    def states(self, carry: Carry, events: np.ndarray) -> np.ndarray:
        """See :class:`Steps`."""
        return as_array(self._step(carry, events)[0])

    def _step(self, carry: Carry, events: np.ndarray) -> tuple[Tensor, dict[str, Tensor]]:
        tensors = {name: torch.from_numpy(array).to(self._device) for name, array in carry.items()}
        with torch.no_grad():
            return self._net.step(tensors, torch.from_numpy(events).to(self._device))


_STEPS = {
    PoolNet: PoolSteps,
    LSTMNet: LSTMSteps,
    CNNNet: CNNSteps,
    SessionNet: SessionSteps,
    BPRMFNet: BPRMFSteps,
    FPMCNet: FPMCSteps,
    TimeSVDNet: TimeSVDSteps,
    YouTubeDNNNet: YouTubeDNNSteps,
    WaveNetNet: WaveNetSteps,
    SASRecNet: SASRecSteps,
    CORENet: CORESteps,
    AsarsTimeCatNet: DwellInputSteps,
    AsarsUserAttNet: AsarsUserAttSteps,
    AsarsTimeAttNet: AsarsTimeAttSteps,
    AsarsDynamicsNet: AsarsDynamicsSteps,
}
# Methods that the steps of a net reimplement. A subclass that overrides one of them computes something else, so it does
# not inherit the steps.
_REIMPLEMENTED = {
    "user_representation",
    "states_before",
    "encode",
    "recur",
    "hidden_states",
    "mix",
    "attention_scores",
    "finish",
}
_CARRY_METHODS = {"initial_carry", "empty_memory"}  # the second is the old name of the first, for one release


def live_net(net: nn.Module) -> Steps:
    """
    Return the steps of a net, on its present weights.

    Raises
    ------
    InputError
        If the net can only read whole sessions.
    """
    steps = _steps_of(type(net))
    if steps is None:
        names = representation_names()
        able = [name for name in names if _steps_of(representation_factory(name)) is not None]
        raise InputError(
            f"{type(net).__name__} cannot be updated event by event: use one of {', '.join(able)}, pooling, lstm, cnn, "
            "or a net with initial_carry and step; or give whole sessions to recommend"
        )
    return steps(net)


def _steps_of(factory: object) -> type | None:
    """Return the steps of the nearest base class that has steps or overrides a reimplemented method, if any."""
    if not isinstance(factory, type):
        return None
    is_live = hasattr(factory, "step") and any(hasattr(factory, name) for name in _CARRY_METHODS)
    for base in factory.__mro__:
        if base in _STEPS:
            return _STEPS[base]
        if vars(base).keys() & {"step", *_CARRY_METHODS}:
            return TorchSteps if is_live else None
        if vars(base).keys() & _REIMPLEMENTED:
            return TorchSteps if is_live and not issubclass(factory, SessionNet) else None
    return None


class NetModel(Protocol):
    """
    What :class:`NetLiveSteps` need of a model.

    Attributes
    ----------
    net : module or None
        None before the first fit.
    num_items : int or None
        Number of item ids, the padding included.
    epoch_records : list
        One entry for each epoch of training.
    """

    net: nn.Module | None
    num_items: int | None
    epoch_records: Sized


class NetLiveSteps:
    """
    Steps and scores of a fitted model's net: the ``LiveSteps`` of ``protocols.py`` for nets.

    Parameters
    ----------
    model : NetModel

    Raises
    ------
    InputError
        If the model is not fitted, or its net cannot be updated event by event.
    """

    needs_tallies = False

    def __init__(self, model: NetModel) -> None:
        if model.net is None:
            raise InputError("the model is not fitted yet: call fit first")
        self._model, self._epochs = model, len(model.epoch_records)
        self._steps = live_net(model.net)
        self._scores = LiveScores(model.net, model.num_items)
        has_kernel = isinstance(model.net, SessionNet) and model.net.options.history_kernel
        self._history = LiveHistory(model.net) if has_kernel else None
        self._parts = [self._steps] if self._history is None else [self._steps, self._history]

    def initial_carry(self, sessions: int) -> Carry:
        """See :class:`Steps`."""
        return {name: array for part in self._parts for name, array in part.initial_carry(sessions).items()}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """See :class:`Steps`."""
        return {name: array for part in self._parts for name, array in part.update_item(carry, events).items()}

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """See :class:`Steps`."""
        return {name: array for part in self._parts for name, array in part.update_dwell(carry, events).items()}

    def scores(self, carry: Carry, events: np.ndarray, seen: SessionItems, rows: np.ndarray) -> np.ndarray:
        """Return the scores of all items: (sessions, num_items - 1)."""
        evidence = None if self._history is None else self._history.evidence(carry, events)
        return self._scores.of(self._steps.states(carry, events), seen, rows, evidence)

    def check_current(self) -> None:
        """Raise an InputError if the model has been fitted further; leave training mode."""
        if len(self._model.epoch_records) != self._epochs:
            raise InputError("the model has been fitted further since these sessions began: begin new ones")
        if self._model.net.training:
            self._model.net.train(False)

    def digest(self) -> str:
        """Return a digest of the net's weights, computed once: they may not change."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest_of(self._model.net)
