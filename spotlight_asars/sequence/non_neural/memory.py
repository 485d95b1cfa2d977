"""``asars_memory``: time-weighted attention over what a log has counted, with no embedding in between."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_choice, check_whole
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, DWELL_RULES
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.sequence.non_neural.base import CELLS_A_BLOCK, Moments, blocks_of
from spotlight_asars.sequence.recommender.fitted import KeepsNumbering
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.state import SystemState
from spotlight_asars.serialization.weights import load_weights, weights_of

TINIEST = 1e-12  # of a likelihood, before its logarithm


@dataclass(frozen=True)
class _Pairs:
    """Some targets, each beside the newest events of its session; ordered by target, then by time."""

    target: np.ndarray  # (pairs,)
    lag: np.ndarray  # (pairs,); 1 is the newest event
    bins: np.ndarray  # (pairs,)
    source: np.ndarray  # (pairs,); the event's item
    has_session: np.ndarray  # (targets,); whether there is an event before it in its session
    has_earlier: np.ndarray  # (targets,); whether its user has earlier sessions in the row

    @classmethod
    def of(cls, moments: Moments, steps: int, dwell: str) -> "_Pairs":
        begin = np.maximum(moments.begin, moments.end - steps)
        event, target, _ = flat_positions(begin, moments.end - begin)
        lag = moments.end[target] - event
        bins = moments.bins[event].astype(np.int64)
        if dwell == "known":
            bins[lag == 1] = UNKNOWN_BIN
        source = moments.items[event].astype(np.int64)
        return cls(target, lag, bins, source, moments.begin < moments.end, moments.row_begin < moments.begin)


class _Weights(nn.Module):
    """How much each event of a session weighs, by how far back it lies and how long it was dwelt on; and the ways."""

    def __init__(self, steps: int, num_bins: int) -> None:
        super().__init__()
        self.lag = nn.Parameter(-0.5 * torch.arange(steps, dtype=torch.float64).repeat(2, 1))  # (2, steps)
        self.dwell = nn.Parameter(torch.zeros(2, num_bins, dtype=torch.float64))
        self.ways = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64))

    def attention(self, pairs: _Pairs) -> Tensor:
        """Softmax over the events of each target's session, for transitions and for repeats: (2, pairs)."""
        lag, bins, target = (torch.from_numpy(one) for one in (pairs.lag, pairs.bins, pairs.target))
        score = self.lag[:, lag - 1] + self.dwell[:, bins]  # (2, pairs)
        places = target.expand(2, -1)
        lowest = score.new_full((2, len(pairs.has_session)), -torch.inf)  # (2, targets)
        top = lowest.scatter_reduce(1, places, score.detach(), "amax")
        weight = (score - top[:, target]).exp()
        return weight / torch.zeros_like(top).scatter_add(1, places, weight)[:, target]

    def shares(self, pairs: _Pairs) -> Tensor:
        """Probabilities of transition, repeat, earlier and popular, 0 for what a target has not: (targets, 4)."""
        has_session, has_earlier = torch.from_numpy(pairs.has_session), torch.from_numpy(pairs.has_earlier)
        possible = torch.stack([has_session, has_session, has_earlier, torch.ones_like(has_earlier)], dim=1)
        return self.ways.expand(len(possible), -1).masked_fill(~possible, -torch.inf).softmax(dim=1)

    def roughness(self) -> Tensor:
        """Neighbouring bins and steps weigh alike, unless the log says otherwise."""
        dwell, lag = self.dwell[:, UNKNOWN_BIN + 1 :], self.lag
        return (dwell.diff() ** 2).sum() + 0.1 * (lag.diff().diff() ** 2).sum()


