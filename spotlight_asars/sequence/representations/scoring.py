"""
States and scores of any net with the host's interface: ours, the host's own, or a user's module.

Our nets and the host's pooling, LSTM and CNN nets score by a dot product with item embeddings, so one matrix product
scores all items. Any other net is called through its ``forward``, one item at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.host import CNNNet, LSTMNet, PoolNet
from spotlight_asars.interactions.channels import ITEM, TARGET, USER
from spotlight_asars.interactions.rows import bounded_batches
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.layers.padding import without_padding
from spotlight_asars.sequence.representations.pointer import HistoryStates
from spotlight_asars.sequence.representations.session_net import SessionNet

LARGEST_WEIGHT = 1e15  # the product of two such weights is still finite, even summed over a layer
DOT_PRODUCT_NETS = (SessionNet, PoolNet, LSTMNet, CNNNet)


@dataclass(frozen=True)
class TargetStates:
    """
    The states from which the targets of a mini-batch, or some of them, are predicted.

    Attributes
    ----------
    events : int64 tensor of shape (batch, time, channel)
        The mini-batch.
    states : tensor of shape (targets, *state)
    items : int64 tensor of shape (targets,)
    own : slice
        Which targets of the mini-batch `states` and `items` belong to; all of them by default.
    """

    events: Tensor
    states: Tensor
    items: Tensor
    own: slice = field(default_factory=lambda: slice(None))

    @property
    def users(self) -> Tensor:
        """The user of each row, (batch,)."""
        return self.events[:, :, USER].amax(dim=1)

    @property
    def is_target(self) -> Tensor:
        """Whether each event is a target, (batch, time)."""
        return self.events[:, :, TARGET] != 0

    @property
    def rows(self) -> Tensor:
        """The row of each target of the mini-batch, (targets,)."""
        return self.is_target.nonzero()[:, 0]

    @property
    def all_items(self) -> Tensor:
        """The items of all targets of the mini-batch, (targets,)."""
        return self.events[:, :, ITEM][self.is_target]


def scores_by_dot_product(net: nn.Module) -> bool:
    """Return whether the net scores by a dot product of its state and item embeddings, plus a bias."""
    return isinstance(net, DOT_PRODUCT_NETS)


def points_back(net: nn.Module) -> bool:
    """Return whether the net has a pointer, so that its scores depend on the history's items, too."""
    return isinstance(net, SessionNet) and net.options.pointer


