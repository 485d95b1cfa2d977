"""A negative prediction of -inf is none: every loss is what it is with these negatives left out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.losses import LOSSES, bpr_max_loss, sampled_cross_entropy_loss

moderate = settings(max_examples=30, deadline=None)
# test_losses.py compares these with plain loops where all negatives are there.
OURS = {
    **{name: loss for name, loss in LOSSES.items() if name not in ("pointwise", "adaptive_hinge")},
    "bpr_max with elu": lambda *arguments: bpr_max_loss(*arguments, regularization=0.7, elu=0.5),
}
each_loss = pytest.mark.parametrize("name", OURS)


def case(seed, missing, negatives=4, targets=6):
    """Scores in float64, -inf where a negative is missing; target 0 has none at all, target 1 all of them."""
    random_state = np.random.RandomState(seed)
    positive = torch.tensor(2.0 * random_state.normal(size=targets))
    negative = torch.tensor(2.0 * random_state.normal(size=(negatives, targets)))
    none = torch.tensor(random_state.uniform(size=negative.shape) < missing)
    none[:, 0], none[:, 1] = True, False
    mask = torch.tensor(random_state.uniform(size=targets) < 0.7)
    return positive, negative.masked_fill(none, -torch.inf), mask


def left_out(loss, positive, negative, mask):
    """The mean over targets of each one's loss against the negatives it has, 0 where it has none."""
    total = 0.0 * positive.sum()
    for target in np.flatnonzero(mask):
        there = negative[:, target] > -torch.inf
        if there.any():
            total = total + loss(positive[target : target + 1], negative[there, target : target + 1])
    return total / max(int(mask.sum()), 1)


def assert_the_same(loss, expected, inputs):
    assert torch.isfinite(loss)
    torch.testing.assert_close(loss, expected)
    wanted = torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True)
    for gradient, other in zip(torch.autograd.grad(loss, inputs), wanted, strict=True):
        torch.testing.assert_close(gradient, other)


@each_loss
@moderate
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.3, 0.7, 1.0]), masked=st.booleans())
def test_value_and_gradient_are_those_without_the_missing_ones(name, seed, missing, masked):
    positive, negative, mask = case(seed, missing)
    mask = mask if masked else torch.ones_like(mask)
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    loss = OURS[name](positive, negative, mask if masked else None)
    assert_the_same(loss, left_out(OURS[name], positive, negative, mask), inputs)


@each_loss
def test_targets_without_any_negative_have_no_loss_and_no_gradient(name):
    """Regression guard: a softmax over nothing is NaN, and NaN times zero is NaN in the gradient."""
    positive = torch.tensor([0.3, -2.0], requires_grad=True)
    negative = torch.full((3, 2), -torch.inf, requires_grad=True)
    for mask in (None, torch.tensor([True, False]), torch.tensor([False, False])):
        loss = OURS[name](positive, negative, mask)
        assert loss.item() == 0.0
        assert all(not gradient.any() for gradient in torch.autograd.grad(loss, (positive, negative)))


@each_loss
@pytest.mark.parametrize("size", [100.0, 1e15])
def test_missing_ones_beside_extreme_scores_do_no_harm(name, size):
    positive = torch.tensor([-size, size, 0.0], requires_grad=True)
    negative = torch.tensor([[size, -size, size], [-torch.inf] * 3, [-size, -torch.inf, size]], requires_grad=True)
    loss = OURS[name](positive, negative)
    gradients = torch.autograd.grad(loss, (positive, negative))
    assert torch.isfinite(loss) and all(torch.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[1][1].any() and gradients[1][2, 1] == 0.0


@each_loss
def test_one_negative_a_target_without_an_axis_of_its_own(name):
    positive, negative, _ = case(3, 0.0)
    negative = negative[0].clone()
    negative[3] = -torch.inf
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    expected = left_out(OURS[name], positive, negative[None], torch.ones(6, dtype=torch.bool))
    assert_the_same(OURS[name](positive, negative), expected, inputs)


def test_a_correction_does_not_bring_a_missing_one_back():
    positive, negative, mask = case(4, 0.5)
    log_q = -torch.rand(6, dtype=torch.float64), -torch.rand(4, 6, dtype=torch.float64)
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    loss = sampled_cross_entropy_loss(positive, negative, mask, *log_q)
    expected = left_out(LOSSES["cross_entropy"], positive - log_q[0], negative - log_q[1], mask)
    assert_the_same(loss, expected, inputs)


def test_adaptive_hinge_of_the_host():
    """Its highest negative is one that is there; a target without any gets no loss."""
    positive, negative, _ = case(5, 0.5)
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    expected = left_out(LOSSES["adaptive_hinge"], positive, negative, torch.ones(6, dtype=torch.bool))
    assert_the_same(LOSSES["adaptive_hinge"](positive, negative), expected, inputs)


def test_pointwise_of_the_host():
    """It pushes each score on its own, and -inf is low enough; its mean counts missing ones as well done."""
    positive, negative, _ = case(6, 0.5)
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    there = (negative > -torch.inf).double()
    raised = (torch.sigmoid(negative.masked_fill(there == 0, 0.0)) * there).mean()
    expected = (1.0 - torch.sigmoid(positive)).mean() + raised
    assert_the_same(LOSSES["pointwise"](positive, negative), expected, inputs)