@register_kind("model")
class SessionMemory(KeepsNumbering):
    """
    Predict the next item from counts, weighing the events of the session by attention over their dwell and age.

    The next item is a successor of an event of the session, that event's item again, an item of the user's earlier
    sessions, or a popular one::

        p(i) = w_1 sum_k a_k T(item_k, i) + w_2 sum_k b_k [item_k = i] + w_3 earlier(i) + w_4 popular(i)

    with attention ``a_k`` and ``b_k`` the softmax over the newest events k of the session so far of
    ``lag(t - k) + dwell(bin_k)``, each with weights of its own: the paper's time-weighted attention (Eq. 15-17), with
    a weight learned for each dwell bin instead of a recurrent layer over them, over a memory of transitions T instead
    of hidden states. ``earlier`` is the share of an item in the events of earlier sessions in the row, ``popular`` in
    the targets of the training part. Ways that a target does not have, as one without earlier sessions, get no weight.

    Parameters
    ----------
    dwell : {'known', 'observed'}
        Under 'known' the newest event's bin is UNKNOWN.
    steps : int, optional
        Events of the session that are looked at, the newest ones.
    smoothing : float, optional
        Transitions by popularity that each item is taken to have had beside those counted.
    rounds : int, optional
        How often counts and weights are fitted in turn.

    Notes
    -----
    Each target of the training part counts as one transition, shared among the events looked at; c(a, i) is the sum
    of the shares from item a to target i, c(a) that over all i, and::

        T(a, i) = (c(a, i) + smoothing popular(i)) / (c(a) + smoothing)

    The weights maximise the mean log-likelihood of the training targets, less a penalty on rough weights, where T
    leaves out the target's own session: c(a, i) and c(a) are there without the shares of any target of that session.
    Without that every transition seen once would seem certain. ``popular`` leaves out nothing.

    What led to a target is not known. So, as in expectation-maximisation, rounds go in turn: shares by 1 / lag; weights
    for these counts; shares in proportion to ``a_k T(item_k, target)``, again without the own session; weights for
    those; and so on. Unlike there, a target counts whole however likely it is to be a repeat or a popular item.

    An event that stands in several rows is a target in one of them: it counts once, with that row's events before it.
    """

    reads_dwell = True
    counted = ("_popular", "_transitions", "_unseen")

    def __init__(self, dwell: str = "known", steps: int = 20, smoothing: float = 3.0, rounds: int = 4) -> None:
        check_choice("dwell", dwell, DWELL_RULES)
        check_whole("steps", steps)
        check_whole("rounds", rounds)
        if not 0 < smoothing < np.inf:
            raise InputError(f"smoothing is {smoothing}: give a positive number")
        self.dwell, self.steps, self.smoothing, self.rounds = dwell, int(steps), float(smoothing), int(rounds)

    def fit(self, sequences: SessionSequences) -> "SessionMemory":
        """Count and weigh a training part; an earlier one is forgotten."""
        sequences = as_session_sequences(sequences)
        if not sequences.num_targets:
            raise InputError("no row has an event to predict: sessions need at least two events")
        training = _Training(sequences, self.steps, self.dwell, self.smoothing)
        weights = _Weights(self.steps, sequences.binning.num_bins)
        for _ in range(self.rounds):
            # The first counts know distance alone; each further round has counts shared by the weights before it.
            transition = training.transition()  # (pairs,)
            _fit_weights(weights, training, transition)
            with torch.no_grad():
                training.share(weights.attention(training.pairs)[0].numpy() * transition)
        self._keep_numbering(sequences)
        self._weights, self._popular = weights, training.popular  # (num_items,)
        counts, total = training.counts()
        # T is kept in two parts: what was counted, and how much of the popular items comes on top.
        self._transitions = sparse.diags_array(1.0 / (total + self.smoothing)) @ counts  # (num_items, num_items)
        self._unseen = self.smoothing / (total + self.smoothing)  # (num_items,)
        return self

    def state(self) -> SystemState:
        """The memory as data, see ``SystemState``."""
        state = super().state()
        if state.fitted is not None:
            state.arrays["weights"] = weights_of(self._weights)
        return state

    @classmethod
    def from_state(cls, state: SystemState) -> "SessionMemory":
        """An equal memory."""
        memory = super().from_state(state)
        if state.fitted is not None:
            memory._weights = _Weights(memory.steps, memory.binning.num_bins)
            load_weights(memory._weights, state.arrays["weights"])
        return memory

    def target_states(self, sequences: SessionSequences) -> Moments:
        """What each target is predicted from, in the order of rows, then of time."""
        sequences = self._checked_rows(sequences)
        most, known = int(sequences.events[:, DWELL].max(initial=0)), self.binning.num_bins
        if most >= known:
            raise InputError(f"a dwell bin is {most} and the training part has {known}: give its binning to the rows")
        return Moments.before_targets(sequences)

    def item_scores(self, states: Moments) -> Tensor:
        """Probabilities of items 1, 2, ...; float32, (targets, num_items - 1)."""
        self._check_fitted()
        scores = np.empty((len(states), self.num_items - 1), dtype=np.float32)
        for block in blocks_of(self.num_items + states.end - states.row_begin, CELLS_A_BLOCK):
            scores[block] = self._probabilities(states[block])[:, 1:]
        return torch.from_numpy(scores)

    def item_probabilities(self, states: Moments) -> Tensor:
        """The same as :meth:`item_scores`, which are probabilities."""
        return self.item_scores(states)

    def _probabilities(self, moments: Moments) -> np.ndarray:
        """Of all items, the padding with 0: float64, (targets, num_items)."""
        pairs = _Pairs.of(moments, self.steps, self.dwell)
        shape = (len(moments), self.num_items)
        with torch.no_grad():
            attention, shares = self._weights.attention(pairs).numpy(), self._weights.shares(pairs).numpy()
        attended, repeated = (sparse.csr_array((one, (pairs.target, pairs.source)), shape=shape) for one in attention)
        length = moments.begin - moments.row_begin
        event, target, _ = flat_positions(moments.row_begin, length)
        earlier = sparse.csr_array((1.0 / length[target], (target, moments.items[event])), shape=shape)
        found = sparse.diags_array(shares[:, 0]) @ (attended @ self._transitions)
        found = found + sparse.diags_array(shares[:, 1]) @ repeated + sparse.diags_array(shares[:, 2]) @ earlier
        popular = shares[:, 0] * (attended @ self._unseen) + shares[:, 3]  # (targets,)
        return found.toarray() + popular[:, None] * self._popular


