"""Scores out of a fitted model: predict with numbers, recommend with raw ids, and what evaluation asks for."""

import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars import host
from spotlight_asars.cross_validation import filter_support, time_based_split
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel


@pytest.fixture
def log():
    """20 users, two sessions of four items each; raw ids are strings."""
    random_state = np.random.RandomState(0)
    sessions = 40
    items = (random_state.randint(15, size=(sessions, 1)) + np.arange(4)) % 15
    seconds = random_state.randint(5, 200, size=(sessions, 4)).cumsum(axis=1) + np.tile([0, 9000], 20)[:, None]
    return pd.DataFrame(
        {
            "user": [f"user {u}" for u in np.repeat(np.arange(20), 8)],
            "item": [f"item {i}" for i in items.ravel()],
            "timestamp": seconds.ravel().astype(float),
        }
    )


@pytest.fixture
def rows(log):
    rows = to_session_sequences(SessionInteractions.from_log(log))
    assert rows.binning.num_bins == 7
    return rows


@pytest.fixture(params=["known", "observed"])
def model(request, rows):
    settings = {"n_iter": 4, "batch_size": 4, "random_state": 0, "dwell": request.param}
    return ASARSSequenceModel(**settings).fit(rows)


class TestPredict:
    def test_one_and_many(self, model):
        assert model.predict([1, 2]).shape == (16,)
        assert model.predict([[1, 2]]).shape == (16,)
        assert model.predict([[1, 2], [3, 4]]).shape == (2, 16)
        assert model.predict([[1, 2], [3, 4]], [5, 6, 7]).shape == (2, 3)

    def test_users_and_dwell_count(self, model):
        plain = model.predict([1, 2, 3])
        assert not np.allclose(plain, model.predict([1, 2, 3], user_ids=4))
        assert not np.array_equal(plain, model.predict([1, 2, 3], dwell=[5, 2, 3]))
        several = model.predict([[1, 2, 3], [1, 2, 3]], user_ids=[4, 0])
        np.testing.assert_allclose(several[1], plain, atol=1e-6)
        np.testing.assert_allclose(several[0], model.predict([1, 2, 3], user_ids=4), atol=1e-6)

    def test_the_newest_dwell_counts_only_when_observed(self, model):
        same = np.array_equal(model.predict([1, 2], dwell=[3, 2]), model.predict([1, 2], dwell=[3, 6]))
        assert same == (model.dwell == "known")

    def test_dropout_is_off(self, model):
        model.net.train()
        np.testing.assert_array_equal(model.predict([1, 2]), model.predict([1, 2]))

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"sequences": [1, 99]}, "item id 99"),
            ({"sequences": [1, -1]}, "item id -1"),
            ({"sequences": [1], "item_ids": [99]}, "item id 99"),
            ({"sequences": [1], "user_ids": 99}, "user id"),
            ({"sequences": [1], "user_ids": -1}, "user id"),
            ({"sequences": [1, 2], "dwell": [1]}, "dwell has shape"),
            ({"sequences": [1, 2], "dwell": [1, 5000]}, "dwell bin"),
            ({"sequences": [1, 2], "dwell": [-1, 2]}, "dwell bin"),
            ({"sequences": [1.7, 2.0]}, "item numbers"),
            ({"sequences": [[1, 2], [3, 4]], "user_ids": [1, 2, 3]}, "2 sequences and user_ids"),
            ({"sequences": [1, 2], "session_starts": [1]}, "session_starts has shape"),
        ],
    )
    def test_wrong_input_is_named(self, model, arguments, named):
        with pytest.raises(ValueError, match=named):
            model.predict(**arguments)

    def test_before_fit(self):
        for call in (lambda m: m.predict([1]), lambda m: m.recommend(["a"]), lambda m: m.target_states(None)):
            with pytest.raises(ValueError, match="call fit first"):
                call(ASARSSequenceModel())


