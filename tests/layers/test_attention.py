"""Triangle attention and its three forms, against slow loops in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from spotlight_asars.layers import attention
from spotlight_asars.layers.attention import RunningMixture, are_small, triangle_attention, triangle_weights

moderate = settings(max_examples=50, deadline=None)


def attention_by_loop(scores, values, present, current_scores, segments, upstream):
    """
    Output, and gradients of ``sum(upstream * output)`` in scores, values and current scores, one step at a time.

    From dL/d logit_tk = w_tk * upstream_t . (v_k - q_t); the logit of the newest event is its current score.
    """
    batch, time = scores.shape
    mixed = np.zeros_like(values)
    grad_scores, grad_values, grad_current = np.zeros_like(scores), np.zeros_like(values), np.zeros_like(scores)
    for row in range(batch):
        for step in range(time):
            past = [k for k in range(step + 1) if present[row, k] and segments[row, k] == segments[row, step]]
            if not past:
                continue
            logits = np.array([current_scores[row, k] if k == step else scores[row, k] for k in past])
            weights = np.exp(logits - logits.max())
            weights /= weights.sum()
            mixed[row, step] = weights @ values[row, past]
            grad_values[row, past] += weights[:, None] * upstream[row, step]
            grad_logits = weights * ((values[row, past] - mixed[row, step]) @ upstream[row, step])
            if past[-1] == step:
                grad_current[row, step] = grad_logits[-1]
                past, grad_logits = past[:-1], grad_logits[:-1]
            grad_scores[row, past] += grad_logits
    return mixed, grad_scores, grad_values, grad_current


def attention_and_gradients(scores, values, present, current_scores, segments, upstream, dtype, **options):
    tensors = [torch.tensor(array, dtype=dtype, requires_grad=True) for array in (scores, values, current_scores)]
    mixed = triangle_attention(
        tensors[0], tensors[1], torch.tensor(present), tensors[2], torch.tensor(segments), **options
    )
    gradients = torch.autograd.grad(mixed, tensors, torch.tensor(upstream, dtype=dtype))
    return [result.detach().double().numpy() for result in (mixed, *gradients)]


def attention_case(seed, batch, time, dim, scale=1.0, padding=0.3, session_start=0.2):
    """Random scores (near +-scale), values, padding anywhere, current scores, segments and upstream gradient."""
    random_state = np.random.RandomState(seed)

    def draw_scores():
        return random_state.choice([-scale, scale], (batch, time)) + random_state.normal(size=(batch, time))

    return (
        draw_scores(),
        random_state.normal(size=(batch, time, dim)),
        random_state.uniform(size=(batch, time)) >= padding,
        draw_scores(),
        np.cumsum(random_state.uniform(size=(batch, time)) < session_start, axis=1),
        random_state.normal(size=(batch, time, dim)),
    )


def attend(scores, values, present=None, **options):
    """One row through the attention, as a list of outputs of dim 1."""
    scores = torch.tensor([scores], dtype=torch.float64)
    values = torch.tensor([values], dtype=torch.float64)[:, :, None]
    present = torch.ones_like(scores, dtype=torch.bool) if present is None else torch.tensor([present])
    options = {name: torch.tensor([o]) if isinstance(o, list) else o for name, o in options.items()}
    return triangle_attention(scores, values, present, **options)[0, :, 0].tolist()


each_form = pytest.mark.parametrize(
    "options", [{}, {"form": "dense"}, *({"chunk_size": size} for size in (1, 2, 3, 64))], ids=str
)
LOGS = [math.log(1.0), math.log(2.0), math.log(3.0)]


@each_form
def test_attention_worked_by_hand(options):
    assert attend(LOGS, [6.0, 12.0, 30.0], **options) == pytest.approx([6.0, 10.0, 20.0])


@each_form
def test_padding_takes_no_weight_wherever_it_stands(options):
    assert attend(LOGS, [6.0, 12.0, 30.0], [False, True, True], **options) == pytest.approx([0.0, 12.0, 114.0 / 5.0])
    assert attend(LOGS, [6.0, 12.0, 30.0], [True, False, True], **options) == pytest.approx([6.0, 6.0, 24.0])
    assert attend(LOGS, [6.0, 12.0, 30.0], [True, True, False], **options) == pytest.approx([6.0, 10.0, 10.0])


@each_form
def test_later_events_take_no_weight_even_where_scores_are_far_below_zero(options):
    # The zeros of Eq. 18 inside a softmax would win against these scores.
    assert attend([-100.0, -100.0, -100.0], [3.0, 9.0, 0.0], **options) == pytest.approx([3.0, 6.0, 4.0])


@each_form
def test_the_newest_event_counts_with_its_own_score_only_while_it_is_the_newest(options):
    # Step 1: weights 1 and 4; step 2: weights 1, 2 and 7.
    current = [50.0, math.log(4.0), math.log(7.0)]
    expected = [6.0, 54.0 / 5.0, 24.0]
    assert attend(LOGS, [6.0, 12.0, 30.0], current_scores=current, **options) == pytest.approx(expected)


@each_form
def test_a_segment_starts_anew(options):
    assert attend(LOGS, [6.0, 12.0, 30.0], segments=[4, 9, 9], **options) == pytest.approx([6.0, 12.0, 114.0 / 5.0])


@moderate
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 3),
    time=st.integers(1, 14),
    options=st.sampled_from([{}, {"form": "dense"}, *({"chunk_size": size} for size in (1, 3, 5, 64))]),
    scale=st.sampled_from([0.0, 1.0, 100.0]),
    padding=st.sampled_from([0.0, 0.4, 0.8, 1.0]),
    session_start=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_both_forms_and_their_gradients_equal_the_loop(seed, batch, time, options, scale, padding, session_start):
    case = attention_case(seed, batch, time, 2, scale, padding, session_start)
    ours = attention_and_gradients(*case, torch.float64, **options)
    for result, reference in zip(ours, attention_by_loop(*case), strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("session_start", [0.0, 0.01])
def test_2000_steps_with_scores_of_100_in_single_precision(session_start):
    case = attention_case(3, 2, 2000, 4, scale=100.0, session_start=session_start)
    case[2][1, :1500] = False  # 1,500 steps of padding first
    linear = attention_and_gradients(*case, torch.float32)
    dense = attention_and_gradients(*case, torch.float32, form="dense")
    np.testing.assert_allclose(linear[0], dense[0], rtol=0, atol=1e-5)
    for result, other, reference in zip(linear, dense, attention_by_loop(*case), strict=True):
        size = max(1.0, np.abs(reference).max())
        np.testing.assert_allclose(result, other, rtol=0, atol=1e-5 * size)
        # Scores of 100 in single precision are themselves known to 1e-5.
        np.testing.assert_allclose(result, reference, rtol=0, atol=1e-4 * size)


def test_one_score_for_past_and_newest_gets_both_gradients():
    scores, values, present, _, segments, upstream = attention_case(5, 2, 9, 3)
    _, past, _, newest = attention_by_loop(scores, values, present, scores, segments, upstream)
    for options in ({}, {"form": "dense"}, {"chunk_size": 4}):
        leaf = torch.tensor(scores, requires_grad=True)
        mixed = triangle_attention(
            leaf, torch.tensor(values), torch.tensor(present), segments=torch.tensor(segments), **options
        )
        (gradient,) = torch.autograd.grad(mixed, leaf, torch.tensor(upstream))
        np.testing.assert_allclose(gradient.numpy(), past + newest, atol=1e-10)


@pytest.mark.parametrize("options", [{"form": "dense"}, {"chunk_size": 2}, {}], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e6])
def test_rows_of_padding_are_zero_and_their_gradients_are_zero(options, size):
    # Regression: the linear form divided by the smallest normal number, and a gradient above 3 overflowed into NaN.
    case = list(attention_case(7, 3, 5, 2, scale=100.0))
    case[2][:] = [[False] * 5, [False, False, True, True, True], [True] * 5]
    case[4][:] = 0
    case[5] *= size
    mixed, *gradients = attention_and_gradients(*case, torch.float32, **options)
    assert not mixed[0].any() and not mixed[1, :2].any()
    assert all(np.isfinite(gradient).all() and not gradient[0].any() for gradient in gradients)
    assert mixed[2].any() and gradients[1][2].any()


def test_scores_of_padding_may_be_anything():
    scores, values, present, current, segments, upstream = attention_case(8, 2, 7, 2, padding=0.5)
    wrong, wrong_current = (np.where(present, array, np.nan) for array in (scores, current))
    for options in ({}, {"form": "dense"}, {"chunk_size": 3}):
        expected = attention_and_gradients(
            scores, values, present, current, segments, upstream, torch.float64, **options
        )
        ours = attention_and_gradients(
            wrong, values, present, wrong_current, segments, upstream, torch.float64, **options
        )
        for result, reference in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(result, reference)


@moderate
@given(seed=st.integers(0, 10**6), time=st.integers(1, 12), scale=st.sampled_from([1.0, 100.0]))
def test_weights_sum_to_one_or_to_zero_where_nothing_is_present(seed, time, scale):
    scores, _, present, current, segments, _ = attention_case(seed, 2, time, 1, scale, padding=0.5)
    tensors = [torch.tensor(array) for array in (scores, present, current, segments)]
    weights = triangle_weights(*tensors)
    something = [
        [any(present[r, k] and segments[r, k] == segments[r, t] for k in range(t + 1)) for t in range(time)]
        for r in range(2)
    ]
    expected = np.array(something, dtype=np.float64)
    np.testing.assert_allclose(weights.sum(dim=2).numpy(), expected, atol=1e-12)
    assert not weights.triu(1).any() and (weights >= 0).all()
    assert not weights.masked_select(~tensors[1][:, None, :]).any()
    ones = torch.ones(2, time, 1, dtype=torch.float64)
    linear = triangle_attention(tensors[0], ones, *tensors[1:], chunk_size=4)[:, :, 0]
    np.testing.assert_allclose(linear.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("options", [{"form": "dense"}, {}], ids=str)
@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3), (2, 4, 0)])
def test_empty_axes(options, shape):
    scores = torch.zeros(shape[:2])
    assert triangle_attention(scores, torch.zeros(shape), scores == 0, **options).shape == shape


def test_wrong_options_are_errors():
    scores, values = torch.zeros(1, 2), torch.zeros(1, 2, 1)
    with pytest.raises(ValueError, match="form is 'lineer'"):
        triangle_attention(scores, values, scores == 0, form="lineer")
    for size in (0, -1):  # -1 used to give zeros silently
        with pytest.raises(ValueError, match="chunk_size"):
            triangle_attention(scores, values, scores == 0, chunk_size=size)


def saved_for_backward(time, **options):
    """Return the elements of the largest tensor that autograd saves, and of all of them."""
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    scores, values = torch.zeros(2, time, requires_grad=True), torch.zeros(2, time, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        triangle_attention(scores, values, torch.ones(2, time, dtype=torch.bool), scores + 0, **options)
    return max(sizes), sum(sizes)


class Written(TorchDispatchMode):
    """Counts the elements of the results of all torch operations, including the backward pass."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        self.count += given.numel() if isinstance(given, torch.Tensor) else 0
        return given


