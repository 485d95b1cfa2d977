"""Popularity and sequential rules by hand, and the training events that all counting systems count."""

import inspect
import math

import numpy as np
import pytest

from spotlight_asars.interactions.channels import ITEM, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural.prefixes import blocks_of, training_events
from spotlight_asars.sequence.non_neural.rules import STEP_WEIGHTS, Popularity, RepeatLast, SequentialRules


class TestByHand:
    rows = SessionSequences(np.array([[1, 2, 3], [2, 3, 2], [0, 1, 4]]))

    def scores(self, system, prefix):
        return system.fit(self.rows).predict(np.array(prefix))[1:]

    def test_popularity(self):
        np.testing.assert_allclose(self.scores(Popularity(), [1, 2]), [2 / 3, 1, 2 / 3, 1 / 3], rtol=1e-6)

    def test_repetition_of_the_last_item(self):
        # 1, 2, 3 and 4 have 2, 3, 2 and 1 events; the best others score 3 / (3 + 1) / (events of the session + 1).
        np.testing.assert_allclose(self.scores(RepeatLast(), [1, 3, 1]), [1, 3 / 16, 1 / 2, 1 / 16], rtol=1e-6)
        np.testing.assert_allclose(self.scores(RepeatLast(), [2]), [2 / 8, 1, 2 / 8, 1 / 8], rtol=1e-6)
        np.testing.assert_allclose(RepeatLast().fit(self.rows).predict(np.array([0]))[1:], [2 / 3, 1, 2 / 3, 1 / 3])

    def test_rules(self):
        # 1 -> 2: 1, 1 -> 3: 1/2, 1 -> 4: 1;  2 -> 3: 1 + 1, 2 -> 2: 1/2
        np.testing.assert_allclose(self.scores(SequentialRules(2), [1, 2]), [0, 0.25, 1, 0])
        np.testing.assert_allclose(self.scores(SequentialRules(1), [1, 2]), [0, 0, 1, 0])
        np.testing.assert_allclose(self.scores(SequentialRules(), [2, 1]), [0, 1, 0.5, 1])
        np.testing.assert_allclose(self.scores(SequentialRules(weighting="quadratic"), [1]), [0, 1, 0.25, 1])


class TestSettings:
    def test_defaults(self):
        defaults = [one.default for one in inspect.signature(SequentialRules).parameters.values()]
        assert defaults == [10, "division"]

    def test_wrong_ones_are_refused(self, refuses):
        refuses(lambda: SequentialRules(0), "steps", "at least 1")
        refuses(lambda: SequentialRules(weighting="div"), "weighting", "division")

    @pytest.mark.parametrize("weighting", ["same", "division", "linear", "logarithmic", "quadratic"])
    def test_weightings(self, weighting):
        """Weights by the formulas of the docstring, of d steps."""
        steps = np.arange(1.0, 13.0)
        expected = {
            "same": lambda d: 1.0,
            "division": lambda d: 1 / d,
            "linear": lambda d: max(0, 1 - d / 10),
            "logarithmic": lambda d: 1 / math.log10(d + 1.7),
            "quadratic": lambda d: 1 / d**2,
        }[weighting]
        found = STEP_WEIGHTS[weighting](steps)
        np.testing.assert_allclose(found, [expected(step) for step in steps], atol=1e-12)


class TestBlocks:
    def test_blocks(self):
        assert list(blocks_of(np.array([3, 3, 9, 1, 1, 1]), 6)) == [slice(0, 2), slice(2, 3), slice(3, 6)]
        assert list(blocks_of(np.array([]), 6)) == []


class TestTrainingEvents:
    @pytest.mark.parametrize("known_times", [True, False])
    @pytest.mark.parametrize("step_size", [1, 2, 3, 5])
    def test_sessions_longer_than_a_row_are_put_together(self, known_times, step_size):
        users = np.repeat([1, 2], [17, 9])
        sessions = np.repeat([0, 1, 2, 3], [3, 13, 1, 9])
        log = SessionInteractions(users, np.arange(26) + 1, timestamps=np.arange(26) // 2, session_ids=sessions)
        rows = to_session_sequences(log, max_sequence_length=5, step_size=step_size)
        if not known_times:
            rows.events[:, TIME] = UNKNOWN_TIME
        shuffled = rows.rows(np.arange(len(rows))[::-1])
        for some in (rows, shuffled) if known_times and step_size > 1 else (rows,):  # else nothing tells their order
            items, session, _ = training_events(some)
            np.testing.assert_array_equal(items, np.arange(26) + 1)
            np.testing.assert_array_equal(session, sessions)

    def test_a_start_in_two_rows_counts_once(self):
        log = SessionInteractions([1] * 6, [1, 2, 3, 4, 5, 6], timestamps=np.arange(6), session_ids=[0, 0, 1, 1, 1, 1])
        rows = to_session_sequences(log, max_sequence_length=4, step_size=2)  # 3 4 5 6 and 1 2 3 4
        assert sorted(rows.events[:, ITEM]) == [1, 2, 3, 3, 4, 4, 5, 6]
        assert training_events(rows)[0].tolist() == [1, 2, 3, 4, 5, 6]

    def test_a_start_that_is_a_target_counts_once(self):
        log = SessionInteractions([1] * 6, [1, 2, 3, 4, 5, 6], timestamps=np.arange(6), session_ids=[0, 0, 1, 1, 1, 1])
        rows = to_session_sequences(log, max_sequence_length=4, step_size=2)
        rows.events[(rows.events[:, ITEM] == 3).nonzero()[0][-1], TARGET] = 1  # in the row that comes second
        assert training_events(rows)[0].tolist() == [1, 2, 3, 4, 5, 6]
        rows.events[rows.events[:, ITEM] == 3, TARGET] = 1
        assert training_events(rows)[0].tolist() == [1, 2, 3, 4, 5, 6]

    def test_context_counts_where_it_is_fullest(self):
        log = SessionInteractions([1] * 6, [1, 2, 3, 4, 5, 6], timestamps=np.arange(6), session_ids=[0, 0, 0, 1, 1, 1])
        rows = to_session_sequences(log, max_sequence_length=5, step_size=2)  # 2 3 4 5 6 and 1 2 3 4
        rows.events[:, TARGET] = 0
        assert training_events(rows)[0].tolist() == [1, 2, 3, 4, 5, 6]
