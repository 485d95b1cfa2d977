"""Fixtures for each available host, with small data sets."""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from spotlight_asars.host.resolution import MODULES

PACKAGES = {"embedded": "spotlight_asars.host.embedded"}
try:
    importlib.import_module("spotlight.sequence.implicit")
except ImportError:
    # There is nothing to compare with.
    collect_ignore = ["test_equal_to_spotlight.py"]
else:
    PACKAGES["spotlight"] = "spotlight"


def _load(name):
    package = PACKAGES[name]
    modules = {attribute: importlib.import_module(f"{package}.{path}") for attribute, path in MODULES.items()}
    return SimpleNamespace(name=name, **modules)


@pytest.fixture(scope="session", params=sorted(PACKAGES))
def host(request):
    """Each available host in turn, with its modules under the attribute names of `spotlight_asars.host`."""
    return _load(request.param)


@pytest.fixture(scope="session")
def embedded():
    return _load("embedded")


@pytest.fixture(scope="session")
def spotlight():
    """The real Spotlight; requested only by files that are collected if it is installed."""
    return _load("spotlight")


@pytest.fixture(scope="session")
def make_sequences():
    """Random left-padded sequences with ids 1..num_items-1; the first has no padding."""

    def make(host, num_sequences=50, length=8, num_items=40, seed=0):
        random_state = np.random.RandomState(seed)
        sequences = random_state.randint(1, num_items, (num_sequences, length))
        padding = random_state.randint(0, length, num_sequences)
        padding[0] = 0
        sequences[np.arange(length) < padding[:, None]] = 0
        return host.interactions.SequenceInteractions(sequences, num_items=num_items)

    return make


@pytest.fixture(scope="session")
def make_pairs():
    """Random user-item pairs."""

    def make(host, num_pairs=200, num_users=20, num_items=30, seed=0):
        random_state = np.random.RandomState(seed)
        return host.interactions.Interactions(
            random_state.randint(0, num_users, num_pairs).astype(np.int32),
            random_state.randint(0, num_items, num_pairs).astype(np.int32),
            num_users=num_users,
            num_items=num_items,
        )

    return make