def written(time, **options):
    scores, values = torch.zeros(1, time, requires_grad=True), torch.zeros(1, time, 4, requires_grad=True)
    with Written() as mode:
        triangle_attention(scores, values, torch.ones(1, time, dtype=torch.bool), **options).sum().backward()
    return mode.count


def test_work_of_the_linear_form_grows_linearly():
    # The gradient of a slice of the row is as long as the row: with one slice per chunk this was 11 times, not 8.
    assert written(4096) <= 8.1 * written(512)
    assert written(4096, form="dense") >= 60 * written(512, form="dense")  # the control


def test_memory_of_the_linear_form_grows_linearly():
    largest, everything = saved_for_backward(256)
    largest_of_more, everything_of_more = saved_for_backward(2048)
    assert largest_of_more <= max(largest, 2 * 2048 * 4)
    assert everything_of_more <= 8.5 * everything
    # The control: the dense form does not.
    assert saved_for_backward(2048, form="dense")[0] >= 64 * saved_for_backward(256, form="dense")[0]


def test_weights_by_hand_where_the_newest_event_is_as_the_others():
    """One session without current scores: a softmax over the events so far."""
    scores = torch.tensor([[0.0, math.log(3.0), 5.0]])
    found = triangle_weights(scores, torch.tensor([[True, True, False]]))
    expected = [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.25, 0.75, 0.0]]
    torch.testing.assert_close(found, torch.tensor([expected]))


