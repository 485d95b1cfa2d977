"""Negative sampling and the users' histories, against loops and exact probabilities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars import sampling
from spotlight_asars.errors import InputError
from spotlight_asars.sampling import PopularitySampler, SeenItems, log_local_share, sample_local_items

moderate = settings(max_examples=60, deadline=None)


def seen_items(pairs, num_users, num_items):
    """SeenItems of (user, item) pairs."""
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return SeenItems(users, items, num_users, num_items)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def histories(seen, user_ids):
    """The history of each user in SeenItems, as lists."""
    rows, items = seen.of(torch.tensor(user_ids, dtype=torch.long))
    return [sorted(items[rows == row].tolist()) for row in range(len(user_ids))]


def assert_in_proportion(drawn, weights):
    """Chi-square of draws against exact probabilities; nothing of weight zero may be drawn."""
    counts = np.bincount(drawn.flatten().numpy(), minlength=len(weights))
    weights = np.array(weights, dtype=np.float64)
    assert len(counts) == len(weights) and not counts[weights == 0].any()
    expected = counts.sum() * (weights / weights.sum())[weights > 0]
    statistic = ((counts[weights > 0] - expected) ** 2 / expected).sum()
    freedom = len(expected) - 1
    assert expected.min() > 50
    # Four standard deviations above the mean of the chi-square distribution.
    assert statistic <= freedom + 4 * np.sqrt(2 * freedom)


def test_histories_worked_by_hand():
    pairs = [(2, 5), (1, 3), (2, 5), (0, 4), (2, 1), (4, 6), (4, 0)]
    seen = seen_items(pairs, num_users=6, num_items=7)
    assert histories(seen, [2, 0, 3, 1, 2, 5]) == [[1, 5], [], [], [3], [1, 5], []]
    assert seen.popularity.tolist() == [0, 1, 0, 1, 1, 2, 1]  # anonymous events count, padding does not


@moderate
@given(
    pairs=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8)), max_size=40),
    user_ids=st.lists(st.integers(0, 5), max_size=7),
    dtype=st.sampled_from([np.int32, np.int64]),
)
def test_histories_and_popularity_equal_the_loop(pairs, user_ids, dtype):
    users, items = np.array(pairs, dtype=dtype).reshape(-1, 2).T
    seen = SeenItems(users, items, num_users=6, num_items=9)
    expected = [sorted({item for user, item in pairs if user == wanted and user > 0}) for wanted in user_ids]
    assert histories(seen, user_ids) == expected
    rows, flat = seen.of(torch.tensor(user_ids, dtype=torch.long))
    assert rows.dtype == flat.dtype == torch.int64
    assert rows.tolist() == sorted(rows.tolist())
    assert seen.popularity.tolist() == [sum(item == wanted for _, item in pairs) for wanted in range(9)]


def test_ids_beyond_32_bits_when_multiplied():
    num_users, num_items = 100_001, 100_000  # the last pair is about 1e10
    seen = SeenItems(np.array([100_000, 1], np.int32), np.array([99_999, 99_999], np.int32), num_users, num_items)
    assert histories(seen, [100_000, 1, 99_999]) == [[99_999], [99_999], []]


@st.composite
def batches(draw):
    """Items (batch, time) with padding anywhere, users, the log's pairs; eight users, twenty items."""
    batch, time = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    row = st.lists(st.integers(0, 19), min_size=time, max_size=time)
    items = draw(st.lists(row, min_size=batch, max_size=batch).filter(lambda rows: any(map(any, rows))))
    users = draw(st.lists(st.integers(0, 7), min_size=batch, max_size=batch))
    pairs = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 19)), max_size=60))
    return items, users, pairs


