"""Ranks, metrics, bootstrap intervals and paired tests, against slow loops and known cases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import (
    CUTOFFS,
    Ranks,
    bootstrap_means,
    confidence_interval,
    metrics,
    paired_test,
    rank_targets,
)
from spotlight_asars.interactions.sequences import SessionSequences

moderate = settings(max_examples=40, deadline=None)


class Table:
    """A system with a table of scores, (targets, items), which records the sizes of the requests."""

    def __init__(self, scores):
        self.scores = torch.as_tensor(scores)
        self.asked = []

    def target_states(self, sequences):
        return torch.arange(len(self.scores))

    def item_scores(self, states):
        self.asked.append(len(states))
        return self.scores[states]


class LastItem:
    """A system that scores items by how near their number is to the last item's."""

    def target_states(self, sequences):
        last = [
            sequences.sequences[row, column - 1]
            for row in range(len(sequences))
            for column in np.flatnonzero(sequences.targets[row])
        ]
        return torch.tensor(last, dtype=torch.float64)

    def item_scores(self, states):
        return -(torch.arange(1, 7, dtype=torch.float64) - states[:, None]).abs()  # (targets, items)


def make_sequences():
    """Two rows, left-padded; the first holds two sessions; six items."""
    return SessionSequences(
        np.array([[0, 0, 3, 3, 5, 6, 1], [0, 0, 0, 0, 0, 2, 4]]),
        session_starts=np.array([[0, 0, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 1, 0]], dtype=bool),
        num_items=7,
    )


def rank_by_loop(scores, item):
    own = scores[item - 1]
    rank = 1.0
    for other, score in enumerate(scores, start=1):
        if other != item:
            rank += 1.0 if score > own else 0.5 if score == own else 0.0
    return rank


def one_session(items, num_items):
    """A first event, then all of `items` as targets."""
    return SessionSequences(np.array([[1, *items]]), num_items=num_items)


def test_ranks_worked_by_hand():
    ranks = rank_targets(LastItem(), make_sequences())
    # After 3: item 3 is first. After 3: item 5 is below 3, 2, 4 and ties with 1. After 6: item 1 is last.
    # After 2: item 4 is below 2, 1, 3.
    assert ranks.ranks.tolist() == [1.0, 4.5, 6.0, 4.0]
    assert ranks.session_ids.tolist() == [0, 0, 1, 2]
    assert ranks.ranks.dtype == np.float64 and len(ranks) == 4
    values = metrics(ranks, cutoffs=(1, 4, 5, None))
    assert values == pytest.approx(
        {
            "mrr@1": 0.25,
            "recall@1": 0.25,
            "mrr@4": (1 + 1 / 4) / 4,
            "recall@4": 0.5,
            "mrr@5": (1 + 1 / 4.5 + 1 / 4) / 4,
            "recall@5": 0.75,
            "mrr@all": (1 + 1 / 4.5 + 1 / 6 + 1 / 4) / 4,
        }
    )


