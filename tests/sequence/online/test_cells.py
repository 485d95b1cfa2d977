"""Layers in numpy, one step at a time, equal those of torch; attention steps are rows of the triangle."""

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars.layers.attention import triangle_attention
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM
from spotlight_asars.sequence.online.cells import (
    Convolution,
    attention_step,
    cell_of,
    initial_attention_carry,
    layer_of,
    sigmoid,
    table_of,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def same(found, wanted):
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sessions", [1, 3, 1100])  # the last needs several blocks
@pytest.mark.parametrize("kind", [EventLSTM, EventGRU])
def test_recurrent_steps_are_those_of_the_layer(kind, sessions):
    layer, inputs = kind(4, 5), 3.0 * torch.randn(sessions, 6, 4)
    cell = cell_of(layer)
    carry = np.zeros((sessions, cell.carry_size), dtype=np.float32)
    wanted = layer(inputs)  # (sessions, 6, 5)
    for step in range(6):
        before = carry.copy()
        after = cell.step(inputs[:, step].numpy(), carry)
        np.testing.assert_array_equal(carry, before)  # arguments stay unchanged
        carry = after
        same(carry[:, : cell.size], wanted[:, step])


def test_no_sessions_give_no_rows():
    cell = cell_of(EventLSTM(4, 5))
    assert cell.step(np.zeros((0, 4), np.float32), np.zeros((0, 10), np.float32)).shape == (0, 10)


def test_a_convolution_takes_no_sessions():
    """Regression: live sessions by key could not be made of Spotlight's CNN, since the first batch is empty."""
    steps = Convolution(nn.Conv1d(3, 4, 2))
    outputs, carry = steps.step(np.zeros((0, 3), np.float32), steps.initial_carry(0, np.float32))
    assert outputs.shape == (0, 4) and carry.shape == (0, 3, 1)


def test_other_recurrent_layers_are_refused(refuses):
    refuses(
        lambda: cell_of(nn.LSTM(4, 5, num_layers=2)), "LSTM cannot be updated event by event", "EventLSTM, EventGRU"
    )


@pytest.mark.parametrize("kernel, dilation", [(1, 1), (2, 1), (2, 4), (3, 2)])
def test_a_convolution_carries_the_inputs_it_reaches(kernel, dilation):
    layer = nn.Conv1d(3, 4, kernel, dilation=dilation)
    inputs = torch.randn(2, 3, 12)
    wanted = layer(nn.functional.pad(inputs, ((kernel - 1) * dilation, 0)))  # (2, 4, 12)
    steps = Convolution(layer)
    carry = steps.initial_carry(2, np.float32)
    for step in range(12):
        found, carry = steps.step(inputs[:, :, step].numpy(), carry)
        same(found, wanted[:, :, step])


@pytest.mark.parametrize(
    "module",
    [
        nn.Identity(),
        nn.Linear(4, 3),
        nn.Linear(4, 3, bias=False),
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(4, 5), nn.PReLU()),  # left to torch
    ],
)
def test_stateless_layers(module):
    inputs = torch.randn(6, 4)
    before = inputs.clone()
    same(layer_of(module)(inputs.numpy()), module(inputs))
    assert torch.equal(inputs, before)


class Hashed(nn.Module):
    """An item embedding that is not a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 3)

    def forward(self, numbers):
        assert numbers.dim() == 2
        return self.table(numbers % 7)


@pytest.mark.parametrize("embedding", [nn.Embedding(20, 3), nn.Embedding(20, 3, max_norm=9.0), Hashed()])
def test_embeddings_are_looked_up(embedding):
    numbers = torch.tensor([3, 0, 19, 3])
    same(table_of(embedding)(numbers.numpy()), embedding(numbers[:, None])[:, 0])


def test_weights_are_not_copied():
    embedding, layer = nn.Embedding(20, 3), nn.Linear(4, 2)
    look_up, apply = table_of(embedding), layer_of(layer)
    with torch.no_grad():
        embedding.weight[5] = 7.0
        layer.weight.zero_()
        layer.bias.fill_(2.0)
    assert (look_up(np.array([5])) == 7.0).all() and (apply(np.ones((1, 4), np.float32)) == 2.0).all()


def test_large_values_overflow_nowhere():
    values = np.array([-1e30, -200.0, 0.0, 200.0, 1e30], dtype=np.float32)
    np.testing.assert_array_equal(sigmoid(values), [0.0, 0.0, 0.5, 1.0, 1.0])


def test_attention_steps_are_rows_of_the_triangle():
    scores, values = 20 * torch.randn(3, 40), torch.randn(3, 40, 5)
    wanted = triangle_attention(scores, values, torch.ones(3, 40, dtype=torch.bool))  # (3, 40, 5)
    carry = initial_attention_carry(3, 5)
    for step in range(40):
        carry = attention_step(carry, scores[:, step].numpy(), values[:, step].numpy())
        np.testing.assert_allclose(carry[:, 1:], wanted[:, step], rtol=1e-5, atol=1e-6)


def test_attention_steps_restart_and_fade():
    scores, values, slope = torch.randn(3, 40), torch.randn(3, 40, 5), torch.tensor(0.3)
    starts = torch.rand(3, 40) < 0.2
    wanted = triangle_attention(
        scores, values, torch.ones(3, 40, dtype=torch.bool), segments=starts.cumsum(dim=1), slope=slope
    )  # (3, 40, 5)
    carry = initial_attention_carry(3, 5)
    for step in range(40):
        score, value, start = (one[:, step].numpy() for one in (scores, values, starts))
        carry = attention_step(carry, score, value, start, slope.numpy())
        np.testing.assert_allclose(carry[:, 1:], wanted[:, step], rtol=1e-5, atol=1e-6)


def test_an_attention_step_changes_nothing_it_is_given():
    carry, scores, values = initial_attention_carry(3, 2), np.array([1.0, 2.0, 3.0]), np.ones((3, 2), np.float32)
    given = [one.copy() for one in (carry, scores, values)]
    attention_step(carry, scores, values, np.array([True, False, False]), 0.5)
    for one, before in zip((carry, scores, values), given, strict=True):
        np.testing.assert_array_equal(one, before)
