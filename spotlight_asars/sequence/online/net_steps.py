"""Steps of the nets of this package, one class for each net whose formulas differ; the classes mirror the nets'."""

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, USER
from spotlight_asars.sequence.online.cells import (
    NEWEST,
    Cell,
    Convolution,
    GRUCell,
    Linear,
    Memory,
    as_array,
    attention_memory,
    attention_step,
    cell_of,
    layer_of,
    relu,
    sigmoid,
    table_of,
)
from spotlight_asars.sequence.representations.asars import AsarsTimeAttNet, AsarsUserAttNet, AttentionNet
from spotlight_asars.sequence.representations.baselines import WaveNetNet, YouTubeDNNNet
from spotlight_asars.sequence.representations.dynamics import AsarsDynamicsNet, days_of_pause, deviation
from spotlight_asars.sequence.representations.factorization import FPMCNet, TimeSVDNet
from spotlight_asars.sequence.representations.session_net import SessionNet


class SessionSteps:
    """
    Steps of nets that are a recurrent layer over items; see ``Steps`` in ``live_nets.py``.

    Parameters
    ----------
    net : SessionNet
    """

    def __init__(self, net: SessionNet) -> None:
        self._net = net
        self._dtype = as_array(net.item_biases.weight[:0]).dtype
        self._items = table_of(net.item_embeddings)
        self._users = table_of(net.user_embeddings) if net.has_users else None
        self._project = layer_of(net.projection)
        self._point = layer_of(net.pointer) if net.options.pointer else None
        self._finishes = type(net).finish is not SessionNet.finish
        self._build()

    def _build(self) -> None:
        """Take the net's own layers."""
        self._recurrent = cell_of(self._net.recurrent)

    def empty_memory(self, sessions: int) -> Memory:
        """The recurrent layer's, with the newest event in it."""
        return {"recurrent": self._zeros(sessions, self._recurrent.memory_size)}

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """What changes of the memory by an event whose dwell nobody knows yet."""
        return {"recurrent": self._stepped(self._recurrent, memory["recurrent"], events, self._embedded(events))}

    def dwelt_on(self, memory: Memory, events: np.ndarray) -> Memory:
        """What changes of it once the newest event's dwell is known; nothing where it does not count."""
        return {}

    def states(self, memory: Memory, events: np.ndarray) -> np.ndarray:
        """The states after the newest event, its dwell as it stands there: (sessions, dim), what ``score`` takes."""
        parts = self._encoded(memory, events)
        users = self._of_users(events)
        joined = np.concatenate(
            parts if users is None else [*parts, users], axis=1, dtype=self._dtype, casting="same_kind"
        )  # (sessions, state + user)
        happened = events[:, NEWEST, ITEM] != PADDING_ITEM  # (sessions,)
        if not happened.all():
            joined[~happened, : sum(part.shape[1] for part in parts)] = 0.0
        states = self._project(joined)
        if self._finishes:
            states = self._finished(states, events, users)
        return states if self._point is None else np.concatenate([states, self._point(joined)], axis=1)

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        """The newest event's part of the net's ``encode``, as arrays to stand side by side, (sessions, ...) each."""
        return [memory["recurrent"][:, : self._recurrent.size]]

    def _embedded(self, events: np.ndarray) -> np.ndarray:
        """The newest items with their context: (sessions, embedding)."""
        items = self._items(events[:, NEWEST, ITEM])
        if not self._net.options.context:
            return items
        with torch.no_grad():
            return items + as_array(self._net.context(self._as_tensor(events))[:, NEWEST])

    def _of_users(self, events: np.ndarray) -> np.ndarray | None:
        return None if self._users is None else self._users(events[:, NEWEST, USER])  # (sessions, user)

    def _stepped(self, cell: Cell, past: np.ndarray, events: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """A recurrent layer's memory after the newest event, from zero where it begins a session."""
        if self._net.options.hidden_scope == "session":
            starts = events[:, NEWEST, SESSION_START] != 0  # (sessions,)
            past = past * ~starts[:, None] if starts.any() else past
        return cell.step(inputs, past)

    def _finished(self, states: np.ndarray, events: np.ndarray, users: np.ndarray | None) -> np.ndarray:
        """The net's last touch, which it has for whole rows: the four events are one."""
        states, events = self._as_tensor(states), self._as_tensor(events)
        states = states[:, None].expand(-1, events.shape[1] + 1, -1)  # (sessions, 5, embedding)
        with torch.no_grad():
            return as_array(self._net.finish(states, events, None if users is None else self._as_tensor(users))[:, -1])

    def _as_tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._net.item_biases.weight.device)

    def _zeros(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=self._dtype)


class UserSteps(SessionSteps):
    """Steps of BPR-MF, for which no event counts."""

    def _build(self) -> None:
        pass

    def empty_memory(self, sessions: int) -> Memory:
        """Nothing."""
        return {}

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """Nothing."""
        return {}

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        return []


