"""
Layers as live sessions step them: in numpy, on arrays of a net's weights.

A step of one session is some thirty operations on a few hundred numbers, where the call of a torch operation or module
costs more than what it does.

The four events that stand for a whole row: all that nets ask of single events, see ``LiveNet.step``.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import PADDING_BIN
from spotlight_asars.interactions.channels import ITEM, NUM_CHANNELS, SESSION_START, write_events
from spotlight_asars.layers.basic import ScaledLinear
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM

ROW_FIRST, SESSION_FIRST, BEFORE, NEWEST = range(4)


def missing_events(rows: int) -> np.ndarray:
    """Those of rows without events: int64, (rows, 4, channel)."""
    events = np.zeros((rows, 4, NUM_CHANNELS), dtype=np.int64)
    return write_events(events, PADDING_ITEM, starts=False, dwell=PADDING_BIN)


def has_event(events: np.ndarray) -> np.ndarray:
    """Whether there is an event at all: bool, (rows,)."""
    return events[:, NEWEST, ITEM] != PADDING_ITEM


def move_on(events: np.ndarray, newest: np.ndarray) -> None:
    """
    Let one more event come after the four.

    Parameters
    ----------
    events : int64 array of shape (rows, 4, channel)
        Changed in place: the first event of a session comes to its place when it is the newest no longer.
    newest : int64 array of shape (rows, channel)
    """
    last = events[:, NEWEST]  # (rows, channel)
    opens_session = last[:, SESSION_START] != 0
    if opens_session.any():
        np.copyto(events[:, SESSION_FIRST], last, where=opens_session[:, None])
    opens_row = events[:, ROW_FIRST, ITEM] == PADDING_ITEM
    if opens_row.any():
        np.copyto(events[:, ROW_FIRST], last, where=(opens_row & has_event(events))[:, None])
    events[:, BEFORE] = last
    events[:, NEWEST] = newest


Memory = dict[str, np.ndarray]  # what steps keep of sessions, arrays of shape (sessions, ...)
Layer = Callable[[np.ndarray], np.ndarray]
_A_BLOCK = 512  # sessions that a step is taken for at a time, so that what it works on stays in the cache
_NOTHING = -1e20  # the logarithm of no attention at all; any real score lies far above it


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as an array: the same memory on a CPU, a copy of what lies elsewhere."""
    return tensor.detach().cpu().numpy()


def table_of(embedding: nn.Module) -> Layer:
    """What looks numbers up in an embedding, (sessions,) to (sessions, dim)."""
    # Nothing as large as a catalogue is copied: elsewhere the module is asked.
    return as_array(embedding.weight).__getitem__ if is_plain_table(embedding) else _AskedTable(embedding)


def is_plain_table(embedding: nn.Module) -> bool:
    """Whether an embedding is no more than the rows of a table in main memory."""
    if not isinstance(embedding, nn.Embedding) or type(embedding).forward is not nn.Embedding.forward:
        return False
    return embedding.max_norm is None and embedding.weight.device.type == "cpu"


class _Asked:
    """A module of torch as a function of arrays."""

    def __init__(self, module: nn.Module) -> None:
        self._module, self._device = module, next(module.parameters()).device

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return as_array(self._module(torch.from_numpy(inputs).to(self._device)))


class _AskedTable(_Asked):
    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return super().__call__(inputs[:, None])[:, 0]  # as (sessions, 1), for some of Spotlight's take no less


def layer_of(module: nn.Module) -> Layer:
    """A module without memory, such as a linear layer or a tower of them: (sessions, input) to (sessions, output)."""
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
        return _Tower([layer_of(one) for one in module])
    return _Asked(module)


def _unchanged(inputs: np.ndarray) -> np.ndarray:
    return inputs


def relu(inputs: np.ndarray) -> np.ndarray:
    """What is positive, and 0 for the rest."""
    return np.maximum(inputs, 0.0)


class _Tower:
    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        for layer in self._layers:
            inputs = layer(inputs)
        return inputs


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
        """(sessions, input) to (sessions, output)."""
        outputs = inputs @ self._weight
        if self._bias is not None:
            outputs += self._bias
        return outputs


