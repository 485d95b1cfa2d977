"""Helpers shared by the tests of the readers and the simulator."""

import numpy as np
import pytest

from spotlight_asars.datasets import generate_sessions


@pytest.fixture
def write(tmp_path):
    """Write text or bytes under a name and give the path."""

    def write_file(content, name="log.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write_file


@pytest.fixture(scope="session")
def synthetic():
    """The simulator's log of default size."""
    return generate_sessions(random_state=0)


@pytest.fixture
def rows_with_next():
    """The rows of a log that have a next event in their session."""

    def find(log):
        sessions = log["session"].to_numpy()
        return np.flatnonzero(sessions[1:] == sessions[:-1])

    return find
