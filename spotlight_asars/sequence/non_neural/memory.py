"""``asars_memory``: time-weighted attention over counted transitions, without embeddings."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_choice, check_whole
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL_RULES
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.sequence.non_neural.base import NonNeuralRecommender
from spotlight_asars.sequence.non_neural.prefixes import Histories, Prefixes, earlier_shares
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Matrix, Part, Schema
from spotlight_asars.serialization.state import Arrays, SystemState
from spotlight_asars.serialization.weights import check_weights, load_weights, weights_of

TINIEST = 1e-12  # added to a likelihood before its logarithm


@dataclass(frozen=True)
class Pairs:
    """Pairs of a target and one of the newest events of its session, ordered by target, then by time."""

    target: np.ndarray  # (pairs,)
    lag: np.ndarray  # (pairs,); 1 is the newest event
    bins: np.ndarray  # (pairs,)
    source: np.ndarray  # (pairs,); the event's item
    has_session: np.ndarray  # (targets,); whether its session has an event before it
    has_earlier: np.ndarray  # (targets,); whether its user has earlier sessions in the row

    @classmethod
    def of(cls, histories: Histories, steps: int, dwell: str) -> "Pairs":
        newest = histories.newest_events(steps)
        bins = newest.bin
        if dwell == "known":
            bins = np.where(newest.lag == 1, UNKNOWN_BIN, bins)
        return cls(newest.target, newest.lag, bins, newest.item, histories.lengths > 0, histories.has_earlier)


class _Weights(nn.Module):
    """The weight of each event of a session by its lag and dwell bin, and the weights of the four ways."""

    def __init__(self, steps: int, num_bins: int) -> None:
        super().__init__()
        self.lag = nn.Parameter(-0.5 * torch.arange(steps, dtype=torch.float64).repeat(2, 1))  # (2, steps)
        self.dwell = nn.Parameter(torch.zeros(2, num_bins, dtype=torch.float64))
        self.ways = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64))

    def attention(self, pairs: Pairs) -> Tensor:
        """Return the softmax over the events of each target's session, for transitions and for repeats: (2, pairs)."""
        lag, bins, target = (torch.from_numpy(one) for one in (pairs.lag, pairs.bins, pairs.target))
        score = self.lag[:, lag - 1] + self.dwell[:, bins]  # (2, pairs)
        places = target.expand(2, -1)
        lowest = score.new_full((2, len(pairs.has_session)), -torch.inf)  # (2, targets)
        top = lowest.scatter_reduce(1, places, score.detach(), "amax")
        weight = (score - top[:, target]).exp()
        return weight / torch.zeros_like(top).scatter_add(1, places, weight)[:, target]

    def shares(self, pairs: Pairs) -> Tensor:
        """Return the weights of transition, repeat, earlier and popular, 0 where a target lacks one: (targets, 4)."""
        has_session, has_earlier = torch.from_numpy(pairs.has_session), torch.from_numpy(pairs.has_earlier)
        possible = torch.stack([has_session, has_session, has_earlier, torch.ones_like(has_earlier)], dim=1)
        return self.ways.expand(len(possible), -1).masked_fill(~possible, -torch.inf).softmax(dim=1)

    def roughness(self) -> Tensor:
        """Return the penalty on differences between neighbouring bins and lags."""
        dwell, lag = self.dwell[:, UNKNOWN_BIN + 1 :], self.lag
        return (dwell.diff() ** 2).sum() + 0.1 * (lag.diff().diff() ** 2).sum()


