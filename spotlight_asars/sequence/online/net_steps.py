"""
Steps of the nets of this package.

Each class mirrors one class of nets and computes the same formulas, one event at a time. ``Steps`` in ``steps.py``
describes the methods.
"""

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, USER
from spotlight_asars.sequence.online.cells import (
    Cell,
    Convolution,
    GRUCell,
    Linear,
    as_array,
    attention_step,
    cell_of,
    initial_attention_carry,
    layer_of,
    relu,
    sigmoid,
    table_of,
)
from spotlight_asars.sequence.online.events import NEWEST, Carry, has_event
from spotlight_asars.sequence.representations.asars import AsarsTimeAttNet, AsarsUserAttNet, AttentionNet
from spotlight_asars.sequence.representations.baselines import WaveNetNet, YouTubeDNNNet
from spotlight_asars.sequence.representations.dynamics import AsarsDynamicsNet, days_of_pause, deviation
from spotlight_asars.sequence.representations.factorization import FPMCNet, TimeSVDNet
from spotlight_asars.sequence.representations.session_net import SessionNet


class SessionSteps:
    """
    ``SessionNet``, with ``gru4rec`` and ``asars_user_cat``: ``h_t = cell(e_item, h_{t-1})``, projected with the user.

    The state is ``projection([h_t ; e_u])``, without ``e_u`` in a net without users, then the pointer's weights if the
    net has a pointer. Carries the recurrent layer's state. Base of the other classes, which replace ``h_t``.

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
        """Take the layers that only this net has."""
        self._recurrent = cell_of(self._net.recurrent)

    def initial_carry(self, sessions: int) -> Carry:
        """Return zeros."""
        return {"recurrent": self._zeros(sessions, self._recurrent.carry_size)}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Take one step of the recurrent layer."""
        return {"recurrent": self._step_cell(self._recurrent, carry["recurrent"], events, self._embed(events))}

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Change nothing: dwell does not enter the carry."""
        return {}

    def states(self, carry: Carry, events: np.ndarray) -> np.ndarray:
        """Return the states after the newest events, as ``score`` takes them: (sessions, dim)."""
        parts = self._encode(carry, events)
        users = self._embed_users(events)
        joined = np.concatenate(
            parts if users is None else [*parts, users], axis=1, dtype=self._dtype, casting="same_kind"
        )  # (sessions, state + user)
        happened = has_event(events)  # (sessions,)
        if not happened.all():
            joined[~happened, : sum(part.shape[1] for part in parts)] = 0.0
        states = self._project(joined)
        if self._finishes:
            states = self._finish(states, events, users)
        return states if self._point is None else np.concatenate([states, self._point(joined)], axis=1)

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        """Return what the net's ``encode`` gives for the newest events, in parts to be joined along axis 1."""
        return [carry["recurrent"][:, : self._recurrent.size]]

    def _embed(self, events: np.ndarray) -> np.ndarray:
        """Return the newest items' embeddings with their context: (sessions, embedding)."""
        items = self._items(events[:, NEWEST, ITEM])
        if not self._net.options.context:
            return items
        with torch.no_grad():
            return items + as_array(self._net.context(self._as_tensor(events))[:, NEWEST])

    def _embed_users(self, events: np.ndarray) -> np.ndarray | None:
        return None if self._users is None else self._users(events[:, NEWEST, USER])  # (sessions, user)

    def _step_cell(self, cell: Cell, past: np.ndarray, events: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Return a cell's carry after the newest events; with hidden_scope='session' each session starts from zero."""
        if self._net.options.hidden_scope == "session":
            starts = events[:, NEWEST, SESSION_START] != 0  # (sessions,)
            past = past * ~starts[:, None] if starts.any() else past
        return cell.step(inputs, past)

    def _finish(self, states: np.ndarray, events: np.ndarray, users: np.ndarray | None) -> np.ndarray:
        """Apply the net's ``finish``. It expects whole rows, and gets the four events as one."""
        states, events = self._as_tensor(states), self._as_tensor(events)
        states = states[:, None].expand(-1, events.shape[1] + 1, -1)  # (sessions, 5, embedding)
        with torch.no_grad():
            return as_array(self._net.finish(states, events, None if users is None else self._as_tensor(users))[:, -1])

    def _as_tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._net.item_biases.weight.device)

    def _zeros(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=self._dtype)


