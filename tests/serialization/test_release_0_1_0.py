"""Files that release 0.1.0 wrote: they load, answer as they did then, and go on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.serialization.models import load_model, load_sessions

FILES = Path(__file__).parent / "release_0_1_0"
ANSWERS = json.loads((FILES / "answers.json").read_text())
REQUEST = {
    "items": ["i3", "i5", "i1"],
    "timestamps": [1.8e9, 1.8e9 + 20, 1.8e9 + 65],
    "user": "u3",
    "k": 5,
    "return_scores": True,
}


def assert_same(answer, expected):
    assert [item for item, _ in answer] == [item for item, _ in expected]
    np.testing.assert_allclose([score for _, score in answer], [score for _, score in expected], rtol=1e-4, atol=1e-5)


@pytest.fixture
def rows():
    return to_session_sequences(SessionInteractions.from_log(pd.read_csv(FILES / "log.csv")))


@pytest.mark.parametrize("name", ["asars_time_user", "gru4rec", "memory", "vstan", "rules"])
def test_a_model_answers_as_it_did(name):
    assert_same(load_model(FILES / f"{name}.h5").recommend(**REQUEST), ANSWERS[name])


def test_two_stages_are_refused(refuses):
    """Their candidates had other features."""
    refuses(lambda: load_model(FILES / "two_stage.h5"), "two_stage.h5", "features of release 0.1.0", "fit it anew")


def test_settings_are_in_their_groups_now():
    found = load_model(FILES / "asars_time_user.h5").get_params()
    assert found["sampling"] == {"kind": "shared", "alpha": 0.3}
    given = {"early_stopping": 4, "mix_lengths": True, "initial_embeddings": "cooccurrence"}
    assert found["training"] == {**given, "time_order": False, "popularity_drift": 0.0}


def test_a_model_can_be_fitted_further(rows):
    model = load_model(FILES / "gru4rec.h5").fit(rows)
    assert [record.epoch for record in model.epoch_records] == [0, 1, 2, 3]


def test_live_sessions_go_on():
    model = load_model(FILES / "asars_time_user.h5")
    sessions = load_sessions(FILES / "live_sessions.h5", model)
    for answer, expected in zip(sessions.recommend(k=5, return_scores=True), ANSWERS["live_sessions"], strict=True):
        assert_same(answer, expected)


def test_a_checkpoint_resumes(rows, tmp_path):
    """Two of four epochs stand in it; the result is that of a call which never stopped."""
    checkpoint = shutil.copy(FILES / "checkpoint.h5", tmp_path)
    model = ASARSSequenceModel(
        representation="gru4rec",
        representation_options={"hidden_dim": 4},
        loss="bpr",
        embedding_dim=4,
        n_iter=4,
        batch_size=8,
        random_state=3,
        training={"mix_lengths": True, "early_stopping": 9},
    )
    epochs = []
    model.fit(rows, checkpoint=checkpoint, callbacks=[lambda model, record: epochs.append(record.epoch)])
    assert epochs == [2, 3]
    assert_same(model.recommend(**REQUEST), ANSWERS["checkpoint"])
