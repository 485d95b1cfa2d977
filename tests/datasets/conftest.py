"""Helpers shared by the tests of the readers and the simulator."""

import numpy as np
import pytest

from spotlight_asars.datasets.synthetic.log import generate_sessions


@pytest.fixture(scope="session")
def synthetic():
    """The simulator's log of default size."""
    return generate_sessions(random_state=0)


@pytest.fixture
def rows_with_next():
    """Return the rows of a log that have a next event in their session."""

    def find(log):
        sessions = log["session"].to_numpy()
        return np.flatnonzero(sessions[1:] == sessions[:-1])

    return find
