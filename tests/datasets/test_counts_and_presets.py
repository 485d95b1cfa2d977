"""The paper's Table 1: counts of a log, and the named filters."""

import pandas as pd

from spotlight_asars.datasets import presets
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions


def test_counts():
    log = pd.DataFrame({"user": [1, 1, 1, 2], "item": [5, 5, 6, 5], "timestamp": [0.0, 10.0, 9000.0, 0.0]})
    interactions = SessionInteractions.from_log(log)
    counts = LogCounts.of(interactions)
    assert counts == LogCounts(events=4, users=2, items=2, sessions=3)
    assert str(counts) == "events 4  users 2  items 2  sessions 3"
    assert LogCounts.of(interactions.select([0, 1])) == LogCounts(2, 1, 1, 1)


def test_a_log_without_users():
    log = pd.DataFrame({"session": [1, 2], "item": [5, 5], "timestamp": [0.0, 10.0]})
    assert str(LogCounts.of(SessionInteractions.from_log(log))) == "events 2  users /  items 1  sessions 2"


def test_named_filters():
    found = {name: (one.item_support, one.session_length, one.user_sessions) for name, one in presets.NAMED.items()}
    assert found == {
        "paper": (10, 2, 10),
        "sparse": (10, 2, 10),
        "dense": (20, 2, 20),
        "learnable": (2, 2, 1),
        "recsys15": (20, 2, 1),
        "movielens-100k": (10, 2, 2),
    }
