"""
Layers in numpy, for taking one step at a time on the weights of a trained net.

One step of one session is some thirty operations on a few hundred numbers, and calling torch costs more than the
arithmetic. Layers share the net's weights where these lie in main memory. The recurrent cells, the convolution and the
attention take a carry, the recurrent state that one step hands to the next, and return the carry after the step.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.layers.basic import ScaledLinear
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM

Layer = Callable[[np.ndarray], np.ndarray]

_BLOCK_SIZE = 512  # sessions per block of an LSTM step, so that its intermediate arrays fit the cache
_NO_ATTENTION = -1e20  # logarithm of the attention paid to nothing; any real score is far larger


def as_array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as an array: a view of it on a CPU, a copy from any other device."""
    return tensor.detach().cpu().numpy()


def relu(inputs: np.ndarray) -> np.ndarray:
    """Return ``max(x, 0)``."""
    return np.maximum(inputs, 0.0)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return ``1 / (1 + exp(-x))``, computed through tanh, which cannot overflow."""
    return np.tanh(values * 0.5) * 0.5 + 0.5


class Linear:
    """
    ``x @ weight.T + bias``.

    Parameters
    ----------
    weight : tensor of shape (output, input)
    bias : tensor of shape (output,), optional
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = as_array(weight).T  # (input, output)
        self._bias = None if bias is None else as_array(bias)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Map (sessions, input) to (sessions, output)."""
        outputs = inputs @ self._weight
        if self._bias is not None:
            outputs += self._bias
        return outputs


class _Stack:
    """Layers applied one after another."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        for layer in self._layers:
            inputs = layer(inputs)
        return inputs


