"""Live sessions of systems without a net answer as `recommend` for the whole history, after every event."""

import numpy as np
import pandas as pd
import pytest

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
from spotlight_asars.sequence.online import LiveSession, LiveSessions, LiveUsers
from spotlight_asars.serialization.models import load_sessions, save_sessions

HOUR = 3600.0
SYSTEMS = {
    "popularity": Popularity(),
    "repeat_last": RepeatLast(),
    "sequential_rules": SequentialRules(steps=3),
    "vsknn": VSKNN(k=6, sample_size=12),
    "vsknn, weights of the length": VSKNN(k=6, sample_size=12, weighting="logarithmic", idf_weight=2.0),
    "stan": STAN(k=6, sample_size=12),
    "vstan": VSTAN(k=6, sample_size=12),
    "asars_memory": SessionMemory(rounds=1, steps=4),
    "asars_memory, observed": SessionMemory(rounds=1, steps=4, dwell="observed"),
}


def log_of(users, events, seed=0):
    draw = np.random.RandomState(seed)
    return pd.DataFrame(
        {
            "user": np.repeat(np.arange(100, 100 + users), events),
            "item": [f"item {item}" for item in draw.randint(18, size=users * events)],
            "timestamp": np.tile(np.cumsum(draw.choice([20.0, 90.0, 400.0, 3 * HOUR], size=events)), users) + 1.6e9,
        }
    )


@pytest.fixture(scope="module")
def rows():
    return to_session_sequences(SessionInteractions.from_log(log_of(12, 25)))


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request, rows):
    return SYSTEMS[request.param].fit(rows)


def history(seed: int, events: int = 30):
    """Return items, some unknown and many repeated, and times with pauses that end sessions."""
    draw = np.random.RandomState(seed)
    items = [f"item {item}" for item in draw.choice([1, 1, 2, 3, 5, 8, 13, 99], size=events)]
    return items, np.cumsum(draw.choice([0.0, 15.0, 60.0, 700.0, 5 * HOUR], size=events, p=[0.2] * 5)) + 1.7e9


def of_whole(system, items, times, now=None):
    """Scores of all items in the order of their numbers, from the whole history."""
    found = dict(system.recommend(list(items), list(times), k=100, now=now, return_scores=True))
    return [found[item] for item in system.raw_items.raw_ids.tolist()]


class TestReplay:
    @pytest.mark.parametrize("seed", range(3))
    def test_after_every_event(self, system, seed):
        items, times = history(seed)
        live = system.session(103)
        np.testing.assert_allclose(live.scores(), of_whole(system, [], []), rtol=1e-6)
        for end in range(1, len(items) + 1):
            live.observe(items[end - 1], times[end - 1])
            if set(items[:end]) == {"item 99"}:
                continue
            for now in (None, times[end - 1] + 75.0):
                whole = of_whole(system, items[:end], times[:end], now)
                np.testing.assert_allclose(live.scores(now), whole, rtol=1e-6, atol=1e-12)

    def test_a_batch(self, system):
        """Sessions that advance in turn, with one begun anew, equal single sessions."""
        histories = [history(seed) for seed in range(4)]
        together, alone = LiveSessions(system, [None] * 4), [system.session() for _ in range(4)]
        draw, taken = np.random.RandomState(0), np.zeros(4, dtype=int)
        for step in range(40):
            if step == 20:
                together.restart([2], [None])
                alone[2] = system.session()
            chosen = [one for one in draw.permutation(4)[: draw.randint(1, 5)] if taken[one] < 30]
            events = [(histories[one][0][taken[one]], histories[one][1][taken[one]]) for one in chosen]
            if chosen:
                together.observe([item for item, _ in events], [time for _, time in events], sessions=chosen)
            for one, event in zip(chosen, events, strict=True):
                alone[one].observe(*event)
                taken[one] += 1
        wanted = np.stack([one.scores() for one in alone])
        np.testing.assert_allclose(together.scores(), wanted, rtol=1e-6, atol=1e-12)
        together.restart([1], [None])
        np.testing.assert_array_equal(together.scores(sessions=[1])[0], system.session().scores())

    def test_seen_items_are_left_out(self, system):
        items, times = history(1)
        live = system.session()
        for item, time in zip(items, times, strict=True):
            live.observe(item, time)
        assert live.recommend(100, exclude_seen=True) == system.recommend(items, times, k=100, exclude_seen=True)


class TestFiles:
    def test_users_go_on_after_a_restart(self, system, tmp_path):
        items, times = history(2)
        users = LiveUsers(system)
        for place, (item, time) in enumerate(zip(items, times, strict=True)):
            users.observe(place % 3, item, time)
            if place == 14:
                save_sessions(users, tmp_path / "live.h5")
                users = load_sessions(tmp_path / "live.h5", type(system).from_state(system.state()))
        for key in range(3):
            assert users.recommend(key, 5) == system.recommend(items[key::3], times[key::3], k=5, return_scores=True)

    def test_sessions_are_of_one_numbering(self, system, refuses):
        state = system.session().state()
        other = to_session_sequences(SessionInteractions.from_log(log_of(12, 25, seed=1)))
        state.settings["model"] = type(system)(**system.get_params()).fit(other)
        refuses(lambda: LiveSession.from_state(state), "other weights or ids")


class TestRefusals:
    def test_before_it_is_fitted(self, refuses):
        refuses(VSTAN().session, "not fitted yet")
        refuses(lambda: LiveSessions(SessionMemory(), []), "not fitted yet")

    def test_after_another_fit(self, rows, refuses):
        rules = SequentialRules().fit(rows)
        live = rules.session()
        live.observe("item 1", 1.7e9)
        rules.fit(to_session_sequences(SessionInteractions.from_log(log_of(12, 25, seed=1))))
        refuses(live.recommend, "fitted anew", "begin new ones")

    def test_a_system_of_your_own_says_that_it_has_them(self, rows, refuses):
        class Clicks(CountRecommender):
            def _count(self, items, sessions, times):
                self.clicks = np.bincount(items, minlength=self.num_items)

            def _block_scores(self, states):
                return np.tile(self.clicks, (len(states), 1)).astype(float)

        own = Clicks().fit(rows)
        refuses(own.session, "Clicks has no live sessions")
        Clicks.has_live_sessions = True
        assert own.session().recommend(5) == own.recommend([], k=5)