@register_kind("model")
class SessionMemory(NonNeuralRecommender):
    """
    Predict the next item from counted transitions, with attention over the dwell and lag of the session's events.

    The next item is a successor of an event of the session, that event's item again, an item of the row's earlier
    sessions, or a popular item::

        p(i) = w_1 sum_k a_k T(item_k, i) + w_2 sum_k b_k [item_k = i] + w_3 earlier(i) + w_4 popular(i)

    with attention ``a_k`` and ``b_k`` the softmax over the newest events k of the session so far of
    ``lag(t - k) + dwell(bin_k)``, each with its own weights. This is the paper's time-weighted attention (Eq. 15-17),
    with one learned weight a dwell bin in place of a recurrent layer, over a memory of transitions T in place of hidden
    states. ``earlier`` is an item's share of the events of earlier sessions in the row, ``popular`` its share of the
    training targets. A term that a target lacks, such as ``earlier`` in a first session, gets no weight.

    Parameters
    ----------
    dwell : {'known', 'observed'}
        Under 'known' the newest event's bin is UNKNOWN.
    steps : int, optional
        Number of newest events of the session that are used.
    smoothing : float, optional
        Number of transitions, distributed by popularity, added to each item's counts.
    rounds : int, optional
        Number of alternations between fitting counts and weights.

    Notes
    -----
    Each training target counts as one transition, shared among the events used; c(a, i) is the sum of the shares from
    item a to target i, c(a) its sum over all i, and::

        T(a, i) = (c(a, i) + smoothing popular(i)) / (c(a) + smoothing)

    The weights maximise the mean log-likelihood of the training targets, minus a penalty on rough weights. There, T is
    leave-one-out: c(a, i) and c(a) exclude the shares of all targets of the target's own session, as otherwise every
    transition seen once would look certain. ``popular`` excludes nothing.

    Which event led to a target is unknown. As in expectation-maximisation, the fit therefore alternates: shares by
    1 / lag; weights for these counts; shares in proportion to ``a_k T(item_k, target)``, again leave-one-out; weights
    for those; and so on. Unlike there, each target counts fully, however likely it is a repeat or a popular item.

    An event in several rows is a target in one of them: it counts once, with the events before it in that row.

    ``partial_fit`` keeps the weights. It shares each new target in proportion to ``a_k T(item_k, target)``, T by the
    counts so far, and adds the shares. A fit on all events would fit the weights and share the old targets anew.
    """

    reads_dwell = True
    has_live_sessions = True
    fitted_arrays = ("_popular", "_transitions", "_unseen", "_target_counts")
    added_arrays = ("_target_counts",)

    def __init__(self, dwell: str = "known", steps: int = 20, smoothing: float = 3.0, rounds: int = 4) -> None:
        check_choice("dwell", dwell, DWELL_RULES)
        check_whole("steps", steps)
        check_whole("rounds", rounds)
        if not 0 < smoothing < np.inf:
            raise InputError(f"smoothing is {smoothing}: give a positive number")
        self.dwell, self.steps, self.smoothing, self.rounds = dwell, int(steps), float(smoothing), int(rounds)

    def fit(self, sequences: SessionSequences) -> "SessionMemory":
        """Fit counts and weights on a training part, and forget any earlier one."""
        sequences = as_session_sequences(sequences)
        if not sequences.num_targets:
            raise InputError("no row has an event to predict: sessions need at least two events")
        training = TrainingCounts(sequences, self.steps, self.dwell, self.smoothing)
        weights = _Weights(self.steps, sequences.binning.num_bins)
        for _ in range(self.rounds):
            # The first counts are shared by lag alone; each further round shares them by the weights of the last.
            transition = training.transition()  # (pairs,)
            _fit_weights(weights, training, transition)
            with torch.no_grad():
                training.share(weights.attention(training.pairs)[0].numpy() * transition)
        self.keep_numbering(sequences)
        self.weights, self._popular = weights, training.popular  # (num_items,)
        self._target_counts = training.target_counts  # (num_items,)
        self._keep_transitions(*training.counts())
        return self

    def _keep_transitions(self, counts: sparse.csr_array, total: np.ndarray) -> None:
        # T is kept in two parts: the counts, and the weight of the popularity added to them.
        self._transitions = sparse.diags_array(1.0 / (total + self.smoothing)) @ counts  # (num_items, num_items)
        self._unseen = self.smoothing / (total + self.smoothing)  # (num_items,)

    def _add(self, sequences: SessionSequences) -> None:
        prefixes = Prefixes.before_targets(sequences)
        if not len(prefixes):
            return
        pairs = Pairs.of(prefixes, self.steps, self.dwell)
        wanted = prefixes.events.items[prefixes.end].astype(np.int64)  # (targets,)
        target_counts = self._target_counts + np.bincount(wanted, minlength=self.num_items)
        popular = target_counts / target_counts.sum()
        to = wanted[pairs.target]  # (pairs,)
        transition = self._transitions[pairs.source, to] + self._unseen[pairs.source] * popular[to]  # (pairs,)
        with torch.no_grad():
            weight = self.weights.attention(pairs)[0].numpy() * transition
        shares = weight / np.bincount(pairs.target, weight)[pairs.target]
        total = self.smoothing / self._unseen - self.smoothing  # (num_items,)
        shape = (self.num_items, self.num_items)
        counts = sparse.diags_array(total + self.smoothing) @ self._transitions
        counts = counts + sparse.csr_array((shares, (pairs.source, to)), shape=shape)
        self._target_counts, self._popular = target_counts, popular
        self._keep_transitions(counts, total + np.bincount(pairs.source, shares, minlength=self.num_items))

    def state(self) -> SystemState:
        """Return the memory as data; see ``SystemState``."""
        state = super().state()
        if state.fitted is not None:
            state.arrays["weights"] = weights_of(self.weights)
        return state

    @classmethod
    def from_state(cls, state: SystemState) -> "SessionMemory":
        """Return an equal memory."""
        memory = super().from_state(state)
        if state.fitted is not None:
            with torch.device("meta"):  # compared before they take memory
                check_weights(_Weights(memory.steps, memory.binning.num_bins), state.arrays["weights"])
            memory.weights = _Weights(memory.steps, memory.binning.num_bins)
            load_weights(memory.weights, state.arrays["weights"])
        return memory

    def _array_schemas(self, arrays: Arrays) -> dict[str, Schema]:
        per_item = Array("f", (self.num_items,), least=0.0)
        transitions = Matrix((self.num_items, self.num_items))
        return {
            "popular": per_item,
            "transitions": transitions,
            "unseen": per_item,
            "target_counts": Array("fiu", (self.num_items,), least=0.0),
            "weights": Part(dict),
        }

    @property
    def newest_read(self) -> int:
        """Number of newest events that are used."""
        return self.steps

    def _costs(self, states: Histories) -> np.ndarray:
        return self.num_items + states.costs

    def as_probabilities(self, scores: Tensor) -> Tensor:
        """Return the scores, which are probabilities."""
        return scores

    def _block_scores(self, states: Histories) -> np.ndarray:
        pairs = Pairs.of(states, self.steps, self.dwell)
        shape = (len(states), self.num_items)
        with torch.no_grad():
            attention, shares = self.weights.attention(pairs).numpy(), self.weights.shares(pairs).numpy()
        attended, repeated = (sparse.csr_array((one, (pairs.target, pairs.source)), shape=shape) for one in attention)
        target, item, share = earlier_shares(states)
        earlier = sparse.csr_array((share, (target, item)), shape=shape)
        parts = (attended @ self._transitions, repeated, earlier)
        found = sum(_scaled(part, shares[:, way]) for way, part in enumerate(parts))
        popular = shares[:, 0] * (attended @ self._unseen) + shares[:, 3]  # (targets,)
        return found.toarray() + popular[:, None] * self._popular


