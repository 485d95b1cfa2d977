"""Steps of the nets with self-attention: SASRec with its keys and values kept, CORE with its window of items."""

import numpy as np
import torch
from torch import nn

from spotlight_asars.interactions.channels import SESSION_START
from spotlight_asars.sequence.online.cells import Linear, as_array, layer_of
from spotlight_asars.sequence.online.events import NEWEST, Carry
from spotlight_asars.sequence.online.net_steps import SessionSteps
from spotlight_asars.sequence.representations.transformers import CORENet, SASRecNet


class SASRecSteps(SessionSteps):
    """
    ``sasrec``: causal self-attention (Kang and McAuley 2018).

    Carries the keys and values of the newest `window` events in every block, the number of events of the session, and
    the state after the newest event.
    """

    _net: SASRecNet

    def _build(self) -> None:
        attention = self._net.self_attention
        self._positions = as_array(attention.positions)  # (window, dim)
        self._blocks = [_Block(block) for block in attention.blocks]
        self._norm = _Norm(attention.norm)

    def initial_carry(self, sessions: int) -> Carry:
        """Return no events."""
        window, dim = self._positions.shape
        blocks = {f"block {place}": self._zeros(sessions, window, 2 * dim) for place in range(len(self._blocks))}
        return {**blocks, "count": np.zeros((sessions, 1), dtype=np.int64), "state": self._zeros(sessions, dim)}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Append the newest items to every block."""
        count = carry["count"]  # (sessions, 1): events before
        if self._net.options.hidden_scope == "session":
            count = count * (events[:, NEWEST, SESSION_START] == 0)[:, None]
        window = len(self._positions)
        states = self._embed(events) + self._positions[np.minimum(count[:, 0], window - 1)]  # (sessions, dim)
        known = np.arange(window) >= window - 1 - count  # (sessions, window)
        after = {}
        for place, block in enumerate(self._blocks):
            states, after[f"block {place}"] = block.step(states, carry[f"block {place}"], known)
        return {**after, "count": count + 1, "state": self._norm(states)}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        return [carry["state"]]


class _Norm:
    """Layer normalisation."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        self._weight, self._bias, self._epsilon = as_array(norm.weight), as_array(norm.bias), norm.eps

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Map (sessions, dim) to (sessions, dim)."""
        centred = inputs - inputs.mean(axis=1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(axis=1, keepdims=True) + self._epsilon)  # (sessions, 1)
        return centred / deviation * self._weight + self._bias


class _Block:
    """One block of self-attention, whose newest step attends to a window of keys and values."""

    def __init__(self, block: nn.Module) -> None:
        self._heads = block.heads
        self._attention_norm, self._forward_norm = _Norm(block.attention_norm), _Norm(block.forward_norm)
        self._project = Linear(block.queries_keys_values.weight, block.queries_keys_values.bias)
        self._output, self._forward = layer_of(block.output), layer_of(block.forward_layers)

    def step(self, states: np.ndarray, past: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the states after the block, and its keys and values with those of the newest events.

        Parameters
        ----------
        states : array of shape (sessions, dim)
        past : array of shape (sessions, window, 2 * dim)
            Newest last.
        known : bool array of shape (sessions, window)
            Which keys and values there are, once the newest ones are appended.
        """
        sessions, dim = states.shape
        projected = self._project(self._attention_norm(states))  # (sessions, 3 * dim)
        kept = np.concatenate([past[:, 1:], projected[:, None, dim:]], axis=1)  # (sessions, window, 2 * dim)
        queries = projected[:, :dim].reshape(sessions, self._heads, 1, -1)
        apart = kept.reshape(sessions, -1, 2, self._heads, dim // self._heads)
        keys, values = apart.transpose(2, 0, 3, 1, 4)  # (sessions, heads, window, own) each
        logits = (queries * keys).sum(axis=3) * (dim // self._heads) ** -0.5  # (sessions, heads, window)
        logits = np.where(known[:, None], logits, -np.inf)
        weights = np.exp(logits - logits.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        mixed = (weights[..., None] * values).sum(axis=2).reshape(sessions, dim)
        states = states + self._output(mixed)
        return states + self._forward(self._forward_norm(states)), kept


class CORESteps(SessionSteps):
    """
    ``core``: the weighted mean of a window of items (Hou et al. 2022).

    Carries the newest `window` items of the session, embedded; every state takes a pass of the net over them.
    """

    _net: CORENet

    def _build(self) -> None:
        pass

    def initial_carry(self, sessions: int) -> Carry:
        """Return no items."""
        items = self._zeros(sessions, self._net.window, self._net.embedding_dim)
        return {"items": items, "count": np.zeros((sessions, 1), dtype=np.int64)}

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Append the newest items."""
        count, items = carry["count"], carry["items"]  # (sessions, 1), (sessions, window, embedding)
        if self._net.options.hidden_scope == "session":
            count = count * (events[:, NEWEST, SESSION_START] == 0)[:, None]
        items = np.where((count == self._net.window)[:, :, None], np.roll(items, -1, axis=1), items)
        place = np.minimum(count, self._net.window - 1)  # (sessions, 1)
        items[np.arange(len(items)), place[:, 0]] = self._embed(events)
        return {"items": items, "count": place + 1}

    def _encode(self, carry: Carry, events: np.ndarray) -> list[np.ndarray]:
        count = carry["count"][:, 0]  # (sessions,)
        states = self._zeros(len(count), self._net.embedding_dim)
        there = count > 0
        if there.any():
            items = self._as_tensor(carry["items"][there, : count.max()])  # (there, time, embedding)
            with torch.no_grad():
                states[there] = as_array(self._net.encode_windows(items, self._as_tensor(count[there])))
        return [states]