class Convolution:
    """
    A dilated causal convolution over time that keeps its inputs as far as it reaches back.

    Parameters
    ----------
    layer : nn.Conv1d, or nn.Conv2d with a kernel that is 1 wide
    """

    def __init__(self, layer: nn.Conv1d | nn.Conv2d) -> None:
        self._linear = Linear(layer.weight.flatten(1), layer.bias)  # (output, input * taps)
        self._channels, self._dilation = layer.in_channels, layer.dilation[0]
        self._reach = (layer.kernel_size[0] - 1) * layer.dilation[0]

    def empty_memory(self, sessions: int, dtype: np.dtype) -> np.ndarray:
        """Zeros, as before a row's first event: (sessions, input, reach)."""
        return np.zeros((sessions, self._channels, self._reach), dtype=dtype)

    def step(self, inputs: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(sessions, input) and the memory to the outputs (sessions, output) and the memory after it."""
        reached = np.concatenate([memory, inputs[:, :, None]], axis=2)  # (sessions, input, reach + 1)
        taps = reached[:, :, :: self._dilation].reshape(len(inputs), -1)  # (sessions, input * taps)
        return self._linear(taps), reached[:, :, 1:]


def sigmoid(values: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` by way of tanh, which overflows nowhere."""
    return np.tanh(values * 0.5) * 0.5 + 0.5


class LSTMCell:
    """
    The step of a one-layer LSTM; its memory is ``[hidden ; cell]``.

    Parameters
    ----------
    layer : nn.LSTM
    """

    def __init__(self, layer: nn.LSTM) -> None:
        self.size = layer.hidden_size
        self.memory_size = 2 * self.size
        self._weight, self._recurrent = as_array(layer.weight_ih_l0).T, as_array(layer.weight_hh_l0).T
        self._bias = as_array(layer.bias_ih_l0 + layer.bias_hh_l0)
        # sigmoid(x) is .5 * tanh(.5 * x) + .5, so that one tanh serves all gates: entry, forget, candidate, output.
        self._scale = np.full_like(self._bias, 0.5)  # (4 * hidden,)
        self._scale[2 * self.size : 3 * self.size] = 1.0
        self._shift = 1.0 - self._scale

    def step(self, inputs: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """(sessions, input) and the memory (sessions, 2 * hidden) to the memory after it."""
        after = np.empty(memory.shape, dtype=self._bias.dtype)  # (sessions, 2 * hidden)
        if len(inputs) <= _A_BLOCK:
            self._step(inputs, memory, after)
            return after
        for begin in range(0, len(inputs), _A_BLOCK):
            block = slice(begin, begin + _A_BLOCK)
            self._step(inputs[block], memory[block], after[block])
        return after

    def _step(self, inputs: np.ndarray, memory: np.ndarray, after: np.ndarray) -> None:
        size = self.size
        gates = inputs @ self._weight  # (sessions, 4 * hidden)
        gates += memory[:, :size] @ self._recurrent
        gates += self._bias
        gates *= self._scale
        np.tanh(gates, out=gates)
        gates *= self._scale
        gates += self._shift
        hidden, cell = after[:, :size], after[:, size:]
        np.multiply(gates[:, size : 2 * size], memory[:, size:], out=cell)
        cell += gates[:, :size] * gates[:, 2 * size : 3 * size]
        np.multiply(np.tanh(cell), gates[:, 3 * size :], out=hidden)


class GRUCell:
    """
    The step of a one-layer GRU; its memory is the hidden state.

    Parameters
    ----------
    layer : nn.GRU
    """

    def __init__(self, layer: nn.GRU) -> None:
        self.size = self.memory_size = layer.hidden_size
        self._inputs = Linear(layer.weight_ih_l0, layer.bias_ih_l0)
        self._recurrent = Linear(layer.weight_hh_l0, layer.bias_hh_l0)

    def step(self, inputs: np.ndarray, memory: np.ndarray) -> np.ndarray:
        """(sessions, input) and the memory (sessions, hidden) to the memory after it."""
        size = self.size
        new, past = self._inputs(inputs), self._recurrent(memory)  # (sessions, 3 * hidden) each
        gates = sigmoid(new[:, : 2 * size] + past[:, : 2 * size])  # (sessions, 2 * hidden): reset, then update
        candidate = np.tanh(new[:, 2 * size :] + gates[:, :size] * past[:, 2 * size :])  # (sessions, hidden)
        return candidate + gates[:, size:] * (memory - candidate)


Cell = LSTMCell | GRUCell
_CELLS = {EventLSTM: LSTMCell, EventGRU: GRUCell}


def cell_of(layer: nn.Module) -> Cell:
    """
    The step of a recurrent layer over events.

    Raises
    ------
    InputError
        If it is of another kind.
    """
    if type(layer) not in _CELLS:
        kinds = ", ".join(kind.__name__ for kind in _CELLS)
        raise InputError(f"{type(layer).__name__} cannot take one event after the other: choose one of {kinds}")
    return _CELLS[type(layer)](layer)


def attention_memory(sessions: int, dim: int) -> np.ndarray:
    """What :func:`attention_step` keeps before the first event: float64, (sessions, 1 + dim)."""
    memory = np.zeros((sessions, 1 + dim))
    memory[:, 0] = _NOTHING
    return memory


def attention_step(
    memory: np.ndarray,
    scores: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray | None = None,
    slope: float | np.ndarray | None = None,
) -> np.ndarray:
    """
    One more row of the triangle for each of some sessions: attend to all events up to a new one.

    Parameters
    ----------
    memory : float64 array of shape (sessions, 1 + dim)
        The logarithm of the summed ``exp(score)``, and the mixture so far.
    scores, values : arrays of shape (sessions,) and (sessions, dim)
    starts : bool array of shape (sessions,), optional
        Where nothing before the event is attended to.
    slope : number, optional
        As for ``triangle_attention``; here what lies back falls by it, as no score may rise without end.

    Returns
    -------
    float64 array of shape (sessions, 1 + dim)
        The memory after it; behind its first column stands what is attended.
    """
    past, scores = memory[:, :1], scores[:, None]  # (sessions, 1) each
    if slope is not None:
        past = past - slope
    if starts is not None:
        past = np.where(starts[:, None], _NOTHING, past)
    after = np.empty(memory.shape)  # (sessions, 1 + dim)
    total = np.logaddexp(past, scores, out=after[:, :1])
    share = np.exp(scores - total)  # (sessions, 1)
    attended = np.multiply(memory[:, 1:], 1.0 - share, out=after[:, 1:])
    attended += share * values
    return after