class ChainSteps(UserSteps):
    """Steps of FPMC, for which the newest item counts."""

    _net: FPMCNet

    def _build(self) -> None:
        self._last_items = table_of(self._net.last_item_embeddings)

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        return [self._last_items(events[:, NEWEST, ITEM])]


class TimeSVDSteps(SessionSteps):
    """Steps of timeSVD++: the sum of the implicit feedback, and its number."""

    _net: TimeSVDNet

    def _build(self) -> None:
        self._implicit = table_of(self._net.implicit_embeddings)

    def empty_memory(self, sessions: int) -> Memory:
        """Zeros, as float64."""
        return {"sum": np.zeros((sessions, self._net.embedding_dim)), "count": np.zeros((sessions, 1))}

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """One more."""
        total = memory["sum"] + self._implicit(events[:, NEWEST, ITEM])  # (sessions, dim)
        return {"sum": total, "count": memory["count"] + 1.0}

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        return [memory["sum"] * np.maximum(memory["count"], 1.0) ** -0.5]


class MeanSteps(SessionSteps):
    """Steps of the YouTube DNN: the sum of all items, or the items of the window, and their number."""

    _net: YouTubeDNNNet

    def _build(self) -> None:
        self._window = self._net.window

    def empty_memory(self, sessions: int) -> Memory:
        """Zeros, sums and counts as float64."""
        count, dim = np.zeros((sessions, 1)), self._net.embedding_dim
        if self._window is None:
            return {"count": count, "sum": np.zeros((sessions, dim))}
        return {"count": count, "items": self._zeros(sessions, self._window, dim)}

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """One more."""
        items, count = self._embedded(events), memory["count"] + 1.0  # (sessions, embedding), (sessions, 1)
        if self._window is None:
            return {"count": count, "sum": memory["sum"] + items}
        kept = np.concatenate([memory["items"][:, 1:], items[:, None]], axis=1)  # (sessions, window, embedding)
        return {"count": count, "items": kept}

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        if self._window is None:
            return [memory["sum"] / np.maximum(memory["count"], 1.0)]
        return [memory["items"].sum(axis=1) / np.clip(memory["count"], 1.0, self._window)]


class WaveNetSteps(SessionSteps):
    """Steps of the WaveNet CNN: for each block its inputs as far as it reaches back, and the newest state."""

    _net: WaveNetNet

    def _build(self) -> None:
        net = self._net
        self._entry, self._exit = (Linear(one.weight.flatten(1), one.bias) for one in (net.entry, net.exit))
        self._blocks = [_WaveNetBlock(block) for block in net.blocks]

    def empty_memory(self, sessions: int) -> Memory:
        """Zeros."""
        blocks = {f"block {place}": block.gated for place, block in enumerate(self._blocks)}
        memory = {name: gated.empty_memory(sessions, self._dtype) for name, gated in blocks.items()}
        return {**memory, "state": self._zeros(sessions, self._net.options.hidden_dim)}

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """One more."""
        signal = self._entry(self._embedded(events))  # (sessions, channels)
        skips, after = 0.0, {}
        for place, block in enumerate(self._blocks):
            signal, skip, after[f"block {place}"] = block.step(signal, memory[f"block {place}"])
            skips = skips + skip
        return {**after, "state": relu(self._exit(relu(skips)))}

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        return [memory["state"]]


