"""Live sessions answer like `recommend` for the whole history, after every event."""

import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online.scores import SessionItems
from spotlight_asars.sequence.online.sessions import LiveSession, LiveSessions
from spotlight_asars.sequence.representations.history_kernel import FEATURES
from spotlight_asars.sequence.representations.registry import representation_names

ASARS = [name for name in representation_names() if name.startswith("asars_")]
OPTIONS = {
    "scopes of sessions, GRU": {"scope": "session", "hidden_scope": "session", "recurrent": "gru"},
    "recency and weights of dwell": {"recency": True, "dwell_weight": True, "dwell_input": True},
    "context": {"context": ("session_gap", "session_duration", "hour", "weekday")},
    "recency inside sessions": {"recency": True, "scope": "session", "recurrent": "gru"},
}
SHAPES = {
    "mean of a window": ("youtube_dnn", {"window": 3, "layers": 1}),
    "short steps": ("asars_time_user", {"projection_scale": 0.1}),
    "no residual": ("asars_time_att", {"residual": False, "recurrent": "gru"}),
    "dwell as input": ("asars_time_user", {"dwell_input": True, "dwell_weight": True, "hidden_scope": "session"}),
    "dwell as input, with context": ("asars_time_cat", {"context": ("hour",), "hidden_scope": "session"}),
    "another size": ("asars_dynamics", {"hidden_dim": 5}),
    "nothing left of a session": ("asars_dynamics", {"hidden_scope": "session", "context": ("weekday",)}),
    "hours": ("time_svd", {"period": "hour"}),
    "wide kernels": ("wavenet_cnn", {"kernel": 3, "depth": 2}),
    "pointer": ("gru4rec", {"pointer": True, "hidden_dim": 6}),
    "cosine scores": ("gru4rec", {"scores": "cosine", "temperature": 0.2}),
    "item path": ("asars_time_att", {"item_path": True, "scope": "session", "context": ("hour",)}),
    "history kernel": ("asars_time_user", {"pointer": True, "history_kernel": FEATURES, "item_path": True}),
    "history kernel without attention": ("gru4rec", {"pointer": True, "history_kernel": FEATURES, "scores": "cosine"}),
    "two blocks": ("sasrec", {"blocks": 2, "heads": 2, "window": 3}),
    "self-attention by session": ("sasrec", {"hidden_scope": "session", "window": 3, "pointer": True}),
    "a short window": ("core", {"window": 3, "scores": "cosine"}),
    "windows of a session": ("core", {"window": 4, "hidden_scope": "session", "context": ("hour",)}),
}
HOUR = 3600.0


@pytest.fixture(scope="module")
def rows():
    draw = np.random.RandomState(0)
    log = pd.DataFrame(
        {
            "user": np.repeat(np.arange(100, 112), 25),
            "item": [f"item {item}" for item in draw.randint(18, size=300)],
            "timestamp": np.tile(np.cumsum(draw.choice([20.0, 90.0, 400.0, 3 * HOUR], size=25)), 12) + 1.6e9,
        }
    )
    return to_session_sequences(SessionInteractions.from_log(log))


def fitted(rows, representation="asars_time_user", dwell="known", **options):
    options = {"hidden_dim": 8, **({"user_dim": 4} if "user" in representation else {}), **options}
    model = ASARSSequenceModel(
        loss="cross_entropy", representation=representation, embedding_dim=8, n_iter=2, random_state=0, dwell=dwell,
        learning_rate=0.05, representation_options=options,
    )  # fmt: skip
    return model.fit(rows)


def history(seed: int, events: int = 14):
    """Return items, some unknown and some repeated, and times with pauses that end sessions."""
    draw = np.random.RandomState(seed)
    items = [f"item {item}" for item in draw.choice([1, 1, 2, 3, 5, 8, 13, 99], size=events)]
    return items, np.cumsum(draw.choice([0.0, 15.0, 60.0, 700.0, HOUR, 5 * HOUR], size=events)) + 1.7e9


def same_answers(live, model, items, times, user, now=None):
    wanted = dict(model.recommend(items, times, user=user, k=100, now=now, return_scores=True))
    found = dict(live.recommend(100, now=now, return_scores=True))
    assert found.keys() == wanted.keys()
    np.testing.assert_allclose([found[item] for item in wanted], list(wanted.values()), rtol=1e-5, atol=1e-5)


def follow(model, seed: int = 0, user=103):
    items, times = history(seed)
    live = model.session(user)
    for end in range(1, len(items) + 1):
        live.observe(items[end - 1], times[end - 1])
        if any(item != "item 99" for item in items[:end]):
            same_answers(live, model, items[:end], times[:end], user)
            same_answers(live, model, items[:end], times[:end], user, now=times[end - 1] + 75.0)


