"""Attention as running sums over whole rows: against the dense triangle, its gradient, and where it is left alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.layers import attention
from spotlight_asars.layers.attention import RunningMixture, are_small, triangle_attention

moderate = settings(max_examples=60, deadline=None)


def tensors_of(seed, batch, time, dtype=torch.float64, scale=2.0):
    torch.manual_seed(seed)
    scores, newest = (scale * torch.randn(batch, time, dtype=dtype) for _ in range(2))
    return scores.requires_grad_(), newest.requires_grad_(), torch.randn(batch, time, 3, dtype=dtype).requires_grad_()


@moderate
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 4),
    time=st.integers(1, 9),
    share=st.sampled_from([0.4, 1.0]),
    scale=st.sampled_from([1.0, 8.0]),
    same=st.booleans(),
)
def test_mixtures_and_gradients_are_those_of_the_dense_triangle(seed, batch, time, share, scale, same):
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


def test_gradients_are_those_of_finite_differences():
    assert torch.autograd.gradcheck(RunningMixture.apply, tensors_of(0, 2, 5))


def test_it_runs_only_where_scores_are_small_and_a_row_is_one_session(monkeypatch):
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
def test_scores_as_large_as_may_be_keep_their_digits(dtype):
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


def test_later_events_move_no_bit():
    scores, newest, values = (one.detach() for one in tensors_of(0, 3, 8, dtype=torch.float32))
    present = torch.ones(3, 8, dtype=torch.bool)
    before = triangle_attention(scores, values, present, newest)
    for tensor in (scores, newest, values):
        tensor[:, 5:] += 3.0
    assert torch.equal(triangle_attention(scores, values, present, newest)[:, :5], before[:, :5])


def test_scores_that_are_no_numbers_are_not_small():
    assert not are_small(torch.tensor([[1.0, float("nan")]]))
