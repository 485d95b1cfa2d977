"""The simulator's true probabilities: exact against a slow reference, and borne out by what was drawn."""

from dataclasses import replace

import numpy as np
import pytest

from spotlight_asars.datasets import Behaviour, generate_sessions

ROWS = 6000


def reference(synthetic, row):
    """The probabilities after one row by plain loops over what the docstrings say, (items,)."""
    behaviour, world, log = synthetic.behaviour, synthetic._world, synthetic.log
    items = log["item"].to_numpy() - 1
    times = log["timestamp"].to_numpy()
    user, session = log["user"][row], log["session"][row]
    popularity = world.category_items.toarray()
    probabilities = np.zeros(synthetic.num_items)
    past = [event for event in range(row + 1) if log["session"][event] == session]
    weights = [
        (times[event + 1] - times[event]) ** behaviour.dwell_power * behaviour.anchor_decay ** (row - event)
        for event in past
    ]
    for event, weight in zip(past, weights, strict=True):
        share = weight / sum(weights)
        probabilities[items[event]] += behaviour.comeback * share
        for successor, probability in zip(world.successors[items[event]], world.successor_weights, strict=True):
            probabilities[successor] += behaviour.successor * share * probability
    first_session = log["session"][log["user"] == user].min()
    oldest = max(first_session, session - behaviour.repeat_sessions)
    earlier = [event for event in range(row) if oldest <= log["session"][event] < session]
    for event in earlier:
        probabilities[items[event]] += behaviour.repeat / len(earlier)
    target = popularity[synthetic.session_targets[session - 1]]
    probabilities += (behaviour.category + (0.0 if earlier else behaviour.repeat)) * target
    return probabilities + behaviour.taste * synthetic.user_tastes[user - 1] @ popularity


@pytest.fixture(scope="module")
def small():
    behaviour = Behaviour(repeat=0.2, taste=0.05, repeat_sessions=2, dwell_power=1.0, successors_per_item=3)
    return generate_sessions(4, 30, 5, sessions_per_user=5, random_state=1, behaviour=behaviour)


@pytest.fixture(scope="module")
def sample(synthetic):
    """Rows with a next event, the items that came next (from 0), and the true probabilities."""
    sessions = synthetic.log["session"].to_numpy()
    rows = np.flatnonzero(sessions[1:] == sessions[:-1])
    rows = np.random.RandomState(5).choice(rows, ROWS, replace=False)
    return rows, synthetic.log["item"].to_numpy()[rows + 1] - 1, synthetic.next_item_probabilities(rows)


def reciprocal_ranks(probabilities, targets, cutoff=20):
    """1 / rank, ties shared, and 0 below the cutoff, (rows,)."""
    scores = probabilities[np.arange(len(targets)), targets][:, None]
    above = (probabilities > scores).sum(axis=1)
    equal = (probabilities == scores).sum(axis=1) - 1
    ranks = 1 + above + equal / 2
    return np.where(ranks <= cutoff, 1 / ranks, 0.0)


def test_equals_the_slow_reference(small, rows_with_next):
    rows = rows_with_next(small.log)
    expected = np.stack([reference(small, row) for row in rows])
    np.testing.assert_allclose(small.next_item_probabilities(rows), expected, atol=1e-12)


def test_rows_sum_to_one(small, rows_with_next, sample):
    rows = rows_with_next(small.log)
    for use_dwell in (True, False):
        sums = small.next_item_probabilities(rows, use_dwell=use_dwell).sum(axis=1)
        np.testing.assert_allclose(sums, np.ones(len(rows)))
    np.testing.assert_allclose(sample[2].sum(axis=1), np.ones(ROWS))
    assert sample[2].min() >= 0


def test_any_order_repeats_and_none(small, rows_with_next):
    rows = rows_with_next(small.log)
    everything = small.next_item_probabilities(rows)
    picks = np.array([3, 0, 3])
    np.testing.assert_allclose(small.next_item_probabilities(rows[picks]), everything[picks])
    assert small.next_item_probabilities(rows[:0]).shape == (0, 30)


def surprise(probabilities, targets):
    """How many standard deviations the log-likelihood lies off what the probabilities promise."""
    logarithms = np.log(np.maximum(probabilities, 1e-300))
    expected = (probabilities * logarithms).sum(axis=1)
    variances = (probabilities * logarithms**2).sum(axis=1) - expected**2
    found = logarithms[np.arange(len(targets)), targets]
    return (found - expected).sum() / np.sqrt(variances.sum())


@pytest.fixture(scope="module")
def crowded():
    """Many events of few items: a log, its rows with a next event, and the items that came next (from 0)."""
    drawn = generate_sessions(700, 200, 20, random_state=4)
    sessions = drawn.log["session"].to_numpy()
    rows = np.flatnonzero(sessions[1:] == sessions[:-1])
    return drawn, rows, drawn.log["item"].to_numpy()[rows + 1] - 1