def attention_with_current_values(scores, values, present, current_scores, segments, current_values):
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
        wanted = attention_with_current_values(scores, values, present, current_scores, segments, current_values)
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
        """Regression: it was added and subtracted again, which changed the last bits."""
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


def tensors_of(seed, batch, time, dtype=torch.float64, scale=2.0):
    torch.manual_seed(seed)
    scores, newest = (scale * torch.randn(batch, time, dtype=dtype) for _ in range(2))
    return scores.requires_grad_(), newest.requires_grad_(), torch.randn(batch, time, 3, dtype=dtype).requires_grad_()


class TestRunningMixture:
    @moderate
    @given(
        seed=st.integers(0, 10**6),
        batch=st.integers(1, 4),
        time=st.integers(1, 9),
        share=st.sampled_from([0.4, 1.0]),
        scale=st.sampled_from([1.0, 8.0]),
        same=st.booleans(),
    )
    def test_mixtures_and_gradients_are_those_of_the_dense_triangle(self, seed, batch, time, share, scale, same):
        scores, newest, values = tensors_of(seed, batch, time, scale=scale)
        present, upstream = torch.rand(batch, time) < share, torch.randn(batch, time, 3, dtype=torch.float64)
        slope = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        leaves = [scores, values, slope] if same else [scores, newest, values, slope]
        found = []
        for form in ("linear", "dense"):
            current = None if same else newest
            mixed = triangle_attention(scores, values, present, current, form=form, slope=slope)
            found.append([mixed, *torch.autograd.grad((mixed * upstream).sum(), leaves)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)

    def test_gradients_are_those_of_finite_differences(self):
        assert torch.autograd.gradcheck(RunningMixture.apply, tensors_of(0, 2, 5))

    def test_it_runs_only_where_scores_are_small_and_a_row_is_one_session(self, monkeypatch):
        calls = []

        class Seen(RunningMixture):
            @staticmethod
            def apply(*arguments):
                calls.append(len(arguments))
                return RunningMixture.apply(*arguments)

        monkeypatch.setattr(attention, "RunningMixture", Seen)
        scores, newest, values = tensors_of(0, 2, 4)
        present, one = torch.ones(2, 4, dtype=torch.bool), torch.tensor([[1, 1, 1, 1], [3, 3, 3, 3]])
        two = torch.tensor([[1, 1, 1, 1], [3, 3, 4, 4]])
        for segments, apart, chunk_size, wanted in [
            (None, 0.0, None, 1), (one, 0.0, None, 1), (two, 0.0, None, 0), (None, 1e4, None, 0), (None, 0.0, 2, 0),
        ]:  # fmt: skip
            calls.clear()
            far = scores + torch.tensor([apart, 0.0, 0.0, 0.0])
            triangle_attention(far, values, present, newest, segments, chunk_size=chunk_size)
            assert len(calls) == wanted

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_scores_as_large_as_may_be_keep_their_digits(self, dtype):
        most = 39.0 if dtype == torch.float32 else 319.0
        scores = torch.tensor([[0.0, most, -most, 0.5 * most, -most]], dtype=dtype, requires_grad=True)
        newest = torch.tensor([[-most, -most, most, 1.0, most]], dtype=dtype, requires_grad=True)
        values, present = torch.randn(1, 5, 2, dtype=dtype, requires_grad=True), torch.ones(1, 5, dtype=torch.bool)
        assert are_small(scores, newest) and not are_small(scores, 1.1 * newest)
        found = []
        for form in ("linear", "dense"):
            mixed = triangle_attention(scores, values, present, newest, form=form)
            found.append([mixed, *torch.autograd.grad(mixed.square().sum(), (scores, newest, values))])
        for one, other in zip(*found, strict=True):
            assert torch.isfinite(one).all()
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

    def test_later_events_move_no_bit(self):
        scores, newest, values = (one.detach() for one in tensors_of(0, 3, 8, dtype=torch.float32))
        present = torch.ones(3, 8, dtype=torch.bool)
        before = triangle_attention(scores, values, present, newest)
        for tensor in (scores, newest, values):
            tensor[:, 5:] += 3.0
        assert torch.equal(triangle_attention(scores, values, present, newest)[:, :5], before[:, :5])

    def test_scores_that_are_no_numbers_are_not_small(self):
        assert not are_small(torch.tensor([[1.0, float("nan")]]))