class TestRecommend:
    def test_agrees_with_predict(self, model):
        items = ["item 3", "item 4"]
        numbers = model.item_vocabulary.transform(items)
        user = model.user_vocabulary.transform(["user 7"])[0]
        scores = model.predict(numbers, user_ids=user)
        expected = model.item_vocabulary.inverse(np.argsort(-scores[1:])[:5] + 1).tolist()
        assert model.recommend(items, user="user 7", k=5) == expected
        pairs = model.recommend(items, user="user 7", k=5, return_scores=True)
        assert [raw for raw, _ in pairs] == expected
        np.testing.assert_allclose([s for _, s in pairs], np.sort(scores[1:])[::-1][:5], atol=1e-6)

    def test_times_become_dwell(self, model):
        items, times = ["item 3", "item 4", "item 5"], [0.0, 30.0, 100.0]
        numbers = model.item_vocabulary.transform(items)
        bins = model.binning.transform(np.array([30.0, 70.0, np.nan]))
        expected = np.sort(model.predict(numbers, dwell=bins)[1:])[::-1]
        found = [score for _, score in model.recommend(items, times, return_scores=True)]
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_sessions_are_cut_as_in_the_rows_fitted_on(self, log):
        """With a gap of 50 seconds, a pause of 60 leaves the dwell before it unknown."""
        rows = to_session_sequences(SessionInteractions.from_log(log, session_gap=50.0))
        model = ASARSSequenceModel(n_iter=2, random_state=0).fit(rows)
        items = ["item 3", "item 4", "item 5"]
        paused = model.recommend(items, [0.0, 60.0, 70.0], return_scores=True)
        numbers = model.item_vocabulary.transform(items)
        bins = model.binning.transform(np.array([np.nan, 10.0, np.nan]))
        expected = np.sort(model.predict(numbers, dwell=bins, session_starts=[1, 1, 0])[1:])[::-1]
        np.testing.assert_allclose([score for _, score in paused], expected, atol=1e-6)

    def test_lingering_counts_only_when_observed(self, model):
        items, times = ["item 3", "item 4"], [0.0, 30.0]
        short, long = (model.recommend(items, times, now=now, return_scores=True) for now in (31.0, 200.0))
        assert (short == long) == (model.dwell == "known")

    def test_many_as_one(self, model):
        histories = [["item 3"], [], ["item 4", "item 5", "item 6"]]
        users = ["user 1", None, "a stranger"]
        together = model.recommend(histories, user=users, k=3)
        alone = [model.recommend(items, user=user, k=3) for items, user in zip(histories, users, strict=True)]
        assert together == alone

    def test_any_kind_of_list(self, model):
        expected = model.recommend(["item 3", "item 4"])
        column = pd.Series(["item 3", "item 4"], index=[7, 9])
        for items in (("item 3", "item 4"), np.array(["item 3", "item 4"]), column):
            assert model.recommend(items) == expected
            assert model.recommend([items, items]) == [expected, expected]
        times = [[0.0, 30.0], [0.0, 40.0]]
        one_moment = model.recommend([column, column], times, now=50.0)
        assert one_moment == model.recommend([column, column], times, now=[50.0, 50.0])

    def test_histories_of_unequal_length_have_their_own_times(self, model):
        histories, times = [["item 3", "item 4"], ["item 5"], []], [[0.0, 30.0], [5.0], []]
        together = model.recommend(histories, times)
        assert together == [model.recommend(one, when) for one, when in zip(histories, times, strict=True)]

    def test_unknown_items_and_users_are_left_out(self, model):
        assert model.recommend(["item 3", "nothing"], user="nobody") == model.recommend(["item 3"])

    def test_it_says_when_it_knows_nothing_of_what_was_asked(self, model):
        with pytest.warns(UserWarning, match="knows none of the 1 items given, such as 3"):
            answer = model.recommend([3])
        assert answer == model.recommend([])

    def test_seen_items_can_be_left_out(self, model):
        items = ["item 3", "item 4"]
        assert len(model.recommend(items, k=100)) == 15
        left = model.recommend(items, k=100, exclude_seen=True)
        assert len(left) == 13 and not set(left) & set(items)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ({"items": ["item 3"], "k": 0}, "k is 0"),
            ({"items": ["item 3"], "k": 2.0}, "k is 2.0"),
            ({"items": "item 3"}, "a list of raw ids"),
            ({"items": 7}, "a list of raw ids"),
            ({"items": ["item 3"], "timestamps": [1.0, 2.0]}, "1 items and 2 timestamps"),
            ({"items": ["item 3", "item 4"], "timestamps": [2.0, 1.0]}, "run backwards"),
            ({"items": ["item 3"], "timestamps": [1.6e12]}, "ms"),
            ({"items": [["item 3"]], "user": ["a", "b"]}, "1 requests and 2 entries of user"),
            ({"items": ["item 3"], "timestamps": [5.0], "now": 4.0}, "now lies before"),
            ({"items": [["item 3"], ["item 4"]], "user": "ab"}, "a single user"),
            ({"items": [["item 3"], ["item 4"]], "user": 7}, "a single user"),
        ],
    )
    def test_wrong_input_is_named(self, model, arguments, named):
        with pytest.raises(InputError, match=named):
            model.recommend(**arguments)

    def test_without_raw_ids_the_numbers_are_the_ids(self):
        model = ASARSSequenceModel(n_iter=1).fit(SessionSequences(np.array([[1, 2, 3], [2, 3, 1]])))
        assert model.recommend([1, 2], k=2) == (np.argsort(-model.predict([1, 2])[1:])[:2] + 1).tolist()

    def test_times_may_be_datetimes(self, model):
        items, seconds = ["item 3", "item 4"], [1.4e9, 1.4e9 + 30]
        moments = pd.to_datetime(seconds, unit="s")
        assert model.recommend(items, moments) == model.recommend(items, seconds)


