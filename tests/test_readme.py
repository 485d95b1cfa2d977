"""What the README says works: its code runs, its commands are the ones CI calls, its systems exist."""

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
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def python_blocks():
    """The code of each python block, without its indentation."""
    found = re.findall(r"\.\. code-block:: python\n\n((?:    (?! *- ).*\n|\n)+)", README)  # a list's next item ends it
    return [textwrap.dedent(block) for block in found]


def own_blocks():
    """Those that run one after the other; Spotlight's example is beside them."""
    return [block for block in python_blocks() if "from spotlight." not in block]


def test_the_code_blocks_run_one_after_the_other(capsys):
    blocks = own_blocks()
    assert len(blocks) == 4
    names = {}
    for block in blocks:
        exec(compile(block, "README.rst", "exec"), names)
    printed = capsys.readouterr().out
    assert "mrr@20" in printed and "score_without" in printed
    assert len(names["model"].recommend([310, 1725, 1440], timestamps=[0, 20, 65], user=7, k=5)) == 5


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


def test_spotlights_example_becomes_ours_by_two_lines(spotlight):
    theirs, ours = (block for block in python_blocks() if "from spotlight." in block)
    changed = [pair for pair in zip(theirs.splitlines(), ours.splitlines(), strict=True) if len(set(pair)) == 2]
    assert len(changed) == 2 and "ASARSSequenceModel" in changed[0][1] and "asars_time_user" in changed[1][1]
    for block in (theirs, ours):
        names = {}
        exec(compile(block, "README.rst", "exec"), names)
        assert names["mrr"].mean() > 0
    assert isinstance(names["model"], ASARSSequenceModel)


def test_the_first_example_is_short():
    assert len([line for line in own_blocks()[0].splitlines() if line and not line.startswith("from")]) <= 10


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
    assert f"``{name}``" in README