@moderate
@given(
    seed=st.integers(0, 10**6),
    items=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    levels=st.sampled_from([1, 2, 5, 1000]),
    memory_mib=st.sampled_from([1e-9, 3 * 120 / 2**20, 256.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_ranks_equal_the_loop_for_any_ties_and_blocks(seed, items, levels, memory_mib, dtype):
    scores = np.random.RandomState(seed).randint(levels, size=(len(items), 9)) / 2.0
    system = Table(torch.tensor(scores, dtype=dtype))
    ranks = rank_targets(system, one_session(items, 10), memory_mib)
    assert ranks.ranks.tolist() == [rank_by_loop(row, item) for row, item in zip(scores, items, strict=True)]
    size = {1e-9: 1, 256.0: len(items)}.get(memory_mib, min(3, len(items)))
    assert max(system.asked) == size and sum(system.asked) == len(items)


class Vectors:
    """A system with a large catalogue, which records the bytes of each block of scores."""

    num_users = 1

    def __init__(self, num_items):
        self.items, self.blocks, self.asked = torch.arange(num_items - 1, dtype=torch.float32), [], []

    def target_states(self, sequences):
        return torch.ones(sequences.num_targets, 1)

    def item_scores(self, states):
        scores = states * self.items  # (targets, items)
        self.blocks.append(scores.nbytes)
        self.asked.append(len(states))
        return scores


class Largest(TorchDispatchMode):
    """Records the bytes of the largest result of a torch operation."""

    nbytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        if isinstance(given, torch.Tensor):
            self.nbytes = max(self.nbytes, given.nbytes)
        return given


@pytest.mark.parametrize("memory_mib", [1.0, 8.0, 64.0])
def test_memory_is_bounded_whatever_the_catalogue(memory_mib):
    num_items = 200_001
    system = Vectors(num_items)
    items = [1, 200_000, 77] * 20
    with Largest() as largest:
        ranks = rank_targets(system, one_session(items, num_items), memory_mib)
    assert ranks.ranks.tolist() == [200_001.0 - item for item in items]
    # Scores take a third of the limit, but a block has at least one target.
    assert max(system.blocks) <= max(memory_mib * 2**20 / 3, 4 * num_items)
    assert largest.nbytes == max(system.blocks)  # no intermediate result of the ranking is larger
    assert sum(system.asked) == len(items)


def test_blocks_are_no_larger_than_a_cache_holds_but_share_the_items():
    few, many = Vectors(1_001), Vectors(100_001)
    rank_targets(few, one_session([1, 2] * 1000, 1_001))
    rank_targets(many, one_session([1, 2] * 50, 100_001))
    assert max(few.blocks) <= 4 * 2**20 and len(few.blocks) == 2
    assert many.asked == [64, 36]


def test_a_constant_scorer_gets_what_ties_deserve():
    items = list(range(1, 10)) * 3
    ranks = rank_targets(Table(np.full((27, 9), 0.1)), one_session(items, 10))
    assert ranks.ranks.tolist() == [5.0] * 27  # the middle of nine, whichever the target is
    assert metrics(ranks, (4, 5, None)) == pytest.approx(
        {"mrr@4": 0.0, "recall@4": 0.0, "mrr@5": 0.2, "recall@5": 1.0, "mrr@all": 0.2}
    )


@pytest.mark.parametrize("best", [True, False])
def test_a_perfect_and_a_worst_scorer(best):
    items = [3, 1, 9, 4]
    scores = np.zeros((4, 9))
    scores[np.arange(4), np.array(items) - 1] = 1.0 if best else -1.0
    assert rank_targets(Table(scores), one_session(items, 10)).ranks.tolist() == [1.0 if best else 9.0] * 4


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 4), (2, 0)], ids=["another item", "the target"])
@pytest.mark.parametrize("memory_mib", [1e-9, 256.0])
def test_scores_that_are_not_finite_are_an_error(wrong, place, memory_mib):
    scores = np.zeros((3, 5))
    scores[place] = wrong
    with pytest.raises(ValueError, match="not finite"):
        rank_targets(Table(scores), one_session([1, 2, 1], 6), memory_mib)


@pytest.mark.parametrize("scale", [3e38, 1e308, 1e-40, 5e-324])
def test_the_largest_and_the_smallest_finite_scores_are_told_apart(scale):
    """Sums and differences of such scores overflow or lose digits, so they cannot be ranked by them."""
    dtype = torch.float64 if scale in (1e308, 5e-324) else torch.float32
    scores = torch.tensor([[2, 3, 2, 1, 3, -2, 0]] * 7, dtype=dtype) * (scale / (3 if scale > 1 else 1))
    found = rank_targets(Table(scores), one_session([1, 2, 3, 4, 5, 6, 7], 8)).ranks
    assert found.tolist() == [3.5, 1.5, 3.5, 5.0, 1.5, 7.0, 6.0]


@pytest.mark.parametrize("states", [0, 1, 3])
def test_a_system_with_other_targets_is_an_error(states):
    # Regression: with one target in the last block, too many states gave ranks of targets that do not exist.
    with pytest.raises(ValueError, match=f"states for {states} targets: there are 2"):
        rank_targets(Table(np.zeros((states, 5))), one_session([1, 2], 6), memory_mib=1e-9)


def test_scores_for_other_than_what_was_asked_are_an_error():
    system = Table(np.zeros((2, 5)))
    system.item_scores = lambda states: torch.zeros(3, 5)
    with pytest.raises(ValueError, match="scores for 3 targets: it was asked for 1"):
        rank_targets(system, one_session([1, 2], 6), memory_mib=1e-9)


def test_nothing_to_predict_is_an_error():
    with pytest.raises(InputError, match="no event is to be predicted"):
        rank_targets(Table(np.zeros((0, 3))), SessionSequences(np.array([[0, 1], [0, 2]]), num_items=4))


