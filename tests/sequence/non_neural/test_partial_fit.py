"""New events are added to a fitted system as if it had been fitted on all of them."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural import (
    STAN,
    VSKNN,
    VSTAN,
    Popularity,
    RepeatLast,
    SequentialRules,
    SessionMemory,
)
from spotlight_asars.sequence.non_neural.base import CountRecommender

COUNTING = {
    "popularity": Popularity(),
    "repeat_last": RepeatLast(),
    "sequential_rules": SequentialRules(steps=3),
    "vsknn": VSKNN(k=9, sample_size=12, idf_weight=1.5),
    "stan": STAN(k=9, sample_size=12),
    "vstan": VSTAN(k=9, sample_size=12),
}


def log_of(sessions, begin, seed):
    """Sessions of four to eight events, one every day from `begin` on, so that no two end at the same time."""
    draw = np.random.RandomState(seed)
    lengths = draw.randint(4, 9, size=sessions)
    session = np.repeat(np.arange(sessions), lengths) + begin
    place = np.concatenate([np.arange(length) for length in lengths])
    return pd.DataFrame(
        {
            "session": session,
            "item": [f"item {item}" for item in draw.randint(12, size=len(session))],
            "timestamp": 1.6e9 + 86_400.0 * session + 30.0 * place,
        }
    )


OLD = pd.concat([log_of(40, 0, seed=0), pd.DataFrame({"session": -1, "item": [f"item {item}" for item in range(12)],
                                                      "timestamp": 1.5e9 + np.arange(12.0)})])  # fmt: skip
NEW = log_of(25, 40, seed=1)
PROBES = [["item 3"], ["item 1", "item 7", "item 1", "item 4"], ["item 0", "item 11"]]


def rows_of(log):
    return to_session_sequences(SessionInteractions.from_log(log))


def answers(system):
    times = [1.61e9 + 20.0 * np.arange(len(probe)) for probe in PROBES]
    return [dict(found) for found in system.recommend(PROBES, times, k=100, return_scores=True)]


@pytest.mark.parametrize("name", COUNTING)
class TestJoinedLog:
    def test_equals_a_fit_on_all_events(self, name):
        whole = rows_of(pd.concat([OLD, NEW]))
        system = COUNTING[name].fit(rows_of(OLD))
        before = answers(system)
        added = answers(system.partial_fit(SessionInteractions.from_log(NEW)))
        wanted = answers(type(system)(**system.get_params()).fit(whole))
        assert before != added
        for found, one in zip(added, wanted, strict=True):
            assert found == pytest.approx(one, rel=1e-6)

    def test_in_parts_and_over_a_file(self, name):
        system = COUNTING[name].fit(rows_of(OLD))
        whole = answers(type(system).from_state(system.state()).partial_fit(SessionInteractions.from_log(NEW)))
        for part in (NEW[NEW["session"] < 50], NEW[NEW["session"] >= 50]):
            system = type(system).from_state(system.partial_fit(SessionInteractions.from_log(part)).state())
        for found, one in zip(answers(system), whole, strict=True):
            assert found == pytest.approx(one, rel=1e-6)


def test_new_sessions_come_later_among_equal_times():
    """Of two sessions that end at the same time one is a candidate, whichever came last."""
    tied = pd.DataFrame({"session": [0, 0, 1, 1], "item": list("abac"), "timestamp": [0.0, 9.0, 0.0, 9.0]})
    old, new = tied[tied["session"] == 1], tied[tied["session"] == 0]
    old = pd.concat([old, pd.DataFrame({"session": 9, "item": ["b"], "timestamp": [-9.0]})])
    system = VSTAN(k=1, sample_size=1).fit(rows_of(old))
    assert system.recommend(["a"], [10.0], k=2) == ["a", "c"]
    assert system.partial_fit(SessionInteractions.from_log(new)).recommend(["a"], [10.0], k=2) == ["a", "b"]


def test_the_memory_shares_new_targets_by_the_counts_it_had():
    memory = SessionMemory(rounds=1, steps=3).fit(rows_of(OLD))
    before = memory.state().arrays
    memory.partial_fit(SessionInteractions.from_log(NEW))
    after = memory.state().arrays

    number = {raw: place for place, raw in enumerate(memory.raw_items.raw_ids.tolist(), 1)}
    sessions = [own for _, own in NEW.groupby("session")]
    lag, dwell = before["weights"]["lag"][0], before["weights"]["dwell"][0]
    targets = before["target_counts"].copy()
    for own in sessions:
        np.add.at(targets, [number[item] for item in own["item"][1:]], 1)
    popular, old = targets / targets.sum(), before["transitions"].toarray()
    total = memory.smoothing / before["unseen"] - memory.smoothing
    counts = old * (total + memory.smoothing)[:, None]
    for own in sessions:
        items = [number[item] for item in own["item"]]
        bins = memory.binning.transform(np.append(np.diff(own["timestamp"]), np.nan))
        for end in range(1, len(items)):
            events = np.arange(max(0, end - 3), end)
            known = np.where(events == end - 1, UNKNOWN_BIN, bins[events])
            source = [items[event] for event in events]
            weight = np.exp(lag[end - events - 1] + dwell[known])
            weight *= [old[one, items[end]] + before["unseen"][one] * popular[items[end]] for one in source]
            np.add.at(counts, (source, items[end]), weight / weight.sum())
    wanted = counts / (counts.sum(axis=1) + memory.smoothing)[:, None]
    np.testing.assert_allclose(after["transitions"].toarray(), wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(after["popular"], popular, rtol=1e-12)
    np.testing.assert_array_equal(after["weights"]["lag"], before["weights"]["lag"])


def test_a_live_session_goes_on():
    system = SequentialRules().fit(rows_of(OLD))
    live = system.session()
    live.observe("item 3", 1.61e9)
    system.partial_fit(SessionInteractions.from_log(NEW))
    assert live.recommend(5, return_scores=True) == system.recommend(["item 3"], [1.61e9], k=5, return_scores=True)


class TestRefusals:
    def test_unknown_items_change_nothing(self, refuses):
        system = SequentialRules().fit(rows_of(OLD))
        before = answers(system)
        new = NEW.copy()
        new.loc[[3, 5], "item"] = ["thing", "other"]
        refuses(
            lambda: system.partial_fit(SessionInteractions.from_log(new)),
            f"2 of {len(new)} new events are of items that the model does not know, such as 'thing'",
        )
        assert answers(system) == before

    def test_rows_numbered_otherwise(self, refuses):
        system = SequentialRules().fit(rows_of(OLD))
        refuses(lambda: system.partial_fit(rows_of(NEW)), "another item_vocabulary")

    def test_before_it_is_fitted(self, refuses):
        refuses(lambda: SessionMemory().partial_fit(rows_of(NEW)), "not fitted yet")

    @pytest.mark.parametrize("system", [VSTAN(), SessionMemory(rounds=1)], ids=["vstan", "asars_memory"])
    def test_a_file_of_an_earlier_version(self, system, refuses):
        state = system.fit(rows_of(OLD)).state()
        for name in type(system).added_arrays:
            del state.arrays[name.removeprefix("_")]
        old = type(system).from_state(state)
        assert answers(old) == answers(system)
        refuses(lambda: old.partial_fit(SessionInteractions.from_log(NEW)), "earlier version", "fit it anew")
        assert answers(type(old).from_state(old.state())) == answers(old)

    def test_a_system_of_your_own(self, refuses):
        class Clicks(CountRecommender):
            def _count(self, items, sessions, times):
                pass

            def _block_scores(self, states):
                return np.zeros((len(states), self.num_items))

        own = Clicks().fit(rows_of(OLD))
        refuses(lambda: own.partial_fit(SessionInteractions.from_log(NEW)), "Clicks cannot add events")
