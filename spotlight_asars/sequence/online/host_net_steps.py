"""
Steps of the nets of Spotlight, which know only items.

Spotlight shifts every row by one step of zeros, so the initial carry of these nets has already taken that step.
"""

import numpy as np
import torch
from torch import nn

from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.sequence.online.cells import Convolution, LSTMCell, as_array, table_of
from spotlight_asars.sequence.online.events import NEWEST, Carry


class _HostSteps:
    """
    Base of the steps of Spotlight's nets; see ``Steps`` in ``steps.py``.

    Parameters
    ----------
    net : module of the host
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._dtype = as_array(net.item_biases.weight[:0]).dtype
        self._items = table_of(net.item_embeddings)
        self._build()

    def _build(self) -> None:
        """Take the layers that only this net has."""

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Take one step with the newest items."""
        return self._next(carry, self._items(events[:, NEWEST, ITEM]))

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Change nothing: the net does not read dwell."""
        return {}

    def _next(self, carry: Carry, items: np.ndarray) -> Carry:
        """Return the carry after a step with embedded items, (sessions, dim)."""
        raise NotImplementedError

    def _zeros(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=self._dtype)


class PoolSteps(_HostSteps):
    """``pooling``, Spotlight's PoolNet: the mean of the item embeddings; carries their sum and their count."""

    def initial_carry(self, sessions: int) -> Carry:
        """Return zeros in float64; the step of zeros adds nothing."""
        shape = (sessions, self._net.embedding_dim)
        return {"sum": np.zeros(shape), "count": np.zeros(shape)}

    def _next(self, carry: Carry, items: np.ndarray) -> Carry:
        # Like the host, count each component on its own, where it is not zero.
        return {"sum": carry["sum"] + items, "count": carry["count"] + (items != 0)}

    def states(self, carry: Carry, events: np.ndarray) -> np.ndarray:
        """Return the states after the newest events: (sessions, dim)."""
        return (carry["sum"] / (carry["count"] + 1.0)).astype(self._dtype)


class LSTMSteps(_HostSteps):
    """``lstm``, Spotlight's LSTMNet: an LSTM over the items; carries ``[hidden ; cell]``."""

    def _build(self) -> None:
        self._cell = LSTMCell(self._net.lstm)

    def initial_carry(self, sessions: int) -> Carry:
        """Return the carry after the step of zeros."""
        carry = {"recurrent": self._zeros(sessions, self._cell.carry_size)}
        return self._next(carry, self._zeros(sessions, self._net.embedding_dim))

    def _next(self, carry: Carry, items: np.ndarray) -> Carry:
        return {"recurrent": self._cell.step(items, carry["recurrent"])}

    def states(self, carry: Carry, events: np.ndarray) -> np.ndarray:
        """Return the states after the newest events: (sessions, dim)."""
        return carry["recurrent"][:, : self._cell.size]


class CNNSteps(_HostSteps):
    """
    ``cnn``, Spotlight's CNNNet: stacked dilated causal convolutions, with residuals if the net has them.

    Carries the inputs that each layer still reaches, and the newest state.
    """

    def _build(self) -> None:
        self._layers = [Convolution(layer) for layer in self._net.cnn_layers]

    def initial_carry(self, sessions: int) -> Carry:
        """Return the carry after the step of zeros."""
        layers = {f"layer {place}": layer for place, layer in enumerate(self._layers)}
        carry = {name: layer.initial_carry(sessions, self._dtype) for name, layer in layers.items()}
        return self._next(carry, self._zeros(sessions, self._net.embedding_dim))

    def _next(self, carry: Carry, items: np.ndarray) -> Carry:
        signal, after = items, {}  # (sessions, dim)
        for place, layer in enumerate(self._layers):
            outputs, after[f"layer {place}"] = layer.step(signal, carry[f"layer {place}"])
            outputs = self._net.nonlinearity(torch.from_numpy(outputs)).numpy()  # (sessions, dim)
            signal = outputs + signal if self._net.residual_connections else outputs
        return {**after, "state": signal}

    def states(self, carry: Carry, events: np.ndarray) -> np.ndarray:
        """Return the states after the newest events: (sessions, dim)."""
        return carry["state"]
