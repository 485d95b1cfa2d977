"""Live sessions as files go on to the same bits."""

import pytest
import torch

from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online.sessions import LiveSession, LiveSessions
from spotlight_asars.serialization.models import load_model, load_sessions, save_model, save_sessions


@pytest.fixture(scope="module")
def model(rows):
    options = {"hidden_dim": 6, "pointer": True, "recency": True}
    return ASARSSequenceModel(
        representation="asars_time_user", embedding_dim=6, n_iter=1, random_state=0, representation_options=options
    ).fit(rows)


def observed(sessions, model, first: int, last: int):
    items = model.raw_items.inverse(list(range(1, 14))).tolist()
    for step in range(first, last):
        if isinstance(sessions, LiveSession):
            sessions.observe(items[step % 13], 1e6 + 500.0 * step)
        else:
            sessions.observe([items[step % 13], items[(step * 5) % 13]], [1e6 + 500.0 * step, 1e6 + 900.0 * step])
    return sessions.scores(now=1e6 + 900.0 * last)


@pytest.mark.parametrize("make", [lambda model: model.session(103), lambda model: LiveSessions(model, [None, 105])])
def test_saved_sessions_go_on(make, model, tmp_path):
    sessions = make(model)
    observed(sessions, model, 0, 9)
    save_sessions(sessions, tmp_path / "sessions.h5")
    save_model(model, tmp_path / "model.h5")
    loaded = load_sessions(tmp_path / "sessions.h5", load_model(tmp_path / "model.h5"))
    assert type(loaded) is type(sessions)
    assert torch.equal(observed(loaded, model, 9, 30), observed(sessions, model, 9, 30))


def test_another_model_or_file_is_refused(model, rows, tmp_path, refuses):
    path = tmp_path / "sessions.h5"
    save_sessions(model.session(), path)
    other = ASARSSequenceModel(representation="asars_time_user", embedding_dim=6, n_iter=1, random_state=1).fit(rows)
    refuses(lambda: load_sessions(path, other), str(path), "other weights")
    refuses(lambda: load_model(path), str(path), "live sessions")
    save_model(model, tmp_path / "model.h5")
    refuses(lambda: load_sessions(tmp_path / "model.h5", model), "model file", "save_sessions")
    path.write_bytes(path.read_bytes()[:-9])
    refuses(lambda: load_sessions(path, model), str(path), "save the sessions again")
    refuses(lambda: save_sessions(model, path), "model.session()")