@pytest.mark.parametrize("dwell", ["known", "observed"])
@pytest.mark.parametrize("representation", representation_names())
def test_every_net_answers_as_for_the_whole_history(representation, dwell, rows):
    follow(fitted(rows, representation, dwell), seed=1)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("representation", ASARS)
def test_whatever_the_options(representation, name, rows):
    follow(fitted(rows, representation, "observed", **OPTIONS[name]), seed=2)


@pytest.mark.parametrize("name", SHAPES)
def test_whatever_its_shape(name, rows):
    representation, options = SHAPES[name]
    follow(fitted(rows, representation, "known", **options), seed=6)


@pytest.mark.parametrize("user", [None, 103, "nobody known"])
def test_the_pointer_knows_what_was_seen(user, rows):
    follow(fitted(rows, pointer=True, scope="session", hidden_scope="session"), seed=3, user=user)


@pytest.mark.parametrize("representation", ["pooling", "lstm", "cnn"])
def test_the_nets_of_the_host(representation, rows):
    model = ASARSSequenceModel(representation=representation, embedding_dim=8, n_iter=1, random_state=0).fit(rows)
    follow(model, seed=4)


def test_many_sessions_as_one_batch(rows):
    model = fitted(rows, pointer=True)
    users = [100, None, 105, 111]
    histories = [history(seed) for seed in range(4)]
    alone = [model.session(user) for user in users]
    together = LiveSessions(model, users)
    draw = np.random.RandomState(0)
    taken = np.zeros(4, dtype=int)
    for _ in range(20):
        chosen = [one for one in draw.permutation(4)[: draw.randint(1, 5)] if taken[one] < 14]
        if not chosen:
            continue
        events = [(histories[one][0][taken[one]], histories[one][1][taken[one]]) for one in chosen]
        together.observe([item for item, _ in events], [time for _, time in events], sessions=chosen)
        for one, (item, time) in zip(chosen, events, strict=True):
            alone[one].observe(item, time)
            taken[one] += 1
    torch.testing.assert_close(together.scores(), torch.stack([one.scores() for one in alone]), rtol=1e-5, atol=1e-5)
    together.restart([2], [105])
    assert torch.equal(together.scores(sessions=[2])[0], model.session(105).scores())


def test_a_session_goes_on_from_its_state(rows):
    model = fitted(rows, pointer=True)
    items, times = history(5)
    live = model.session(104)
    for item, time in zip(items[:7], times[:7], strict=True):
        live.observe(item, time)
    state = live.state()
    state.settings["model"] = model
    again = LiveSession.from_state(state)
    for item, time in zip(items[7:], times[7:], strict=True):
        live.observe(item, time)
        again.observe(item, time)
        assert torch.equal(live.scores(), again.scores())


def test_sessions_of_one_state_do_not_disturb_each_other(rows):
    """Regression: the second continued from arrays that the first had changed."""
    model = fitted(rows)
    live = LiveSessions(model, [None, 104])
    live.observe(["item 1", "item 2"], [1.7e9, 1.7e9])
    state = live.state()
    state.settings["model"] = model
    first = LiveSessions.from_state(state)
    first.observe(["item 5"], [1.7e9 + 60], sessions=[0])
    assert torch.equal(LiveSessions.from_state(state).scores(), live.scores())


def test_a_file_keeps_its_names(rows):
    """The names by which saved sessions are read again."""
    state = LiveSessions(fitted(rows), [None, 104]).state()
    arrays = {"users", "events", "newest_time", "latest_time", "starts_next", "session_marks", "memory", "seen"}
    assert state.arrays.keys() == arrays
    assert state.arrays["memory"].keys() == {"recurrent", "attention", "time"}
    assert state.arrays["seen"].keys() == {"items", "taken", "earlier"}
    assert state.fitted.keys() == {"weights", "form"} and state.fitted["form"] == 2


def test_the_latest_time_of_each_session(rows):
    live = LiveSessions(fitted(rows), [None, 104, None])
    live.observe(["item 1", "unknown"], [1.7e9, 1.7e9 + 5], sessions=[0, 1])
    assert live.latest_times().tolist() == [1.7e9, 1.7e9 + 5, -np.inf]
    assert live.latest_times([1]).tolist() == [1.7e9 + 5]
    live.latest_times()[:] = 0.0
    assert live.latest_times([0]).tolist() == [1.7e9]


def test_a_state_is_of_one_model_alone(rows, refuses):
    state = fitted(rows).session().state()
    state.settings["model"] = fitted(rows, recency=True)
    refuses(lambda: LiveSession.from_state(state), "other weights")