@moderate
@given(case=batches(), num_negative_samples=st.integers(1, 5), seed=st.integers(0, 1000))
def test_never_padding_nor_the_row_nor_the_history(case, num_negative_samples, seed):
    items, users, pairs = case
    seen = seen_items(pairs, 8, 20)
    negatives, fallbacks = sample_local_items(
        torch.tensor(items), torch.tensor(users), seen, num_negative_samples, generator(seed)
    )
    assert negatives.dtype == torch.int64
    assert negatives.shape == (num_negative_samples, len(items), len(items[0]))
    in_batch = {item for row in items for item in row} - {0}
    expected_fallbacks = 0
    for row, (row_items, user) in enumerate(zip(items, users, strict=True)):
        excluded = {0, *row_items} | {item for owner, item in pairs if owner == user and user > 0}
        drawn = set(negatives[:, row].flatten().tolist())
        if in_batch <= excluded:
            expected_fallbacks += 1
            in_log = {item for _, item in pairs} - excluded
            anything = set(range(20)) - excluded
            if anything:
                assert drawn <= (in_log or anything)
            else:
                for time, target in enumerate(row_items):
                    assert not {0, target} & set(negatives[:, row, time].tolist())
        else:
            assert drawn <= in_batch - excluded
        assert 0 not in drawn and max(drawn) < 20
    assert fallbacks == expected_fallbacks


def test_draws_are_in_proportion_to_popularity_in_the_mini_batch():
    # Popularity in the log is the opposite.
    seen = seen_items([(1, 5)] + [(2, 3)] * 90 + [(2, 4)] * 90, num_users=4, num_items=8)
    items = torch.tensor([[0, 1, 1, 2], [5, 5, 5, 5], [2, 3, 0, 5], [6, 6, 6, 2]])
    users = torch.tensor([1, 0, 2, 0])
    negatives, fallbacks = sample_local_items(items, users, seen, 5000, generator())
    assert fallbacks == 0
    # In the batch: item 1 twice, 2 three times, 3 once, 5 five times, 6 three times.
    assert_in_proportion(negatives[:, 0], [0, 0, 0, 1, 0, 0, 3, 0])  # user 1 has item 5
    assert_in_proportion(negatives[:, 1], [0, 2, 3, 1, 0, 0, 3, 0])
    assert_in_proportion(negatives[:, 2], [0, 2, 0, 0, 0, 0, 3, 0])
    assert_in_proportion(negatives[:, 3], [0, 2, 0, 1, 0, 5, 0, 0])
    for time in range(4):  # at each position, padding or not
        assert_in_proportion(negatives[:, 1, time], [0, 2, 3, 1, 0, 0, 3, 0])


def test_draws_of_a_row_are_independent():
    items = torch.tensor([[1, 2], [3, 4]])
    negatives, _ = sample_local_items(items, torch.tensor([0, 0]), seen_items([], 1, 5), 8000, generator(1))
    pairs = 2 * (negatives[:, 0, 0] - 3) + (negatives[:, 0, 1] - 3)  # both positions of a sample
    assert_in_proportion(pairs, [1, 1, 1, 1])
    successive = 2 * (negatives[:-1:2, 1, 0] - 1) + (negatives[1::2, 1, 0] - 1)
    assert_in_proportion(successive, [1, 1, 1, 1])


def test_whoever_has_all_of_the_mini_batch_draws_by_global_popularity():
    pairs = [(1, 1), (1, 2), (1, 7)] + [(2, 3)] * 6 + [(2, 4)] * 3 + [(0, 5)] + [(2, 7)] * 50
    seen = seen_items(pairs, num_users=3, num_items=9)  # nobody has items 6 and 8
    items = torch.tensor([[1, 2, 0], [0, 1, 1]])
    negatives, fallbacks = sample_local_items(items, torch.tensor([1, 0]), seen, 4000, generator())
    assert fallbacks == 1
    assert negatives.shape == (4000, 2, 3)
    assert_in_proportion(negatives[:, 0], [0, 0, 0, 6, 3, 1, 0, 0, 0])
    assert_in_proportion(negatives[:, 1], [0, 0, 1, 0, 0, 0, 0, 0, 0])


