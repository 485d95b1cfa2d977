"""Small logs whose structure is known, for the sequence tests."""

import numpy as np
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions


@pytest.fixture
def chain_rows():
    """Rows in which item i is always followed by i + 1, 24 items in a ring, 40 users with two sessions each."""

    def make(seed: int = 0, users: int = 40, length: int = 6, binning=None):
        random_state = np.random.RandomState(seed)
        sessions = users * 2
        start = random_state.randint(24, size=sessions)
        items = (start[:, None] + np.arange(length)) % 24 + 1  # (sessions, length)
        user = np.repeat(np.arange(1, users + 1), 2 * length)
        seconds = random_state.randint(1, 60, size=(sessions, length)).cumsum(axis=1)
        seconds = seconds + np.tile([0, 10_000], users)[:, None]
        log = SessionInteractions(user, items.ravel(), timestamps=seconds.ravel(), num_items=25)
        return to_session_sequences(log, binning=binning)

    return make


@pytest.fixture
def dwell_rows():
    """
    Anonymous sessions of three items and a fourth that the longest dwelt on decides.

    Of the three, items 1..9, one was dwelt on for 100 seconds and the others for 1; the fourth is that one plus 10.
    Without dwell the fourth cannot be told from three. With `shuffled`, dwell says nothing.
    """

    def make(sessions: int, seed: int = 0, shuffled: bool = False, binning=None):
        random_state = np.random.RandomState(seed)
        items = np.array([random_state.permutation(9)[:3] + 1 for _ in range(sessions)])  # (sessions, 3)
        longest = random_state.randint(3, size=sessions)
        target = items[np.arange(sessions), longest] + 10
        dwell = np.ones((sessions, 3))
        shown = random_state.randint(3, size=sessions) if shuffled else longest
        dwell[np.arange(sessions), shown] = 100.0
        seconds = np.concatenate([np.zeros((sessions, 1)), dwell.cumsum(axis=1)], axis=1)  # (sessions, 4)
        log = SessionInteractions(
            np.zeros(sessions * 4, dtype=np.int64),
            np.concatenate([items, target[:, None]], axis=1).ravel(),
            timestamps=(seconds + np.arange(sessions)[:, None] * 1e4).ravel(),
            session_ids=np.repeat(np.arange(sessions), 4),
            num_items=20,
        )
        return to_session_sequences(log, binning=binning)

    return make