class BPRMFSteps(SessionSteps):
    """``bpr_mf``: the state is ``e_u`` (Rendle et al. 2009); no event changes it."""

    def _build(self) -> None:
        pass

    def initial_carry(self, sessions: int) -> Carry:
        """Return an empty carry."""
        return {}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Change nothing."""
        return {}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        return []


class FPMCSteps(BPRMFSteps):
    """``fpmc``: the state is ``[L_last ; V_u]`` (Rendle et al. 2010), read from the newest event."""

    _net: FPMCNet

    def _build(self) -> None:
        self._last_items = table_of(self._net.last_item_embeddings)

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        return [self._last_items(events[:, NEWEST, ITEM])]


class TimeSVDSteps(SessionSteps):
    """
    ``time_svd``: the implicit feedback ``|R| ** -1/2 sum_{j in R} y_j`` of timeSVD++ (Koren 2009).

    Carries the sum and ``|R|``; the net's ``finish`` adds the terms of the user and the time.
    """

    _net: TimeSVDNet

    def _build(self) -> None:
        self._implicit = table_of(self._net.implicit_embeddings)

    def initial_carry(self, sessions: int) -> Carry:
        """Return zeros in float64."""
        return {"sum": np.zeros((sessions, self._net.embedding_dim)), "count": np.zeros((sessions, 1))}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Add the newest items."""
        total = carry["sum"] + self._implicit(events[:, NEWEST, ITEM])  # (sessions, dim)
        return {"sum": total, "count": carry["count"] + 1.0}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        return [carry["sum"] * np.maximum(carry["count"], 1.0) ** -0.5]


class YouTubeDNNSteps(SessionSteps):
    """
    ``youtube_dnn``: the mean of the item embeddings beside the user (Covington et al. 2016); the tower projects them.

    Carries the number of items, and their sum or, with a window, the items in the window.
    """

    _net: YouTubeDNNNet

    def _build(self) -> None:
        self._window = self._net.window

    def initial_carry(self, sessions: int) -> Carry:
        """Return zeros; sum and count are in float64."""
        count, dim = np.zeros((sessions, 1)), self._net.embedding_dim
        if self._window is None:
            return {"count": count, "sum": np.zeros((sessions, dim))}
        return {"count": count, "items": self._zeros(sessions, self._window, dim)}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Add the newest items."""
        items, count = self._embed(events), carry["count"] + 1.0  # (sessions, embedding), (sessions, 1)
        if self._window is None:
            return {"count": count, "sum": carry["sum"] + items}
        kept = np.concatenate([carry["items"][:, 1:], items[:, None]], axis=1)  # (sessions, window, embedding)
        return {"count": count, "items": kept}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        if self._window is None:
            return [carry["sum"] / np.maximum(carry["count"], 1.0)]
        return [carry["items"].sum(axis=1) / np.clip(carry["count"], 1.0, self._window)]


class WaveNetSteps(SessionSteps):
    """
    ``wavenet_cnn``: blocks of gated dilated causal convolutions (van den Oord et al. 2016).

    Each block maps its signal x to ``z = tanh(F * x) * sigmoid(G * x)``, passes on ``x + R(z)`` and adds ``S(z)`` to
    the skips; ``h_t = relu(W relu(sum of the skips))``. Carries the inputs that each block still reaches, and ``h_t``.
    """

    _net: WaveNetNet

    def _build(self) -> None:
        net = self._net
        self._entry, self._exit = (Linear(one.weight.flatten(1), one.bias) for one in (net.entry, net.exit))
        self._blocks = [_WaveNetBlock(block) for block in net.blocks]

    def initial_carry(self, sessions: int) -> Carry:
        """Return zeros."""
        blocks = {f"block {place}": block.gated for place, block in enumerate(self._blocks)}
        carry = {name: gated.initial_carry(sessions, self._dtype) for name, gated in blocks.items()}
        return {**carry, "state": self._zeros(sessions, self._net.options.hidden_dim)}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Take one step of every block."""
        signal = self._entry(self._embed(events))  # (sessions, channels)
        skips, after = 0.0, {}
        for place, block in enumerate(self._blocks):
            signal, skip, after[f"block {place}"] = block.step(signal, carry[f"block {place}"])
            skips = skips + skip
        return {**after, "state": relu(self._exit(relu(skips)))}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        return [carry["state"]]


