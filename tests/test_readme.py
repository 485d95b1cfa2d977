"""The README and the pages of docs/ hold what they say: code runs, links lead somewhere, CI calls the commands."""

import contextlib
import io
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

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text(encoding="utf-8")
INDEX = (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
PAGES = ("data", "models", "spotlight", "serving", "evaluation")  # whose code goes on from the README's


def page(name):
    return (ROOT / "docs" / f"{name}.rst").read_text(encoding="utf-8")


def python_blocks(text):
    """Return the code of each python block, without its indentation."""
    found = re.findall(r"\.\. code-block:: python\n\n((?:    (?! *- ).*\n|\n)+)", text)  # a list's next item ends it
    return [textwrap.dedent(block) for block in found]


def own_blocks(text):
    """Return the blocks that run one after the other; Spotlight's example stands beside them."""
    return [block for block in python_blocks(text) if "from spotlight." not in block]


@pytest.fixture(scope="module")
def example():
    """The names that the README's example leaves, and under "printed" what it prints."""
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in own_blocks(README):
            exec(compile(block, "README.rst", "exec"), names)
    return {**names, "printed": printed.getvalue()}


def test_the_readmes_code_runs(example):
    assert "mrr@20" in example["printed"]
    assert len(example["model"].recommend([310, 1725, 1440], timestamps=[0, 20, 65], user=7, k=5)) == 5


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 250
    assert lines.index("How good it is") < 60  # the picture, the example and the commands stand before it
    (block,) = own_blocks(README)
    assert len([line for line in block.splitlines() if line and not line.startswith("from")]) <= 10


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_goes_on_from_the_readme(name, example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks, names = own_blocks(page(name)), dict(example)
    assert blocks
    for block in blocks:
        exec(compile(block, f"{name}.rst", "exec"), names)
    assert capsys.readouterr().out


def test_no_page_with_code_is_left_out():
    with_code = {path.stem for path in (ROOT / "docs").glob("*.rst") if python_blocks(path.read_text("utf-8"))}
    assert with_code == {*PAGES, "recipes"}  # test_docs.py runs the recipes


def test_links_and_picture_lead_somewhere():
    targets = dict(re.findall(r"^\.\. _(\w+): (\S+)$", README, re.MULTILINE))
    assert set(targets) == set(re.findall(r"\b([A-Z]\w+)_(?!\w)", README.split("\n.. _")[0]))
    for target in (*targets.values(), *re.findall(r"image:: (\S+)", README)):
        assert (ROOT / target).is_file(), target
    there = dict(re.findall(r"^\.\. _(\w+): (\w+)\.html$", INDEX, re.MULTILINE))
    assert set(there) == set(targets)
    for name in there.values():
        assert page(name)


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
    theirs, ours = (block for block in python_blocks(page("spotlight")) if "from spotlight." in block)
    changed = [pair for pair in zip(theirs.splitlines(), ours.splitlines(), strict=True) if len(set(pair)) == 2]
    assert len(changed) == 2 and "ASARSSequenceModel" in changed[0][1] and "asars_time_user" in changed[1][1]
    for block in (theirs, ours):
        names = {}
        exec(compile(block, "spotlight.rst", "exec"), names)
        assert names["mrr"].mean() > 0
    assert isinstance(names["model"], ASARSSequenceModel)


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
    assert f"``{name}``" in README and f"``{name}``" in page("models")
