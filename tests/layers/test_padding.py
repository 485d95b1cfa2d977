"""Rows of unequal length: padding removed and restored, packed steps, and layers run session by session."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.layers.padding import PackedSteps, at_positions, by_session, entries_of, picked, without_padding
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM

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
    # A state that depends on all events seen: running sums of a weighted sum of channels.
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


@moderate
@given(seed=st.integers(0, 10**6), batch=st.integers(0, 5), time=st.integers(0, 7), whole=st.booleans())
def test_steps_hold_each_event_once_and_the_longest_sequence_first(sequences_of, batch_of, seed, batch, time, whole):
    present, starts = batch_of(seed, batch, time)
    steps = PackedSteps.of(present, None if whole else starts)
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


def seeded(layer, *sizes):
    torch.manual_seed(0)
    return layer(*sizes).double()


def sessions_of(starts):
    """Yield (row, slice) of each session; every row begins one."""
    for row, marks in enumerate(np.asarray(starts)):
        begins = [0, *(step for step in range(1, len(marks)) if marks[step])]
        for begin, end in zip(begins, [*begins[1:], len(marks)], strict=True):
            yield row, slice(begin, end)


def one_by_one(layer, starts, *inputs):
    """Return the result of by_session, one session at a time."""
    results = None
    for row, part in sessions_of(starts):
        found = layer(*(tensor[row : row + 1, part] for tensor in inputs))
        found = (found,) if isinstance(found, torch.Tensor) else found
        if results is None:
            results = [inputs[0].new_zeros(*starts.shape, one.shape[2]) for one in found]
        for result, one in zip(results, found, strict=True):
            result[row, part] = one[0]
    return results


each_recurrent = pytest.mark.parametrize("kind", [EventLSTM, EventGRU])


class TestBySession:
    def test_worked_by_hand(self):
        """Running sums restart, also where a row begins inside a session."""
        starts = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 1, 0]])
        values = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]])[:, :, None]
        result = by_session(lambda rows: rows.cumsum(dim=1), starts, values)
        assert result[:, :, 0].tolist() == [[1, 3, 6, 4, 9], [6, 13, 8, 9, 19]]

    @each_recurrent
    @moderate
    @given(
        seed=st.integers(0, 10**6),
        batch=st.integers(1, 4),
        time=st.integers(1, 9),
        share=st.sampled_from([0.0, 0.3, 1.0]),
        as_bool=st.booleans(),
    )
    def test_states_and_gradients_equal_each_session_alone(self, kind, seed, batch, time, share, as_bool):
        layer = seeded(kind, 2, 3)
        torch.manual_seed(seed)
        starts = torch.rand(batch, time) < share
        starts = starts if as_bool else starts.long()
        inputs, newest = (torch.randn(batch, time, 2, dtype=torch.float64).requires_grad_() for _ in range(2))
        upstream = torch.randn(batch, time, 3, dtype=torch.float64)
        found = [by_session(layer, starts, inputs), *by_session(layer.with_newest, starts, inputs, newest)]
        wanted = one_by_one(layer, starts, inputs) + one_by_one(layer.with_newest, starts, inputs, newest)
        leaves = [inputs, newest, *layer.parameters()]
        for one, other in zip(found, wanted, strict=True):
            assert one.shape == (batch, time, 3)
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        gradients, others = (
            torch.autograd.grad(sum((states.sin() * upstream).sum() for states in results), leaves)
            for results in (found, wanted)
        )
        for one, other in zip(gradients, others, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
    def test_what_is_given_stays_as_it_was(self, dtype):
        starts = torch.tensor([[0, 0, 1], [0, 1, 0]], dtype=dtype)
        values = torch.ones(2, 3, 1)
        before = starts.clone(), values.clone()
        by_session(lambda rows: rows.mul_(7.0), starts, values)  # a layer may write into what it is given
        assert torch.equal(starts, before[0]) and torch.equal(values, before[1])

    def test_sessions_are_padded_behind_to_the_longest_only(self):
        shapes = []

        def layer(rows):
            shapes.append(rows.shape)
            assert not rows[1:, 1:].any()
            return rows

        values = torch.arange(1.0, 9.0).view(2, 4, 1)
        result = by_session(layer, torch.tensor([[1, 0, 0, 1], [1, 1, 1, 1]]), values)
        assert shapes == [(6, 3, 1)]
        assert torch.equal(result, values)
