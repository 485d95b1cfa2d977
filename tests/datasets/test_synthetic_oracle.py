"""The simulator's true probabilities: equal to a slow reference, and consistent with drawn events."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from spotlight_asars.datasets.synthetic.log import expected_newest_shares, generate_sessions
from spotlight_asars.datasets.synthetic.walk import draw_dwells, dwell_distribution
from spotlight_asars.datasets.synthetic.world import Behaviour

ROWS = 6000
DWELL_RULES = ("observed", "known", "none")


def reference(synthetic, row, newest_dwell=None):
    """Return the probabilities after one row by plain loops, following the docstrings, (items,)."""
    behaviour, world, log = synthetic.behaviour, synthetic.world, synthetic.log
    items = log["item"].to_numpy() - 1
    times = log["timestamp"].to_numpy().copy()
    if newest_dwell is not None:
        times[row + 1] = times[row] + newest_dwell
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


def reference_of_known(synthetic, row):
    """Return the same for an unknown dwell of the row: a sum over all possible dwells, (items,)."""
    behaviour, log = synthetic.behaviour, synthetic.log
    on_target = synthetic.item_categories[log["item"][row] - 1] == synthetic.session_targets[log["session"][row] - 1]
    scale = behaviour.dwell_scale if on_target else behaviour.dwell_scale_off_target
    drawn = stats.gamma(behaviour.dwell_shape, scale=scale)
    probabilities = np.zeros(synthetic.num_items)
    dwell, left = 1, 1.0
    while left > 1e-13:
        beyond = drawn.sf(dwell + 0.5)  # all shorter ones round to 1 and more
        probabilities += (left - beyond) * reference(synthetic, row, dwell)
        dwell, left = dwell + 1, beyond
    return probabilities


@pytest.fixture(scope="module")
def small():
    behaviour = Behaviour(repeat=0.2, taste=0.05, repeat_sessions=2, dwell_power=1.0, successors_per_item=3)
    return generate_sessions(4, 30, 5, sessions_per_user=5, random_state=1, behaviour=behaviour)


@pytest.fixture(scope="module")
def sample(synthetic):
    """Return rows with a next event, the next items (from 0), and the true probabilities."""
    sessions = synthetic.log["session"].to_numpy()
    rows = np.flatnonzero(sessions[1:] == sessions[:-1])
    rows = np.random.RandomState(5).choice(rows, ROWS, replace=False)
    return rows, synthetic.log["item"].to_numpy()[rows + 1] - 1, synthetic.next_item_probabilities(rows)


def reciprocal_ranks(probabilities, targets, cutoff=20):
    """Return 1 / rank, with ties shared and 0 below the cutoff, (rows,)."""
    scores = probabilities[np.arange(len(targets)), targets][:, None]
    above = (probabilities > scores).sum(axis=1)
    equal = (probabilities == scores).sum(axis=1) - 1
    ranks = 1 + above + equal / 2
    return np.where(ranks <= cutoff, 1 / ranks, 0.0)


def test_equals_the_slow_reference(small, rows_with_next):
    rows = rows_with_next(small.log)
    expected = np.stack([reference(small, row) for row in rows])
    np.testing.assert_allclose(small.next_item_probabilities(rows), expected, atol=1e-12)


def test_known_equals_the_slow_reference(rows_with_next):
    settings = {"dwell_scale": 2.0, "dwell_scale_off_target": 1.0, "dwell_power": 1.5, "repeat": 0.2, "taste": 0.1}
    drawn = generate_sessions(4, 30, 5, sessions_per_user=5, random_state=1, behaviour=Behaviour(**settings))
    rows = rows_with_next(drawn.log)[:12]
    firsts = drawn.log["session"].to_numpy()[rows - 1] != drawn.log["session"].to_numpy()[rows]
    on_target = (
        drawn.item_categories[drawn.log["item"][rows] - 1] == drawn.session_targets[drawn.log["session"][rows] - 1]
    )
    assert firsts.any() and not firsts.all() and on_target.any() and not on_target.all()
    expected = np.stack([reference_of_known(drawn, row) for row in rows])
    found = drawn.next_item_probabilities(rows, dwell="known")
    np.testing.assert_allclose(found, expected, atol=1e-12)
    differences = np.abs(found - drawn.next_item_probabilities(rows)).max(axis=1)
    assert differences[firsts].max() < 1e-12 and differences[~firsts].max() > 0.01


def test_known_takes_no_notice_of_the_newest_dwell(small, rows_with_next):
    rows = rows_with_next(small.log)
    rows = rows[np.append(np.diff(rows) > 1, True)]  # the last one of each session
    longer = small.log.copy()
    longer.loc[rows + 1, "timestamp"] += 50.0
    moved = replace(small, log=longer)
    known, known_moved = (log.next_item_probabilities(rows, "known") for log in (small, moved))
    np.testing.assert_array_equal(known, known_moved)
    observed, observed_moved = (log.next_item_probabilities(rows) for log in (small, moved))
    assert np.abs(observed - observed_moved).max() > 0.01


@pytest.mark.parametrize("behaviour", [Behaviour(), Behaviour(dwell_shape=0.5, dwell_scale=2000.0)])
def test_dwells_are_distributed_as_they_are_drawn(behaviour):
    """Both ends are clipped: the second behaviour often draws below 1 and above 1800 seconds."""
    dwells, probabilities = dwell_distribution(behaviour)
    assert (dwells[0], dwells[-1], len(dwells)) == (1.0, 1800.0, 1800)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    for on_target in (0, 1):
        drawn = draw_dwells(behaviour, np.full(200_000, bool(on_target)), np.random.RandomState(3))
        found = np.bincount(drawn.astype(np.int64), minlength=1801)[1:]  # (dwells,)
        expected = 200_000 * probabilities[on_target]
        used = expected > 5
        squares = ((found - expected)[used] ** 2 / expected[used]).sum()
        assert abs(squares - used.sum()) < 5 * np.sqrt(2 * used.sum())


def test_the_share_of_the_newest_event_is_its_mean_over_draws(synthetic):
    earlier = np.array([0.0, 1e2, 1e5, 1e7, 1e5, 1e7])
    on_target = np.array([True, True, True, True, False, False])
    shares = expected_newest_shares(synthetic.behaviour, earlier, on_target)
    drawn = draw_dwells(synthetic.behaviour, np.repeat(on_target[:, None], 100_000, axis=1), np.random.RandomState(0))
    weights = drawn**synthetic.behaviour.dwell_power  # (rows, draws)
    found = weights / (weights + earlier[:, None])
    assert shares[0] == pytest.approx(1.0, abs=1e-14)
    assert (np.abs(found.mean(axis=1) - shares) <= 4.5 * found.std(axis=1) / np.sqrt(100_000) + 1e-14).all()


def test_rows_sum_to_one(small, rows_with_next, sample):
    rows = rows_with_next(small.log)
    for dwell in DWELL_RULES:
        sums = small.next_item_probabilities(rows, dwell=dwell).sum(axis=1)
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
    """Return how many standard deviations the log-likelihood is from its expectation."""
    logarithms = np.log(np.maximum(probabilities, 1e-300))
    expected = (probabilities * logarithms).sum(axis=1)
    variances = (probabilities * logarithms**2).sum(axis=1) - expected**2
    found = logarithms[np.arange(len(targets)), targets]
    return (found - expected).sum() / np.sqrt(variances.sum())


@pytest.fixture(scope="module")
def crowded():
    """Return a log of many events of few items, its rows with a next event, and the next items (from 0)."""
    drawn = generate_sessions(700, 200, 20, random_state=4)
    sessions = drawn.log["session"].to_numpy()
    rows = np.flatnonzero(sessions[1:] == sessions[:-1])
    return drawn, rows, drawn.log["item"].to_numpy()[rows + 1] - 1


@pytest.mark.parametrize("dwell", ["observed", "known"])
def test_the_likelihood_is_as_promised(crowded, dwell):
    drawn, rows, targets = crowded
    rows, targets = (rows[:12_000], targets[:12_000]) if dwell == "known" else (rows, targets)
    assert abs(surprise(drawn.next_item_probabilities(rows, dwell), targets)) < 3.5


def test_the_likelihood_is_as_promised_in_the_default_log(sample):
    _, targets, probabilities = sample
    assert abs(surprise(probabilities, targets)) < 3.5


@pytest.mark.parametrize("wrong", [{"dwell_power": 4.0}, {"anchor_decay": 0.6}, {"successor": 0.7}])
def test_a_wrong_oracle_does_not_keep_its_promise(crowded, wrong):
    """The control of the test above: it detects settings that the log was not drawn with."""
    drawn, rows, targets = crowded
    other = replace(drawn, behaviour=replace(drawn.behaviour, **wrong))
    assert abs(surprise(other.next_item_probabilities(rows), targets)) > 5


@pytest.mark.parametrize("wrong", [{"dwell_scale": 10.0, "dwell_scale_off_target": 7.0}, {"dwell_shape": 5.0}])
def test_a_wrong_distribution_of_dwell_does_not_keep_its_promise(crowded, wrong):
    """The control for 'known'."""
    drawn, rows, targets = crowded
    other = replace(drawn, behaviour=replace(drawn.behaviour, **wrong))
    assert abs(surprise(other.next_item_probabilities(rows[:6000], "known"), targets[:6000])) > 5


def test_dwell_makes_what_came_more_likely(synthetic, sample):
    rows, targets, probabilities = sample
    blind = synthetic.next_item_probabilities(rows, dwell="none")
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
    blind = synthetic.next_item_probabilities(rows, dwell="none")
    with_dwell = reciprocal_ranks(probabilities, targets).mean()
    without = reciprocal_ranks(blind, targets).mean()
    assert 0.38 <= with_dwell <= 0.48
    assert 0.29 <= without <= 0.39
    assert with_dwell > 1.15 * without


def test_the_newest_dwell_ranks_better_and_so_do_the_others(synthetic, sample):
    rows, targets, probabilities = sample
    observed, known, none = (
        reciprocal_ranks(table, targets).mean()
        for table in (probabilities, *(synthetic.next_item_probabilities(rows, rule) for rule in DWELL_RULES[1:]))
    )
    assert observed > 1.03 * known and known > 1.1 * none


def counted_rules(synthetic, rows, targets, is_training, dwell):
    """Return the MRR@20 of rules counted on the log's first part, with events weighted like anchors."""
    anchors = synthetic.anchor_probabilities(rows, dwell).toarray()  # (rows, items)
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
    with_dwell = counted_rules(drawn, rows, targets, is_training, "observed")
    without = counted_rules(drawn, rows, targets, is_training, "none")
    assert with_dwell > 1.1 * without


def test_wrong_rule(synthetic, refuses):
    refuses(lambda: synthetic.next_item_probabilities([0], dwell=True), "dwell is True", "observed, known, none")


def test_wrong_rows(synthetic, refuses):
    last = int(np.flatnonzero(np.diff(synthetic.log["session"]))[0])
    end = len(synthetic.log)
    refuses(lambda: synthetic.next_item_probabilities([0, last]), f"rows holds {last}", "last event")
    refuses(lambda: synthetic.next_item_probabilities([end - 1]), f"rows holds {end - 1}", "last event")
    refuses(lambda: synthetic.next_item_probabilities([end]), f"rows holds {end}", f"0 to {end - 1}")
    refuses(lambda: synthetic.next_item_probabilities([-1]), "rows holds -1")
    refuses(lambda: synthetic.next_item_probabilities([0.5]), "float64", "positions")
    refuses(lambda: synthetic.next_item_probabilities(0), "shape ()")