class TestHostObjects:
    """What Spotlight's own classes hold is taken wherever ours is."""

    def test_interactions_are_filtered_and_split(self):
        random_state = np.random.RandomState(0)
        users, items = np.repeat(np.arange(1, 21), 20), random_state.randint(1, 6, size=400)
        times = np.tile(np.arange(20) // 4 * 10_000 + np.arange(20) % 4 * 60, 20) + users
        clicks = host.Interactions(users, items, timestamps=times)
        split = time_based_split(filter_support(clicks, 2, 2, 1))
        whole = SessionInteractions(users, items, timestamps=clicks.timestamps)
        ours = time_based_split(filter_support(whole, 2, 2, 1))
        np.testing.assert_array_equal(split.train.item_ids, ours.train.item_ids)
        np.testing.assert_array_equal(split.test.session_ids, ours.test.session_ids)

    def test_sequences_are_ranked(self):
        sequences = host.SequenceInteractions(np.array([[0, 1, 2], [3, 1, 2]]), num_items=4)
        model = ASARSSequenceModel(n_iter=1, random_state=0).fit(sequences)
        assert len(rank_targets(model, sequences)) == 3


class TestForEvaluation:
    def test_ranks_agree_with_predict(self, model, rows):
        """Each target's rank is what predict gives for the events before it."""
        ranks = rank_targets(model, rows).ranks
        by_hand = []
        for row in range(len(rows)):
            for step in np.flatnonzero(rows.targets[row]):
                scores = model.predict(
                    rows.sequences[row, :step], user_ids=rows.user_ids[row], dwell=rows.dwell[row, :step]
                )[1:]
                own = scores[rows.sequences[row, step] - 1]
                by_hand.append(1 + (scores > own).sum() + ((scores == own).sum() - 1) / 2)
        np.testing.assert_allclose(ranks, by_hand)

    def test_the_size_of_a_batch_moves_nothing(self, model, rows):
        states = model.target_states(rows)
        model._batch_size = 3
        torch.testing.assert_close(model.target_states(rows), states, atol=1e-6, rtol=1e-6)

    def test_a_model_beats_chance_on_what_it_learnt(self, rows):
        model = ASARSSequenceModel(n_iter=40, batch_size=4, random_state=0).fit(rows)
        assert metrics(rank_targets(model, rows))["mrr@20"] > 0.8  # chance: .22
