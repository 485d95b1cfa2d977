"""Each ranking loss against a float64 loop, by hand, and for extreme scores."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.host import losses as host_losses
from spotlight_asars.losses import (
    LOSSES,
    bpr_loss,
    bpr_max_loss,
    cross_entropy_loss,
    hinge_loss,
    log_sum_exp,
    sampled_cross_entropy_loss,
    top1_loss,
    top1_max_loss,
)

moderate = settings(max_examples=30, deadline=None)


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x)) if x > 0 else math.exp(x) / (1.0 + math.exp(x))


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def mean(values):
    return sum(values) / len(values)


def shared_out(negatives):
    """Each negative with its share of the softmax over the negatives alone."""
    total = sum(math.exp(r) for r in negatives)
    return [(math.exp(r) / total, r) for r in negatives]


def elu(x, alpha):
    return x if x > 0 else alpha * math.expm1(x)


def bpr_max_of_one(positive, negatives, regularization=1.0, alpha=None):
    if alpha is not None:
        positive, negatives = elu(positive, alpha), [elu(r, alpha) for r in negatives]
    ranking = -math.log(sum(s * sigmoid(positive - r) for s, r in shared_out(negatives)))
    return ranking + regularization * sum(s * r * r for s, r in shared_out(negatives))


def top1_max_of_one(positive, negatives):
    return sum(s * (sigmoid(r - positive) + sigmoid(r * r)) for s, r in shared_out(negatives))


def cross_entropy_of_one(positive, negatives):
    return math.log(math.exp(positive) + sum(math.exp(r) for r in negatives)) - positive


# The loss of one positive and its negatives, in plain floats.
OF_ONE = {
    "bpr": lambda positive, negatives: mean([softplus(r - positive) for r in negatives]),
    "top1": lambda positive, negatives: mean([sigmoid(r - positive) + sigmoid(r * r) for r in negatives]),
    "hinge": lambda positive, negatives: mean([max(0.0, 1.0 + r - positive) for r in negatives]),
    "cross_entropy": cross_entropy_of_one,
    "sampled_cross_entropy": cross_entropy_of_one,
    "bpr_max": bpr_max_of_one,
    "top1_max": top1_max_of_one,
}
each_loss = pytest.mark.parametrize("name", OF_ONE)


def scores(seed, shape, negatives):
    random_state = np.random.RandomState(seed)
    positive = torch.tensor(2.0 * random_state.normal(size=shape))
    negative = torch.tensor(2.0 * random_state.normal(size=(*negatives, *shape)))
    return positive, negative, torch.tensor(random_state.uniform(size=shape) < 0.6)


def by_loop(name, positive, negative, mask=None):
    stacked = negative if negative.dim() > positive.dim() else negative[None]
    values = [
        OF_ONE[name](positive[place].item(), [row[place].item() for row in stacked])
        for place in np.ndindex(*positive.shape)
        if mask is None or mask[place]
    ]
    return mean(values) if values else 0.0


@each_loss
@moderate
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(1,), (4,), (1, 1), (3, 4), (2, 2)]),
    negatives=st.sampled_from([(), (1,), (2,), (7,)]),
    mask_dtype=st.sampled_from([None, torch.bool, torch.float32, torch.int64]),
)
def test_every_loss_equals_the_loop(name, seed, shape, negatives, mask_dtype):
    positive, negative, mask = scores(seed, shape, negatives)
    given_mask = None if mask_dtype is None else mask.to(mask_dtype)
    loss = LOSSES[name](positive, negative, given_mask)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_loop(name, positive, negative, None if mask_dtype is None else mask))


def value(loss, positive, negatives, **options):
    negative = torch.tensor(negatives, dtype=torch.float64)[:, None]
    return loss(torch.tensor([positive], dtype=torch.float64), negative, **options).item()


def test_worked_by_hand():
    logs = [math.log(2.0), math.log(5.0)]
    assert value(bpr_loss, 0.0, [0.0, math.log(3.0)]) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert value(top1_loss, 0.0, [0.0]) == pytest.approx(1.0)
    assert value(hinge_loss, 2.0, [0.0, 3.0]) == pytest.approx(1.0)
    assert value(cross_entropy_loss, 0.0, logs) == pytest.approx(math.log(8.0))
    # Softmax over the negatives alone: 2/7 and 5/7; sigmoids 1/3 and 1/6.
    ranking, penalty = -math.log(2 / 21 + 5 / 42), 2 / 7 * logs[0] ** 2 + 5 / 7 * logs[1] ** 2
    assert value(bpr_max_loss, 0.0, logs) == pytest.approx(ranking + penalty)
    assert value(bpr_max_loss, 0.0, logs, regularization=0.0) == pytest.approx(ranking)
    assert value(bpr_max_loss, 0.0, logs, regularization=3.0) == pytest.approx(ranking + 3 * penalty)
    squares = [sigmoid(log**2) for log in logs]
    by_hand = 2 / 7 * (2 / 3 + squares[0]) + 5 / 7 * (5 / 6 + squares[1])
    assert value(top1_max_loss, 0.0, logs) == pytest.approx(by_hand)
    # An exponential linear unit of .5 maps -log 2 to half of -1/2, and leaves positive scores as they are.
    low = -math.log(2.0)
    assert value(bpr_max_loss, 1.0, [low], elu=0.5) == pytest.approx(softplus(-1.25) + 0.0625)
    assert value(bpr_max_loss, low, [1.0], elu=0.5) == pytest.approx(softplus(1.25) + 1.0)


@moderate
@given(
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([0.1, 0.5, 1.0, 2.0]),
    regularization=st.sampled_from([0.0, 0.3, 1.95]),
    masked=st.booleans(),
)
def test_bpr_max_with_an_exponential_linear_unit_equals_the_loop(seed, alpha, regularization, masked):
    positive, negative, mask = scores(seed, (3, 2), (4,))
    mask = mask if masked else torch.ones_like(mask)
    options = {"regularization": regularization, "elu": alpha}
    expected = [
        bpr_max_of_one(positive[place].item(), negative[:, *place].tolist(), regularization, alpha)
        for place in np.ndindex(3, 2)
        if mask[place]
    ]
    loss = bpr_max_loss(positive, negative, mask if masked else None, **options)
    assert loss.item() == pytest.approx(mean(expected) if expected else 0.0)
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    assert torch.autograd.gradcheck(lambda p, n: bpr_max_loss(p, n, mask, **options), inputs)


def test_the_penalty_leaves_negatives_alone_that_the_unit_has_saturated():
    negative = torch.tensor([[-30.0], [-40.0]], requires_grad=True)
    for unit, pulled in ((None, True), (0.5, False)):
        loss = bpr_max_loss(torch.tensor([1.0]), negative, elu=unit)
        (gradient,) = torch.autograd.grad(loss, negative)
        assert (gradient.abs().max() > 1e-3) == pulled


@each_loss
@moderate
@given(seed=st.integers(0, 10**6))
def test_a_higher_positive_lowers_the_loss(name, seed):
    # The paper's Eq. 22 and 23 reverse the sign of the difference.
    positive, negative, _ = scores(seed, (3, 4), (5,))
    (gradient,) = torch.autograd.grad(LOSSES[name](positive.requires_grad_(), negative), positive)
    assert (gradient <= 0).all() and gradient.min() < 0


@pytest.mark.parametrize("name", ["bpr", "hinge", "cross_entropy", "sampled_cross_entropy"])
def test_a_higher_negative_raises_the_loss(name):
    positive, negative, _ = scores(0, (3, 4), (5,))
    (gradient,) = torch.autograd.grad(LOSSES[name](positive, negative.requires_grad_()), negative)
    assert (gradient >= 0).all() and gradient.max() > 0


@each_loss
@pytest.mark.parametrize("negatives", [(), (3,)], ids=["same shape", "an axis more"])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients(name, negatives, masked):
    positive, negative, mask = scores(4, (2, 3), negatives)
    mask = mask if masked else None
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    assert torch.autograd.gradcheck(lambda p, n: LOSSES[name](p, n, mask), inputs)


@each_loss
@pytest.mark.parametrize("size", [100.0, 1e4, 1e15])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extreme_scores_are_finite(name, size, sign):
    positive = torch.full((2, 3), sign * size, requires_grad=True)
    negative = torch.full((4, 2, 3), -sign * size, requires_grad=True)
    loss = LOSSES[name](positive, negative)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(gradient).all() for gradient in torch.autograd.grad(loss, (positive, negative)))


@each_loss
@pytest.mark.parametrize("negatives", [(), (3,)])
def test_a_mask_that_leaves_nothing_gives_zero_with_zero_gradients(name, negatives):
    positive, negative, mask = scores(1, (2, 3), negatives)
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    loss = LOSSES[name](*inputs, torch.zeros_like(mask))
    assert loss.item() == 0.0
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, inputs))


@each_loss
@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan, 1e30])
def test_what_is_masked_does_not_count_whatever_it_is(name, wrong):
    # Regression: an infinite masked score, such as one corrected by log 0, made its gradient NaN.
    positive, negative, mask = scores(2, (3, 4), (5,))
    mask[0, 0] = False
    expected = LOSSES[name](positive, negative, mask)
    positive[~mask], negative[:, ~mask] = wrong, -wrong
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    loss = LOSSES[name](*inputs, mask)
    assert loss.item() == expected.item()
    gradients = torch.autograd.grad(loss, inputs)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert not gradients[0][~mask].any() and not gradients[1][:, ~mask].any()
    assert gradients[0][mask].any()


@each_loss
def test_padding_is_not_guessed_from_values(name):
    positive, negative = torch.zeros(2, 2), torch.zeros(2, 2)  # scores of zero are not padding
    assert LOSSES[name](positive, negative, torch.ones(2, 2, dtype=torch.bool)) == LOSSES[name](positive, negative)


@each_loss
def test_nothing_to_predict_gives_zero(name):
    positive = torch.zeros(0, requires_grad=True)
    loss = LOSSES[name](positive, torch.zeros(3, 0))
    assert loss.item() == 0.0
    assert torch.autograd.grad(loss, positive)[0].shape == (0,)


@each_loss
@pytest.mark.parametrize("shape", [(3, 2), (2,), (3,), (1, 3), (2, 3, 4), (4, 3, 2), (1, 4, 2, 3)])
def test_negatives_of_another_shape_are_an_error(name, shape):
    with pytest.raises(ValueError, match=r"negative predictions have shape \(.*one more axis in front"):
        LOSSES[name](torch.zeros(2, 3), torch.zeros(shape))


@each_loss
def test_no_negatives_at_all_are_an_error(name):
    # Regression: the mean of nothing was NaN.
    with pytest.raises(ValueError, match="no negative predictions"):
        LOSSES[name](torch.zeros(2, 3), torch.zeros(0, 2, 3))


@each_loss
@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3), (4, 2, 3), ()])
def test_a_mask_of_another_shape_is_an_error(name, shape):
    # Regression: it was broadcast, and the sum was divided by too small a count.
    with pytest.raises(ValueError, match="mask has shape"):
        LOSSES[name](torch.zeros(2, 3), torch.zeros(4, 2, 3), torch.ones(shape, dtype=torch.bool))


@moderate
@given(seed=st.integers(0, 10**6), targets=st.integers(1, 5), items=st.integers(2, 9))
def test_with_all_other_items_cross_entropy_is_the_full_softmax(seed, targets, items):
    random_state = np.random.RandomState(seed)
    everything = torch.tensor(4.0 * random_state.normal(size=(targets, items)))
    target = torch.tensor(random_state.randint(items, size=targets))
    positive = everything[torch.arange(targets), target]
    others = [[row[i] for i in range(items) if i != t] for row, t in zip(everything.tolist(), target, strict=True)]
    loss = cross_entropy_loss(positive, torch.tensor(others, dtype=torch.float64).T)
    torch.testing.assert_close(loss, F.cross_entropy(everything, target))


def corrected(positive_log_q, negative_log_q):
    """Positive 0 against negatives log 2 and log 5."""
    return sampled_cross_entropy_loss(
        torch.zeros(1, dtype=torch.float64),
        torch.tensor([[2.0], [5.0]], dtype=torch.float64).log(),
        positive_log_q=torch.tensor([positive_log_q], dtype=torch.float64),
        negative_log_q=torch.tensor(negative_log_q, dtype=torch.float64)[:, None],
    ).item()


def test_log_q_is_taken_off_both_sides():
    half, tenth = math.log(0.5), math.log(0.1)
    # exp(score) / q: positive 1 / .5 = 2, negatives 2 / .1 = 20 and 5 / .5 = 10.
    assert corrected(half, [tenth, half]) == pytest.approx(math.log(32 / 2))
    # The same probability for all changes nothing.
    assert corrected(tenth, [tenth, tenth]) == pytest.approx(math.log(8.0))
    # A negative that is drawn more often weighs less; a positive that is drawn more often has a higher loss.
    assert corrected(half, [half, half]) < corrected(half, [tenth, half])
    assert corrected(half, [half, half]) > corrected(tenth, [half, half])


def test_log_q_with_masks_and_without_the_negatives_axis():
    positive, negative, mask = scores(6, (3, 4), (5,))
    log_q = scores(7, (3, 4), (5,))[:2]
    loss = sampled_cross_entropy_loss(positive, negative, mask, *log_q)
    assert loss.item() == pytest.approx(by_loop("cross_entropy", positive - log_q[0], negative - log_q[1], mask))
    flat = sampled_cross_entropy_loss(positive, negative[0], mask, log_q[0], log_q[1][0])
    assert flat.item() == pytest.approx(by_loop("cross_entropy", positive - log_q[0], negative[0] - log_q[1][0], mask))


def test_corrected_gradients_pass_and_masked_items_never_drawn_do_no_harm():
    positive, negative, mask = scores(8, (2, 3), (4,))
    mask[0, 0] = False
    log_q = torch.zeros_like(positive), torch.zeros_like(negative)
    log_q[0][0, 0], log_q[1][:, 0, 0] = -math.inf, -math.inf  # log 0: padding is never drawn
    inputs = (positive.requires_grad_(), negative.requires_grad_())
    assert torch.autograd.gradcheck(lambda p, n: sampled_cross_entropy_loss(p, n, mask, *log_q), inputs)


def test_log_q_for_one_side_only_is_an_error():
    positive, negative = torch.zeros(2), torch.zeros(3, 2)
    for options in ({"positive_log_q": positive}, {"negative_log_q": negative}):
        with pytest.raises(ValueError, match="give both or none"):
            sampled_cross_entropy_loss(positive, negative, **options)


def test_the_importance_weights_of_log_q_make_a_popularity_sample_unbiased():
    # The corrected sum over draws estimates the full sum over items, for any sampling distribution.
    random_state = np.random.RandomState(0)
    item_scores, probability = random_state.normal(size=6), np.array([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    draws = 200_000
    drawn = random_state.choice(6, size=draws, p=probability)
    negative = torch.tensor(item_scores[drawn])[:, None]
    log_q = torch.tensor(np.log(draws * probability[drawn]))[:, None]
    loss = sampled_cross_entropy_loss(
        torch.zeros(1, dtype=torch.float64), negative, None, torch.zeros(1, dtype=torch.float64), log_q
    )
    assert loss.item() == pytest.approx(math.log(1.0 + np.exp(item_scores).sum()), abs=0.01)


def test_the_registry():
    expected = {
        "pointwise": host_losses.pointwise_loss,
        "bpr": bpr_loss,
        "top1": top1_loss,
        "hinge": hinge_loss,
        "adaptive_hinge": host_losses.adaptive_hinge_loss,
        "cross_entropy": cross_entropy_loss,
        "sampled_cross_entropy": sampled_cross_entropy_loss,
        "bpr_max": bpr_max_loss,
        "top1_max": top1_max_loss,
    }
    assert dict(LOSSES) == expected


@pytest.mark.parametrize("name", LOSSES)
def test_every_registered_loss_is_called_as_the_host_calls_its_own(name):
    positive, negative, _ = scores(9, (3, 4), ())
    negative = negative[None] if name == "adaptive_hinge" else negative
    loss = LOSSES[name](positive, negative, mask=torch.ones(3, 4, dtype=torch.bool))
    torch.testing.assert_close(loss, LOSSES[name](positive, negative))
    assert loss.shape == ()


def test_one_negative_makes_hinge_the_hosts_and_bpr_its_logarithm():
    positive, negative, mask = scores(10, (3, 4), ())
    torch.testing.assert_close(hinge_loss(positive, negative, mask), host_losses.hinge_loss(positive, negative, mask))
    one = positive[0, :1], negative[0, :1]
    host_value = host_losses.bpr_loss(*one)  # 1 - sigmoid, not -log sigmoid
    torch.testing.assert_close(bpr_loss(*one), -torch.log(1.0 - host_value))


@moderate
@given(seed=st.integers(0, 10**6), dim=st.integers(0, 1), scale=st.sampled_from([1.0, 50.0, 1e4]))
def test_log_sum_exp_and_its_gradient_are_those_of_torch(seed, dim, scale):
    torch.manual_seed(seed)
    scores = scale * torch.randn(4, 5, dtype=torch.float64)
    scores[1, 2] = -torch.inf
    scores.requires_grad_()
    slope = torch.randn(5 if dim == 0 else 4, dtype=torch.float64)
    found, expected = log_sum_exp(scores, dim), scores.logsumexp(dim)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad((one * slope).sum(), scores)[0] for one in (found, expected))
    torch.testing.assert_close(*gradients)


def test_bpr_max_holds_in_single_precision_wherever_the_positive_lies():
    torch.manual_seed(0)
    negatives = 20.0 * torch.randn(40, 6, dtype=torch.float64)
    for shift in (-60.0, 0.0, 60.0):
        positive = torch.randn(6, dtype=torch.float64) + shift
        found = []
        for dtype in (torch.float32, torch.float64):
            own = [one.to(dtype).clone().requires_grad_() for one in (positive, negatives)]
            loss = bpr_max_loss(*own, regularization=0.5)
            found.append([loss, *torch.autograd.grad(loss, own)])
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)
