"""Small fitted models with raw ids, users and dwell, and their files."""

import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import Popularity


@pytest.fixture(scope="session")
def rows():
    """Rows of 12 users and 14 items, some of them named oddly, with sessions and dwell."""
    return make_rows()


@pytest.fixture(scope="session")
def anonymous_rows():
    """The same events without users."""
    return make_rows(users=False)


def make_rows(users: bool = True):
    random_state = np.random.RandomState(0)
    names = np.array(["müsli", "a/b", ".", "", "\N{PILE OF POO}", "x" * 300, *"abcdefgh"], dtype=object)
    log = pd.DataFrame(
        {
            "item": names[random_state.randint(14, size=200)],
            "timestamp": np.sort(random_state.randint(0, 200_000, size=200)).astype(float),
        }
    )
    if users:
        log["user"] = random_state.randint(100, 112, size=200)
    else:
        log["session"] = np.repeat(np.arange(40), 5)
    return to_session_sequences(SessionInteractions.from_log(log), max_sequence_length=20)


@pytest.fixture
def make_model():
    """A function that creates a small unfitted model."""

    def make(representation="asars_time_user", **settings):
        options = {"loss": "bpr_max", "embedding_dim": 6, "n_iter": 2, "batch_size": 8, "random_state": 3}
        return ASARSSequenceModel(representation=representation, **{**options, **settings})

    return make


@pytest.fixture
def model_file(tmp_path, rows):
    """A small file of a fitted model."""
    from spotlight_asars.serialization.models import save_model

    path = tmp_path / "model.h5"
    save_model(Popularity().fit(rows), path)
    return path


@pytest.fixture
def assert_alike():
    """A function that checks that two systems have bit-identical scores and the same recommendations."""

    def check(one, other, rows):
        first, second = (system.item_scores(system.target_states(rows)) for system in (one, other))
        assert torch.equal(first, second)
        request = {"items": ["a", "müsli", "nobody's"], "timestamps": [1e6, 1e6 + 30, 1e6 + 90], "user": 105}
        answer = one.recommend(**request, return_scores=True)
        assert len(answer) == 14
        assert other.recommend(**request, return_scores=True) == answer

    return check
