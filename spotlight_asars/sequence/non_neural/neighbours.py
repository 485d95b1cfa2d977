"""Nearest neighbours among training sessions: VSKNN, STAN and VSTAN, in array form."""

import numpy as np
from scipy.sparse import csr_array

from spotlight_asars.errors import check_choice, check_decay, check_not_negative, check_whole
from spotlight_asars.interactions.channels import UNKNOWN_TIME
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sessionization import changes
from spotlight_asars.interactions.times import SECONDS_PER_DAY
from spotlight_asars.sequence.non_neural.base import CountingSystem, Prefixes, blocks_of
from spotlight_asars.sequence.non_neural.rules import STEP_WEIGHTS
from spotlight_asars.serialization.models import register_kind

ENTRIES_A_BLOCK = 2**21  # items of neighbours looked at in one go, 8 bytes each in about ten arrays
# A weight that has faded to 0 is held here: its session stays a candidate, and counts for nothing beside a weight of 1.
SMALLEST_WEIGHT = 1e-100


class SessionNeighbours(CountingSystem):
    """
    The engine of the nearest-neighbour systems; the subclasses say which weights they use.

    For a session s with items i, clicked last l(i) steps before the target (1 is the last event):

    1. candidates: training sessions that share an item with s, the `sample_size` most recent of them by their last
       event; equal or unknown times go by the order of session ids, which is that of the rows as they were made;
    2. neighbours: the k candidates n of highest similarity, at equal similarity the more recent ones::

           similarity(s, n) = sum over shared items of place_weight(l(i)) / norm * exp(-age(n) / session_decay)

       where the norm is the number of items of s ('dot'), or sqrt(sum of place_weight**2) * sqrt(items of n)
       ('cosine'), and age(n) the time from the last event of n to that of s, never below 0, and 0 if one is unknown;
    3. scores, with p the last position of an item in n, and m the shared item that is last in n::

           score(j) = sum over neighbours with item j of similarity(s, n) * match_weight(least l of a shared item)
                      * exp(-abs(p(j) - p(m)) / neighbour_decay) * (1 + idf_weight * ln(sessions / clicks of j))
    """

    session_decay_days: float | None = None
    neighbour_decay: float | None = None
    idf_weight: float = 0.0
    similarity = "cosine"
    counted = (
        *("_session_times", "_items", "_positions", "_sizes", "_begin"),
        *("_occurrences", "_item_costs", "_item_weights"),
    )

    def __init__(self, k: int, sample_size: int) -> None:
        check_whole("k", k)
        check_whole("sample_size", sample_size)
        self.k, self.sample_size = k, sample_size

    def _place_weights(self, steps: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Weight of an item clicked last so many steps before the target, in a session of so many events."""
        raise NotImplementedError

    def _match_weights(self, steps: np.ndarray) -> np.ndarray:
        """Weight of a neighbour whose best shared item was clicked so many steps before the target."""
        raise NotImplementedError

    def _count(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        begin = np.flatnonzero(changes(sessions))  # (sessions,)
        latest = np.maximum.reduceat(times, begin)  # an unknown time is the smallest there is
        recent_first = np.lexsort((np.arange(len(begin)), latest))[::-1]
        recency = np.empty(len(begin), dtype=np.int64)
        recency[recent_first] = np.arange(len(begin))
        self._session_times = latest[recent_first]  # (sessions,), by recency as all that follows
        position = np.arange(len(items)) - begin[sessions] + 1

        session = recency[sessions]
        order = np.lexsort((position, items, session))
        session, item, position = session[order], items[order].astype(np.int64), position[order]
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (session[1:] != session[:-1]) | (item[1:] != item[:-1])
        session = session[last]
        self._items, self._positions = item[last], position[last]  # (entries,): a session's items, once each
        self._sizes = np.bincount(session, minlength=len(begin))  # (sessions,)
        self._begin = np.cumsum(self._sizes) - self._sizes
        self._sessions_of_items(session)
        clicks = np.bincount(items, minlength=self.num_items)
        # Items never clicked are in no neighbour; they get the value of one click.
        self._item_weights = 1.0 + self.idf_weight * np.log(len(begin) / np.maximum(clicks, 1))  # (num_items,)

    def _sessions_of_items(self, session: np.ndarray) -> None:
        """The most recent `sample_size` sessions of each item: no other can be among those of several items."""
        by_item = np.argsort(self._items, kind="stable")
        item, session = self._items[by_item], session[by_item]
        rank = np.arange(len(item)) - np.flatnonzero(changes(item))[np.cumsum(changes(item)) - 1]
        item, session = item[rank < self.sample_size], session[rank < self.sample_size]
        begin = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=self.num_items))])
        shape = (self.num_items, len(self._sizes))
        self._occurrences = csr_array((np.ones(len(item)), session, begin), shape=shape)  # (num_items, sessions)
        # What a shared item may cost: the items of all its sessions.
        self._item_costs = np.bincount(item, weights=self._sizes[session], minlength=self.num_items)  # (num_items,)

    def _block_scores(self, states: Prefixes) -> np.ndarray:
        scores = np.zeros((len(states), self.num_items))  # (targets, num_items)
        for part in blocks_of(states.lengths, ENTRIES_A_BLOCK):
            event, target, _ = flat_positions(states.begin[part], states.lengths[part])
            last = states.next_same[event] >= states.end[part][target]  # each item where it was clicked last
            event, target = event[last], target[last]
            items, steps = states.items[event], states.end[part][target] - event
            costs = np.bincount(target, weights=self._item_costs[items], minlength=len(states.begin[part]))
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
        self, states: Prefixes, first: np.ndarray, items: np.ndarray, steps: np.ndarray, scores: np.ndarray
    ) -> None:
        """Score a few targets; target t has the distinct items ``first[t]:first[t + 1]`` of `items`."""
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
        self, states: Prefixes, first: np.ndarray, items: np.ndarray, steps: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Target, training session and similarity of each pair of neighbours; shape (pairs,) each."""
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
            now = states.last(states.times, empty=UNKNOWN_TIME)[target]
            then = self._session_times[session].astype(np.int64)
            known = (now != UNKNOWN_TIME) & (then != UNKNOWN_TIME)
            age = np.where(known, np.maximum(now - then, 0), 0)
            similarity = similarity * np.exp(-age / (self.session_decay_days * SECONDS_PER_DAY))
        best = highest(similarity, target, len(states), self.k)
        return target[best], session[best], similarity[best]


def highest(values: np.ndarray, group: np.ndarray, num_groups: int, k: int) -> np.ndarray:
    """
    Which values are among the k highest of their group, the first ones where values are equal.

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
    before = np.cumsum(equal) - equal  # equal ones before, counted from the first group on
    chosen = np.ones(len(values), dtype=bool)
    chosen[entry] = above | (equal & (before - before[row_begin][row] < room[row]))
    return chosen


# Weight of the item at place p = length + 1 - steps of a session, by steps and length.
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

    Items late in the session weigh more, in the similarity to a training session and, by the latest item shared with
    it, in what that session adds; see ``SessionNeighbours``.

    Parameters
    ----------
    k : int, optional
        Neighbours.
    sample_size : int, optional
        Most recent sessions among which they are looked for.
    weighting : {'quadratic', 'division', 'same', 'linear', 'logarithmic'}, optional
        ``place_weight`` of the event at place p of n: (p / n)**2, p / n, 1, max(0, 1 - (n - p) / 10),
        1 / log10(n - p + 1.7).
    score_weighting : {'quadratic', 'division', 'same', 'linear', 'logarithmic'}, optional
        ``match_weight`` of l steps: as in ``SequentialRules``.
    idf_weight : float, optional
        How much rare items are preferred.
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
    STAN with VSKNN's weights of items and of matches, after the session-rec framework (Ludewig, Mauro, Latifi,
    Jannach: Empirical analysis of session-based recommendation algorithms, 2021).

    ``place_weight`` of l steps is exp(-(l - 1) / position_decay), ``match_weight`` exp(-(l - 1) / match_decay); see
    ``SessionNeighbours``. A decay of None leaves its factor out.

    Parameters
    ----------
    k : int, optional
        Neighbours.
    sample_size : int, optional
        Most recent sessions among which they are looked for.
    similarity : {'cosine', 'dot'}, optional
    position_decay : float or None, optional
        Steps in which the weight of an item of the session falls to 1 / e.
    session_decay_days : float or None, optional
        Days in which the weight of a training session falls to 1 / e.
    neighbour_decay : float or None, optional
        Steps from the latest match in which the weight of a neighbour's item falls to 1 / e.
    match_decay : float or None, optional
        Steps in which the weight of a neighbour falls to 1 / e as its latest match is further back.
    idf_weight : float, optional
        How much rare items are preferred.
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

    Its three decays are lambda 1, 2 and 3 of the paper; for the formulas see ``VSTAN``, which adds to them.

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
    """1 at the last event, 1 / e `decay` steps before it."""
    return np.ones(len(steps)) if decay is None else np.exp((1.0 - steps) / decay)