def test_items_that_nobody_has_come_before_those_of_the_history():
    # Regression: with no popular item left, all items were drawn from, including the user's own.
    seen = seen_items([(1, 1), (1, 2), (1, 3)], num_users=2, num_items=7)
    negatives, fallbacks = sample_local_items(torch.tensor([[1, 2]]), torch.tensor([1]), seen, 4000, generator())
    assert fallbacks == 1
    assert_in_proportion(negatives, [0, 0, 0, 0, 1, 1, 1])


def test_whoever_has_every_item_draws_uniformly_from_all_but_the_target():
    seen = seen_items([(1, item) for item in range(1, 5)] * 3, num_users=2, num_items=5)
    items = torch.tensor([[1, 4, 2, 0]])
    negatives, fallbacks = sample_local_items(items, torch.tensor([1]), seen, 4000, generator())
    assert fallbacks == 1
    assert_in_proportion(negatives[:, 0, 0], [0, 0, 1, 1, 1])
    assert_in_proportion(negatives[:, 0, 1], [0, 1, 1, 1, 0])
    assert_in_proportion(negatives[:, 0, 2], [0, 1, 0, 1, 1])
    assert not (negatives[:, 0, 3] == 0).any()


def test_each_row_that_falls_back_is_counted_and_drawn_by_its_own_history():
    pairs = [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 4)]
    seen = seen_items(pairs, num_users=4, num_items=5)
    items = torch.tensor([[1, 2], [2, 1], [1, 1]])
    negatives, fallbacks = sample_local_items(items, torch.tensor([1, 2, 3]), seen, 300, generator())
    assert fallbacks == 2
    assert set(negatives[:, 0].flatten().tolist()) == {3, 4}
    assert set(negatives[:, 1].flatten().tolist()) == {4}
    assert set(negatives[:, 2].flatten().tolist()) == {2}


def test_a_row_of_padding_draws_from_the_others():
    seen = seen_items([], num_users=1, num_items=4)
    items = torch.tensor([[0, 0], [1, 3]])
    negatives, fallbacks = sample_local_items(items, torch.tensor([0, 0]), seen, 50, generator())
    assert fallbacks == 1  # the second row excludes all but item 2
    assert set(negatives[:, 0].flatten().tolist()) == {1, 3}
    assert set(negatives[:, 1].flatten().tolist()) == {2}


def test_a_log_of_one_item_is_an_error():
    seen = seen_items([(1, 1)], num_users=2, num_items=2)
    with pytest.raises(InputError, match="only one item"):
        sample_local_items(torch.tensor([[1, 1]]), torch.tensor([1]), seen, 3)


def test_of_two_items_both_seen_the_other_one_is_drawn():
    seen = seen_items([(1, 1), (1, 2)], num_users=2, num_items=3)
    drawn, _ = sample_local_items(torch.tensor([[1, 2, 1]]), torch.tensor([1]), seen, 4)
    assert drawn.squeeze(1).tolist() == [[2, 1, 2]] * 4


def test_a_mini_batch_of_padding_is_an_error():
    with pytest.raises(InputError, match="only padding"):
        sample_local_items(torch.zeros(2, 3, dtype=torch.long), torch.tensor([0, 0]), seen_items([], 1, 4), 3)


def test_the_generator_alone_decides():
    pairs = [(1, 1), (1, 2), (2, 3), (3, 4)]
    seen = seen_items(pairs, num_users=4, num_items=9)
    items, users = torch.tensor([[1, 2, 0], [3, 4, 4]]), torch.tensor([1, 0])
    only = torch.tensor([[1, 2, 2]]), torch.tensor([1])  # this one falls back
    for arguments in ((items, users), only):
        torch.manual_seed(0)
        first, _ = sample_local_items(*arguments, seen, 40, generator(5))
        torch.manual_seed(1)
        assert torch.equal(sample_local_items(*arguments, seen, 40, generator(5))[0], first)
        assert not torch.equal(sample_local_items(*arguments, seen, 40, generator(6))[0], first)
        torch.manual_seed(7)
        by_global, _ = sample_local_items(*arguments, seen, 40)
        torch.manual_seed(7)
        assert torch.equal(sample_local_items(*arguments, seen, 40)[0], by_global)