def test_a_state_of_another_format_is_refused(rows, refuses):
    model = fitted(rows)
    state = model.session().state()
    state.settings["model"] = model
    state.fitted["form"] -= 1
    refuses(lambda: LiveSession.from_state(state), "saved by another version")


def test_a_session_begins_where_the_caller_says(rows):
    model = fitted(rows, scope="session", hidden_scope="session", pointer=False)
    said, alone = model.session(), model.session()
    said.observe("item 1", 1.7e9)
    said.observe("item 2", 1.7e9 + 5, new_session=True)
    alone.observe("item 2", 1.7e9 + 5)
    torch.testing.assert_close(said.scores(), alone.scores(), rtol=1e-5, atol=1e-5)


def test_seen_items_are_left_out(rows):
    live = fitted(rows).session()
    live.observe("item 3", 1.7e9)
    live.observe("item 4", 1.7e9 + 9 * HOUR)
    found = live.recommend(100, exclude_seen=True)
    assert {"item 3", "item 4"}.isdisjoint(found)
    assert len(found) == 16


def test_a_long_session_keeps_its_digits(rows):
    model = fitted(rows, scope="session", hidden_scope="session", recency=True)
    draw = np.random.RandomState(0)
    items = [f"item {item}" for item in draw.randint(18, size=3000)]
    times = 1.7e9 + np.cumsum(draw.randint(1, 200, size=3000)).astype(float)
    live = model.session()
    for item, time in zip(items, times, strict=True):
        live.observe(item, time)
    same_answers(live, model, items, times, None)


def test_seen_items_of_many_sessions():
    draw = np.random.RandomState(0)
    seen, earlier, own, newest = SessionItems(5), [set() for _ in range(5)], [set() for _ in range(5)], {}
    for step in range(300):
        rows = draw.permutation(5)[: draw.randint(1, 6)]
        items, starts = draw.randint(1, 30, size=len(rows)), draw.rand(len(rows)) < 0.1
        seen.append(rows, items, starts)
        for row, item, start in zip(rows, items, starts, strict=True):
            if start:
                earlier[row] |= own[row]
                own[row] = set()
            own[row].add(item)
        if step == 150:
            seen.clear(np.array([2]))
            earlier[2], own[2] = set(), set()
        seen = SessionItems.from_arrays(seen.arrays()) if step % 40 == 0 else seen
        newest.update(zip(rows.tolist(), items.tolist(), strict=True))
        owner, items, places = seen.places_in(np.arange(5))
        for row in range(5):
            there, place = items[owner == row].tolist(), places[owner == row].tolist()
            assert place == sorted(place, reverse=True)
            assert {item for item, one in zip(there, place, strict=True) if one == 2} == earlier[row]
            assert {item for item, one in zip(there, place, strict=True) if one < 2} == own[row]
            assert place.count(0) == (1 if there else 0) and there[-1:] == [newest.get(row)][: len(there)]
    assert len(seen.arrays()["items"]) < 5 * 4 * 30


def test_wrong_events_are_refused_and_change_nothing(rows, refuses):
    model = fitted(rows)
    live = model.session()
    live.observe("item 1", 1.7e9)
    before = live.scores()
    refuses(lambda: live.observe("item 2", 1.6e9), "time runs backwards")
    refuses(lambda: live.recommend(now=1.6e9), "now lies before the newest event")
    refuses(lambda: live.recommend(0), "k is 0")
    together = LiveSessions(model, [None, None])
    refuses(lambda: together.observe(["item 1"], [1.7e9]), "there are 2 sessions and timestamps")
    refuses(lambda: together.observe(["item 1"] * 2, [1.7e9] * 2, sessions=[0, 0]), "named twice")
    refuses(lambda: together.observe(["item 1"], [1.7e9], sessions=[2]), "there are only 2, numbered from 0")
    refuses(lambda: LiveSessions(model, "abc"), "give a list with one for each")
    assert torch.equal(live.scores(), before)
    model.fit(rows)
    refuses(live.recommend, "fitted further")


def test_a_net_whose_formulas_were_changed_does_not_inherit_its_steps(rows, refuses):
    class Backwards(type(fitted(rows).net)):
        def encode(self, items, events, users):
            return super().encode(items.flip(1), events, users)

    model = fitted(rows)
    model.net.__class__ = Backwards
    refuses(model.session, "Backwards cannot be updated event by event", "gru4rec")


def test_before_it_is_fitted():
    with pytest.raises(ValueError, match="not fitted yet"):
        ASARSSequenceModel().session()
