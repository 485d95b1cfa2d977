"""Session nearest neighbours, in array form: VSKNN, STAN and VSTAN."""

import numpy as np
from scipy.sparse import csr_array

from spotlight_asars.errors import InputError, check_choice, check_decay, check_not_negative, check_whole
from spotlight_asars.interactions.channels import UNKNOWN_TIME
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sessionization import changes
from spotlight_asars.interactions.times import SECONDS_PER_DAY
from spotlight_asars.sequence.non_neural.base import CountRecommender
from spotlight_asars.sequence.non_neural.prefixes import Histories, blocks_of
from spotlight_asars.sequence.non_neural.rules import STEP_WEIGHTS
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import LARGEST, Array, Fields, Matrix, Schema
from spotlight_asars.serialization.state import Arrays

ENTRIES_A_BLOCK = 2**21  # neighbours' items worked on at a time, 8 bytes each in about ten arrays
# The floor of a decayed weight: its session stays a candidate, but is negligible beside a weight of 1.
SMALLEST_WEIGHT = 1e-100


class SessionNeighbours(CountRecommender):
    """
    The algorithm of the nearest-neighbour systems; subclasses define the weights.

    For a session s with items i, whose last event of i lies l(i) steps before the target (1 is the last event):

    1. candidates: the `sample_size` most recent training sessions, by their last event, that share an item with s;
       equal or unknown times are in the order of session ids, those of a `partial_fit` after all that were there;
    2. neighbours: the k candidates n of highest similarity, the more recent ones first among equals::

           similarity(s, n) = sum over shared items of place_weight(l(i)) / norm * exp(-age(n) / session_decay)

       where the norm is the number of items of s ('dot'), or sqrt(sum of place_weight**2) * sqrt(items of n)
       ('cosine'), and age(n) the time from the last event of n to that of s, at least 0, and 0 if either is unknown;
    3. scores, where p is an item's last position in n, and m the last shared item of n::

           score(j) = sum over neighbours with item j of similarity(s, n) * match_weight(least l of a shared item)
                      * exp(-abs(p(j) - p(m)) / neighbour_decay) * (1 + idf_weight * ln(sessions / clicks of j))
    """

    has_live_sessions = True
    session_decay_days: float | None = None
    neighbour_decay: float | None = None
    idf_weight: float = 0.0
    similarity = "cosine"
    fitted_arrays = (
        *("_session_times", "_items", "_positions", "_sizes", "_begin"),
        *("_occurrences", "_item_costs", "_item_weights", "_clicks"),
    )
    added_arrays = ("_clicks",)

    def __init__(self, k: int, sample_size: int) -> None:
        check_whole("k", k)
        check_whole("sample_size", sample_size)
        self.k, self.sample_size = k, sample_size

    def _place_weights(self, steps: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the weight of an item by its last event's steps before the target and the session's length."""
        raise NotImplementedError

    def _match_weights(self, steps: np.ndarray) -> np.ndarray:
        """Return the weight of a neighbour by the steps from its latest shared item to the target."""
        raise NotImplementedError

    def _count(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        self._clicks = np.bincount(items, minlength=self.num_items)  # (num_items,)
        self._keep(*_distinct_items(items, sessions, times))

    def _add_counts(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        self._clicks = self._clicks + np.bincount(items, minlength=self.num_items)
        latest, session, item, position = _distinct_items(items, sessions, times)
        there = len(self._session_times)
        # The sessions that are there come first, the oldest first, so that the new ones are later among equal times.
        kept = there - 1 - np.repeat(np.arange(there), self._sizes)
        self._keep(
            np.concatenate([self._session_times[::-1], latest]),
            np.concatenate([kept, there + session]),
            np.concatenate([self._items, item]),
            np.concatenate([self._positions, position]),
        )

    def _keep(self, latest: np.ndarray, session: np.ndarray, item: np.ndarray, position: np.ndarray) -> None:
        """Keep the results of :func:`_distinct_items`, and index them."""
        recent_first = np.lexsort((np.arange(len(latest)), latest))[::-1]
        recency = np.empty(len(latest), dtype=np.int64)
        recency[recent_first] = np.arange(len(latest))
        self._session_times = latest[recent_first]  # (sessions,); the most recent first, as in all arrays below
        session = recency[session]
        order = np.lexsort((item, session))
        session, self._items, self._positions = session[order], item[order], position[order]  # (entries,)
        self._sizes = np.bincount(session, minlength=len(latest))  # (sessions,)
        self._begin = np.cumsum(self._sizes) - self._sizes
        self._sessions_of_items(session)
        # Items without an event are in no neighbour; they get the weight of one event.
        share = len(latest) / np.maximum(self._clicks, 1)
        self._item_weights = 1.0 + self.idf_weight * np.log(share)  # (num_items,)

    def _sessions_of_items(self, session: np.ndarray) -> None:
        """Index the `sample_size` most recent sessions of each item; no other session can be a candidate."""
        by_item = np.argsort(self._items, kind="stable")
        item, session = self._items[by_item], session[by_item]
        rank = np.arange(len(item)) - np.flatnonzero(changes(item))[np.cumsum(changes(item)) - 1]
        item, session = item[rank < self.sample_size], session[rank < self.sample_size]
        begin = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=self.num_items))])
        shape = (self.num_items, len(self._sizes))
        self._occurrences = csr_array((np.ones(len(item)), session, begin), shape=shape)  # (num_items, sessions)
        # The most that a shared item can cost: the items of all its sessions.
        self._item_costs = np.bincount(item, weights=self._sizes[session], minlength=self.num_items)  # (num_items,)

    def _array_schemas(self, arrays: Arrays) -> dict[str, Schema]:
        Fields({"sizes": Array("iu", (None,), 1, LARGEST), "items": Array("iu", (None,))}).check("arrays", arrays)
        sizes, sessions, entries = arrays["sizes"], len(arrays["sizes"]), len(arrays["items"])
        begin = np.cumsum(sizes) - sizes
        if sizes.sum(dtype=np.float64) != entries or not np.array_equal(arrays.get("begin"), begin):
            raise InputError("its sessions do not share its items out among them")
        return {
            "session_times": Array("i", (sessions,)),
            "items": Array("iu", (entries,), 1, self.num_items - 1),
            "positions": Array("iu", (entries,), 1, LARGEST),
            "sizes": Array("iu", (sessions,)),
            "begin": Array("iu", (sessions,)),
            "occurrences": Matrix((self.num_items, sessions)),
            "item_costs": Array("f", (self.num_items,), least=0.0),
            "item_weights": Array("f", (self.num_items,), least=-np.finfo(np.float64).max),
            "clicks": Array("fiu", (self.num_items,), least=0.0),
        }

    def _block_scores(self, states: Histories) -> np.ndarray:
        scores = np.zeros((len(states), self.num_items))  # (targets, num_items)
        for part in blocks_of(states.lengths, ENTRIES_A_BLOCK):
            target, items, steps = states[part].distinct_items()
            costs = np.bincount(target, weights=self._item_costs[items], minlength=len(states[part]))
            first = np.searchsorted(target, np.arange(len(costs) + 1))  # (targets + 1,)
            for block in blocks_of(costs, ENTRIES_A_BLOCK):
                inside = slice(first[block.start], first[block.stop])
                self._add_scores(
                    states[part][block],
                    first[block.start : block.stop + 1] - first[block.start],
                    items[inside],
                    steps[inside],
                    scores[part][block],
                )
        return scores

    def _add_scores(
        self, states: Histories, first: np.ndarray, items: np.ndarray, steps: np.ndarray, scores: np.ndarray
    ) -> None:
        """Write the scores of a few targets; target t has the distinct items ``first[t]:first[t + 1]`` of `items`."""
        target, neighbour, similarity = self._neighbours(states, first, items, steps)  # (pairs,) each
        if not len(target):
            return
        steps_of = np.zeros(scores.shape, dtype=np.int64)  # (targets, num_items), 0 where not in the session
        steps_of[np.repeat(np.arange(len(states)), np.diff(first)), items] = steps
        entry, pair, _ = flat_positions(self._begin[neighbour], self._sizes[neighbour])  # (entries,) each
        cell = (target * self.num_items)[pair] + self._items[entry]
        steps = steps_of.ravel()[cell]
        pair_begin = np.cumsum(self._sizes[neighbour]) - self._sizes[neighbour]
        nearest = np.minimum.reduceat(np.where(steps > 0, steps, np.iinfo(np.int64).max), pair_begin)
        weight = (similarity * self._match_weights(nearest))[pair]  # (entries,)
        if self.neighbour_decay is not None:
            position = self._positions[entry]
            match = np.maximum.reduceat(np.where(steps > 0, position, 0), pair_begin)  # (pairs,)
            weight *= np.exp(-np.abs(position - match[pair]) / self.neighbour_decay)
        if self.idf_weight:
            weight *= self._item_weights[self._items[entry]]
        scores[:] = np.bincount(cell, weights=weight, minlength=scores.size).reshape(scores.shape)

    def _neighbours(
        self, states: Histories, first: np.ndarray, items: np.ndarray, steps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return target, training session and similarity of each pair of neighbours: (pairs,) each."""
        row = np.repeat(np.arange(len(states)), np.diff(first))
        weights = np.maximum(self._place_weights(steps, states.lengths[row]), SMALLEST_WEIGHT)
        prefixes = csr_array((weights, items, first), shape=(len(states), self.num_items))
        shared = prefixes @ self._occurrences  # (targets, sessions)
        shared.sort_indices()  # the most recent first
        target = np.repeat(np.arange(len(states)), np.diff(shared.indptr))
        kept = np.arange(len(target)) - shared.indptr[target] < self.sample_size
        target, session, similarity = target[kept], shared.indices[kept], shared.data[kept]
        if self.similarity == "cosine":
            norms = np.sqrt(np.bincount(row, weights=weights**2, minlength=len(states)))
            similarity = similarity / (norms[target] * np.sqrt(self._sizes)[session])
        else:
            similarity = similarity / np.diff(first)[target]
        if self.session_decay_days is not None:
            now = states.last_times()[target]
            then = self._session_times[session].astype(np.int64)
            known = (now != UNKNOWN_TIME) & (then != UNKNOWN_TIME)
            age = np.where(known, np.maximum(now - then, 0), 0)
            similarity = similarity * np.exp(-age / (self.session_decay_days * SECONDS_PER_DAY))
        best = highest(similarity, target, len(states), self.k)
        return target[best], session[best], similarity[best]


def _distinct_items(
    items: np.ndarray, sessions: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    Return the time of each session's last event, (sessions,), and the items of each session once.

    Returns
    -------
    latest : int array of shape (sessions,)
    session, item, position : int64 arrays of shape (entries,)
        `position` is that of the item's last event in the session, from 1.
    """
    begin = np.flatnonzero(changes(sessions))  # (sessions,)
    latest = np.maximum.reduceat(times, begin)  # UNKNOWN_TIME is the smallest value
    position = np.arange(len(items)) - begin[sessions] + 1
    order = np.lexsort((position, items, sessions))
    session, item, position = sessions[order], items[order].astype(np.int64), position[order]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (session[1:] != session[:-1]) | (item[1:] != item[:-1])
    return latest, session[last], item[last], position[last]


def highest(values: np.ndarray, group: np.ndarray, num_groups: int, k: int) -> np.ndarray:
    """
    Return which values are among the k highest of their group; among equal values the first.

    Parameters
    ----------
    values, group : arrays of shape (entries,)
        Groups 0, 1, ... one after the other.

    Returns
    -------
    bool array of shape (entries,)
    """
    counts = np.bincount(group, minlength=num_groups)
    crowded = np.flatnonzero(counts > k)
    if not len(crowded):
        return np.ones(len(values), dtype=bool)
    begin = np.cumsum(counts) - counts
    width = int(counts.max())
    thresholds = []  # the k-th highest of each
    for block in blocks_of(np.full(len(crowded), width), ENTRIES_A_BLOCK):
        entry, row, place = flat_positions(begin[crowded[block]], counts[crowded[block]])
        table = np.full((len(crowded[block]), width), -np.inf)  # (groups, entries of the largest)
        table[row, place] = values[entry]
        table.partition(width - k, axis=1)
        thresholds.append(table[:, -k])
    entry, row, _ = flat_positions(begin[crowded], counts[crowded])
    threshold = np.concatenate(thresholds)[row]  # (entries of these groups,)
    above, equal = values[entry] > threshold, values[entry] == threshold
    room = k - np.bincount(row, weights=above, minlength=len(crowded))  # (groups,)
    row_begin = np.cumsum(counts[crowded]) - counts[crowded]
    before = np.cumsum(equal) - equal  # number of equal values before, over all groups
    chosen = np.ones(len(values), dtype=bool)
    chosen[entry] = above | (equal & (before - before[row_begin][row] < room[row]))
    return chosen


# Weight of the item at place p = length + 1 - steps, by steps and length.
PLACE_WEIGHTS = {
    "same": lambda steps, lengths: np.ones(len(steps)),
    "division": lambda steps, lengths: (lengths + 1 - steps) / lengths,
    "linear": lambda steps, lengths: np.maximum(1.0 - (steps - 1) / 10.0, 0.0),
    "logarithmic": lambda steps, lengths: 1.0 / np.log10(steps + 0.7),
    "quadratic": lambda steps, lengths: ((lengths + 1 - steps) / lengths) ** 2,
}


@register_kind("model")
class VSKNN(SessionNeighbours):
    """
    Vector multiplication session-based nearest neighbours (Ludewig and Jannach: Evaluation of session-based
    recommendation algorithms, 2018).

    Late items of the session weigh more, both in the similarity to a training session and, through the latest shared
    item, in that session's scores; see ``SessionNeighbours``.

    Parameters
    ----------
    k : int, optional
        Number of neighbours.
    sample_size : int, optional
        Number of most recent sessions searched for them.
    weighting : {'quadratic', 'division', 'same', 'linear', 'logarithmic'}, optional
        ``place_weight`` of the event at place p of n: (p / n)**2, p / n, 1, max(0, 1 - (n - p) / 10),
        1 / log10(n - p + 1.7).
    score_weighting : {'quadratic', 'division', 'same', 'linear', 'logarithmic'}, optional
        ``match_weight`` of l steps: as in ``SequentialRules``.
    idf_weight : float, optional
        How much rare items are favoured.
    """

    similarity = "dot"

    def __init__(
        self,
        k: int = 100,
        sample_size: int = 1000,
        weighting: str = "quadratic",
        score_weighting: str = "quadratic",
        idf_weight: float = 0.0,
    ) -> None:
        super().__init__(k, sample_size)
        check_choice("weighting", weighting, PLACE_WEIGHTS)
        check_choice("score_weighting", score_weighting, STEP_WEIGHTS)
        check_not_negative("idf_weight", idf_weight)
        self.weighting, self.score_weighting, self.idf_weight = weighting, score_weighting, idf_weight

    def _place_weights(self, steps: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return PLACE_WEIGHTS[self.weighting](steps, lengths)

    def _match_weights(self, steps: np.ndarray) -> np.ndarray:
        return STEP_WEIGHTS[self.score_weighting](steps.astype(np.float64))


@register_kind("model")
class VSTAN(SessionNeighbours):
    """
    STAN with VSKNN's item and match weights, as in the session-rec framework (Ludewig, Mauro, Latifi,
    Jannach: Empirical analysis of session-based recommendation algorithms, 2021).

    ``place_weight`` of l steps is exp(-(l - 1) / position_decay), ``match_weight`` exp(-(l - 1) / match_decay); see
    ``SessionNeighbours``. A decay of None omits its factor.

    Parameters
    ----------
    k : int, optional
        Number of neighbours.
    sample_size : int, optional
        Number of most recent sessions searched for them.
    similarity : {'cosine', 'dot'}, optional
    position_decay : float or None, optional
        Steps over which the weight of a session's item falls to 1 / e.
    session_decay_days : float or None, optional
        Days over which the weight of a training session falls to 1 / e.
    neighbour_decay : float or None, optional
        Steps from the latest match over which the weight of a neighbour's item falls to 1 / e.
    match_decay : float or None, optional
        Steps from the latest match to the target over which a neighbour's weight falls to 1 / e.
    idf_weight : float, optional
        How much rare items are favoured.
    """

    def __init__(
        self,
        k: int = 500,
        sample_size: int = 5000,
        similarity: str = "cosine",
        position_decay: float | None = 1.02,
        session_decay_days: float | None = 5.0,
        neighbour_decay: float | None = 2.05,
        match_decay: float | None = 1.02,
        idf_weight: float = 5.0,
    ) -> None:
        super().__init__(k, sample_size)
        check_choice("similarity", similarity, ("cosine", "dot"))
        check_decay("position_decay", position_decay)
        check_decay("session_decay_days", session_decay_days)
        check_decay("neighbour_decay", neighbour_decay)
        check_decay("match_decay", match_decay)
        check_not_negative("idf_weight", idf_weight)
        self.similarity = similarity
        self.position_decay, self.session_decay_days = position_decay, session_decay_days
        self.neighbour_decay, self.match_decay, self.idf_weight = neighbour_decay, match_decay, idf_weight

    def _place_weights(self, steps: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return _faded(steps, self.position_decay)

    def _match_weights(self, steps: np.ndarray) -> np.ndarray:
        return _faded(steps, self.match_decay)


@register_kind("model")
class STAN(VSTAN):
    """
    Sequence and time aware neighbourhoods (Garg, Gupta, Malhotra, Vig, Shroff: Sequence and time aware neighborhood
    for session-based recommendations, 2019).

    The three decays are the paper's lambda 1, 2 and 3; ``VSTAN`` gives the formulas and extends them.

    Parameters
    ----------
    k, sample_size, position_decay, session_decay_days, neighbour_decay : optional
        As for ``VSTAN``.
    """

    def __init__(
        self,
        k: int = 1000,
        sample_size: int = 10000,
        position_decay: float | None = 1.02,
        session_decay_days: float | None = 5.0,
        neighbour_decay: float | None = 2.05,
    ) -> None:
        super().__init__(
            k, sample_size, "cosine", position_decay, session_decay_days, neighbour_decay, None, idf_weight=0.0
        )


def _faded(steps: np.ndarray, decay: float | None) -> np.ndarray:
    """Return exponentially decayed weights: 1 at the last event, 1 / e `decay` steps before it."""
    return np.ones(len(steps)) if decay is None else np.exp((1.0 - steps) / decay)
