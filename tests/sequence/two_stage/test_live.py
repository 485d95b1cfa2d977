"""Live sessions of two stages answer as `recommend` for the whole history, and go on after new events and restarts."""

import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSTAN
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.sequence.online import LiveSessions, LiveUsers
from spotlight_asars.sequence.representations.history_kernel import FEATURES
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.models import load_model, load_sessions, save_model, save_sessions

HOUR = 3600.0
NET_OPTIONS = {"pointer": True, "history_kernel": FEATURES, "hidden_dim": 6, "scope": "session", "user_dim": 3}


def log_of(users, events, seed=0, begin=1.6e9):
    draw = np.random.RandomState(seed)
    return pd.DataFrame(
        {
            "user": np.repeat(np.arange(100, 100 + users), events),
            "item": [f"item {item}" for item in draw.randint(18, size=users * events)],
            "timestamp": np.tile(np.cumsum(draw.choice([20.0, 90.0, 400.0, 3 * HOUR], size=events)), users) + begin,
        }
    )


def rows_of(log):
    return to_session_sequences(SessionInteractions.from_log(log))


def net(epochs, dwell):
    options = {"n_iter": epochs, "batch_size": 8, "random_state": 0, "representation_options": NET_OPTIONS}
    return ASARSSequenceModel(representation="asars_time_user", embedding_dim=5, dwell=dwell, **options)


@pytest.fixture(scope="module", params=["known", "observed"])
def ranker(request):
    dwell = request.param
    members = [
        Member(lambda epochs: net(epochs, dwell), 2),
        Member(lambda epochs: SessionMemory(dwell, steps=4, rounds=1)),
        Member(lambda epochs: VSTAN(k=6, sample_size=12)),
        Member(lambda epochs: SequentialRules()),
    ]
    return TwoStageRanker(members, dwell, candidates=9, ranking=RankingNets(nets=2, epochs=3)).fit(
        rows_of(log_of(12, 25))
    )


def history(seed: int, events: int = 30):
    """Return items, some unknown and many repeated, and times with pauses that end sessions."""
    draw = np.random.RandomState(seed)
    items = [f"item {item}" for item in draw.choice([1, 1, 2, 3, 5, 8, 13, 99], size=events)]
    return items, np.cumsum(draw.choice([0.0, 15.0, 60.0, 700.0, 5 * HOUR], size=events, p=[0.2] * 5)) + 1.7e9


def of_whole(system, items, times, now=None, user=None):
    """Scores of all items in the order of their numbers, from the whole history."""
    found = dict(system.recommend(list(items), list(times), user, k=100, now=now, return_scores=True))
    return [found[item] for item in system.raw_items.raw_ids.tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_after_every_event(ranker, seed):
    items, times = history(seed)
    live = ranker.session(103)
    np.testing.assert_allclose(live.scores(), of_whole(ranker, [], [], user=103), atol=2e-5)
    for end in range(1, len(items) + 1):
        live.observe(items[end - 1], times[end - 1])
        if set(items[:end]) == {"item 99"}:
            continue
        for now in (None, times[end - 1] + 75.0):
            whole = of_whole(ranker, items[:end], times[:end], now, user=103)
            np.testing.assert_allclose(live.scores(now), whole, atol=2e-5)


def test_a_batch_equals_single_sessions(ranker):
    together, alone = LiveSessions(ranker, [103, None]), [ranker.session(103), ranker.session()]
    (items, times), (others, later) = history(3), history(4)
    for place in range(12):
        together.observe([items[place], others[place]], [times[place], later[place]])
        alone[0].observe(items[place], times[place])
        alone[1].observe(others[place], later[place])
    np.testing.assert_allclose(together.scores(), np.stack([one.scores() for one in alone]), atol=2e-5)


def test_users_go_on_after_a_restart(ranker, tmp_path):
    items, times = history(2)
    users = LiveUsers(ranker)
    for place, (item, time) in enumerate(zip(items, times, strict=True)):
        users.observe(place % 3, item, time)
        if place == 14:
            save_sessions(users, tmp_path / "live.h5")
            save_model(ranker, tmp_path / "model.h5")
            users = load_sessions(tmp_path / "live.h5", load_model(tmp_path / "model.h5"))
    for key in range(3):
        found, whole = dict(users.recommend(key, 9)), of_whole(ranker, items[key::3], times[key::3])
        for item, score in found.items():
            assert score == pytest.approx(whole[ranker.raw_items.transform([item])[0] - 1], abs=2e-5)


def test_sessions_are_of_one_ranking(ranker, tmp_path, refuses):
    live = LiveUsers(ranker)
    live.observe("somebody", "item 1", 1.7e9)
    save_sessions(live, tmp_path / "live.h5")
    save_model(ranker, tmp_path / "model.h5")
    other = load_model(tmp_path / "model.h5")
    with torch.no_grad():
        other.fitted_ranking.fitted[0].linear.weight += 1.0
    refuses(lambda: load_sessions(tmp_path / "live.h5", other), "other weights or ids")


def test_before_the_fit_and_with_a_member_without_live_sessions(refuses, chain_rows):
    class Silent(SequentialRules):
        has_live_sessions = False

    refuses(TwoStageRanker([Member(lambda epochs: SequentialRules())]).session, "not fitted yet")
    refuses(TwoStageRanker([Member(lambda epochs: Silent())]).fit(chain_rows()).session, "has no live sessions")


class TestPartialFit:
    """Members that count, and the popularity, are as after a fit on all events; nets and ranking stay."""

    @pytest.fixture
    def counting(self):
        members = [Member(lambda epochs: VSTAN()), Member(lambda epochs: SequentialRules())]
        return TwoStageRanker(members, ranking=RankingNets(nets=1, epochs=2))

    def test_members_take_them_as_they_do_alone(self, counting):
        old, new = rows_of(log_of(12, 25)), SessionInteractions.from_log(log_of(12, 25, seed=1, begin=1.65e9))
        counting.fit(old).partial_fit(new)
        probe = (["item 3", "item 4", "item 3"], [1.7e9, 1.7e9 + 9, 1.7e9 + 20])
        for own, alone in zip(counting.systems, (VSTAN(), SequentialRules()), strict=True):
            assert of_whole(own, *probe) == of_whole(alone.fit(old).partial_fit(new), *probe)

    def test_live_sessions_go_on(self, counting):
        counting.fit(rows_of(log_of(12, 25)))
        live = counting.session()
        live.observe("item 3", 1.7e9)
        before = live.scores()
        counting.partial_fit(SessionInteractions.from_log(log_of(12, 25, seed=1, begin=1.65e9)))
        np.testing.assert_allclose(live.scores(), of_whole(counting, ["item 3"], [1.7e9]), atol=2e-5)
        assert (live.scores() - before).abs().max() > 1e-3

    def test_unknown_items_change_nothing(self, counting, refuses):
        counting.fit(rows_of(log_of(12, 25)))
        before = of_whole(counting, ["item 3"], [1.7e9])
        new = pd.DataFrame({"user": 1, "item": ["item 3", "no item"], "timestamp": [1.7e9, 1.7e9 + 5]})
        refuses(lambda: counting.partial_fit(SessionInteractions.from_log(new)), "the model does not know")
        assert of_whole(counting, ["item 3"], [1.7e9]) == before