def test_the_generator_alone_decides_where_every_item_is_had():
    seen = seen_items([(1, 1), (1, 2), (1, 3)], num_users=2, num_items=4)
    arguments = torch.tensor([[1, 2]]), torch.tensor([1]), seen, 40
    torch.manual_seed(0)
    first, _ = sample_local_items(*arguments, generator(5))
    torch.manual_seed(1)
    assert torch.equal(sample_local_items(*arguments, generator(5))[0], first)


def test_what_is_given_is_left_as_it_was():
    seen = seen_items([(1, 1), (1, 2), (2, 3)], num_users=3, num_items=5)
    popularity, items, users = seen.popularity.clone(), torch.tensor([[1, 2]]), torch.tensor([1])
    sample_local_items(items, users, seen, 3, generator())
    assert torch.equal(seen.popularity, popularity)
    assert (items.tolist(), users.tolist()) == ([[1, 2]], [1])


def test_the_share_of_a_draw_is_by_popularity_among_what_the_row_may_draw():
    # Popularity 4, 1, 2, 3 of items 1 to 4; user 1 has item 4.
    seen = SeenItems(np.array([0] * 7 + [1] * 3), np.array([1, 1, 1, 1, 2, 3, 3, 4, 4, 4]), num_users=2, num_items=6)
    items = torch.tensor([[0, 2], [3, 3], [1, 2]])
    users = torch.tensor([0, 1, 0])
    found = log_local_share(items, users, seen, torch.tensor([0, 1, 1, 2]), torch.tensor([[1, 1, 2, 3], [4, 2, 5, 5]]))
    by_hand = [[4 / 9, 4 / 5, 1 / 5, 2 / 5], [3 / 9, 1 / 5, 1 / 5, 1 / 5]]  # 5 is not in the log and counts once
    torch.testing.assert_close(found, torch.log(torch.tensor(by_hand)))


def test_the_share_of_a_draw_is_uniform_where_nothing_of_the_log_is_left():
    seen = SeenItems(np.array([1, 1, 2, 2, 2]), np.array([1, 2, 1, 2, 3]), num_users=3, num_items=5)
    items, users = torch.tensor([[1, 3], [2, 4]]), torch.tensor([1, 2])
    # The first row draws item 4, which is not in the log; the second has the whole catalogue, and draws all but 2.
    found = log_local_share(items, users, seen, torch.tensor([0, 1]), torch.tensor([[4, 1], [4, 3]]))
    torch.testing.assert_close(found, torch.log(torch.tensor([[1.0, 1 / 3], [1.0, 1 / 3]])))


def test_draws_over_many_mini_batches_have_that_share():
    """A mini-batch of few rows rarely holds a rare item; within it, the item's share is far larger."""
    popularity = np.array([0, 60, 20, 15, 5])
    seen = SeenItems(np.zeros(100, dtype=int), np.repeat(np.arange(5), popularity), num_users=1, num_items=5)
    counts, number = np.zeros((5, 5)), 4000
    draw = generator()
    for items in torch.multinomial(torch.tensor(popularity / 100), 3 * number, True, generator=draw).view(number, 3, 1):
        negatives, _ = sample_local_items(items, torch.zeros(3, dtype=torch.long), seen, 2, draw)
        np.add.at(counts, (items[:, 0], negatives[..., 0]), 1)
    for item in range(1, 5):
        others = torch.tensor([other for other in range(1, 5) if other != item])[:, None]
        share = log_local_share(torch.tensor([[item]]), torch.tensor([0]), seen, torch.tensor([0]), others).exp()
        found = counts[item, others[:, 0]] / counts[item].sum()
        np.testing.assert_allclose(found, share[:, 0], atol=0.03)


