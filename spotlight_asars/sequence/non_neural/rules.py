"""Popularity, repetition of the last item, and sequential rules."""

import numpy as np
from scipy.sparse import csr_array

from spotlight_asars.errors import check_choice, check_whole
from spotlight_asars.sequence.non_neural.base import CountRecommender
from spotlight_asars.sequence.non_neural.prefixes import Histories
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Matrix, Schema
from spotlight_asars.serialization.state import Arrays


@register_kind("model")
class Popularity(CountRecommender):
    """Score each item by its number of events in the training part, whatever the target."""

    has_live_sessions = True
    fitted_arrays = ("_clicks",)

    def _count(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        self._clicks = np.bincount(items, minlength=self.num_items).astype(np.float64)  # (num_items,)

    def _array_schemas(self, arrays: Arrays) -> dict[str, Schema]:
        return {"clicks": Array("f", (self.num_items,), least=0.0)}

    def _add_counts(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        self._clicks = self._clicks + np.bincount(items, minlength=self.num_items)

    def _block_scores(self, states: Histories) -> np.ndarray:
        return np.broadcast_to(self._clicks, (len(states), self.num_items))


@register_kind("model")
class RepeatLast(Popularity):
    """
    Repeat the last item: score the items of the session by recency, and then all others by popularity.

    An item whose last event lies l steps before the target (1 is the last event) scores 1 / l. All other items score
    less than these, in proportion to their numbers of events in the training part. On a log whose sessions repeat
    themselves, every system should be measured against this.
    """

    def _block_scores(self, states: Histories) -> np.ndarray:
        # The item longest ago scores 1 / length at least.
        scores = self._clicks / (self._clicks.max() + 1.0) / (states.lengths + 1.0)[:, None]  # (targets, num_items)
        target, item, steps = states.distinct_items()
        scores[target, item] = 1.0 / steps
        return scores


@register_kind("model")
class SequentialRules(CountRecommender):
    """
    Rules "a is followed by b within some steps", weighted by the steps between (Kamehkhosh, Jannach, Ludewig: A
    comparison of frequent pattern techniques and a deep learning method for session-based recommendation, 2017).

    The score of item b after a session whose last item is a is::

        sum over training sessions, over events i of a and j of b with 1 <= j - i <= steps:  weight(j - i)

    Parameters
    ----------
    steps : int, optional
        The most steps between the two events of a rule.
    weighting : {'division', 'same', 'linear', 'logarithmic', 'quadratic'}, optional
        The weight of d steps: 1 / d, 1, max(0, 1 - d / 10), 1 / log10(d + 1.7), 1 / d**2.
    """

    has_live_sessions = True
    fitted_arrays = ("_rules",)

    def __init__(self, steps: int = 10, weighting: str = "division") -> None:
        check_whole("steps", steps)
        check_choice("weighting", weighting, STEP_WEIGHTS)
        self.steps, self.weighting = steps, weighting

    def _count(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        self._rules = self._rules_of(items, sessions)

    def _add_counts(self, items: np.ndarray, sessions: np.ndarray, times: np.ndarray) -> None:
        self._rules = self._rules + self._rules_of(items, sessions)

    def _rules_of(self, items: np.ndarray, sessions: np.ndarray) -> csr_array:
        """Return the summed weights of all rules of some sessions: (num_items, num_items), from and to."""
        shape = (self.num_items, self.num_items)
        rules = csr_array(shape, dtype=np.float64)
        longest = int(np.bincount(sessions).max()) - 1
        for step in range(1, min(self.steps, longest) + 1):
            together = sessions[step:] == sessions[:-step]
            pairs = (items[:-step][together], items[step:][together])
            weight = STEP_WEIGHTS[self.weighting](np.float64(step))
            rules = rules + csr_array((np.full(len(pairs[0]), weight), pairs), shape=shape)
        return rules

    def _array_schemas(self, arrays: Arrays) -> dict[str, Schema]:
        return {"rules": Matrix((self.num_items, self.num_items))}

    def _block_scores(self, states: Histories) -> np.ndarray:
        return self._rules[states.last_items()].toarray()


# Weight of an event by how many steps it lies before the target; 1 is the last one.
STEP_WEIGHTS = {
    "same": np.ones_like,
    "division": lambda steps: 1.0 / steps,
    "linear": lambda steps: np.maximum(1.0 - steps / 10.0, 0.0),
    "logarithmic": lambda steps: 1.0 / np.log10(steps + 1.7),
    "quadratic": lambda steps: 1.0 / steps**2,
}
