"""Layers run over each session by itself, the GRU's other last steps, and attention whose newest value differs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.layers.attention import triangle_attention
from spotlight_asars.layers.padding import by_session
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM

moderate = settings(max_examples=30, deadline=None)


def seeded(kind, *sizes):
    torch.manual_seed(0)
    return kind(*sizes).double()


def sessions_of(starts):
    """(row, slice) of each session; a row that begins inside one begins it there."""
    for row, marks in enumerate(np.asarray(starts)):
        begins = [0, *(step for step in range(1, len(marks)) if marks[step])]
        for begin, end in zip(begins, [*begins[1:], len(marks)], strict=True):
            yield row, slice(begin, end)


def one_by_one(layer, starts, *inputs):
    """What by_session promises, a session at a time."""
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
        """Running sums start anew, also where a row begins inside a session."""
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


class TestGRU:
    @staticmethod
    def by_loop(gru, inputs):
        """States (time, hidden) of one row, gate by gate."""
        weight, recurrent, bias, recurrent_bias = (
            getattr(gru, name).detach().numpy() for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        )
        hidden, states = np.zeros(gru.hidden_size), []
        for step in inputs:
            reset, update, new = np.split(weight @ step + bias, 3)
            past_reset, past_update, past_new = np.split(recurrent @ hidden + recurrent_bias, 3)
            reset, update = (1 / (1 + np.exp(-gate)) for gate in (reset + past_reset, update + past_update))
            hidden = (1 - update) * np.tanh(new + reset * past_new) + update * hidden
            states.append(hidden)
        return np.array(states)

    @pytest.mark.parametrize("batch, time", [(1, 1), (3, 6)])
    def test_with_newest_equals_the_loop_on_each_prefix_with_its_last_input_replaced(self, batch, time):
        gru = seeded(EventGRU, 3, 4)
        inputs, newest = torch.randn(2, batch, time, 3, dtype=torch.float64).unbind()
        states, newest_states = gru.with_newest(inputs, newest)
        assert states.shape == newest_states.shape == (batch, time, 4)
        for row in range(batch):
            plain = self.by_loop(gru, inputs[row].numpy())
            np.testing.assert_allclose(states[row].detach().numpy(), plain, atol=1e-12)
            for step in range(time):
                replaced = np.concatenate([inputs[row, :step].numpy(), newest[row, step : step + 1].numpy()])
                reference = self.by_loop(gru, replaced)[-1]
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


def attention_by_loop(scores, values, present, current_scores, segments, current_values):
    """One step of one row at a time; all tensors in float64."""
    rows = []
    for row in range(len(scores)):
        steps = []
        for step in range(scores.shape[1]):
            past = [k for k in range(step + 1) if present[row, k] and segments[row, k] == segments[row, step]]
            if not past:
                steps.append(values.new_zeros(values.shape[2]))
                continue
            logits = torch.stack([(current_scores if k == step else scores)[row, k] for k in past])
            mixed = torch.stack([(current_values if k == step else values)[row, k] for k in past])
            steps.append(logits.softmax(dim=0) @ mixed)
        rows.append(torch.stack(steps))
    return torch.stack(rows)


class TestCurrentValues:
    @moderate
    @given(
        seed=st.integers(0, 10**6),
        time=st.integers(1, 12),
        options=st.sampled_from([{}, {"form": "dense"}, *({"chunk_size": size} for size in (1, 3, 64))]),
        padding=st.sampled_from([0.0, 0.4, 1.0]),
        session_start=st.sampled_from([0.0, 0.3, 1.0]),
    )
    def test_both_forms_and_their_gradients_equal_the_loop(self, seed, time, options, padding, session_start):
        torch.manual_seed(seed)
        scores, current_scores, *_ = leaves = [torch.randn(2, time, dtype=torch.float64) for _ in range(2)]
        leaves += [torch.randn(2, time, 3, dtype=torch.float64) for _ in range(2)]
        scores, current_scores, values, current_values = (leaf.requires_grad_() for leaf in leaves)
        present = torch.rand(2, time) >= padding
        segments = (torch.rand(2, time) < session_start).long().cumsum(dim=1)
        found = triangle_attention(scores, values, present, current_scores, segments, current_values, **options)
        wanted = attention_by_loop(scores, values, present, current_scores, segments, current_values)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
        upstream = torch.randn(2, time, 3, dtype=torch.float64)
        gradients = torch.autograd.grad(found, leaves, upstream)
        if present.any():
            others = torch.autograd.grad(wanted, leaves, upstream, allow_unused=True, materialize_grads=True)
            for one, other in zip(gradients, others, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
        else:
            assert all(not gradient.any() for gradient in gradients)

    @pytest.mark.parametrize("options", [{}, {"form": "dense"}, {"chunk_size": 2}], ids=str)
    def test_worked_by_hand(self, options):
        """With equal scores each step is the mean of the past values and of its own current one."""
        scores, present = torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)
        values = torch.tensor([[1.0, 2.0, 3.0, 4.0]])[:, :, None]
        mixed = triangle_attention(scores, values, present, current_values=10 * values, **options)
        assert mixed[0, :, 0].tolist() == pytest.approx([10.0, 21 / 2, 33 / 3, 46 / 4])

    def test_as_many_steps_as_several_chunks_of_the_default_size(self):
        torch.manual_seed(0)
        scores, present = 30.0 * torch.randn(2, 300), torch.rand(2, 300) < 0.8
        values, current = torch.randn(2, 2, 300, 4).unbind()
        segments = (torch.rand(2, 300) < 0.01).long().cumsum(dim=1)
        linear, dense = (
            triangle_attention(scores, values, present, scores + 1, segments, current, form=form)
            for form in ("linear", "dense")
        )
        torch.testing.assert_close(linear, dense, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("options", [{}, {"form": "dense"}, {"chunk_size": 3}], ids=str)
    def test_the_value_of_the_newest_step_does_not_enter_not_even_by_rounding(self, options):
        """Regression: it was taken off again after it had been added, and moved the last bits."""
        torch.manual_seed(0)
        scores, present, values = torch.randn(2, 8), torch.ones(2, 8, dtype=torch.bool), torch.randn(2, 8, 5)
        current, moved = torch.randn(2, 8, 5), values.clone()
        moved[:, 4] *= 1000.0
        first, second = (
            triangle_attention(scores, value, present, current_values=current, **options) for value in (values, moved)
        )
        assert torch.equal(first[:, :5], second[:, :5]) and not torch.allclose(first[:, 5:], second[:, 5:])


@pytest.mark.parametrize("options", [{}, {"form": "dense"}, {"chunk_size": 4}, {"chunk_size": 64}])
def test_a_slope_is_added_once_for_each_step(options):
    draw = torch.Generator().manual_seed(0)
    scores, current = (torch.randn(3, 17, generator=draw, dtype=torch.float64) for _ in range(2))
    values = torch.randn(3, 17, 2, generator=draw, dtype=torch.float64)
    present = torch.rand(3, 17, generator=draw) < 0.8
    segments = (torch.rand(3, 17, generator=draw) < 0.2).long().cumsum(dim=1)
    slope = torch.tensor(-0.7, dtype=torch.float64, requires_grad=True)
    rise = slope * torch.arange(17)  # (time,)
    wanted = triangle_attention(scores + rise, values, present, current + rise, segments, form="dense")
    found = triangle_attention(scores, values, present, current, segments, slope=slope, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad((one * values).sum(), slope, retain_graph=True)[0] for one in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("slope", [2.0, -2.0])
def test_a_slope_costs_no_digits_over_a_long_row(slope):
    torch.manual_seed(0)
    scores, values = torch.randn(1, 20_000), torch.randn(1, 20_000, 3)
    everything = torch.ones(1, 20_000, dtype=torch.bool)
    found = triangle_attention(scores, values, everything, slope=torch.tensor(slope))[0, -5:]
    weights = scores.double()[0] + slope * torch.arange(20_000, dtype=torch.float64)
    for step, row in zip(range(19_996, 20_001), found, strict=True):
        share = weights[:step].softmax(dim=0)
        torch.testing.assert_close(row, (share @ values[0, :step].double()).float(), rtol=1e-5, atol=1e-6)
