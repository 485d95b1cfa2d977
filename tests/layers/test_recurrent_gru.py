"""The GRU over sequences of unequal length, against a slow loop and by finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.layers.padding import Steps
from spotlight_asars.layers.recurrent import EventGRU, GruWalk, states_before

moderate = settings(max_examples=40, deadline=None)


def sequences_of(starts, present):
    """Places of the events of each sequence, row by row."""
    found = []
    for row in range(len(present)):
        for column in range(present.shape[1]):
            if present[row, column]:
                if column == 0 or starts[row, column]:
                    found.append([])
                found[-1].append(row * present.shape[1] + column)
    return found


def states_by_loop(gru, inputs):
    """States (time, hidden) of one sequence, gate by gate."""
    weight, recurrent, bias, recurrent_bias = (
        getattr(gru, name).detach().numpy() for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    )
    state, states = np.zeros(gru.hidden_size), []
    for one in inputs:
        given, past = np.split(weight @ one + bias, 3), np.split(recurrent @ state + recurrent_bias, 3)
        reset, update = (1.0 / (1.0 + np.exp(-given[gate] - past[gate])) for gate in (0, 1))
        candidate = np.tanh(given[2] + reset * past[2])
        state = candidate + update * (state - candidate)
        states.append(state)
    return np.stack(states)


def batch_of(seed, batch, time):
    """Which events there are, behind nothing missing, and where sequences start; both (batch, time)."""
    random_state = np.random.RandomState(seed)
    present = np.arange(time) < random_state.randint(0, time + 1, size=(batch, 1))
    return torch.from_numpy(present), torch.from_numpy(random_state.uniform(size=present.shape) < 0.3)


@moderate
@given(seed=st.integers(0, 10**6), batch=st.integers(0, 5), time=st.integers(0, 7), whole=st.booleans())
def test_steps_hold_each_event_once_and_the_longest_sequence_first(seed, batch, time, whole):
    present, starts = batch_of(seed, batch, time)
    steps = Steps.of(present, None if whole else starts)
    wanted = sequences_of(torch.zeros_like(starts) if whole else starts, present)
    assert sorted(steps.counts, reverse=True) == steps.counts
    assert steps.counts == [sum(len(one) > step for one in wanted) for step in range(len(steps.counts))]
    split = steps.place.split(steps.counts)
    rows = [[int(step[rank]) for step in split if rank < len(step)] for rank in range(max(steps.counts, default=0))]
    assert sorted(rows) == sorted(wanted)
    longest = max(map(len, wanted), default=0)
    assert steps.share_of_padding == pytest.approx(1 - sum(map(len, wanted)) / max(longest * len(wanted), 1))
    values = torch.arange(batch * time, dtype=torch.float64).view(batch, time, 1) + 1.0
    assert torch.equal(steps.put(steps.take(values), batch, time), values * present[:, :, None])


@moderate
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 5), time=st.integers(1, 7))
def test_states_are_those_of_each_sequence_alone(seed, batch, time):
    present, starts = batch_of(seed, batch, time)
    torch.manual_seed(seed)
    gru, inputs = EventGRU(3, 4).double(), torch.randn(batch, time, 3, dtype=torch.float64)
    steps = Steps.of(present, starts)
    (states,) = gru.step_by_step(steps.counts, steps.take(inputs))
    found = steps.put(states, batch, time).flatten(0, 1)  # (batch * time, hidden)
    for places in sequences_of(starts, present):
        expected = states_by_loop(gru, inputs.flatten(0, 1)[places].numpy())
        torch.testing.assert_close(found[places], torch.from_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("counts", [[4, 3, 3, 1], [2], [1, 1, 1]])
def test_gradients_are_those_of_finite_differences(counts):
    torch.manual_seed(0)
    given, recurrent, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((sum(counts), 6), (6, 2), (6,))
    )
    assert torch.autograd.gradcheck(lambda *own: GruWalk.apply(*own, counts), (given, recurrent, bias))


@moderate
@given(seed=st.integers(0, 10**6))
def test_other_newest_inputs_and_all_gradients_equal_those_of_the_padded_layer(seed):
    present, _ = batch_of(seed, 4, 6)
    torch.manual_seed(seed)
    gru = EventGRU(3, 4).double()
    inputs, newest = (torch.randn(4, 6, 3, dtype=torch.float64).requires_grad_() for _ in range(2))
    upstream = torch.randn(2, 4, 6, 4, dtype=torch.float64) * present[:, :, None]
    steps = Steps.of(present)
    packed = gru.step_by_step(steps.counts, steps.take(inputs), steps.take(newest))
    found = torch.stack([steps.put(one, 4, 6) for one in packed])
    expected = torch.stack(gru.with_newest(inputs, newest)) * present[:, :, None]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    gradients = (
        torch.autograd.grad((one * upstream).sum(), [inputs, newest, *gru.parameters()]) for one in (found, expected)
    )
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_the_state_before_is_that_of_the_same_sequence():
    states = torch.arange(1.0, 8.0)[:, None]
    assert states_before(states, [3, 2, 2])[:, 0].tolist() == [0, 0, 0, 1, 2, 4, 5]
    assert states_before(states[:0], []).shape == (0, 1)
