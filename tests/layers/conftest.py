"""Batches of packed sequences for the tests of the layers."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def sequences_of():
    """Return the function that lists the places of the events of each sequence, row by row."""

    def places(starts, present):
        found = []
        for row in range(len(present)):
            for column in range(present.shape[1]):
                if present[row, column]:
                    if column == 0 or starts[row, column]:
                        found.append([])
                    found[-1].append(row * present.shape[1] + column)
        return found

    return places


@pytest.fixture(scope="session")
def batch_of():
    """Return the function that draws which events are present, and where sequences start; both (batch, time)."""

    def draw(seed, batch, time):
        random_state = np.random.RandomState(seed)
        present = np.arange(time) < random_state.randint(0, time + 1, size=(batch, 1))
        return torch.from_numpy(present), torch.from_numpy(random_state.uniform(size=present.shape) < 0.3)

    return draw