class _WaveNetBlock:
    def __init__(self, block: torch.nn.Module) -> None:
        self.gated = Convolution(block.gated)
        self._skip = Linear(block.skip.weight.flatten(1), block.skip.bias)
        last = block.residual is None
        self._residual = None if last else Linear(block.residual.weight.flatten(1), block.residual.bias)

    def step(self, signal: np.ndarray, past: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The next block's signal and the skip, (sessions, channels) both, and the memory."""
        outputs, past = self.gated.step(signal, past)  # (sessions, 2 * channels)
        channels = outputs.shape[1] // 2
        passed = np.tanh(outputs[:, :channels]) * sigmoid(outputs[:, channels:])  # (sessions, channels)
        return signal if self._residual is None else signal + self._residual(passed), self._skip(passed), past


class DynamicsSteps(SessionSteps):
    """Steps of ``asars_dynamics``, whose state fades over the pauses between sessions."""

    _net: AsarsDynamicsNet

    def _build(self) -> None:
        self._recurrent = GRUCell(self._net.recurrent.gru)
        self._to_items = layer_of(self._net.to_items)

    def _stepped(self, cell: Cell, past: np.ndarray, events: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        if self._net.options.hidden_scope == "sequence" and events[:, NEWEST, SESSION_START].any():
            pause = deviation(days_of_pause(self._as_tensor(events))[:, NEWEST]).to(self._net.recurrent.fading.dtype)
            with torch.no_grad():
                past = past * as_array(self._net.recurrent.left(pause))
        return super()._stepped(cell, past, events, inputs)

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        return [self._to_items(hidden) for hidden in super()._encoded(memory, events)]


class WaitingSteps(SessionSteps):
    """
    Steps of nets whose recurrent layer over items may read dwell beside them.

    There the newest event waits outside the memory until its dwell is known.
    """

    def _build(self) -> None:
        super()._build()
        if self._waits:
            self._dwell = table_of(self._net.dwell_embeddings)

    @property
    def _waits(self) -> bool:
        return True

    def taken_in(self, memory: Memory, events: np.ndarray) -> Memory:
        """Nothing, or as where dwell is not read."""
        return {} if self._waits else super().taken_in(memory, events)

    def dwelt_on(self, memory: Memory, events: np.ndarray) -> Memory:
        """What has waited."""
        return {"recurrent": self._with_newest(memory, events)} if self._waits else {}

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        return [self._with_newest(memory, events)[:, : self._recurrent.size]]

    def _with_newest(self, memory: Memory, events: np.ndarray) -> np.ndarray:
        """The recurrent layer's memory with the newest event in it, its dwell as it stands there."""
        if not self._waits:
            return memory["recurrent"]
        dwell = self._dwell(events[:, NEWEST, DWELL])  # (sessions, dwell)
        inputs = np.concatenate([self._embedded(events), dwell], axis=1)  # (sessions, embedding + dwell)
        return self._stepped(self._recurrent, memory["recurrent"], events, inputs)


class AttentionSteps(WaitingSteps):
    """Base of the steps of nets that mix hidden states by triangle attention."""

    _net: AttentionNet

    def _build(self) -> None:
        super()._build()
        self._attention = layer_of(self._net.attention)
        self._slope = as_array(self._net.fading) if self._net.options.recency else None

    @property
    def _waits(self) -> bool:
        return False

    def empty_memory(self, sessions: int) -> Memory:
        """Nothing is attended to yet."""
        return {**super().empty_memory(sessions), "attention": attention_memory(sessions, self._recurrent.size)}

    def dwelt_on(self, memory: Memory, events: np.ndarray) -> Memory:
        """The newest event counts as one of the past."""
        waited = super().dwelt_on(memory, events)
        hidden = {**memory, **waited}["recurrent"][:, : self._recurrent.size]  # (sessions, hidden)
        return {**waited, **self._attended(memory, hidden, events)}

    def _encoded(self, memory: Memory, events: np.ndarray) -> list[np.ndarray]:
        (hidden,) = super()._encoded(memory, events)
        attended = self._attended(memory, hidden, events)["attention"][:, 1:]  # (sessions, hidden)
        return [attended, hidden] if self._net.options.residual else [attended]

    def _attended(self, memory: Memory, hidden: np.ndarray, events: np.ndarray) -> Memory:
        """What changes of the memory as the newest event is attended to."""
        scores, changed = self._scores(memory, hidden, events)
        starts = None
        if self._net.options.scope == "session":
            starts = events[:, NEWEST, SESSION_START] != 0  # (sessions,)
            starts = starts if starts.any() else None
        attention = attention_step(memory["attention"], scores, hidden, starts, self._slope)
        return {**changed, "attention": attention}

    def _scores(self, memory: Memory, hidden: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, Memory]:
        """The newest event's part of the net's ``attention_scores``, (sessions,), and what changes by it."""
        raise NotImplementedError


class UserAttentionSteps(AttentionSteps):
    """Steps of ``asars_user_att``."""

    _net: AsarsUserAttNet

    def _scores(self, memory: Memory, hidden: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, Memory]:
        keys = np.tanh(self._attention(hidden))  # (sessions, user)
        return np.vecdot(keys, self._of_users(events)), {}


class TimeAttentionSteps(AttentionSteps):
    """Steps of ``asars_time_att`` and ``asars_time_user``."""

    _net: AsarsTimeAttNet

    def _build(self) -> None:
        super()._build()
        net = self._net
        self._dwell = table_of(net.dwell_embeddings)
        self._time = cell_of(net.time_recurrent)
        self._dwell_weights = table_of(net.dwell_weights) if net.options.dwell_weight else None

    @property
    def _waits(self) -> bool:
        return self._net.options.dwell_input

    def empty_memory(self, sessions: int) -> Memory:
        """And that of the recurrent layer over dwell, which the newest event is not in."""
        return {**super().empty_memory(sessions), "time": self._zeros(sessions, self._time.memory_size)}

    def _scores(self, memory: Memory, hidden: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, Memory]:
        bins = events[:, NEWEST, DWELL]  # (sessions,)
        time = self._stepped(self._time, memory["time"], events, self._dwell(bins))
        keys = np.tanh(self._attention(time[:, : self._time.size]))  # (sessions, hidden)
        scores = np.vecdot(keys, hidden)  # (sessions,)
        return scores if self._dwell_weights is None else scores + self._dwell_weights(bins)[:, 0], {"time": time}
