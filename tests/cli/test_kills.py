"""Servers that are killed at random moments lose nothing that they have acknowledged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_serve.py"


@pytest.mark.once
def test_killed_servers_lose_nothing_they_have_acknowledged():
    """Regression: SIGKILL lost everything since the last save."""
    command = [sys.executable, str(SCRIPT), "--kills", "10", "--longest", "4"]
    paths = os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout)
    assert seen["kills"] == 10 and seen["events_acknowledged"] >= 1
    assert seen["users_compared"] == 40 and seen["users_that_differ"] == 0
