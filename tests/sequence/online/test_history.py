"""The history of live sessions: a saved one must fit the model."""

import numpy as np
import pytest

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TIME
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online.history import KEPT
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.representations.history_kernel import FEATURES, REACH
from spotlight_asars.serialization.models import load_sessions, save_sessions


@pytest.fixture
def model(chain_rows):
    options = {"pointer": True, "history_kernel": FEATURES, "hidden_dim": 4}
    return ASARSSequenceModel(n_iter=1, random_state=0, embedding_dim=4, representation_options=options).fit(
        chain_rows()
    )


def with_events(model, events: int) -> LiveSessions:
    sessions = LiveSessions(model, [None, None])
    items = model.raw_items.raw_ids
    for event in range(events):
        sessions.observe([items[event % 5], items[event % 3]], [10.0 * event, 11.0 * event])
    return sessions


def test_it_goes_on_from_a_file(model, tmp_path):
    sessions = with_events(model, REACH + 10)
    save_sessions(sessions, tmp_path / "live.h5")
    loaded = load_sessions(tmp_path / "live.h5", model)
    np.testing.assert_array_equal(loaded.scores(), sessions.scores())


def test_older_events_than_its_reach_are_forgotten(model):
    """The carry does not grow, and scores equal those of the whole history, of which the kernel reads no more."""
    live = with_events(model, REACH + 10)
    items = model.raw_items.raw_ids
    whole = [items[event % 5] for event in range(REACH + 10)]
    wanted = dict(model.recommend(whole, [10.0 * event for event in range(REACH + 10)], k=50, return_scores=True))
    found = dict(live.recommend(50, return_scores=True)[0])
    assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("channel", "value"), [(ITEM, 10**6), (ITEM, -1), (DWELL, 10**6), (SESSION_START, 2), (TIME, -(2**31))]
)
def test_numbers_that_stand_for_nothing_are_refused(model, channel, value):
    state = with_events(model, 3).state()
    state.settings["model"] = model
    history = state.arrays["memory"]["history"]
    history[0, -1, KEPT.index(channel)] = value
    if channel == TIME:
        LiveSessions.from_state(state)  # an unknown time is allowed
        return
    with pytest.raises(InputError, match="history"):
        LiveSessions.from_state(state)