def states_before(net: nn.Module, events: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """
    Return the states before some events, or after the last one of a row.

    Parameters
    ----------
    net : module
    events : int64 tensor of shape (batch, time, channel)
    row, column : int64 tensors of shape (targets,)
        Positions of the events, all different; `column` may be `time`, after the last event.

    Returns
    -------
    tensor of shape (targets, *state)
        No state depends on padding: foreign nets get rows with their events moved to the front.
    """
    if isinstance(net, SessionNet):
        return net.states_before(events, row, column)
    front, seen = without_padding(events)  # (batch, short, channel), (batch, time + 1)
    if not front.shape[1]:
        front = events.new_zeros(len(events), 1, events.shape[2])  # (batch, 1, channel)
    before, final = net.user_representation(front[:, :, ITEM])  # (batch, *state, short), (batch, *state)
    taken = seen[row, column]  # (targets,): events that each state has seen
    states = before.movedim(-1, 1)[row, taken.clamp(max=front.shape[1] - 1)]  # (targets, *state)
    after_last = (taken == front.shape[1]).nonzero()[:, 0]  # (ends,)
    return states.index_copy(0, after_last, final[row[after_last]].reshape(-1, *states.shape[1:]))


def states_at_targets(net: nn.Module, events: Tensor) -> tuple[Tensor, Tensor]:
    """
    Return the states from which the target events of a batch are predicted.

    Returns
    -------
    (states, items) : tensors of shape (targets, *state) and (targets,)
        Ordered by row, then by time; the states are HistoryStates for a net with a pointer.
    """
    wanted = (events[:, :, TARGET] != 0).nonzero(as_tuple=True)  # (targets,) twice: rows and columns
    # No target follows the last event; skipping it saves a quarter of the steps on short sessions.
    states = states_before(net, events[:, :-1], *wanted)  # (targets, *state)
    if points_back(net):
        states = HistoryStates.before(states, events, *wanted)
    return states, events[:, :, ITEM][wanted]


def final_states(net: nn.Module, events: Tensor) -> Tensor | HistoryStates:
    """Return the state after the last event of each row, (batch, *state)."""
    row = torch.arange(len(events), device=events.device)
    end = torch.full_like(row, events.shape[1])
    states = states_before(net, events, row, end)
    return HistoryStates.before(states, events, row, end) if points_back(net) else states


def target_states(net: nn.Module, sequences: SessionSequences, batch_size: int) -> Tensor | HistoryStates:
    """
    Return the states from which all targets of some rows are predicted, without gradients.

    Rows are batched by length; the result is ordered by row, then by time.

    Returns
    -------
    tensor of shape (targets, *state)
        HistoryStates for a net with a pointer.
    """
    batches = bounded_batches(sequences.lengths, batch_size)
    return _states_of_batches(
        net, sequences, batches, sequences.targets_a_row, lambda events: states_at_targets(net, events)[0]
    )


def states_after(net: nn.Module, sequences: SessionSequences) -> Tensor | HistoryStates:
    """Return the state after the last event of each row, (rows, *state), without gradients; batched by length."""
    counts = np.ones(len(sequences), dtype=np.int64)
    batches = bounded_batches(sequences.lengths)
    return _states_of_batches(net, sequences, batches, counts, lambda events: final_states(net, events))


def _states_of_batches(
    net: nn.Module,
    sequences: SessionSequences,
    batches: list[np.ndarray],
    counts: np.ndarray,
    states_of: Callable[[Tensor], Tensor | HistoryStates],
) -> Tensor | HistoryStates:
    """Return the states that `states_of` gives of each batch, `counts` of each row, in the order of the rows."""
    device = next(net.parameters()).device
    with torch.no_grad():
        parts = [states_of(torch.from_numpy(sequences.padded_events(rows)).to(device)) for rows in batches]
    order = np.concatenate(batches)  # (rows,)
    begin = np.empty(len(order), dtype=np.int64)  # where each row's states begin in the parts
    begin[order] = np.cumsum(counts[order]) - counts[order]
    position = np.repeat(begin - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())  # (states,)
    joined = HistoryStates.joined(parts) if points_back(net) else torch.cat(parts)
    return joined[torch.from_numpy(position).to(device)]


def score_items(net: nn.Module, states: Tensor, items: Tensor) -> Tensor:
    """
    Return the scores of given items.

    Parameters
    ----------
    states : tensor of shape (targets, *state)
    items : int64 tensor of shape (..., targets)
        For each state one item, or several along the leading axes.

    Returns
    -------
    tensor of the shape of `items`
    """
    if isinstance(net, SessionNet):
        return net.score(states, items)
    if scores_by_dot_product(net):
        embedded = net.item_embeddings(items)  # (..., targets, dim)
        return (embedded * states).sum(dim=-1) + net.item_biases(items)[..., 0]
    flat = items.reshape(-1, items.shape[-1])  # (draws, targets)
    return torch.stack([_forward(net, states, one) for one in flat]).reshape(items.shape)


def score_all_items(net: nn.Module, states: Tensor, num_items: int) -> Tensor:
    """
    Return the scores of all items but the padding: entry (t, i) is the score of item i + 1.

    Returns
    -------
    tensor of shape (targets, num_items - 1)
    """
    if scores_by_dot_product(net):
        return score_shared_items(net, states)
    items = torch.arange(1, num_items, device=states.device)  # (items,)
    scores = [_forward(net, state.expand(len(items), *state.shape), items) for state in states]
    return torch.stack(scores) if scores else states.new_zeros(0, len(items))  # (targets, items)


def gives_finite_scores(net: nn.Module, events: Tensor, num_items: int) -> bool:
    """
    Return whether all scores after some rows are finite, and no weight is so large that others could overflow.

    Parameters
    ----------
    net : module
    events : int64 tensor of shape (batch, time, channel)
    num_items : int
    """
    net.eval()
    with torch.no_grad():
        scores = score_all_items(net, final_states(net, events), num_items)
    return bool(scores.isfinite().all()) and all(map(_is_moderate, net.parameters()))


def _is_moderate(weights: Tensor) -> bool:
    """Return whether no weight is NaN or beyond LARGEST_WEIGHT in size."""
    if not weights.numel():
        return True
    low, high = weights.aminmax()  # NaN if any weight is
    return bool((low > -LARGEST_WEIGHT) & (high < LARGEST_WEIGHT))


def score_shared_items(net: nn.Module, states: Tensor, items: Tensor | None = None) -> Tensor:
    """Return the scores of the same items for all states, (targets, items); of all but the padding by default."""
    if isinstance(net, SessionNet):
        return net.score_shared(states, items)
    biases = net.item_biases.weight[:, 0]  # (num_items,)
    if items is None and hasattr(net.item_embeddings, "weight"):
        return torch.addmm(biases[1:], states, net.item_embeddings.weight[1:].T)
    if items is None:  # the item embedding is not a plain table
        items = torch.arange(1, len(biases), device=states.device)
    embedded = net.item_embeddings(items[None])[0]  # (items, dim)
    return torch.addmm(net.item_biases(items)[:, 0], states, embedded.T)


def _forward(net: nn.Module, states: Tensor, items: Tensor) -> Tensor:
    """Return scores of one item for each state through the net's own forward; both of shape (n, ...)."""
    if states.dim() > 2:  # states with inner axes, as of the host's mixture net, need a time axis of one
        states = states[..., None]
    return net(states, items[:, None]).reshape(-1)  # (n,)