def test_the_likelihood_is_as_promised(crowded, sample):
    drawn, rows, targets = crowded
    assert abs(surprise(drawn.next_item_probabilities(rows), targets)) < 3.5
    _, targets, probabilities = sample
    assert abs(surprise(probabilities, targets)) < 3.5


@pytest.mark.parametrize("wrong", [{"dwell_power": 4.0}, {"anchor_decay": 0.6}, {"successor": 0.7}])
def test_a_wrong_oracle_does_not_keep_its_promise(crowded, wrong):
    """The control of the test before: it notices settings that the log was not drawn with."""
    drawn, rows, targets = crowded
    other = replace(drawn, behaviour=replace(drawn.behaviour, **wrong))
    assert abs(surprise(other.next_item_probabilities(rows), targets)) > 5


def test_dwell_makes_what_came_more_likely(synthetic, sample):
    rows, targets, probabilities = sample
    blind = synthetic.next_item_probabilities(rows, use_dwell=False)
    places = np.arange(len(rows)), targets
    gains = np.log(probabilities[places]) - np.log(blind[places])
    assert gains.mean() > 10 * gains.std() / np.sqrt(len(gains))


def test_probabilities_are_frequencies(sample):
    _, targets, probabilities = sample
    edges = np.array([0.0, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 1.0])
    groups = np.searchsorted(edges, probabilities.ravel(), side="right")
    hits = np.zeros(probabilities.shape)
    hits[np.arange(len(targets)), targets] = 1.0
    expected = np.bincount(groups, weights=probabilities.ravel())
    found = np.bincount(groups, weights=hits.ravel())
    variances = np.bincount(groups, weights=(probabilities * (1 - probabilities)).ravel())
    used = expected > 5
    assert used.sum() >= 8
    deviations = (found - expected)[used] / np.sqrt(variances[used])
    assert np.abs(deviations).max() < 4


def test_items_are_as_frequent_as_expected(sample):
    _, targets, probabilities = sample
    expected = probabilities.sum(axis=0)
    found = np.bincount(targets, minlength=len(expected))
    variances = (probabilities * (1 - probabilities)).sum(axis=0)
    used = expected > 3
    squares = ((found - expected)[used] ** 2 / variances[used]).sum()
    freedom = used.sum()
    assert abs(squares - freedom) < 5 * np.sqrt(2 * freedom)


def test_dwell_ranks_better(synthetic, sample):
    rows, targets, probabilities = sample
    blind = synthetic.next_item_probabilities(rows, use_dwell=False)
    with_dwell = reciprocal_ranks(probabilities, targets).mean()
    without = reciprocal_ranks(blind, targets).mean()
    assert 0.38 <= with_dwell <= 0.48
    assert 0.29 <= without <= 0.39
    assert with_dwell > 1.15 * without


def counted_rules(synthetic, rows, targets, is_training, use_dwell):
    """MRR@20 of rules counted from the log's first part, that weigh the session's events as anchors are."""
    items = synthetic.log["item"].to_numpy() - 1
    sessions = synthetic.log["session"].to_numpy()[rows] - 1
    anchors = synthetic._anchors(rows, sessions, items, use_dwell).toarray()  # (rows, items)
    following = np.zeros_like(anchors)
    following[np.arange(len(rows)), targets] = 1.0
    counts = anchors[is_training].T @ following[is_training]  # (items, items)
    rules = counts / (counts.sum(axis=1, keepdims=True) + 3.0)
    popularity = following[is_training].mean(axis=0)
    scores = anchors[~is_training] @ rules + 0.05 * anchors[~is_training] + 0.05 * popularity
    return reciprocal_ranks(scores, targets[~is_training]).mean()


def test_a_log_teaches_what_dwell_tells(rows_with_next):
    drawn = generate_sessions(600, 300, 20, random_state=2)
    rows = rows_with_next(drawn.log)
    rows = np.random.RandomState(0).choice(rows, 12_000, replace=False)
    targets = drawn.log["item"].to_numpy()[rows + 1] - 1
    is_training = np.arange(len(rows)) < 10_000
    with_dwell = counted_rules(drawn, rows, targets, is_training, use_dwell=True)
    without = counted_rules(drawn, rows, targets, is_training, use_dwell=False)
    assert with_dwell > 1.1 * without


def test_wrong_rows(synthetic, refuses):
    last = int(np.flatnonzero(np.diff(synthetic.log["session"]))[0])
    end = len(synthetic.log)
    refuses(lambda: synthetic.next_item_probabilities([0, last]), f"rows holds {last}", "last event")
    refuses(lambda: synthetic.next_item_probabilities([end - 1]), f"rows holds {end - 1}", "last event")
    refuses(lambda: synthetic.next_item_probabilities([end]), f"rows holds {end}", f"0 to {end - 1}")
    refuses(lambda: synthetic.next_item_probabilities([-1]), "rows holds -1")
    refuses(lambda: synthetic.next_item_probabilities([0.5]), "float64", "positions")
    refuses(lambda: synthetic.next_item_probabilities(0), "shape ()")
