"""Helpers shared by the tests of the command line: a call in this process, and a small log."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars import cli


@pytest.fixture
def run(capsys):
    """Return the exit code, standard output and standard error of a call."""

    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped:  # argparse ends the process itself
            code = stopped.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def log(tmp_path):
    """12 users with 10 sessions of 4 of 25 items, 12 hours apart."""
    random_state = np.random.RandomState(0)
    items = (random_state.randint(25, size=(120, 1)) + np.arange(4)) % 25
    seconds = random_state.randint(5, 300, size=(120, 4)).cumsum(axis=1)
    seconds = seconds + 43_200 * np.tile(np.arange(10), 12)[:, None]
    frame = pd.DataFrame(
        {"user": np.repeat(np.arange(12), 40), "item": items.ravel(), "time": seconds.ravel() + 1_400_000_000}
    )
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    return path
