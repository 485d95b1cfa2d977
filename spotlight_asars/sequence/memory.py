"""``asars_memory``: time-weighted attention over what a log has counted, with no embedding in between."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from spotlight_asars.binning import UNKNOWN_BIN
from spotlight_asars.errors import InputError
from spotlight_asars.interactions import SessionSequences, as_session_sequences
from spotlight_asars.rows import DWELL, ITEM, SESSION_START, TARGET, flat_positions

WAYS = ("transition", "same", "earlier", "popular")
CELLS_A_BLOCK = 2**21  # scores worked on at a time: 16 MiB of float64


@dataclass(frozen=True)
class Moments:
    """
    The moments before some targets, as references into flat arrays.

    Attributes
    ----------
    items, bins : int32 arrays of shape (events,)
        Of all events of the rows.
    row_begin, begin, end : int64 arrays of shape (targets,)
        A target's user has events ``row_begin:begin`` in earlier sessions of the row, and ``begin:end`` in its own.
    """

    items: np.ndarray
    bins: np.ndarray
    row_begin: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.end)

    def __getitem__(self, chosen: slice) -> "Moments":
        return Moments(self.items, self.bins, self.row_begin[chosen], self.begin[chosen], self.end[chosen])

    @classmethod
    def before_targets(cls, sequences: SessionSequences) -> "Moments":
        """The moments before all targets of some rows, in the order of rows, then of time."""
        events = sequences.events
        row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)
        row_begin = sequences.offsets[:-1][row]
        place = np.arange(len(events))
        begin = np.maximum.accumulate(np.where((events[:, SESSION_START] != 0) | (place == row_begin), place, 0))
        end = np.flatnonzero(events[:, TARGET])
        return cls(events[:, ITEM], events[:, DWELL], row_begin[end], begin[end], end)


class _Weights(nn.Module):
    """How much each event of the session weighs, by how far back it lies and how long it was dwelt on; and the ways."""

    def __init__(self, steps: int, num_bins: int) -> None:
        super().__init__()
        self.lag = nn.Parameter(-0.5 * torch.arange(steps, dtype=torch.float64).repeat(2, 1))  # (2, steps)
        self.dwell = nn.Parameter(torch.zeros(2, num_bins, dtype=torch.float64))
        self.ways = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64))

    def attention(self, lag: Tensor, bins: Tensor, target: Tensor, targets: int) -> Tensor:
        """Softmax over the events of each target's session, for transitions and for repeats: (pairs, 2)."""
        score = (self.lag[:, lag - 1] + self.dwell[:, bins]).T  # (pairs, 2)
        places = target[:, None].expand(-1, 2)
        top = score.new_full((targets, 2), -torch.inf).scatter_reduce(0, places, score.detach(), "amax")
        weight = (score - top[target]).exp()
        return weight / weight.new_zeros(targets, 2).index_add(0, target, weight)[target]

    def shares(self, has_earlier: Tensor) -> Tensor:
        """Probability of each way, (targets, ways); nobody goes back to earlier sessions who has none."""
        logits = self.ways.expand(len(has_earlier), -1)
        earlier = torch.tensor([name == "earlier" for name in WAYS])
        return logits.masked_fill(earlier & ~has_earlier[:, None], -torch.inf).softmax(dim=1)

    def roughness(self) -> Tensor:
        """Neighbouring bins and steps weigh alike, unless the log says otherwise."""
        return (self.dwell[:, UNKNOWN_BIN + 1 :].diff() ** 2).sum() + 0.1 * (self.lag.diff().diff() ** 2).sum()


