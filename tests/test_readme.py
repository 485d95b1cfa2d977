"""What the README says works: its code runs, its commands are the ones CI calls, its systems exist."""

import re
import subprocess
from pathlib import Path

import pytest

from spotlight_asars.sequence.registry import representation_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text(encoding="utf-8")


def python_blocks():
    """The code of each python block, without its indentation."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", README)
    return ["\n".join(line[4:] for line in block.splitlines()) for block in blocks]


def test_the_code_blocks_run_one_after_the_other(capsys):
    blocks = python_blocks()
    assert len(blocks) == 3
    names = {}
    for block in blocks:
        exec(compile(block, "README.rst", "exec"), names)
    printed = capsys.readouterr().out
    assert "mrr@20" in printed
    assert len(names["model"].recommend([310, 1725, 1440], timestamps=[0, 20, 65], user=7, k=5)) == 5


def test_the_first_example_is_short():
    assert len([line for line in python_blocks()[0].splitlines() if line and not line.startswith("from")]) <= 10


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
