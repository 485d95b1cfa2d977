"""Helpers shared by the tests: refusals, and small random logs full of ties."""

import os
import signal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from spotlight_asars.errors import InputError

# The time that an example takes depends on the load of the machine.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure():
    """Limit the workers of pytest-xdist, and the processes that tests start, to one thread each."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


@pytest.fixture(autouse=True)
def one_thread():
    """Bits do not depend on the number of threads, and small nets are faster on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def ctrl_c_interrupts():
    """A process started in the background may have been told to ignore Ctrl-C, and Python then leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def refuses():
    """Check that a call ends with an InputError of one line that holds every given part."""

    def check(call, *parts):
        with pytest.raises(InputError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        for part in parts:
            assert part in message, message

    return check


@pytest.fixture
def write(tmp_path):
    """Write text or bytes under a name and give the path."""

    def write_file(content, name="log.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write_file


@pytest.fixture(scope="session")
def draw_log():
    """
    Draw the columns of a log; event k, as the log has it, is of item k + 1 unless `num_items` is given.

    Times are few whole numbers, so that many are equal and any order of events comes up.
    """

    def draw(data, users=(1, 2, 3), sessions=0, max_events=24, latest=12, num_items=None):
        whole = st.integers(0, latest)
        event = st.tuples(st.sampled_from(users), whole, st.integers(1, num_items or 1), st.integers(0, sessions))
        columns = np.array(data.draw(st.lists(event, min_size=1, max_size=max_events))).T  # (column, events)
        log = {
            "user_ids": columns[0],
            "timestamps": columns[1].astype(np.float64),
            "item_ids": columns[2] if num_items else np.arange(1, columns.shape[1] + 1),
        }
        return {**log, "session_ids": columns[3]} if sessions else log

    return draw
