"""
States and scores of any net with the host's interface: ours, the host's own, or a user's module.

Ours and the host's pooling, LSTM and CNN nets score by a dot product with item embeddings, so all items are scored in
one matrix product. Any other module is asked through its ``forward``, an item at a time.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.host import CNNNet, LSTMNet, PoolNet
from spotlight_asars.interactions.channels import ITEM, TARGET, USER
from spotlight_asars.interactions.rows import length_bucketed_batches
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.layers.padding import without_padding
from spotlight_asars.sequence.representations.pointer import HistoryStates
from spotlight_asars.sequence.representations.session_net import (
    SessionNet,
    dot_product_scores,
    dot_product_scores_of_shared,
)

DOT_PRODUCT_NETS = (SessionNet, PoolNet, LSTMNet, CNNNet)


def scores_by_dot_product(net: nn.Module) -> bool:
    """Whether this net scores all items at once: a dot product of its state with each item's embedding, and a bias."""
    return isinstance(net, DOT_PRODUCT_NETS)


def states_before(net: nn.Module, events: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """
    States before some events, or behind the last one of a row.

    Parameters
    ----------
    net : module
    events : int64 tensor of shape (batch, time, channel)
    row, column : int64 tensors of shape (targets,)
        Where those events stand, none twice; `column` may be `time`, behind the last one.

    Returns
    -------
    tensor of shape (targets, *state)
        None depends on padding: a net that does not look after that itself gets rows that begin at their first event.
    """
    if isinstance(net, SessionNet):
        return net.states_before(events, row, column)
    front, seen = without_padding(events)  # (batch, short, channel), (batch, time + 1)
    if not front.shape[1]:
        front = events.new_zeros(len(events), 1, events.shape[2])  # (batch, 1, channel)
    before, final = net.user_representation(front[:, :, ITEM])  # (batch, *state, short), (batch, *state)
    taken = seen[row, column]  # (targets,): events that each state has seen
    states = before.movedim(-1, 1)[row, taken.clamp(max=front.shape[1] - 1)]  # (targets, *state)
    behind = (taken == front.shape[1]).nonzero()[:, 0]  # (ends,)
    return states.index_copy(0, behind, final[row[behind]].reshape(-1, *states.shape[1:]))


def states_at_targets(net: nn.Module, events: Tensor) -> tuple[Tensor, Tensor]:
    """
    The states from which the target events of a batch are predicted.

    Returns
    -------
    (states, items) : tensors of shape (targets, *state) and (targets,)
        In the order of rows, then of time; HistoryStates for a net that points back.
    """
    wanted = (events[:, :, TARGET] != 0).nonzero(as_tuple=True)  # (targets,) twice: rows and columns
    # No target comes after the last event, which would be a quarter of the steps on short sessions.
    states = states_before(net, events[:, :-1], *wanted)  # (targets, *state)
    if points_back(net):
        states = HistoryStates.before(states, events, *wanted)
    return states, events[:, :, ITEM][wanted]


def points_back(net: nn.Module) -> bool:
    """Whether scores of this net depend on the items of the history beside its state."""
    return isinstance(net, SessionNet) and net.options.pointer


def final_states(net: nn.Module, events: Tensor) -> Tensor | HistoryStates:
    """The states after the last event of each row, (batch, *state)."""
    row = torch.arange(len(events), device=events.device)
    end = torch.full_like(row, events.shape[1])
    states = states_before(net, events, row, end)
    return HistoryStates.before(states, events, row, end) if points_back(net) else states


def target_states(net: nn.Module, sequences: SessionSequences, batch_size: int) -> Tensor:
    """
    The states from which all targets of some rows are predicted, without gradients.

    Rows of like length go through the net together; what comes back is in the order of rows, then of time.

    Returns
    -------
    tensor of shape (targets, *state)
    """
    device = next(net.parameters()).device
    batches = length_bucketed_batches(sequences.lengths, batch_size)
    with torch.no_grad():
        parts = [
            states_at_targets(net, torch.from_numpy(sequences.padded_events(rows)).to(device))[0] for rows in batches
        ]
    order = np.concatenate(batches)  # (rows,)
    counts = sequences.targets_a_row
    begin = np.empty(len(order), dtype=np.int64)  # where each row's targets lie in the parts
    begin[order] = np.cumsum(counts[order]) - counts[order]
    place = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())  # (targets,)
    joined = HistoryStates.joined(parts) if points_back(net) else torch.cat(parts)
    return joined[torch.from_numpy(place).to(device)]


def score_items(net: nn.Module, states: Tensor, items: Tensor) -> Tensor:
    """
    Scores of given items.

    Parameters
    ----------
    states : tensor of shape (targets, *state)
    items : int64 tensor of shape (..., targets)
        One item, or one a negative, for each state.

    Returns
    -------
    tensor of the shape of `items`
    """
    if isinstance(net, SessionNet):
        return net.score(states, items)
    if scores_by_dot_product(net):
        return dot_product_scores(net, states, items)
    flat = items.reshape(-1, items.shape[-1])  # (draws, targets)
    return torch.stack([_forward(net, states, one) for one in flat]).reshape(items.shape)


def score_all_items(net: nn.Module, states: Tensor, num_items: int) -> Tensor:
    """
    Scores of all items but the padding: entry (t, i) is that of item i + 1.

    Returns
    -------
    tensor of shape (targets, num_items - 1)
    """
    if scores_by_dot_product(net):
        return score_shared_items(net, states)
    items = torch.arange(1, num_items, device=states.device)  # (items,)
    scores = [_forward(net, state.expand(len(items), *state.shape), items) for state in states]
    return torch.stack(scores) if scores else states.new_zeros(0, len(items))  # (targets, items)


def score_shared_items(net: nn.Module, states: Tensor, items: Tensor | None = None) -> Tensor:
    """Scores of the same items for all states, all but the padding by default: (targets, items)."""
    if isinstance(net, SessionNet):
        return net.score_shared(states, items)
    return dot_product_scores_of_shared(net, states, items)


def _forward(net: nn.Module, states: Tensor, items: Tensor) -> Tensor:
    """Scores of one item for each state through the net's own forward; both of shape (n, ...)."""
    if states.dim() > 2:  # states with inner axes keep a time axis of one, as the host's mixture net
        states = states[..., None]
    return net(states, items[:, None]).reshape(-1)  # (n,)


@dataclass(frozen=True)
class TargetStates:
    """A mini-batch's events, and the states from which its targets, or some of them, are predicted."""

    events: Tensor  # (batch, time, channel)
    states: Tensor  # (targets, *state)
    items: Tensor  # (targets,)
    own: slice = field(default_factory=lambda: slice(None))  # which of the mini-batch's targets these are

    @property
    def users(self) -> Tensor:
        """(batch,)"""
        return self.events[:, :, USER].amax(dim=1)

    @property
    def is_target(self) -> Tensor:
        """(batch, time)"""
        return self.events[:, :, TARGET] != 0

    @property
    def rows(self) -> Tensor:
        """The row of each target of the mini-batch, (targets,)."""
        return self.is_target.nonzero()[:, 0]

    @property
    def all_items(self) -> Tensor:
        """Those of all targets of the mini-batch, (targets,)."""
        return self.events[:, :, ITEM][self.is_target]
