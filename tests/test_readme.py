"""README and guide: their code runs, their commands are the ones CI calls, their systems exist."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from spotlight_asars import host
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.registry import representation_names

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
README, GUIDE, SYSTEMS = (
    (ROOT / page).read_text(encoding="utf-8") for page in ("README.rst", "docs/guide.rst", "docs/systems.rst")
)


def python_blocks(text):
    """The code of each python block, without its indentation."""
    return [textwrap.dedent(block) for block in re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", text)]


def test_the_code_blocks_run_one_after_the_other(capsys):
    first, with_spotlight = python_blocks(README)
    assert "from spotlight." in with_spotlight
    blocks, names = python_blocks(GUIDE), {}
    assert len(blocks) == 4
    for block in (first, *blocks):
        exec(compile(block, "guide.rst", "exec"), names)
    printed = capsys.readouterr().out
    assert "mrr@20" in printed and "score_without" in printed
    assert len(names["model"].recommend([310, 1725, 1440], timestamps=[0, 20, 65], user=7, k=5)) == 5
    assert names["stopping"].best_figures["targets"] > 100


def test_the_readme_is_short_and_begins_with_what_matters():
    lines = README.splitlines()
    assert len(lines) <= 250
    begins = [README.index(part) for part in (".. image::", "code-block:: python", "-m pytest", "asars_two_stage``")]
    assert begins == sorted(begins) and README[: begins[-1]].count("\n") < 60, "within two screens"


def module(name, **members):
    made = ModuleType(name)
    vars(made).update(members)
    return made


@pytest.fixture
def spotlight(monkeypatch):
    """Modules of Spotlight's names where it is not installed: the host's, and stand-ins for its data and split."""
    if host.NAME == "spotlight":
        return

    def generate_sequential(num_users, num_items, num_interactions, concentration_parameter, order):
        draw = np.random.RandomState(0)
        users, items = draw.randint(num_users, size=num_interactions), draw.randint(1, num_items, size=num_interactions)
        times = np.arange(num_interactions)
        return host.Interactions(np.sort(users), items, timestamps=times, num_users=num_users, num_items=num_items)

    def user_based_train_test_split(dataset):
        return tuple(
            host.Interactions(dataset.user_ids[chosen], dataset.item_ids[chosen], timestamps=dataset.timestamps[chosen],
                              num_users=dataset.num_users, num_items=dataset.num_items)
            for chosen in (dataset.user_ids < 80, dataset.user_ids >= 80)
        )  # fmt: skip

    stand_ins = {
        "": module("spotlight"),
        ".cross_validation": module("cross_validation", user_based_train_test_split=user_based_train_test_split),
        ".datasets": module("datasets"),
        ".datasets.synthetic": module("synthetic", generate_sequential=generate_sequential),
        ".evaluation": host.evaluation,
        ".sequence": module("sequence"),
        ".sequence.implicit": host.sequence_implicit,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setitem(sys.modules, f"spotlight{name}", stand_in)


def test_spotlights_code_becomes_ours_by_the_class_and_the_representation(spotlight):
    ours = python_blocks(README)[1]
    theirs = ours.replace("spotlight_asars import ASARS", "spotlight.sequence.implicit import Implicit")
    theirs = theirs.replace("ASARSSequenceModel", "ImplicitSequenceModel").replace("asars_time_user", "cnn")
    assert theirs != ours
    for block in (theirs, ours):
        names = {}
        exec(compile(block, "README.rst", "exec"), names)
        assert names["mrr"].mean() > 0
    assert isinstance(names["model"], ASARSSequenceModel)


def test_the_first_example_is_short():
    first = python_blocks(README)[0]
    assert len([line for line in first.splitlines() if line and not line.startswith("from")]) <= 10


def test_ci_calls_the_test_command_as_it_stands():
    commands = re.findall(r"^    (python3 -m venv .*)$", README, re.MULTILINE)
    assert len(commands) == 2 and commands[0].endswith("-m spotlight_asars compare")
    assert commands[1].endswith("-m pytest")
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '(.+)' README.rst", script).group(1)
    found = subprocess.run(
        ["grep", "-E", pattern, str(ROOT / "README.rst")], capture_output=True, text=True, check=True
    ).stdout
    assert found.strip() == commands[1]


@pytest.mark.parametrize("name", representation_names())
def test_every_system_is_told(name):
    assert f"``{name}``" in SYSTEMS
