"""Padding taken out of a batch and put back, and states picked from it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.layers.padding import at_positions, entries_of, picked, without_padding

moderate = settings(max_examples=50, deadline=None)


def test_padding_in_the_middle_is_taken_out_in_order():
    events = torch.tensor([[[0, 8], [3, 1], [0, 9], [5, 2]], [[0, 0], [0, 0], [0, 0], [7, 4]]])
    before = events.clone()
    front, seen = without_padding(events)
    assert front.tolist() == [[[3, 1], [5, 2]], [[7, 4], [0, 0]]]
    assert seen.tolist() == [[0, 0, 1, 1, 2], [0, 0, 0, 0, 1]]
    assert torch.equal(events, before)
    states = torch.tensor([[[0.0], [3.0], [5.0]], [[0.0], [7.0], [-1.0]]])
    assert at_positions(states, seen)[:, :, 0].tolist() == [[0, 0, 3, 3, 5], [0, 0, 0, 0, 7]]


@moderate
@given(seed=st.integers(0, 10**6), batch=st.integers(0, 4), length=st.integers(0, 8), padding=st.floats(0, 1))
def test_states_return_to_their_positions(seed, batch, length, padding):
    random_state = np.random.RandomState(seed)
    items = random_state.randint(1, 50, (batch, length)) * (random_state.uniform(size=(batch, length)) >= padding)
    events = torch.tensor(np.stack([items, random_state.randint(9, size=items.shape)], axis=2))
    front, seen = without_padding(events)
    assert front.shape == (batch, max(((row != 0).sum() for row in items), default=0), 2)
    # A state that says all that was seen: running sums of a weighted sum of channels.
    weights = torch.tensor([[100, 1], [1, 7]])
    states = torch.nn.functional.pad((front @ weights).cumsum(dim=1), (0, 0, 1, 0))  # (batch, time + 1, 2)
    result = at_positions(states, seen)
    assert result.shape == (batch, length + 1, 2)
    for row in range(batch):
        real = [event for event in events[row] if event[0] != 0]
        assert [event.tolist() for event in front[row, : len(real)]] == [event.tolist() for event in real]
        assert not front[row, len(real) :].any()
        for position in range(length + 1):
            past = [event for event in events[row, :position] if event[0] != 0]
            expected = sum((event @ weights for event in past), torch.zeros(2, dtype=torch.long))
            assert torch.equal(result[row, position], expected)


def test_what_has_no_padding_is_as_it_was():
    events = torch.tensor([[[3, 1], [5, 2]], [[7, 4], [2, 2]]])
    front, seen = without_padding(events)
    assert torch.equal(front, events)
    assert seen.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_picked_states_and_their_gradients_are_those_of_an_index():
    states = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    for places in ([4, 0, 5], [2, -1, 0, -1], [-1], []):
        places = torch.tensor(places, dtype=torch.long)
        there = (places >= 0)[:, None]
        found, expected = picked(states, places), states[places.clamp(min=0)] * there
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        slope = torch.randn_like(found)
        gradients = (torch.autograd.grad((one * slope).sum(), states)[0] for one in (found, expected))
        torch.testing.assert_close(*gradients, rtol=0, atol=0)


@pytest.mark.parametrize("lengths", [[], [0], [2, 0, 3], [1, 1]])
def test_entries_of_lists_are_those_of_two_loops(lengths):
    owner, place = entries_of(torch.tensor(lengths, dtype=torch.long))
    wanted = [(number, k) for number, length in enumerate(lengths) for k in range(length)]
    assert list(zip(owner.tolist(), place.tolist(), strict=True)) == wanted