class _TorchLayer:
    """A torch module as a function of arrays."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._device = module, next(module.parameters()).device

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return as_array(self._module(torch.from_numpy(inputs).to(self._device)))


class _TorchTable(_TorchLayer):
    """An embedding that torch looks up."""

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return super().__call__(inputs[:, None])[:, 0]  # some of Spotlight's embeddings require two axes


def layer_of(module: nn.Module) -> Layer:
    """Return a stateless module, such as a linear layer, as a function of (sessions, input) to (sessions, output)."""
    if type(module) is nn.Identity:
        return _unchanged
    if type(module) is nn.Linear:
        return Linear(module.weight, module.bias)
    if type(module) is ScaledLinear:
        with torch.no_grad():
            return Linear(module.weight * module.scale, module.bias * module.scale)
    if type(module) is nn.ReLU:
        return relu
    if type(module) is nn.Sequential:
        return _Stack([layer_of(one) for one in module])
    return _TorchLayer(module)


def _unchanged(inputs: np.ndarray) -> np.ndarray:
    return inputs


def table_of(embedding: nn.Module) -> Layer:
    """Return an embedding as a function of numbers (sessions,) to vectors (sessions, dim)."""
    # A table on another device may be as large as the catalogue: torch looks it up there instead of a copy here.
    return as_array(embedding.weight).__getitem__ if is_plain_table(embedding) else _TorchTable(embedding)


def is_plain_table(embedding: nn.Module) -> bool:
    """Return whether an embedding merely indexes the rows of a table in main memory."""
    if not isinstance(embedding, nn.Embedding) or type(embedding).forward is not nn.Embedding.forward:
        return False
    return embedding.max_norm is None and embedding.weight.device.type == "cpu"


class Convolution:
    """
    A dilated causal convolution over time. Its carry is the past inputs that it still reaches.

    Parameters
    ----------
    layer : nn.Conv1d, or nn.Conv2d with a kernel of width 1
    """

    def __init__(self, layer: nn.Conv1d | nn.Conv2d) -> None:
        self._linear = Linear(layer.weight.flatten(1), layer.bias)  # (output, input * taps)
        self._channels, self._dilation = layer.in_channels, layer.dilation[0]
        self._taps = layer.kernel_size[0]
        self._reach = (self._taps - 1) * self._dilation

    def initial_carry(self, sessions: int, dtype: np.dtype) -> np.ndarray:
        """Return zeros, the padding before a row's first event: (sessions, input, reach)."""
        return np.zeros((sessions, self._channels, self._reach), dtype=dtype)

    def step(self, inputs: np.ndarray, carry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map inputs (sessions, input) and the carry to outputs (sessions, output) and the next carry."""
        reached = np.concatenate([carry, inputs[:, :, None]], axis=2)  # (sessions, input, reach + 1)
        taps = reached[:, :, :: self._dilation]  # (sessions, input, taps)
        taps = taps.reshape(len(inputs), self._channels * self._taps)  # (sessions, input * taps)
        return self._linear(taps), reached[:, :, 1:]


class LSTMCell:
    """
    One step of a one-layer LSTM. Its carry is ``[hidden ; cell]``.

    Parameters
    ----------
    layer : nn.LSTM
    """

    def __init__(self, layer: nn.LSTM) -> None:
        self.size = layer.hidden_size
        self.carry_size = 2 * self.size
        self._weight, self._recurrent = as_array(layer.weight_ih_l0).T, as_array(layer.weight_hh_l0).T
        self._bias = as_array(layer.bias_ih_l0 + layer.bias_hh_l0)
        # sigmoid(x) is .5 * tanh(.5 * x) + .5, so one call of tanh serves all gates: input, forget, candidate, output.
        self._scale = np.full_like(self._bias, 0.5)  # (4 * hidden,)
        self._scale[2 * self.size : 3 * self.size] = 1.0
        self._shift = 1.0 - self._scale

    def step(self, inputs: np.ndarray, carry: np.ndarray) -> np.ndarray:
        """Map inputs (sessions, input) and the carry (sessions, 2 * hidden) to the next carry."""
        after = np.empty(carry.shape, dtype=self._bias.dtype)  # (sessions, 2 * hidden)
        if len(inputs) <= _BLOCK_SIZE:
            self._step(inputs, carry, after)
            return after
        for begin in range(0, len(inputs), _BLOCK_SIZE):
            block = slice(begin, begin + _BLOCK_SIZE)
            self._step(inputs[block], carry[block], after[block])
        return after

    def _step(self, inputs: np.ndarray, carry: np.ndarray, after: np.ndarray) -> None:
        """Write the next carry to `after`."""
        size = self.size
        gates = inputs @ self._weight  # (sessions, 4 * hidden)
        gates += carry[:, :size] @ self._recurrent
        gates += self._bias
        gates *= self._scale
        np.tanh(gates, out=gates)
        gates *= self._scale
        gates += self._shift
        hidden, cell = after[:, :size], after[:, size:]
        np.multiply(gates[:, size : 2 * size], carry[:, size:], out=cell)
        cell += gates[:, :size] * gates[:, 2 * size : 3 * size]
        np.multiply(np.tanh(cell), gates[:, 3 * size :], out=hidden)


class GRUCell:
    """
    One step of a one-layer GRU. Its carry is the hidden state.

    Parameters
    ----------
    layer : nn.GRU
    """

    def __init__(self, layer: nn.GRU) -> None:
        self.size = self.carry_size = layer.hidden_size
        self._inputs = Linear(layer.weight_ih_l0, layer.bias_ih_l0)
        self._recurrent = Linear(layer.weight_hh_l0, layer.bias_hh_l0)

    def step(self, inputs: np.ndarray, carry: np.ndarray) -> np.ndarray:
        """Map inputs (sessions, input) and the carry (sessions, hidden) to the next carry."""
        size = self.size
        new, past = self._inputs(inputs), self._recurrent(carry)  # (sessions, 3 * hidden) each
        gates = sigmoid(new[:, : 2 * size] + past[:, : 2 * size])  # (sessions, 2 * hidden): reset, then update
        candidate = np.tanh(new[:, 2 * size :] + gates[:, :size] * past[:, 2 * size :])  # (sessions, hidden)
        return candidate + gates[:, size:] * (carry - candidate)


Cell = LSTMCell | GRUCell
_CELLS = {EventLSTM: LSTMCell, EventGRU: GRUCell}


def cell_of(layer: nn.Module) -> Cell:
    """
    Return the cell of a recurrent layer over events.

    Raises
    ------
    InputError
        If there is no cell for this kind of layer.
    """
    if type(layer) not in _CELLS:
        kinds = ", ".join(kind.__name__ for kind in _CELLS)
        raise InputError(f"{type(layer).__name__} cannot be updated event by event: use one of {kinds}")
    return _CELLS[type(layer)](layer)


def initial_attention_carry(sessions: int, dim: int) -> np.ndarray:
    """Return the carry of :func:`attention_step` before the first event: float64, (sessions, 1 + dim)."""
    carry = np.zeros((sessions, 1 + dim))
    carry[:, 0] = _NO_ATTENTION
    return carry


def attention_step(
    carry: np.ndarray,
    scores: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray | None = None,
    slope: float | np.ndarray | None = None,
) -> np.ndarray:
    """
    Attend to all events up to a new one: one more row of ``triangle_attention``, as an online softmax.

    Parameters
    ----------
    carry : float64 array of shape (sessions, 1 + dim)
        ``log(sum(exp(score)))``, then the attended value.
    scores, values : arrays of shape (sessions,) and (sessions, dim)
        Those of the new event.
    starts : bool array of shape (sessions,), optional
        Where attention to earlier events ends.
    slope : number, optional
        As in ``triangle_attention``. Here it lowers the past scores rather than raising the new one, which would grow
        without bound.

    Returns
    -------
    float64 array of shape (sessions, 1 + dim)
        The next carry.
    """
    past, scores = carry[:, :1], scores[:, None]  # (sessions, 1) each
    if slope is not None:
        past = past - slope
    if starts is not None:
        past = np.where(starts[:, None], _NO_ATTENTION, past)
    after = np.empty(carry.shape)  # (sessions, 1 + dim)
    total = np.logaddexp(past, scores, out=after[:, :1])
    share = np.exp(scores - total)  # (sessions, 1)
    attended = np.multiply(carry[:, 1:], 1.0 - share, out=after[:, 1:])
    attended += share * values
    return after
