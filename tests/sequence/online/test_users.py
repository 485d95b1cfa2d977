"""Live sessions by key equal single sessions, are dropped when there are too many, and can be saved."""

import numpy as np
import pytest

from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online import users as live_users
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.serialization.models import load_sessions, save_sessions


@pytest.fixture(scope="module")
def model():
    draw = np.random.RandomState(0)
    rows = SessionSequences(
        draw.randint(1, 10, size=(20, 6)),
        user_ids=np.arange(1, 21),
        item_vocabulary=Vocabulary([f"i{number}" for number in range(1, 10)]),
        user_vocabulary=Vocabulary(range(100, 120)),
    )
    options = {"hidden_dim": 6, "pointer": True}
    return ASARSSequenceModel(embedding_dim=6, n_iter=1, random_state=0, representation_options=options).fit(rows)


@pytest.fixture
def events():
    """Events of 7 keys in turn: (key, user, item, seconds)."""
    draw = np.random.RandomState(1)
    keys = draw.randint(7, size=60)
    return [
        (f"k{key}", 100 + key, f"i{item}", 40.0 * step)
        for step, (key, item) in enumerate(zip(keys.tolist(), draw.randint(1, 10, size=60).tolist(), strict=True))
    ]


def alone(model, events, key):
    """Return the answer of a single session with a key's events."""
    own = [event for event in events if event[0] == key]
    session = model.session(own[0][1])
    for _, _, item, seconds in own:
        session.observe(item, seconds)
    return session.recommend(5, return_scores=True)


def same(found, wanted):
    return [item for item, _ in found] == [item for item, _ in wanted] and np.allclose(
        [score for _, score in found], [score for _, score in wanted], atol=1e-5
    )


@pytest.mark.parametrize("size", [2, 64])
def test_each_key_equals_a_single_session(model, events, size, monkeypatch):
    monkeypatch.setattr(live_users, "BLOCK_SIZE", size)
    users = LiveUsers(model)
    for key, user, item, seconds in events:
        users.observe(key, item, seconds, user)
    assert len(users) == 7 and "k3" in users and "k9" not in users
    for key in {event[0] for event in events}:
        assert same(users.recommend(key, 5), alone(model, events, key))


def test_the_least_recently_updated_session_is_dropped(model, events):
    users = LiveUsers(model, most=3)
    users.observe("a", "i1", 0.0, 100)
    users.observe("b", "i2", 1.0, 101)
    users.observe("c", "i3", 2.0, 102)
    users.observe("a", "i4", 3.0)
    users.observe("d", "i5", 4.0, 103)
    assert len(users) == 3 and "b" not in users
    wanted = model.session(103)
    wanted.observe("i5", 4.0)
    assert same(users.recommend("d", 5), wanted.recommend(5, return_scores=True))
    wanted = model.session(100)
    wanted.observe("i1", 0.0)
    wanted.observe("i4", 3.0)
    assert same(users.recommend("a", 5), wanted.recommend(5, return_scores=True))


def test_the_latest_time_counts_unknown_items(model):
    users = LiveUsers(model)
    assert users.latest("a") is None
    users.observe("a", "i1", 10.0)
    users.observe("a", "unknown", 12.0)
    assert users.latest("a") == 12.0


def test_spotlights_cnn_takes_many_users():
    """Regression: its convolutions refused the empty batch that checks the model."""
    rows = SessionSequences(np.random.RandomState(0).randint(1, 10, size=(20, 6)))
    users = LiveUsers(ASARSSequenceModel(representation="cnn", embedding_dim=6, n_iter=1, random_state=0).fit(rows))
    users.observe("a", 3, 10.0)
    assert len(users.recommend("a", 5)) == 5


@pytest.mark.parametrize("most", [3, 100])
def test_saved_sessions_continue(model, events, most, tmp_path):
    users, whole = LiveUsers(model, most), LiveUsers(model, most)
    keys = {event[0] for event in events}
    for place, (key, user, item, seconds) in enumerate(events):
        if place in (0, 30):
            save_sessions(users, tmp_path / "live.h5")
            users = load_sessions(tmp_path / "live.h5", model)
            assert len(users) == len(whole) and users.most == most
        users.observe(key, item, seconds, user)
        whole.observe(key, item, seconds, user)
        assert users.recommend(key, 5) == whole.recommend(key, 5)
        assert [key in users for key in keys] == [key in whole for key in keys]


def test_a_refused_event_changes_nothing(model, refuses):
    users = LiveUsers(model, most=2)
    users.observe("a", "i1", 10.0)
    before = users.recommend("a", 5)
    refuses(lambda: users.observe("a", "i2", 9.0), "time runs backwards", "'a'")
    refuses(lambda: users.observe("b", "i2", float("nan")), "nan")
    refuses(lambda: users.observe("b", ["i2"], 1.0), "cannot be numbered")
    assert len(users) == 1 and users.recommend("a", 5) == before
    for _ in range(200):  # slots of refused events are reused
        refuses(lambda: users.observe("c", "i1", float("inf")), "inf")
    assert users.state().parts.keys() == {"block_0", "keys"}
    users.observe("b", "i2", 11.0)
    assert len(users) == 2
    refuses(lambda: users.recommend("c"), "nothing was seen of 'c'")
    refuses(lambda: LiveUsers(model, most=0), "at least 1")


def test_a_session_id_begins_a_session(model):
    """As in a single session, and otherwise than without it."""
    users, session = LiveUsers(model), model.session(103)
    for step, name in enumerate(["mon", "mon", "tue", "tue"]):
        users.observe("k", f"i{step + 1}", 10.0 * step, 103, session_id=name)
        users.observe("other", f"i{step + 1}", 10.0 * step, 103)
        session.observe(f"i{step + 1}", 10.0 * step, session_id=name)
    found = users.recommend("k", 5)
    assert same(found, session.recommend(5, return_scores=True)) and not same(found, users.recommend("other", 5))


def test_the_same_event_in_another_session_is_no_duplicate(model):
    users = LiveUsers(model)
    assert [users.observe("k", "i1", 5.0, session_id=name) for name in ("mon", "mon", "tue")] == [True, False, True]
