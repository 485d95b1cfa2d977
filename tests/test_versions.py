"""The window of versions: what setup.py allows is what the two lists of requirements test at its ends."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXACT = re.compile(r"^([a-z0-9-]+)==([0-9.]+)", re.MULTILINE)
AT_LEAST = re.compile(r'"([a-z0-9-]+)>=([0-9.]+)"')


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@pytest.fixture(scope="module")
def lower_ends():
    return dict(AT_LEAST.findall((ROOT / "setup.py").read_text()))


def test_the_lowest_versions_are_those_that_setup_allows(lower_ends):
    lowest = dict(EXACT.findall((ROOT / "requirements-lowest.txt").read_text()))
    for name, version in lower_ends.items():
        if name != "ruff":  # its newest alone judges the code
            wanted = numbers(version)
            assert numbers(lowest[name])[: len(wanted)] == wanted, name


def test_the_newest_versions_lie_in_the_window(lower_ends):
    newest = dict(EXACT.findall((ROOT / "requirements.txt").read_text()))
    assert newest.keys() == lower_ends.keys()
    for name, version in newest.items():
        assert numbers(version) >= numbers(lower_ends[name]), name


def test_readme_says_the_window(lower_ends):
    readme = (ROOT / "README.rst").read_text()
    for name in ("h5py", "numpy", "pandas", "scipy", "torch"):
        assert f"{name} {lower_ends[name]}" in readme, name