class TestPopularitySampler:
    # Items 0 (the padding), 1, 4 and 6 have no popularity: at the beginning, in the middle and at the end.
    popularity = torch.tensor([0, 0, 9, 1, 0, 4, 0])

    @pytest.mark.parametrize(
        ("alpha", "weights"),
        [
            (1.0, [0, 0, 9, 1, 0, 4, 0]),
            (0.5, [0, 0, 3, 1, 0, 2, 0]),
            (0.0, [0, 0, 1, 1, 0, 1, 0]),
            (2.0, [0, 0, 81, 1, 0, 16, 0]),
        ],
    )
    def test_draws_are_in_proportion_to_a_power_of_popularity(self, alpha, weights):
        sampler = PopularitySampler(self.popularity, alpha)
        drawn = sampler.draw(20_000, generator())
        assert drawn.dtype == torch.int64 and drawn.shape == (20_000,)
        assert_in_proportion(drawn, weights)
        shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
        torch.testing.assert_close(sampler.log_share(torch.arange(7)).double().exp(), shares)

    @moderate
    @given(
        popularity=st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any),
        alpha=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    )
    def test_the_ends_of_the_unit_interval_are_items_with_popularity(self, popularity, alpha):
        """A uniform draw of 0 gives the first item with popularity, and one just below 1 the last."""
        sampler = PopularitySampler(torch.tensor([0, *popularity]), alpha)
        ends = torch.tensor([0.0, np.nextafter(1.0, 0.0)], dtype=torch.float64)
        there = 1 + np.flatnonzero(popularity)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling.torch, "rand", lambda *shape, **options: ends)
            assert sampler.draw(2).tolist() == [there[0], there[-1]]
        shares = sampler.log_share(torch.arange(len(popularity) + 1)).double().exp()
        assert shares.sum().item() == pytest.approx(1.0, abs=1e-5)
        assert np.flatnonzero(shares).tolist() == there.tolist()

    def test_each_item_has_its_share_of_the_interval(self):
        """With shares 9/14, 1/14 and 4/14, a boundary belongs to the item after it."""
        cut = torch.tensor([0.0, 8.9, 9.0, 9.9, 10.0, 13.9], dtype=torch.float64) / 14
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling.torch, "rand", lambda *shape, **options: cut)
            assert PopularitySampler(self.popularity, 1.0).draw(6).tolist() == [2, 2, 3, 3, 5, 5]

    def test_large_and_unequal_popularity(self):
        """In single precision the rare item's share of the running sum would be lost."""
        sampler = PopularitySampler(torch.tensor([0, 10**9, 1, 10**9]), 1.0)
        border = torch.tensor([(10**9 + 0.5) / (2 * 10**9 + 1)], dtype=torch.float64)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling.torch, "rand", lambda *shape, **options: border)
            assert sampler.draw(1).tolist() == [2]

    def test_the_generator_alone_decides_and_what_is_given_stays(self):
        popularity = self.popularity.clone()
        sampler = PopularitySampler(popularity, 0.5)
        first = sampler.draw(40, generator(5))
        assert torch.equal(sampler.draw(40, generator(5)), first)
        assert not torch.equal(sampler.draw(40, generator(6)), first)
        assert torch.equal(popularity, self.popularity)

    def test_shares_have_the_shape_of_the_items(self):
        sampler = PopularitySampler(self.popularity.float(), 1.0)
        torch.testing.assert_close(
            sampler.log_share(torch.tensor([[2, 0], [3, 5]])),
            torch.tensor([[9 / 14, 0.0], [1 / 14, 4 / 14]]).log(),
        )