class SessionMemory:
    """
    Predict the next item from counts, weighing the events of the session by attention over their dwell and age.

    The next item is a successor of an event of the session, that event's item again, an item of the user's earlier
    sessions, or a popular one::

        p(i) = w_1 sum_k a_k T(item_k, i) + w_2 sum_k a_k [item_k = i] + w_3 earlier(i) + w_4 popular(i)

    with attention ``a_k`` the softmax over the events of the session so far of ``lag(t - k) + dwell(bin_k)``: the
    paper's time-weighted attention (Eq. 15-17), with a weight learned for each dwell bin instead of a recurrent layer
    over them, over a memory of transitions T instead of hidden states. Under ``dwell='known'`` the newest event's bin
    is UNKNOWN. All is fitted by the likelihood of each training target under counts that leave out its own session.

    Parameters
    ----------
    dwell : {'known', 'observed'}
    steps : int, optional
        Events of the session that are looked at, the newest ones.
    smoothing : float, optional
        Transitions by popularity that each item is taken to have had beside those counted.
    rounds : int, optional
        How often counts and weights are fitted in turn.
    """

    reads_dwell = True
    num_items: int | None = None
    item_vocabulary = None

    def __init__(
        self,
        dwell: str = "known",
        steps: int = 20,
        smoothing: float = 3.0,
        rounds: int = 4,
        half_life_days: float | None = None,
    ) -> None:
        if steps < 1 or rounds < 1 or not smoothing > 0:
            raise InputError(
                f"steps, rounds and smoothing are {steps}, {rounds} and {smoothing}: give positive numbers"
            )
        self.dwell, self.steps, self.smoothing, self.rounds = dwell, int(steps), float(smoothing), int(rounds)

    def fit(self, sequences: SessionSequences) -> "SessionMemory":
        """Count and weigh a training part; an earlier one is forgotten."""
        sequences = as_session_sequences(sequences)
        if not sequences.num_targets:
            raise InputError("no row has an event to predict: sessions need at least two events")
        self.num_items, self.item_vocabulary = sequences.num_items, sequences.item_vocabulary
        moments = Moments.before_targets(sequences)
        pairs = _Pairs(self, moments, sequences)
        popularity = np.bincount(moments.items[moments.end], minlength=self.num_items).astype(np.float64)
        self._popular = popularity / popularity.sum()  # (num_items,)
        self._weights = _Weights(self.steps, sequences.binning.num_bins)
        for _ in range(self.rounds):
            self._fit_weights(pairs)
            self._count(pairs)
        return self

    def _fit_weights(self, pairs: "_Pairs") -> None:
        """Maximise the likelihood of the targets under the counts as they are, each without its own session."""
        transition = torch.from_numpy(pairs.transition(self._popular, self.smoothing))  # (pairs,)
        optimizer = torch.optim.LBFGS(self._weights.parameters(), max_iter=25, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self._negative_log_likelihood(pairs, transition) + self._weights.roughness() / len(pairs.moments)
            loss.backward()
            return loss

        optimizer.step(closure)

    def _negative_log_likelihood(self, pairs: "_Pairs", transition: Tensor) -> Tensor:
        targets = len(pairs.moments)
        attention = self._weights.attention(pairs.lag, pairs.bins, pairs.target, targets)  # (pairs, 2)
        parts = attention * torch.stack([transition, pairs.same], dim=1)  # (pairs, 2)
        inside = parts.new_zeros(targets, 2).index_add(0, pairs.target, parts)  # (targets, 2)
        popular = torch.from_numpy(self._popular[pairs.wanted])  # (targets,)
        each = torch.cat([inside, pairs.earlier[:, None], popular[:, None]], dim=1)  # (targets, ways)
        likelihood = (self._weights.shares(pairs.has_earlier) * each).sum(dim=1)
        return -(likelihood + 1e-12).log().mean()

    def _count(self, pairs: "_Pairs") -> None:
        """Share each target among the events that may have led to it, and count the transitions so."""
        with torch.no_grad():
            attention = self._weights.attention(pairs.lag, pairs.bins, pairs.target, len(pairs.moments)).numpy()
        pairs.share(attention[:, 0] * pairs.transition(self._popular, self.smoothing))
        counts = sparse.csr_array(
            (pairs.weight, (pairs.source, pairs.wanted[pairs.target.numpy()])), shape=(self.num_items, self.num_items)
        )
        total = np.asarray(counts.sum(axis=1)).ravel()  # (num_items,)
        self._transitions = sparse.diags_array(1.0 / (total + self.smoothing)) @ counts  # (num_items, num_items)
        self._unseen = self.smoothing / (total + self.smoothing)  # (num_items,)

    def target_states(self, sequences: SessionSequences) -> Moments:
        """What each target is predicted from, in the order of rows, then of time."""
        if self.num_items is None:
            raise InputError("SessionMemory is not fitted yet: call fit first")
        return Moments.before_targets(as_session_sequences(sequences))

    def item_scores(self, states: Moments) -> Tensor:
        """Probabilities of items 1, 2, ...; float32, (targets, num_items - 1)."""
        scores = np.empty((len(states), self.num_items - 1), dtype=np.float32)
        step = max(1, CELLS_A_BLOCK // self.num_items)
        for begin in range(0, len(states), step):
            block = slice(begin, begin + step)
            scores[block] = self._probabilities(states[block])[:, 1:]
        return torch.from_numpy(scores)

    def item_probabilities(self, states: Moments) -> Tensor:
        """The same as :meth:`item_scores`, which are probabilities."""
        return self.item_scores(states)

    def _probabilities(self, moments: Moments) -> np.ndarray:
        target, lag, bins, item = _looked_at(moments, self.steps, self.dwell)
        shape = (len(moments), self.num_items)
        has_earlier = moments.begin > moments.row_begin
        with torch.no_grad():
            weights = (torch.from_numpy(lag), torch.from_numpy(bins), torch.from_numpy(target))
            attention = self._weights.attention(*weights, len(moments)).numpy()
            shares = self._weights.shares(torch.from_numpy(has_earlier)).numpy()  # (targets, ways)
        attended, repeated = (sparse.csr_array((one, (target, item)), shape=shape) for one in attention.T)
        event, row, _ = flat_positions(moments.row_begin, moments.begin - moments.row_begin)
        each = 1.0 / (moments.begin - moments.row_begin)[row]
        earlier = sparse.csr_array((each, (row, moments.items[event])), shape=shape)
        found = sparse.diags_array(shares[:, 0]) @ (attended @ self._transitions)
        found = found + sparse.diags_array(shares[:, 1]) @ repeated + sparse.diags_array(shares[:, 2]) @ earlier
        popular = shares[:, 0] * (attended @ self._unseen) + shares[:, 3]  # (targets,)
        return found.toarray() + popular[:, None] * self._popular  # (targets, num_items)


def _looked_at(moments: Moments, steps: int, dwell: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Target, steps back, dwell bin and item of each event that is looked at; (pairs,) each."""
    begin = np.maximum(moments.begin, moments.end - steps)
    event, target, position = flat_positions(begin, moments.end - begin)
    lag = (moments.end - begin)[target] - position
    bins = moments.bins[event].astype(np.int64)
    if dwell == "known":
        bins[lag == 1] = UNKNOWN_BIN
    return target, lag, bins, moments.items[event].astype(np.int64)


class _Pairs:
    """Every training target beside each event of its session that is looked at, and the counts in the making."""

    def __init__(self, memory: SessionMemory, moments: Moments, sequences: SessionSequences) -> None:
        target, lag, bins, source = _looked_at(moments, memory.steps, memory.dwell)
        self.moments, self.source = moments, source
        self.wanted = moments.items[moments.end].astype(np.int64)  # (targets,)
        wanted = self.wanted[target]
        session = sequences.session_ids[moments.end][target]
        edge = source * memory.num_items + wanted
        self._edge, self._edges = _numbered(edge)
        self._own_edge, self._own_edges = _numbered(session * len(self._edges) + self._edge)
        self._own_source, self._own_sources = _numbered(session * memory.num_items + source)
        self._num_items = memory.num_items
        self.target, self.lag, self.bins = torch.from_numpy(target), torch.from_numpy(lag), torch.from_numpy(bins)
        self.same = torch.from_numpy((source == wanted).astype(np.float64))
        self.earlier, self.has_earlier = _earlier_shares(moments, sequences, self.wanted)
        self.share(1.0 / lag)

    def share(self, weight: np.ndarray) -> None:
        """Let each target count as one transition, shared among its events in proportion to `weight` (pairs,)."""
        target = self.target.numpy()
        self.weight = weight / np.bincount(target, weight)[target]

    def transition(self, popular: np.ndarray, smoothing: float) -> np.ndarray:
        """``T(item_k, target)`` of each pair, counted without the target's own session; (pairs,)."""
        total = np.bincount(self.source, self.weight, minlength=self._num_items)
        of_edge = np.bincount(self._edge, self.weight)[self._edge]
        of_edge -= np.bincount(self._own_edge, self.weight)[self._own_edge]
        of_source = total[self.source] - np.bincount(self._own_source, self.weight)[self._own_source]
        wanted = self.wanted[self.target.numpy()]
        return (np.maximum(of_edge, 0.0) + smoothing * popular[wanted]) / (np.maximum(of_source, 0.0) + smoothing)


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each key's place among the distinct ones, and those."""
    distinct, place = np.unique(keys, return_inverse=True)
    return place, distinct


def _earlier_shares(moments: Moments, sequences: SessionSequences, wanted: np.ndarray) -> tuple[Tensor, Tensor]:
    """Share of each target's item among the events of earlier sessions, and whether there are any; (targets,) each."""
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)
    key = (row * sequences.num_items + moments.items) * np.int64(len(row) + 1)
    place = np.arange(len(row))
    ordered = np.sort(key + place)
    base = (row[moments.end] * sequences.num_items + wanted) * np.int64(len(row) + 1)
    count = np.searchsorted(ordered, base + moments.begin) - np.searchsorted(ordered, base + moments.row_begin)
    length = moments.begin - moments.row_begin
    return torch.from_numpy(count / np.maximum(length, 1)), torch.from_numpy(length > 0)
