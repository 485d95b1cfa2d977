"""Which nets can be stepped event by event, and the steps of the host's own."""

from typing import Protocol

import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.host import CNNNet, LSTMNet, PoolNet
from spotlight_asars.rows import ITEM
from spotlight_asars.sequence.registry import representation_factory, representation_names
from spotlight_asars.sequence.session_net import SessionNet

Memory = dict[str, Tensor]

# Methods of a SessionNet that its steps have to agree with, and those that take a step. A class that changes one of
# the first and none of the second is no longer the net whose steps it inherits.
_FORMULAS = {"user_representation", "encode", "recur", "hidden_states", "mix", "attention_scores", "finish"}
_STEPS = {"step", "encode_step", "score_step", "recur_step"}


class LiveNet(Protocol):
    """A net that takes one event after the other; any module with these two methods is one."""

    def empty_memory(self, sessions: int) -> Memory:
        """See ``SessionNet.empty_memory``."""

    def step(self, memory: Memory, events: Tensor) -> tuple[Tensor, Memory]:
        """See ``SessionNet.step``."""


def live_net(net: nn.Module) -> LiveNet:
    """
    The net itself where it has steps, or steps for one of the host's.

    Raises
    ------
    InputError
        If there is no way but to read the whole session again.
    """
    for made_by, steps in _HOST_STEPS.items():
        if isinstance(net, made_by) and type(net).user_representation is made_by.user_representation:
            return steps(net)
    if _has_steps(type(net)):
        return net
    able = [name for name in representation_names() if _has_steps(representation_factory(name))]
    raise InputError(
        f"{type(net).__name__} cannot take one event after the other: choose a net with empty_memory and step "
        f"({', '.join(able)}, pooling, lstm, cnn), or give whole sessions to recommend"
    )


def memory_after(net: LiveNet, memory: Memory, events: Tensor) -> Memory:
    """The memory that a net's step gives, without the states where the net can leave them out."""
    return net.memory_after(memory, events) if isinstance(net, SessionNet) else net.step(memory, events)[1]


def _has_steps(made_by: object) -> bool:
    if not isinstance(made_by, type) or not (hasattr(made_by, "empty_memory") and hasattr(made_by, "step")):
        return False
    if not issubclass(made_by, SessionNet):
        return True
    newest = next(one for one in made_by.__mro__ if (_FORMULAS | _STEPS) & vars(one).keys())
    return bool(_STEPS & vars(newest).keys())


class _HostSteps:
    """
    Base of the host's steps. These nets begin with a step of zeros, which here is the step of a missing event.

    Parameters
    ----------
    net : module of the host
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def _embedded(self, events: Tensor) -> Tensor:
        """The newest item of each session, zeros where there is none: (sessions, dim)."""
        items = events[:, -1:, ITEM]  # (sessions, 1)
        return self.net.item_embeddings(items)[:, 0] * (items != 0)

    def _zeros(self, *shape: int) -> Tensor:
        return self.net.item_biases.weight.new_zeros(shape)


class _PoolSteps(_HostSteps):
    def empty_memory(self, sessions: int) -> Memory:
        shape = (sessions, self.net.embedding_dim)
        return {"sum": self._zeros(*shape).double(), "count": self._zeros(*shape).double()}

    def step(self, memory: Memory, events: Tensor) -> tuple[Tensor, Memory]:
        items = self._embedded(events)
        # Counted for each component by its value, as the host does.
        after = {"sum": memory["sum"] + items, "count": memory["count"] + (items != 0)}
        return (after["sum"] / (after["count"] + 1.0)).to(items.dtype), after


class _LSTMSteps(_HostSteps):
    def empty_memory(self, sessions: int) -> Memory:
        shape = (sessions, self.net.lstm.hidden_size)
        return {"hidden": self._zeros(*shape), "cell": self._zeros(*shape)}

    def step(self, memory: Memory, events: Tensor) -> tuple[Tensor, Memory]:
        lstm, past = self.net.lstm, (memory["hidden"], memory["cell"])
        weights = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0)
        hidden, cell = torch.lstm_cell(self._embedded(events), past, *weights)  # (sessions, dim) each
        return hidden, {"hidden": hidden, "cell": cell}


class _CNNSteps(_HostSteps):
    """Each layer keeps its inputs as far as it reaches back."""

    def empty_memory(self, sessions: int) -> Memory:
        reaches = [(layer.kernel_size[0] - 1) * layer.dilation[0] for layer in self.net.cnn_layers]
        dim = self.net.embedding_dim
        return {f"layer {place}": self._zeros(sessions, dim, reach, 1) for place, reach in enumerate(reaches)}

    def step(self, memory: Memory, events: Tensor) -> tuple[Tensor, Memory]:
        signal = self._embedded(events)[:, :, None, None]  # (sessions, dim, 1, 1)
        after = {}
        for place, layer in enumerate(self.net.cnn_layers):
            reached = torch.cat([memory[f"layer {place}"], signal], dim=2)  # (sessions, dim, reach + 1, 1)
            after[f"layer {place}"] = reached[:, :, 1:]
            outputs = self.net.nonlinearity(layer(reached))  # (sessions, dim, 1, 1)
            signal = outputs + signal if self.net.residual_connections else outputs
        return signal[:, :, 0, 0], after


_HOST_STEPS = {PoolNet: _PoolSteps, LSTMNet: _LSTMSteps, CNNNet: _CNNSteps}
