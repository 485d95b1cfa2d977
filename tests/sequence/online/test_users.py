"""Live sessions by key: equal to sessions of their own, however they share memory; forgotten, kept and refused."""

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
    """Of 7 keys, in turns: (key, user, item, seconds)."""
    draw = np.random.RandomState(1)
    keys = draw.randint(7, size=60)
    return [
        (f"k{key}", 100 + key, f"i{item}", 40.0 * step)
        for step, (key, item) in enumerate(zip(keys.tolist(), draw.randint(1, 10, size=60).tolist(), strict=True))
    ]


def alone(model, events, key):
    """The answer of a session of one's own."""
    own = [event for event in events if event[0] == key]
    session = model.session(own[0][1])
    for _, _, item, seconds in own:
        session.observe(item, seconds)
    return session.recommend(5, return_scores=True)


def same(found, wanted):
    return [item for item, _ in found] == [item for item, _ in wanted] and np.allclose(
        [score for _, score in found], [score for _, score in wanted], atol=1e-5
    )


@pytest.mark.parametrize("places", [2, 64])
def test_each_is_as_if_alone(model, events, places, monkeypatch):
    monkeypatch.setattr(live_users, "PLACES_A_BLOCK", places)
    users = LiveUsers(model)
    for key, user, item, seconds in events:
        users.observe(key, item, seconds, user)
    assert len(users) == 7 and "k3" in users and "k9" not in users
    for key in {event[0] for event in events}:
        assert same(users.recommend(key, 5), alone(model, events, key))


def test_who_was_silent_the_longest_is_forgotten(model, events):
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


@pytest.mark.parametrize("most", [3, 100])
def test_kept_in_a_file_they_go_on(model, events, most, tmp_path):
    users, whole = LiveUsers(model, most), LiveUsers(model, most)
    for place, (key, user, item, seconds) in enumerate(events):
        if place in (0, 30):
            save_sessions(users, tmp_path / "live.h5")
            users = load_sessions(tmp_path / "live.h5", model)
            assert len(users) == len(whole) and users.most == most
        users.observe(key, item, seconds, user)
        whole.observe(key, item, seconds, user)
        assert users.recommend(key, 5) == whole.recommend(key, 5)
    assert list(users._places) == list(whole._places)


def test_a_refused_event_leaves_no_trace(model, refuses):
    users = LiveUsers(model, most=2)
    users.observe("a", "i1", 10.0)
    before = users.recommend("a", 5)
    refuses(lambda: users.observe("a", "i2", 9.0), "time runs backwards", "'a'")
    refuses(lambda: users.observe("b", "i2", float("nan")), "nan")
    refuses(lambda: users.observe("b", ["i2"], 1.0), "cannot be numbered")
    assert len(users) == 1 and users.recommend("a", 5) == before
    for _ in range(200):  # places of refused events are used again
        refuses(lambda: users.observe("c", "i1", float("inf")), "inf")
    assert len(users._blocks) == 1
    users.observe("b", "i2", 11.0)
    assert len(users) == 2
    refuses(lambda: users.recommend("c"), "nothing was seen of 'c'")
    refuses(lambda: LiveUsers(model, most=0), "at least 1")