def test_a_system_may_know_more_items_than_the_rows_have():
    """Regression: ranks counted the items of the rows, so with fewer of these they were 0."""
    scores = np.arange(8.0)[None].repeat(2, axis=0)
    items = [3, 5]
    for num_items in (6, 9):
        ranks = rank_targets(Table(scores), one_session(items, num_items))
        assert ranks.ranks.tolist() == [rank_by_loop(row, item) for row, item in zip(scores, items, strict=True)]


def test_only_targets_are_ranked_and_sessions_named():
    targets = np.array([[0, 0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0, 1]], dtype=bool)
    whole = make_sequences()
    sequences = SessionSequences(whole.sequences, None, 7, session_starts=whole.session_starts, targets=targets)
    ranks = rank_targets(LastItem(), sequences)
    assert (ranks.ranks.tolist(), ranks.session_ids.tolist()) == ([4.5, 6.0, 4.0], [0, 1, 2])


def test_padding_does_not_move_a_rank():
    whole = make_sequences()
    wider = np.pad(whole.sequences, ((0, 0), (4, 0)))
    starts = np.pad(whole.session_starts, ((0, 0), (4, 0)))
    padded = SessionSequences(wider, num_items=7, session_starts=starts)
    assert rank_targets(LastItem(), padded).ranks.tolist() == rank_targets(LastItem(), whole).ranks.tolist()


@moderate
@given(ranks=st.lists(st.integers(2, 120).map(lambda twice: twice / 2), min_size=1, max_size=30))
def test_metrics_never_fall_as_the_cutoff_grows(ranks):
    ranks = Ranks(np.array(ranks), np.zeros(len(ranks), dtype=np.int64))
    values = metrics(ranks, (1, 5, 10, 20, 30, 40, None))
    mrr = [value for name, value in values.items() if name.startswith("mrr")]
    recall = [value for name, value in values.items() if name.startswith("recall")]
    assert mrr == sorted(mrr) and recall == sorted(recall)
    assert all(0.0 <= m <= r <= 1.0 for m, r in zip(mrr, [*recall, 1.0], strict=True))
    for cutoff in (1, 20):
        loop = [(1 / rank if rank <= cutoff else 0.0) for rank in ranks.ranks]
        assert values[f"mrr@{cutoff}"] == pytest.approx(sum(loop) / len(loop))
        assert ranks.reciprocal(cutoff).tolist() == loop


def test_the_cutoffs_of_the_protocol():
    values = metrics(Ranks(np.array([1.0]), np.array([0])))
    assert CUTOFFS == (10, 20, 30, 40, None)
    named = [f"{metric}@{cutoff}" for cutoff in (10, 20, 30, 40) for metric in ("mrr", "recall")]
    assert sorted(values) == sorted([*named, "mrr@all"])
    assert all(type(value) is float for value in values.values())


@moderate
@given(
    pairs=st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(-3, 3)), min_size=1, max_size=15),
    seed=st.integers(0, 100),
)
def test_bootstrap_means_equal_the_loop(pairs, seed):
    values, session_ids = (np.array(column) for column in zip(*pairs, strict=True))
    sessions = sorted(set(session_ids.tolist()))
    random_state = np.random.RandomState(seed)
    expected = []
    for _ in range(10):
        drawn = [sessions[draw] for draw in random_state.randint(len(sessions), size=len(sessions))]
        sample = [value for wanted in drawn for value, session in pairs if session == wanted]
        expected.append(sum(sample) / len(sample))
    np.testing.assert_allclose(bootstrap_means(values, session_ids, 10, seed), expected, atol=1e-12)


def test_targets_of_a_session_move_together():
    # Two sessions, of 3 and 1 targets: only these means can occur, whatever is drawn.
    means = bootstrap_means(np.array([0.0, 1.0, 0.5, 1.0]), np.array([9, 9, 9, 4]), resamples=400)
    np.testing.assert_array_equal(np.unique(means), [0.5, 0.625, 1.0])
    assert 0.4 < (means == 0.625).mean() < 0.6  # one of each: half of the draws


def test_sessions_that_agree_within_make_intervals_wider():
    random_state = np.random.RandomState(0)
    values = np.repeat(random_state.uniform(size=100), 9)  # nine equal targets a session
    together = confidence_interval(values, np.repeat(np.arange(100), 9))
    apart = confidence_interval(values, np.arange(900))
    ratio = (together[1] - together[0]) / (apart[1] - apart[0])
    assert ratio == pytest.approx(3.0, rel=0.15)


