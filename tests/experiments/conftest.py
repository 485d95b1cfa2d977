"""What the tests of a comparison share: a tiny log with users, small settings, and runs made by hand."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.evaluation import Ranks
from spotlight_asars.experiments.logs import PreparedLog
from spotlight_asars.experiments.settings import NetSettings
from spotlight_asars.experiments.training import Run
from spotlight_asars.interactions.sessions import SessionInteractions


@pytest.fixture(scope="session")
def tiny_log():
    """12 users with 6 sessions of 4 of 15 items, 12 hours apart; a fifth of the sessions is test."""
    random_state = np.random.RandomState(0)
    items = (random_state.randint(15, size=(72, 1)) + np.arange(4)) % 15
    seconds = random_state.randint(5, 300, size=(72, 4)).cumsum(axis=1) + 43_200 * np.tile(np.arange(6), 12)[:, None]
    frame = pd.DataFrame({"user": np.repeat(np.arange(12), 24), "item": items.ravel(), "timestamp": seconds.ravel()})
    split = time_based_split(SessionInteractions.from_log(frame))
    protocol = {
        "events_read": 288,
        "dropped_test_events": 0.0,
        "tied_timestamps": 0.0,
        "test_events_before_training_ends": 0.0,
    }
    counts = {"name": "tiny", "events": 288, "users": 12, "items": 15, "sessions": 72}
    return PreparedLog(split, counts, protocol)


@pytest.fixture(scope="session")
def small():
    """Settings of a net by name, small enough to be trained in a moment."""

    def settings(name, **changes):
        return NetSettings(name, embedding_dim=8, representation_options={"hidden_dim": 8}, **changes)

    return settings


@pytest.fixture(scope="session")
def run_of():
    """A run with given ranks, two targets a session."""

    def run(ranks, **figures):
        defaults = {
            "seed": 0,
            "epochs": 3,
            "validation_mrr@20": 0.5,
            "parameters": 10,
            "seconds_per_epoch": 1.0,
            "events_per_second": 100.0,
            "evaluation_seconds": 2.0,
            "peak_memory_mib": 50.0,
            "run_seconds": 9.0,
        }
        ranks = np.array(ranks, dtype=np.float64)
        return Run({**defaults, **figures}, Ranks(ranks, np.arange(len(ranks)) // 2))

    return run
