"""Triangle attention and the recurrent layers over events, against slow loops in float64; dropout."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from spotlight_asars.layers.attention import triangle_attention, triangle_weights
from spotlight_asars.layers.basic import Dropout, UnitEmbedding
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM

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
    for size in (0, -1):  # -1 gave zeros, silently
        with pytest.raises(ValueError, match="chunk_size"):
            triangle_attention(scores, values, scores == 0, chunk_size=size)


def saved_for_backward(time, **options):
    """Elements of the largest tensor and of all tensors that autograd keeps."""
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel())
        return tensor

    scores, values = torch.zeros(2, time, requires_grad=True), torch.zeros(2, time, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        triangle_attention(scores, values, torch.ones(2, time, dtype=torch.bool), scores + 0, **options)
    return max(sizes), sum(sizes)


class Written(TorchDispatchMode):
    """Counts the elements of all that torch's operations give, backward too."""

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
    # The gradient of a slice of the row is as long as the row: with one a chunk this was 11 times, not 8.
    assert written(4096) <= 8.1 * written(512)
    assert written(4096, form="dense") >= 60 * written(512, form="dense")  # the control


def test_memory_of_the_linear_form_grows_linearly():
    largest, everything = saved_for_backward(256)
    largest_of_more, everything_of_more = saved_for_backward(2048)
    assert largest_of_more <= max(largest, 2 * 2048 * 4)
    assert everything_of_more <= 8.5 * everything
    # The control: the dense form does not.
    assert saved_for_backward(2048, form="dense")[0] >= 64 * saved_for_backward(256, form="dense")[0]


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


def seeded(layer, *sizes):
    torch.manual_seed(0)
    return layer(*sizes).double()


@pytest.mark.parametrize("batch, time", [(1, 1), (3, 6)])
def test_with_newest_equals_the_lstm_on_each_prefix_with_its_last_input_replaced(batch, time):
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


def test_plain_states_and_gradients_equal_those_of_the_torch_layer():
    lstm = seeded(EventLSTM, 3, 4)
    plain = torch.nn.LSTM(3, 4, batch_first=True).double()
    plain.load_state_dict(lstm.state_dict())
    inputs = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    results = [plain(inputs)[0], lstm(inputs), lstm.with_newest(inputs, torch.zeros_like(inputs))[0]]
    gradients = [torch.autograd.grad(states.sin().sum(), inputs)[0] for states in results]
    for states, gradient in zip(results[1:], gradients[1:], strict=True):
        torch.testing.assert_close(states, results[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient, gradients[0], rtol=0, atol=1e-12)


def test_newest_inputs_broadcast_and_equal_ones_change_nothing():
    lstm = seeded(EventLSTM, 3, 4)
    inputs, one = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(1, 1, 3, dtype=torch.float64)
    torch.testing.assert_close(lstm.with_newest(inputs, one), lstm.with_newest(inputs, one.expand_as(inputs)))
    states, newest_states = lstm.with_newest(inputs, inputs)
    torch.testing.assert_close(newest_states, states, rtol=0, atol=0)


def test_gradients_pass_through_the_newest_input():
    lstm = seeded(EventLSTM, 2, 2)
    inputs, newest = torch.randn(2, 2, 3, 2, dtype=torch.float64).unbind()
    assert torch.autograd.gradcheck(lstm.with_newest, (inputs.requires_grad_(), newest.requires_grad_()))


def test_gru_gives_the_states_of_the_torch_layer():
    gru = seeded(EventGRU, 3, 4)
    plain = torch.nn.GRU(3, 4, batch_first=True).double()
    plain.load_state_dict(gru.state_dict())
    inputs = torch.randn(2, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(gru(inputs), plain(inputs)[0], rtol=0, atol=0)


def test_rows_of_a_unit_embedding_begin_with_about_unit_length_and_padding_at_zero():
    torch.manual_seed(0)
    embedding = UnitEmbedding(500, 64, padding_idx=0)
    lengths = embedding.weight.detach()[1:].norm(dim=1)
    assert lengths.mean().item() == pytest.approx(1.0, abs=0.02)
    assert embedding.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
    embedding(torch.tensor([[0, 3]])).sum().backward()
    assert not embedding.weight[0].any() and not embedding.weight.grad[0].any()
    assert embedding.weight.grad[3].any()
    # Without padding no row is special.
    assert UnitEmbedding(3, 8).weight.any(dim=1).all()


def test_weights_by_hand_where_the_newest_event_is_as_the_others():
    """One session, no other score for the newest event: a softmax over what is there so far."""
    scores = torch.tensor([[0.0, math.log(3.0), 5.0]])
    found = triangle_weights(scores, torch.tensor([[True, True, False]]))
    expected = [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.25, 0.75, 0.0]]
    torch.testing.assert_close(found, torch.tensor([expected]))


class TestDropout:
    @pytest.mark.parametrize("share", [0.5, 0.05, 0.9, 0.3])
    def test_drops_that_share_and_keeps_the_mean(self, share):
        torch.manual_seed(0)
        inputs = torch.rand(1000, 257) + 1.0
        found = Dropout(share)(inputs)
        dropped = found == 0.0
        assert float(dropped.float().mean()) == pytest.approx(share, abs=5 * (share * (1 - share) / 257_000) ** 0.5)
        torch.testing.assert_close(found[~dropped], inputs[~dropped] / (1.0 - share), rtol=2e-4, atol=0)

    def test_elements_fall_independently(self):
        torch.manual_seed(0)
        dropped = (Dropout(0.5)(torch.ones(100_003)) == 0.0).double()
        for apart in range(1, 9):  # four share a draw
            together = float((dropped[apart:] * dropped[:-apart]).mean())
            assert together == pytest.approx(0.25, abs=0.01)

    def test_the_gradient_is_dropped_with_the_element(self):
        torch.manual_seed(0)
        inputs = torch.randn(3, 4, 5, dtype=torch.float64).transpose(0, 2).requires_grad_()
        found = Dropout(0.25)(inputs)
        (gradient,) = torch.autograd.grad(found.sum(), inputs)
        torch.testing.assert_close(gradient * inputs, found)

    def test_the_same_seed_draws_the_same(self):
        found = []
        for _ in range(2):
            torch.manual_seed(3)
            found.append(Dropout(0.5)(torch.ones(7, 3)))
        assert torch.equal(*found)

    def test_nothing_happens_where_it_does_not_train_or_drops_nothing(self):
        inputs = torch.randn(2, 3)
        assert torch.equal(Dropout(0.5).eval()(inputs), inputs)
        assert torch.equal(Dropout(0.0)(inputs), inputs)
        assert Dropout(0.5)(inputs[:0]).shape == (0, 3)