def test_intervals_are_quantiles_around_the_mean_and_of_the_right_width():
    values = np.random.RandomState(1).normal(size=400)
    session_ids = np.arange(400)
    low, high = confidence_interval(values, session_ids, resamples=10_000)
    means = sorted(bootstrap_means(values, session_ids, resamples=10_000))
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    error = values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error)
    narrow = confidence_interval(values, session_ids, level=0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high
    assert type(low) is float


def test_the_seed_of_an_interval_draws_its_resamples():
    values, session_ids = np.random.RandomState(0).uniform(size=60), np.arange(60)
    assert confidence_interval(values, session_ids) == confidence_interval(values, session_ids, seed=0)
    assert confidence_interval(values, session_ids) != confidence_interval(values, session_ids, seed=1)
    other = values[::-1]
    assert paired_test(values, other, session_ids) == paired_test(values, other, session_ids, seed=0)


def test_intervals_of_constants_and_hits():
    session_ids = np.array([0, 0, 1, 2])
    assert confidence_interval(np.full(4, 0.25), session_ids) == (0.25, 0.25)
    hits = Ranks(np.array([1.0, 30.0, 2.0, 50.0]), session_ids).hits(20)
    low, high = confidence_interval(hits, session_ids)
    assert 0.0 <= low < hits.mean() < high <= 1.0


def test_the_seed_decides():
    values, session_ids = np.random.RandomState(2).uniform(size=50), np.arange(50) // 3
    np.random.seed(0)
    first = bootstrap_means(values, session_ids, seed=3)
    np.random.seed(1)
    np.testing.assert_array_equal(bootstrap_means(values, session_ids, seed=3), first)
    assert not np.array_equal(bootstrap_means(values, session_ids, seed=4), first)
    # Session ids do not matter, only which targets share one.
    renamed = bootstrap_means(values, session_ids * 1000 - 5, seed=3)
    np.testing.assert_array_equal(renamed, first)


def test_identical_systems_do_not_differ():
    values = np.random.RandomState(3).uniform(size=60)
    result = paired_test(values, values.copy(), np.arange(60) // 2)
    assert (result.difference, result.interval, result.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_a_clear_winner_wins_and_the_sign_is_first_less_second():
    random_state = np.random.RandomState(4)
    second = random_state.uniform(size=200)
    first = second + 0.1 + 0.05 * random_state.normal(size=200)
    session_ids = np.arange(200) // 2
    result = paired_test(first, second, session_ids)
    assert result.difference == pytest.approx((first - second).mean())
    assert 0 < result.interval[0] < result.difference < result.interval[1]
    assert result.p_value == 2 / 1000  # no resample on the other side: at most 1 / resamples, two-sided
    turned = paired_test(second, first, session_ids)
    assert turned.difference == -result.difference and turned.p_value == result.p_value
    assert turned.interval == pytest.approx((-result.interval[1], -result.interval[0]))


@pytest.mark.parametrize("shift", [0.0, 0.15])
def test_the_p_value_equals_the_loop(shift):
    random_state = np.random.RandomState(5)
    first, second = random_state.normal(size=(2, 90))
    first += shift
    session_ids = np.arange(90) // 3
    result = paired_test(first, second, session_ids, resamples=500, seed=6)
    means = bootstrap_means(first - second, session_ids, 500, 6)
    below, above = sum(m <= 0 for m in means), sum(m >= 0 for m in means)
    assert result.p_value == pytest.approx(min(1.0, 2 * min(below, above) / 500))
    assert 0.05 < result.p_value < 1.0
    assert result.interval == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert paired_test(first, second, session_ids, resamples=500, seed=6) == result


def test_hits_of_two_systems_can_be_compared():
    first, second = np.array([True, True, True, False]), np.array([False, True, False, False])
    assert paired_test(first, second, np.arange(4)).difference == 0.5


def test_p_values_of_equal_systems_are_uniform_enough():
    # Under no difference, 5 % of p-values lie below .05, by session and not by target.
    random_state = np.random.RandomState(7)
    session_ids = np.repeat(np.arange(60), 5)
    p_values = []
    for _ in range(150):
        difference = np.repeat(random_state.normal(size=60), 5)  # the targets of a session agree
        p_values.append(paired_test(difference, np.zeros(300), session_ids, resamples=200).p_value)
    assert 0.01 < np.mean(np.array(p_values) < 0.05) < 0.11
    assert 0.4 < np.median(p_values) < 0.6


def test_systems_on_different_targets_cannot_be_compared():
    with pytest.raises(InputError, match="3 and 4 targets"):
        paired_test(np.zeros(3), np.zeros(4), np.arange(4))
