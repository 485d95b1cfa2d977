"""Mean reciprocal ranks of each host, against a loop."""

import numpy as np
import pytest


class TableModel:
    """Scores from a table, by the last item of a sequence or by the user id; a new array for each call."""

    def __init__(self, table):
        self.table = table

    def predict(self, key):
        return self.table[np.atleast_1d(key)[-1]].copy()


def slow_rank(scores, target):
    """One plus the number of higher scores, plus one half for each other equal score."""
    higher = sum(score > scores[target] for score in scores)
    equal = sum(score == scores[target] for score in scores) - 1
    return 1 + higher + equal / 2


def table_with_ties(seed=0):
    return np.random.RandomState(seed).randint(0, 6, (12, 12)).astype(np.float32)


def slow_sequence_mrr(table, rows, exclude_preceding):
    expected = []
    for row in rows:
        scores = table[row[-2]].astype(float)
        if exclude_preceding:
            scores[row[:-1]] = -1e30
        expected.append(1 / slow_rank(scores, row[-1]))
    return expected


@pytest.mark.parametrize("exclude_preceding", [False, True])
def test_sequence_mrr_equals_the_loop(host, exclude_preceding):
    table = table_with_ties()
    rows = np.random.RandomState(1).randint(0, 12, (60, 5))
    found = host.evaluation.sequence_mrr_score(
        TableModel(table), host.interactions.SequenceInteractions(rows, num_items=12), exclude_preceding
    )
    assert found.shape == (60,)
    assert found.dtype == np.float64
    assert found == pytest.approx(slow_sequence_mrr(table, rows, exclude_preceding), abs=1e-15)


@pytest.mark.parametrize("with_train", [False, True])
def test_mrr_equals_the_loop_and_leaves_out_users_without_items(host, with_train):
    table = table_with_ties(2)
    random_state = np.random.RandomState(3)

    def pairs(number):
        users = random_state.choice([0, 1, 4, 7, 11], number)
        return host.interactions.Interactions(users, random_state.randint(0, 12, number), num_users=12, num_items=12)

    test, train = pairs(25), pairs(30)
    expected = []
    for user in sorted(set(test.user_ids.tolist())):
        scores = table[user].astype(float)
        if with_train:
            scores[train.item_ids[train.user_ids == user]] = -1e30
        items = sorted(set(test.item_ids[test.user_ids == user].tolist()))
        expected.append(np.mean([1 / slow_rank(scores, item) for item in items]))

    found = host.evaluation.mrr_score(TableModel(table), test, train if with_train else None)
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_constant_scorer_gets_the_middle_rank(host):
    rows = host.interactions.SequenceInteractions(np.array([[1, 2], [3, 0]]), num_items=12)
    found = host.evaluation.sequence_mrr_score(TableModel(np.ones((12, 12), dtype=np.float32)), rows)
    assert found.tolist() == [1 / 6.5, 1 / 6.5]


def test_a_score_that_is_not_a_number_is_no_hit(host):
    table = np.zeros((4, 4), dtype=np.float32)
    table[1, 2] = np.nan
    rows = host.interactions.SequenceInteractions(np.array([[1, 2], [2, 3]]), num_items=4)
    found = host.evaluation.sequence_mrr_score(TableModel(table), rows)
    assert np.isnan(found[0])
    assert found[1] == 1 / 2.5


def test_evaluation_does_not_write_to_the_scores(host):
    class SharedScores:
        scores = np.arange(6, dtype=np.float32)

        def predict(self, _):
            return self.scores

    rows = host.interactions.SequenceInteractions(np.array([[1, 5, 2]]), num_items=6)
    model = SharedScores()
    host.evaluation.sequence_mrr_score(model, rows, exclude_preceding=True)
    assert model.scores.tolist() == [0, 1, 2, 3, 4, 5]
