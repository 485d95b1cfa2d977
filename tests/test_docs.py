"""The documentation builds without a warning, and its recipes run exactly as written."""

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spotlight_asars import cli

ROOT = Path(__file__).parent.parent
PATHS = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # where a real Spotlight may lie
RECIPES = (ROOT / "docs" / "recipes.rst").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference.rst").read_text(encoding="utf-8")


def test_the_pages_are_built_without_a_warning(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", str(ROOT / "docs"), str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "reference.html").read_text(encoding="utf-8")
    for name in ("ASARSSequenceModel", "SessionInteractions", "TwoStageRanker", "bpr_max_loss", "rank_targets"):
        assert name in page


def test_every_module_of_the_reference_is_there():
    names = re.findall(r"automodule:: spotlight_asars\.(\S+)", REFERENCE)
    assert len(names) == len(set(names)) > 50
    for name in names:
        path = ROOT / "spotlight_asars" / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), name


def commands_and_code():
    """What the recipes say to run, in order: lines of a terminal and blocks of Python."""
    for block in re.finditer(r"(?:\.\. code-block:: (python)\n|::\n)\n((?:    .*\n|\n)+)", RECIPES):
        text = textwrap.dedent(block[2]).strip()
        if block[1]:
            yield "python", text
        else:
            for line in text.replace("\\\n", " ").splitlines():
                if "spotlight-asars " in line:
                    yield "terminal", line
                elif line.startswith("torchrun "):
                    yield "job", line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with a log of 40 users with 12 sessions of 5 of the items A0 to A9, B0, ..."""
    draw, users, sessions, length = np.random.RandomState(0), 40, 12, 5
    shape = (users, sessions, length)
    starts = 1_700_000_000 + 86_400 * np.arange(sessions)[:, None] + draw.randint(40_000, size=(users, sessions, 1))
    items = draw.choice([f"{letter}{digit}" for letter in "ABC" for digit in range(10)], size=shape)
    times = starts + draw.randint(5, 90, size=shape).cumsum(axis=2)
    user = np.broadcast_to(np.arange(1, users + 1)[:, None, None], shape)
    log = pd.DataFrame({"user": user.ravel(), "item": items.ravel(), "time": times.ravel()})
    log.to_csv(tmp_path / "clicks.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_recipes_run_one_after_the_other(folder, capsys):
    names, seen = {}, []
    for kind, text in commands_and_code():
        if kind == "python":
            exec(compile(text, "recipes.rst", "exec"), names)
            continue
        if kind == "job":
            job = [sys.executable, "-m", "torch.distributed.run", *shlex.split(text)[1:]]
            subprocess.run(job, capture_output=True, check=True, env={**os.environ, "PYTHONPATH": PATHS})
            continue
        request, _, command = text.rpartition(" | ")
        arguments = shlex.split(command)
        seen.append(arguments[1])
        if request:  # `echo '...'` in front
            ran = subprocess.run(
                [sys.executable, "-m", "spotlight_asars", *arguments[1:]], input=shlex.split(request)[1] + "\n",
                capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": PATHS},
            )  # fmt: skip
            assert len(json.loads(ran.stdout)["items"]) == 5
        else:
            assert cli.main(arguments[1:]) == 0, text
    assert set(seen) == {"analyse", "train", "recommend", "explain", "evaluate", "compare", "prepare"}
    assert len(names["many"].recommend(k=5)) == 3
    for file in (
        "analysis/report.html",
        "model.h5",
        "held.h5",
        "live.h5",
        "results/results.json",
        "shards/2.h5",
        "from-two.h5",
    ):
        assert (folder / file).is_file(), file
    capsys.readouterr()
