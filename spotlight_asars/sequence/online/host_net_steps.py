"""
Steps of the host's nets.

These begin each row with a step of zeros, so that even a session without any event has taken one.
"""

import numpy as np
import torch
from torch import nn

from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.sequence.online.cells import NEWEST, Convolution, LSTMCell, Memory, as_array, table_of


class _HostSteps:
    """
    Base of them; dwell does not count in any. See ``Steps`` in ``live_nets.py``.

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
        """Take the net's own layers."""

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """What changes of the memory by an event."""
        return self._after(memory, self._items(events[:, NEWEST, ITEM]))

    def dwelt_on(self, memory: Memory, events: np.ndarray) -> Memory:
        """Nothing."""
        return {}

    def _after(self, memory: Memory, items: np.ndarray) -> Memory:
        """The memory after one more step, of items (sessions, dim)."""
        raise NotImplementedError

    def _zeros(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=self._dtype)


class PoolSteps(_HostSteps):
    """Steps of the host's pooling: the sum of the items so far, and how many there are."""

    def empty_memory(self, sessions: int) -> Memory:
        """Zeros, as float64; a step of zeros adds nothing."""
        shape = (sessions, self._net.embedding_dim)
        return {"sum": np.zeros(shape), "count": np.zeros(shape)}

    def _after(self, memory: Memory, items: np.ndarray) -> Memory:
        # Counted for each component by its value, as the host does.
        return {"sum": memory["sum"] + items, "count": memory["count"] + (items != 0)}

    def states(self, memory: Memory, events: np.ndarray) -> np.ndarray:
        """The states after the newest event: (sessions, dim)."""
        return (memory["sum"] / (memory["count"] + 1.0)).astype(self._dtype)


class LSTMSteps(_HostSteps):
    """Steps of the host's LSTM."""

    def _build(self) -> None:
        self._cell = LSTMCell(self._net.lstm)

    def empty_memory(self, sessions: int) -> Memory:
        """That after a step of zeros."""
        memory = {"recurrent": self._zeros(sessions, self._cell.memory_size)}
        return self._after(memory, self._zeros(sessions, self._net.embedding_dim))

    def _after(self, memory: Memory, items: np.ndarray) -> Memory:
        return {"recurrent": self._cell.step(items, memory["recurrent"])}

    def states(self, memory: Memory, events: np.ndarray) -> np.ndarray:
        """The states after the newest event: (sessions, dim)."""
        return memory["recurrent"][:, : self._cell.size]


class CNNSteps(_HostSteps):
    """Steps of the host's CNN: for each layer its inputs as far as it reaches back, and the newest state."""

    def _build(self) -> None:
        self._layers = [Convolution(layer) for layer in self._net.cnn_layers]

    def empty_memory(self, sessions: int) -> Memory:
        """That after a step of zeros."""
        layers = {f"layer {place}": layer for place, layer in enumerate(self._layers)}
        memory = {name: layer.empty_memory(sessions, self._dtype) for name, layer in layers.items()}
        return self._after(memory, self._zeros(sessions, self._net.embedding_dim))

    def _after(self, memory: Memory, items: np.ndarray) -> Memory:
        signal, after = items, {}  # (sessions, dim)
        for place, layer in enumerate(self._layers):
            outputs, after[f"layer {place}"] = layer.step(signal, memory[f"layer {place}"])
            outputs = self._net.nonlinearity(torch.from_numpy(outputs)).numpy()  # (sessions, dim)
            signal = outputs + signal if self._net.residual_connections else outputs
        return {**after, "state": signal}

    def states(self, memory: Memory, events: np.ndarray) -> np.ndarray:
        """The states after the newest event: (sessions, dim)."""
        return memory["state"]