class _WaveNetBlock:
    """One gated convolution with its residual and its skip."""

    def __init__(self, block: torch.nn.Module) -> None:
        self.gated = Convolution(block.gated)
        self._skip = Linear(block.skip.weight.flatten(1), block.skip.bias)
        last = block.residual is None
        self._residual = None if last else Linear(block.residual.weight.flatten(1), block.residual.bias)

    def step(self, signal: np.ndarray, carry: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the next block's signal, the skip, (sessions, channels) both, and the next carry."""
        outputs, carry = self.gated.step(signal, carry)  # (sessions, 2 * channels)
        channels = outputs.shape[1] // 2
        passed = np.tanh(outputs[:, :channels]) * sigmoid(outputs[:, channels:])  # (sessions, channels)
        return signal if self._residual is None else signal + self._residual(passed), self._skip(passed), carry


class AsarsDynamicsSteps(SessionSteps):
    """
    ``asars_dynamics``: a GRU whose state fades at the start of a session (paper Eq. 14).

    There ``h <- h * exp(-softplus(w) * dev(pause))``. The net's ``finish`` adds the terms of the user, the dwell and
    the time.
    """

    _net: AsarsDynamicsNet

    def _build(self) -> None:
        self._recurrent = GRUCell(self._net.recurrent.gru)
        self._to_items = layer_of(self._net.to_items)

    def _step_cell(self, cell: Cell, past: np.ndarray, events: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        if self._net.options.hidden_scope == "sequence" and events[:, NEWEST, SESSION_START].any():
            pause = deviation(days_of_pause(self._as_tensor(events))[:, NEWEST]).to(self._net.recurrent.fading.dtype)
            with torch.no_grad():
                past = past * as_array(self._net.recurrent.left(pause))
        return super()._step_cell(cell, past, events, inputs)

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        return [self._to_items(hidden) for hidden in super()._encode(carry, events)]


class DwellInputSteps(SessionSteps):
    """
    ``asars_time_cat``: ``h_t = cell([e_item ; e_dwell], h_{t-1})`` (paper section 3.2).

    The newest event enters the carry only once its dwell is known. Also the base of the attention nets, where dwell as
    an input is an option; without it this is :class:`SessionSteps`.
    """

    def _build(self) -> None:
        super()._build()
        if self._reads_dwell:
            self._dwell = table_of(self._net.dwell_embeddings)

    @property
    def _reads_dwell(self) -> bool:
        """Whether dwell is an input of the recurrent layer over items."""
        return True

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Change nothing, or take one step of a recurrent layer that does not read dwell."""
        return {} if self._reads_dwell else super().update_item(carry, events)

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Take one step of a recurrent layer that reads dwell."""
        return {"recurrent": self._with_newest(carry, events)} if self._reads_dwell else {}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        return [self._with_newest(carry, events)[:, : self._recurrent.size]]

    def _with_newest(self, carry: Carry, events: np.ndarray) -> np.ndarray:
        """Return the recurrent layer's carry after the newest events, given their dwell in `events`."""
        if not self._reads_dwell:
            return carry["recurrent"]
        dwell = self._dwell(events[:, NEWEST, DWELL])  # (sessions, dwell)
        inputs = np.concatenate([self._embed(events), dwell], axis=1)  # (sessions, embedding + dwell)
        return self._step_cell(self._recurrent, carry["recurrent"], events, inputs)


class AttentionSteps(DwellInputSteps):
    """
    Base of the attention nets: ``q_t = sum_k softmax(score_k) h_k`` over k <= t (paper Eq. 16-18).

    The state is ``[q_t ; h_t]`` with the residual, else ``q_t``. Carries the recurrent layer's state and that of the
    attention, which the newest event enters once its dwell is known.
    """

    _net: AttentionNet

    def _build(self) -> None:
        super()._build()
        self._attention = layer_of(self._net.attention)
        self._slope = as_array(self._net.fading) if self._net.options.recency else None

    @property
    def _reads_dwell(self) -> bool:
        return False

    def initial_carry(self, sessions: int) -> Carry:
        """Return zeros, and attention to nothing."""
        mixed = self._recurrent.size + (self._net.embedding_dim if self._net.options.item_path else 0)
        return {**super().initial_carry(sessions), "attention": initial_attention_carry(sessions, mixed)}

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Attend to the newest events as past ones."""
        changed = super().update_dwell(carry, events)
        hidden = {**carry, **changed}["recurrent"][:, : self._recurrent.size]  # (sessions, hidden)
        return {**changed, **self._attend(carry, hidden, events)}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        (hidden,) = super()._encode(carry, events)
        attended = self._attend(carry, hidden, events)["attention"][:, 1:]  # (sessions, mixed)
        return [attended, hidden] if self._net.options.residual else [attended]

    def _attend(self, carry: Carry, hidden: np.ndarray, events: np.ndarray) -> Carry:
        """Return the entries of the carry that change when the newest events are attended to."""
        scores, changed = self._scores(carry, hidden, events)
        values = hidden
        if self._net.options.item_path:
            values = np.concatenate([self._embed(events), hidden], axis=1)  # (sessions, embedding + hidden)
        starts = None
        if self._net.options.scope == "session":
            starts = events[:, NEWEST, SESSION_START] != 0  # (sessions,)
            starts = starts if starts.any() else None
        attention = attention_step(carry["attention"], scores, values, starts, self._slope)
        return {**changed, "attention": attention}

    def _scores(self, carry: Carry, hidden: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, Carry]:
        """Return the newest events' ``attention_scores``, (sessions,), and the entries of the carry that change."""
        raise NotImplementedError


class AsarsUserAttSteps(AttentionSteps):
    """``asars_user_att``: ``score_k = tanh(W h_k + b) . e_u`` (paper Eq. 19)."""

    _net: AsarsUserAttNet

    def _scores(self, carry: Carry, hidden: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, Carry]:
        keys = np.tanh(self._attention(hidden))  # (sessions, user)
        return np.vecdot(keys, self._embed_users(events)), {}


class AsarsTimeAttSteps(AttentionSteps):
    """
    ``asars_time_att`` and ``asars_time_user``: ``score_k = tanh(W z_k + b) . h_k`` (paper Eq. 15 and 16).

    ``z_k`` is the state of a recurrent layer over dwell bins, carried without the newest event, whose dwell is unknown.
    Option ``dwell_weight`` adds a weight for each dwell bin.
    """

    _net: AsarsTimeAttNet

    def _build(self) -> None:
        super()._build()
        net = self._net
        self._dwell = table_of(net.dwell_embeddings)
        self._time = cell_of(net.time_recurrent)
        self._dwell_weights = table_of(net.dwell_weights) if net.options.dwell_weight else None

    @property
    def _reads_dwell(self) -> bool:
        return self._net.options.dwell_input

    def initial_carry(self, sessions: int) -> Carry:
        """Return zeros, and attention to nothing."""
        return {**super().initial_carry(sessions), "time": self._zeros(sessions, self._time.carry_size)}

    def _scores(self, carry: Carry, hidden: np.ndarray, events: np.ndarray) -> tuple[np.ndarray, Carry]:
        bins = events[:, NEWEST, DWELL]  # (sessions,)
        time = self._step_cell(self._time, carry["time"], events, self._dwell(bins))
        keys = np.tanh(self._attention(time[:, : self._time.size]))  # (sessions, hidden)
        scores = np.vecdot(keys, hidden)  # (sessions,)
        return scores if self._dwell_weights is None else scores + self._dwell_weights(bins)[:, 0], {"time": time}
