"""Recurrent layers over events and their recurrences, against slow loops, torch's layers and finite differences."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.layers.padding import PackedSteps
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM, GRURecurrence, lstm_recurrence, previous_states

moderate = settings(max_examples=40, deadline=None)


def seeded(layer, *sizes):
    torch.manual_seed(0)
    return layer(*sizes).double()


def lstm_by_loop(lstm, inputs):
    """States (time, hidden) of one row, gate by gate."""
    weight, recurrent = lstm.weight_ih_l0.detach().numpy(), lstm.weight_hh_l0.detach().numpy()
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach().numpy()
    hidden = cell = np.zeros(lstm.hidden_size)
    states = []
    for step in inputs:
        gates = weight @ step + recurrent @ hidden + bias
        entry, forget, candidate, output = np.split(gates, 4)
        cell = cell / (1 + np.exp(-forget)) + np.tanh(candidate) / (1 + np.exp(-entry))
        hidden = np.tanh(cell) / (1 + np.exp(-output))
        states.append(hidden)
    return np.array(states)


def gru_by_loop(gru, inputs):
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


class TestEventLSTM:
    @pytest.mark.parametrize("batch, time", [(1, 1), (3, 6)])
    def test_with_newest_equals_the_lstm_on_each_prefix_with_its_last_input_replaced(self, batch, time):
        lstm = seeded(EventLSTM, 3, 4)
        inputs, newest = torch.randn(2, batch, time, 3, dtype=torch.float64).unbind()
        states, newest_states = lstm.with_newest(inputs, newest)
        assert states.shape == newest_states.shape == (batch, time, 4)
        for row in range(batch):
            plain = lstm_by_loop(lstm, inputs[row].numpy())
            np.testing.assert_allclose(states[row].detach().numpy(), plain, atol=1e-12)
            for step in range(time):
                replaced = np.concatenate([inputs[row, :step].numpy(), newest[row, step : step + 1].numpy()])
                reference = lstm_by_loop(lstm, replaced)[-1]
                np.testing.assert_allclose(newest_states[row, step].detach().numpy(), reference, atol=1e-12)

    def test_plain_states_and_gradients_equal_those_of_the_torch_layer(self):
        lstm = seeded(EventLSTM, 3, 4)
        plain = torch.nn.LSTM(3, 4, batch_first=True).double()
        plain.load_state_dict(lstm.state_dict())
        inputs = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
        results = [plain(inputs)[0], lstm(inputs), lstm.with_newest(inputs, torch.zeros_like(inputs))[0]]
        gradients = [torch.autograd.grad(states.sin().sum(), inputs)[0] for states in results]
        for states, gradient in zip(results[1:], gradients[1:], strict=True):
            torch.testing.assert_close(states, results[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-12)

    def test_newest_inputs_broadcast_and_equal_ones_change_nothing(self):
        lstm = seeded(EventLSTM, 3, 4)
        inputs, one = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(1, 1, 3, dtype=torch.float64)
        torch.testing.assert_close(lstm.with_newest(inputs, one), lstm.with_newest(inputs, one.expand_as(inputs)))
        states, newest_states = lstm.with_newest(inputs, inputs)
        torch.testing.assert_close(newest_states, states, rtol=0, atol=0)

    def test_gradients_pass_through_the_newest_input(self):
        lstm = seeded(EventLSTM, 2, 2)
        inputs, newest = torch.randn(2, 2, 3, 2, dtype=torch.float64).unbind()
        assert torch.autograd.gradcheck(lstm.with_newest, (inputs.requires_grad_(), newest.requires_grad_()))


class TestEventGRU:
    @pytest.mark.parametrize("batch, time", [(1, 1), (3, 6)])
    def test_with_newest_equals_the_loop_on_each_prefix_with_its_last_input_replaced(self, batch, time):
        gru = seeded(EventGRU, 3, 4)
        inputs, newest = torch.randn(2, batch, time, 3, dtype=torch.float64).unbind()
        states, newest_states = gru.with_newest(inputs, newest)
        assert states.shape == newest_states.shape == (batch, time, 4)
        for row in range(batch):
            plain = gru_by_loop(gru, inputs[row].numpy())
            np.testing.assert_allclose(states[row].detach().numpy(), plain, atol=1e-12)
            for step in range(time):
                replaced = np.concatenate([inputs[row, :step].numpy(), newest[row, step : step + 1].numpy()])
                reference = gru_by_loop(gru, replaced)[-1]
                np.testing.assert_allclose(newest_states[row, step].detach().numpy(), reference, atol=1e-12)

    def test_newest_inputs_broadcast_and_equal_ones_change_nothing(self):
        gru = seeded(EventGRU, 3, 4)
        inputs, one = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(1, 1, 3, dtype=torch.float64)
        torch.testing.assert_close(gru.with_newest(inputs, one), gru.with_newest(inputs, one.expand_as(inputs)))
        states, newest_states = gru.with_newest(inputs, inputs)
        torch.testing.assert_close(newest_states, states, rtol=0, atol=1e-12)

    def test_gradients_pass_through_both_inputs(self):
        gru = seeded(EventGRU, 2, 2)
        inputs, newest = torch.randn(2, 2, 3, 2, dtype=torch.float64).unbind()
        assert torch.autograd.gradcheck(gru.with_newest, (inputs.requires_grad_(), newest.requires_grad_()))

    def test_gru_gives_the_states_of_the_torch_layer(self):
        gru = seeded(EventGRU, 3, 4)
        plain = torch.nn.GRU(3, 4, batch_first=True).double()
        plain.load_state_dict(gru.state_dict())
        inputs = torch.randn(2, 5, 3, dtype=torch.float64)
        torch.testing.assert_close(gru(inputs), plain(inputs)[0], rtol=0, atol=0)


def weights_and_inputs(kinds, batch, time, inputs=3, hidden=4):
    torch.manual_seed(0)
    shapes = [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    weights = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return weights, [torch.randn(batch, time, inputs, dtype=torch.float64, requires_grad=True) for _ in range(kinds)]


def by_cells(kinds, weights):
    """The reference by ``torch.lstm_cell``, differentiated by torch."""
    batch, hidden = len(kinds[0]), weights[1].shape[1]
    past = (kinds[0].new_zeros(batch, hidden),) * 2
    found = []
    for step in range(kinds[0].shape[1]):
        after = [torch.lstm_cell(kind[:, step], past, *weights) for kind in kinds]
        found.append(torch.stack([state for state, _ in after]))
        past = after[0]
    return torch.stack(found, dim=2).unbind(0)  # (batch, time, hidden) each


class TestLSTMRecurrence:
    @pytest.mark.parametrize("kinds", [1, 2, 3])
    @pytest.mark.parametrize("batch, time", [(1, 1), (3, 1), (1, 5), (3, 4)])
    def test_states_and_all_gradients_equal_those_of_torch(self, kinds, batch, time):
        weights, inputs = weights_and_inputs(kinds, batch, time)
        results = [lstm_recurrence(inputs, weights), by_cells(inputs, weights)]
        for states in results:
            assert [one.shape for one in states] == [(batch, time, 4)] * kinds
        slopes = torch.randn(kinds, batch, time, 4, dtype=torch.float64)
        gradients = [
            torch.autograd.grad((torch.stack(states) * slopes).sum(), [*weights, *inputs]) for states in results
        ]
        for ours, theirs in [*zip(*results, strict=True), *zip(*gradients, strict=True)]:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    def test_only_what_is_asked_for_has_a_gradient(self):
        weights, inputs = weights_and_inputs(2, 2, 3)
        states = lstm_recurrence([one.detach() for one in inputs], weights)
        states[1].sum().backward()
        assert all(weight.grad is not None for weight in weights) and inputs[0].grad is None

    def test_another_kind_of_input_does_not_enter_the_states_that_follow(self):
        weights, (first, other) = weights_and_inputs(2, 2, 6)
        with torch.no_grad():
            plain, moved = lstm_recurrence([first, other], weights), lstm_recurrence([first, 1000.0 * other], weights)
        torch.testing.assert_close(moved[0], plain[0], rtol=0, atol=0)

    def test_what_is_given_stays_as_it_was(self):
        weights, inputs = weights_and_inputs(2, 2, 3)
        before = [one.detach().clone() for one in [*weights, *inputs]]
        torch.stack(lstm_recurrence(inputs, weights)).sum().backward()
        for one, was in zip([*weights, *inputs], before, strict=True):
            torch.testing.assert_close(one.detach(), was, rtol=0, atol=0)

    @pytest.mark.parametrize("batch, time", [(0, 3), (2, 0)])
    def test_empty_axes(self, batch, time):
        weights, inputs = weights_and_inputs(2, batch, time)
        states = torch.stack(lstm_recurrence(inputs, weights))
        assert states.shape == (2, batch, time, 4)
        states.sum().backward()
        assert all(weight.grad.eq(0).all() for weight in weights)


class TestStepByStep:
    @moderate
    @given(seed=st.integers(0, 10**6), batch=st.integers(1, 5), time=st.integers(1, 7))
    def test_states_are_those_of_each_sequence_alone(self, sequences_of, batch_of, seed, batch, time):
        present, starts = batch_of(seed, batch, time)
        torch.manual_seed(seed)
        gru, inputs = EventGRU(3, 4).double(), torch.randn(batch, time, 3, dtype=torch.float64)
        steps = PackedSteps.of(present, starts)
        (states,) = gru.step_by_step(steps.counts, steps.take(inputs))
        found = steps.put(states, batch, time).flatten(0, 1)  # (batch * time, hidden)
        for places in sequences_of(starts, present):
            expected = gru_by_loop(gru, inputs.flatten(0, 1)[places].numpy())
            torch.testing.assert_close(found[places], torch.from_numpy(expected), rtol=0, atol=1e-12)

    @moderate
    @given(seed=st.integers(0, 10**6))
    def test_newest_inputs_and_all_gradients_equal_those_of_the_padded_layer(self, batch_of, seed):
        present, _ = batch_of(seed, 4, 6)
        torch.manual_seed(seed)
        gru = EventGRU(3, 4).double()
        inputs, newest = (torch.randn(4, 6, 3, dtype=torch.float64).requires_grad_() for _ in range(2))
        upstream = torch.randn(2, 4, 6, 4, dtype=torch.float64) * present[:, :, None]
        steps = PackedSteps.of(present)
        packed = gru.step_by_step(steps.counts, steps.take(inputs), steps.take(newest))
        found = torch.stack([steps.put(one, 4, 6) for one in packed])
        expected = torch.stack(gru.with_newest(inputs, newest)) * present[:, :, None]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        gradients = (
            torch.autograd.grad((one * upstream).sum(), [inputs, newest, *gru.parameters()])
            for one in (found, expected)
        )
        for one, other in zip(*gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("counts", [[4, 3, 3, 1], [2], [1, 1, 1]])
def test_gradients_are_those_of_finite_differences(counts):
    torch.manual_seed(0)
    given, recurrent, bias = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((sum(counts), 6), (6, 2), (6,))
    )
    assert torch.autograd.gradcheck(lambda *own: GRURecurrence.apply(*own, counts), (given, recurrent, bias))


def test_the_state_before_is_that_of_the_same_sequence():
    states = torch.arange(1.0, 8.0)[:, None]
    assert previous_states(states, [3, 2, 2])[:, 0].tolist() == [0, 0, 0, 1, 2, 4, 5]
    assert previous_states(states[:0], []).shape == (0, 1)
