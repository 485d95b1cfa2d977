"""What the tests of durable sessions and of their journal share."""

import pytest


@pytest.fixture
def path(tmp_path):
    """A state file that is not there yet."""
    return tmp_path / "live.h5"


@pytest.fixture
def told():
    """The lines that were reported."""
    return []
