"""The LSTM that takes each step for several inputs from the same past, beside torch's own, step by step."""

import pytest
import torch

from spotlight_asars.layers.recurrent import walk


def weights_and_inputs(kinds, batch, time, inputs=3, hidden=4):
    torch.manual_seed(0)
    shapes = [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,)]
    weights = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return weights, [torch.randn(batch, time, inputs, dtype=torch.float64, requires_grad=True) for _ in range(kinds)]


def by_cells(kinds, weights):
    """The same by ``torch.lstm_cell``, differentiated by torch."""
    batch, hidden = len(kinds[0]), weights[1].shape[1]
    past = (kinds[0].new_zeros(batch, hidden),) * 2
    found = []
    for step in range(kinds[0].shape[1]):
        after = [torch.lstm_cell(kind[:, step], past, *weights) for kind in kinds]
        found.append(torch.stack([state for state, _ in after]))
        past = after[0]
    return torch.stack(found, dim=2).unbind(0)  # (batch, time, hidden) each


@pytest.mark.parametrize("kinds", [1, 2, 3])
@pytest.mark.parametrize("batch, time", [(1, 1), (3, 1), (1, 5), (3, 4)])
def test_states_and_all_gradients_equal_those_of_torch(kinds, batch, time):
    weights, inputs = weights_and_inputs(kinds, batch, time)
    results = [walk(inputs, weights), by_cells(inputs, weights)]
    for states in results:
        assert [one.shape for one in states] == [(batch, time, 4)] * kinds
    slopes = torch.randn(kinds, batch, time, 4, dtype=torch.float64)
    gradients = [torch.autograd.grad((torch.stack(states) * slopes).sum(), [*weights, *inputs]) for states in results]
    for ours, theirs in [*zip(*results, strict=True), *zip(*gradients, strict=True)]:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_only_what_is_asked_for_has_a_gradient():
    weights, inputs = weights_and_inputs(2, 2, 3)
    states = walk([one.detach() for one in inputs], weights)
    states[1].sum().backward()
    assert all(weight.grad is not None for weight in weights) and inputs[0].grad is None


def test_another_kind_of_input_does_not_enter_the_states_that_follow():
    weights, (first, other) = weights_and_inputs(2, 2, 6)
    with torch.no_grad():
        plain, moved = walk([first, other], weights), walk([first, 1000.0 * other], weights)
    torch.testing.assert_close(moved[0], plain[0], rtol=0, atol=0)


def test_what_is_given_stays_as_it_was():
    weights, inputs = weights_and_inputs(2, 2, 3)
    before = [one.detach().clone() for one in [*weights, *inputs]]
    torch.stack(walk(inputs, weights)).sum().backward()
    for one, was in zip([*weights, *inputs], before, strict=True):
        torch.testing.assert_close(one.detach(), was, rtol=0, atol=0)


@pytest.mark.parametrize("batch, time", [(0, 3), (2, 0)])
def test_empty_axes(batch, time):
    weights, inputs = weights_and_inputs(2, batch, time)
    states = torch.stack(walk(inputs, weights))
    assert states.shape == (2, batch, time, 4)
    states.sum().backward()
    assert all(weight.grad.eq(0).all() for weight in weights)