def _fit_weights(weights: _Weights, training: "_Training", transition: np.ndarray) -> None:
    """Maximise the likelihood of the targets under the counts as they are, each without its own session."""
    seen = torch.from_numpy(np.stack([transition, training.same]))  # (2, pairs)
    optimizer = torch.optim.LBFGS(weights.parameters(), max_iter=25, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _negative_log_likelihood(weights, training, seen) + weights.roughness() / len(training.wanted)
        loss.backward()
        return loss

    optimizer.step(closure)


def _negative_log_likelihood(weights: _Weights, training: "_Training", seen: Tensor) -> Tensor:
    parts = weights.attention(training.pairs) * seen  # (2, pairs)
    places = torch.from_numpy(training.pairs.target).expand(2, -1)
    inside = parts.new_zeros(2, len(training.wanted)).scatter_add(1, places, parts)  # (2, targets)
    outside = torch.from_numpy(np.stack([training.earlier, training.popular[training.wanted]]))  # (2, targets)
    likelihood = (weights.shares(training.pairs) * torch.cat([inside, outside]).T).sum(dim=1)  # (targets,)
    return -(likelihood + TINIEST).log().mean()


class _Training:
    """The targets of a training part, and its counts of transitions, in the making."""

    def __init__(self, sequences: SessionSequences, steps: int, dwell: str, smoothing: float) -> None:
        moments = Moments.before_targets(sequences)
        self.pairs = _Pairs.of(moments, steps, dwell)
        self.wanted = moments.items[moments.end].astype(np.int64)  # (targets,)
        self.earlier = _earlier_shares(moments, sequences)  # (targets,)
        popularity = np.bincount(self.wanted, minlength=sequences.num_items).astype(np.float64)
        self.popular = popularity / popularity.sum()  # (num_items,)
        self._num_items, self._smoothing = sequences.num_items, smoothing
        target, source = self.pairs.target, self.pairs.source
        self._to = self.wanted[target]  # (pairs,)
        self.same = (source == self._to).astype(np.float64)  # (pairs,)
        session = _numbers(sequences.session_ids[moments.end])[target]
        self._edge = _numbers(source * self._num_items + self._to)  # (pairs,), as the two that follow
        self._own_edge = _numbers(session * (len(target) + 1) + self._edge)
        self._own_source = _numbers(session * self._num_items + source)
        self.share(1.0 / self.pairs.lag)

    def share(self, weight: np.ndarray) -> None:
        """Let each target count as one transition, shared among its events in proportion to `weight` (pairs,)."""
        self._share = weight / np.bincount(self.pairs.target, weight)[self.pairs.target]

    def transition(self) -> np.ndarray:
        """``T(item_k, target)`` of each pair, counted without the target's own session; (pairs,)."""
        of_edge, of_source = (
            np.bincount(whole, self._share)[whole] - np.bincount(own, self._share)[own]
            for whole, own in ((self._edge, self._own_edge), (self.pairs.source, self._own_source))
        )
        # Differences of sums that should be 0 may fall below by rounding.
        of_edge, of_source = np.maximum(of_edge, 0.0), np.maximum(of_source, 0.0)
        return (of_edge + self._smoothing * self.popular[self._to]) / (of_source + self._smoothing)

    def counts(self) -> tuple[sparse.csr_array, np.ndarray]:
        """Transitions c(a, i), (num_items, num_items), and c(a), (num_items,), over all sessions."""
        shape = (self._num_items, self._num_items)
        counts = sparse.csr_array((self._share, (self.pairs.source, self._to)), shape=shape)
        return counts, np.bincount(self.pairs.source, self._share, minlength=self._num_items)


def _numbers(keys: np.ndarray) -> np.ndarray:
    """Each key's place among the distinct ones."""
    return np.unique(keys, return_inverse=True)[1]


def _earlier_shares(moments: Moments, sequences: SessionSequences) -> np.ndarray:
    """Share of each target's item among the events of earlier sessions of its row, 0 without any: (targets,)."""
    events = len(moments.items)
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)
    same_item = _numbers(row * np.int64(sequences.num_items) + moments.items) * (events + 1)  # (events,)
    ordered = np.sort(same_item + np.arange(events))
    first = same_item[moments.end]  # (targets,)
    count = np.searchsorted(ordered, first + moments.begin) - np.searchsorted(ordered, first)
    return count / np.maximum(moments.begin - moments.row_begin, 1)