def _scaled(matrix: sparse.csr_array, factors: np.ndarray) -> sparse.csr_array:
    """Return a matrix with each row multiplied by a factor, (rows,)."""
    # A product with a diagonal matrix would take ten times as long for a single row.
    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _fit_weights(weights: _Weights, training: "TrainingCounts", transition: np.ndarray) -> None:
    """Maximise the leave-one-out likelihood of the targets for the present counts."""
    seen = torch.from_numpy(np.stack([transition, training.same]))  # (2, pairs)
    optimizer = torch.optim.LBFGS(weights.parameters(), max_iter=25, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _negative_log_likelihood(weights, training, seen) + weights.roughness() / len(training.wanted)
        loss.backward()
        return loss

    optimizer.step(closure)


def _negative_log_likelihood(weights: _Weights, training: "TrainingCounts", seen: Tensor) -> Tensor:
    parts = weights.attention(training.pairs) * seen  # (2, pairs)
    places = torch.from_numpy(training.pairs.target).expand(2, -1)
    inside = parts.new_zeros(2, len(training.wanted)).scatter_add(1, places, parts)  # (2, targets)
    outside = torch.from_numpy(np.stack([training.earlier, training.popular[training.wanted]]))  # (2, targets)
    likelihood = (weights.shares(training.pairs) * torch.cat([inside, outside]).T).sum(dim=1)  # (targets,)
    return -(likelihood + TINIEST).log().mean()


class TrainingCounts:
    """The targets of a training part, and the transition counts being fitted."""

    def __init__(self, sequences: SessionSequences, steps: int, dwell: str, smoothing: float) -> None:
        prefixes = Prefixes.before_targets(sequences)
        self.pairs = Pairs.of(prefixes, steps, dwell)
        self.wanted = prefixes.events.items[prefixes.end].astype(np.int64)  # (targets,)
        self.earlier = _earlier_shares_of_targets(prefixes, sequences)  # (targets,)
        popularity = np.bincount(self.wanted, minlength=sequences.num_items).astype(np.float64)
        self.target_counts = popularity  # (num_items,)
        self.popular = popularity / popularity.sum()  # (num_items,)
        self._num_items, self._smoothing = sequences.num_items, smoothing
        target, source = self.pairs.target, self.pairs.source
        self._to = self.wanted[target]  # (pairs,)
        self.same = (source == self._to).astype(np.float64)  # (pairs,)
        session = _numbers(sequences.session_ids[prefixes.end])[target]
        self._edge = _numbers(source * self._num_items + self._to)  # (pairs,), as the two that follow
        self._own_edge = _numbers(session * (len(target) + 1) + self._edge)
        self._own_source = _numbers(session * self._num_items + source)
        self.share(1.0 / self.pairs.lag)

    def share(self, weight: np.ndarray) -> None:
        """Share each target, as one transition, among its events in proportion to `weight` (pairs,)."""
        self.shares = weight / np.bincount(self.pairs.target, weight)[self.pairs.target]

    def transition(self) -> np.ndarray:
        """Return ``T(item_k, target)`` of each pair, without the target's own session: (pairs,)."""
        of_edge, of_source = (
            np.bincount(whole, self.shares)[whole] - np.bincount(own, self.shares)[own]
            for whole, own in ((self._edge, self._own_edge), (self.pairs.source, self._own_source))
        )
        # Rounding may make a difference of 0 negative.
        of_edge, of_source = np.maximum(of_edge, 0.0), np.maximum(of_source, 0.0)
        return (of_edge + self._smoothing * self.popular[self._to]) / (of_source + self._smoothing)

    def counts(self) -> tuple[sparse.csr_array, np.ndarray]:
        """Return the transitions c(a, i), (num_items, num_items), and c(a), (num_items,), over all sessions."""
        shape = (self._num_items, self._num_items)
        counts = sparse.csr_array((self.shares, (self.pairs.source, self._to)), shape=shape)
        return counts, np.bincount(self.pairs.source, self.shares, minlength=self._num_items)


def _numbers(keys: np.ndarray) -> np.ndarray:
    """Return the index of each key among the distinct keys."""
    return np.unique(keys, return_inverse=True)[1]


def _earlier_shares_of_targets(prefixes: Prefixes, sequences: SessionSequences) -> np.ndarray:
    """Return the share of each target's item among the events of its row's earlier sessions, or 0: (targets,)."""
    events = len(prefixes.events.items)
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)
    same_item = _numbers(row * np.int64(sequences.num_items) + prefixes.events.items) * (events + 1)  # (events,)
    ordered = np.sort(same_item + np.arange(events))
    first = same_item[prefixes.end]  # (targets,)
    count = np.searchsorted(ordered, first + prefixes.begin) - np.searchsorted(ordered, first)
    return count / np.maximum(prefixes.begin - prefixes.row_begin, 1)
