"""``recommend`` of the systems that are no nets: it gives what evaluation ranks by, with raw ids."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.channels import ITEM, SESSION_START, TARGET, TIME, TIME_ORIGIN
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules
from spotlight_asars.sequence.recommender.base import best_items, with_unknown_target
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets


def two_stage(dwell):
    members = [Member(lambda epochs: SessionMemory(dwell)), Member(lambda epochs: VSTAN())]
    return TwoStageRanker(members, dwell, ranking=RankingNets(epochs=2))


@pytest.mark.parametrize("items", [1, 5, 400, 403])
@pytest.mark.parametrize("k", [1, 3, 20, 1000])
def test_best_items_are_the_first_of_all_in_order(items, k):
    draw = np.random.RandomState(items)
    scores = draw.randint(items, size=(6, items)).astype(np.float32)  # many are equal
    scores[1], scores[2, draw.rand(items) < 0.5], scores[3, 1:] = 7.0, -np.inf, -np.inf
    for row, (numbers, values) in zip(scores, best_items(scores, k), strict=True):
        order = np.argsort(-row, kind="stable")[:k]
        order = order[row[order] > -np.inf]
        np.testing.assert_array_equal(numbers, order + 1)
        np.testing.assert_array_equal(values, row[order])


SYSTEMS = {
    "memory": SessionMemory,
    "memory_observed": lambda: SessionMemory("observed"),
    "two_stage": lambda: two_stage("known"),
    "two_stage_observed": lambda: two_stage("observed"),
    "popularity": Popularity,
    "rules": SequentialRules,
    "vstan": VSTAN,
}


@pytest.fixture(scope="module")
def rows():
    """20 users, three sessions of four items each; raw ids are strings, times those of 2014."""
    random_state = np.random.RandomState(0)
    items = (random_state.randint(15, size=(60, 1)) + random_state.randint(3, size=(60, 4)).cumsum(axis=1)) % 15
    seconds = random_state.randint(5, 200, size=(60, 4)).cumsum(axis=1) + np.tile([0, 9000, 18000], 20)[:, None]
    log = {
        "user": [f"user {u}" for u in np.repeat(np.arange(20), 12)],
        "item": [f"item {i}" for i in items.ravel()],
        "timestamp": seconds.ravel() + 1.4e9,
    }
    return to_session_sequences(SessionInteractions.from_log(pd.DataFrame(log)))


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request, rows):
    return SYSTEMS[request.param]().fit(rows)


def asked(rows, target):
    """What ``recommend`` is given before a target of these rows: keywords."""
    event = np.flatnonzero(rows.events[:, TARGET])[target]
    row = int(np.searchsorted(rows.offsets, event, side="right")) - 1
    before = rows.events[rows.offsets[row] : event]
    return {
        "items": rows.item_vocabulary.inverse(before[:, ITEM]).tolist(),
        "timestamps": (before[:, TIME] + float(TIME_ORIGIN)).tolist(),
        "user": rows.user_vocabulary.inverse(rows.user_ids[row : row + 1])[0],
        "now": float(rows.events[event, TIME]) + TIME_ORIGIN,
    }


class TestAgreement:
    def test_with_what_evaluation_ranks_by(self, system, rows):
        """Under 'observed', now is the moment of the target, up to which the newest event was dwelt on."""
        scores = system.item_scores(system.target_states(rows)).numpy()
        for target in range(0, len(scores), 11):
            found = dict(system.recommend(**asked(rows, target), k=100, return_scores=True))
            expected = dict(zip(rows.item_vocabulary.raw_ids, scores[target], strict=True))
            assert found.keys() == expected.keys()
            np.testing.assert_allclose([found[raw] for raw in expected], list(expected.values()), atol=1e-5)

    def test_best_first_and_k_of_them(self, system, rows):
        pairs = system.recommend(**asked(rows, 40), k=15, return_scores=True)
        values = [value for _, value in pairs]
        assert values == sorted(values, reverse=True)
        assert system.recommend(**asked(rows, 40), k=3) == [raw for raw, _ in pairs[:3]]

    def test_several_as_each_alone(self, system, rows):
        requests = [asked(rows, target) for target in (3, 50, 77)]
        lists = {name: [one[name] for one in requests] for name in requests[0]}
        together = system.recommend(**lists, k=15, return_scores=True)
        for one, found in zip(requests, together, strict=True):
            alone = dict(system.recommend(**one, k=15, return_scores=True))
            np.testing.assert_allclose([value for _, value in found], [alone[raw] for raw, _ in found], atol=1e-5)

    def test_lingering_counts_only_when_observed(self, system, rows):
        request = asked(rows, 5)
        newest = request["timestamps"][-1]
        short, long = (
            dict(system.recommend(**{**request, "now": newest + waited}, k=15, return_scores=True))
            for waited in (1.0, 190.0)
        )
        assert (short == long) == (system.dwell != "observed")

    def test_seen_items_can_be_left_out(self, system, rows):
        request = asked(rows, 5)
        left = system.recommend(**request, k=100, exclude_seen=True)
        kept = [raw for raw in system.recommend(**request, k=100) if raw not in request["items"]]
        assert len(left) == len(kept) == 15 - len(set(request["items"])) and set(left) == set(kept)


class TestRawIds:
    def test_unknown_items_and_users_are_left_out(self, system):
        found = system.recommend(["item 3", "nothing", "item 4"], user="nobody", k=15, return_scores=True)
        assert found == system.recommend(["item 3", "item 4"], k=15, return_scores=True)

    def test_nothing_known(self, system):
        with pytest.warns(UserWarning, match="knows none of the 1 items"):
            found = system.recommend(["nothing"], k=4)
        assert found == system.recommend([], k=4) and len(found) == 4
        together = system.recommend([[], ["item 3"], []], k=4)
        assert together[0] == together[2] == found

    def test_without_raw_ids_the_numbers_are_the_ids(self):
        rows = SessionSequences(np.array([[1, 2, 3], [1, 2, 1]] * 4))
        for make in SYSTEMS.values():
            assert sorted(make().fit(rows).recommend([1, 2])) == [1, 2, 3]

    def test_wrong_input_is_refused(self, system, refuses):
        refuses(lambda: system.recommend(["item 3"], k=0), "k is 0")
        refuses(lambda: system.recommend("item 3"), "a list of raw ids")
        refuses(lambda: system.recommend(["item 3"], [1.0, 2.0]), "1 items and 2 timestamps")
        refuses(lambda: SessionMemory().recommend(["item 3"]), "call fit first")


class TestWithUnknownTarget:
    def test_one_at_the_end_of_each_row(self, rows):
        some = rows.rows([0, 1])
        longer = with_unknown_target(some)
        assert longer.lengths.tolist() == (some.lengths + 1).tolist()
        last = longer.offsets[1:] - 1
        np.testing.assert_array_equal(np.delete(longer.events, last, axis=0)[:, ITEM], some.events[:, ITEM])
        np.testing.assert_array_equal(longer.session_ids[last], longer.session_ids[last - 1])
        assert longer.events[last, TARGET].all() and not longer.events[last, SESSION_START].any()

    def test_an_empty_row_begins_a_session_of_its_own(self, rows):
        some = rows.rows([0])
        holding = SessionSequences.from_flat(
            np.array([0, 0, len(some.events), len(some.events)]),
            some.events,
            some.session_ids,
            np.zeros(3, dtype=np.int32),
            some.max_sequence_length,
            like=some,
            binning=some.binning,
            gap_binning=some.gap_binning,
        )
        longer = with_unknown_target(holding)
        assert longer.lengths.tolist() == [1, len(some.events) + 1, 1]
        assert longer.events[[0, -1], SESSION_START].all()
        assert len({longer.session_ids[0], longer.session_ids[-1], *some.session_ids}) == 2 + 3
