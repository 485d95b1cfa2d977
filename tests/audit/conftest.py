"""A small log of several lengths, users and times, for the tests of the leak audit."""

import numpy as np
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions


@pytest.fixture(scope="session")
def rows():
    """13 users with three sessions of 2 to 7 of 19 items, and three sessions of nobody's, hours apart."""
    random_state = np.random.RandomState(0)
    lengths = random_state.randint(2, 8, size=42)
    session = np.repeat(np.arange(42), lengths)
    events = len(session)
    log = SessionInteractions(
        session // 3,
        random_state.randint(1, 20, size=events),
        timestamps=random_state.randint(1, 400, size=events).cumsum() + session * 20_000 + 1_400_000_000,
        num_items=20,
        session_ids=session,
    )
    return to_session_sequences(log, max_sequence_length=30)
