"""Layers stepped in numpy give what torch's own give; attention steps are rows of the triangle."""

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars.layers.attention import triangle_attention
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM
from spotlight_asars.sequence.online.cells import (
    Convolution,
    attention_memory,
    attention_step,
    cell_of,
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


@pytest.mark.parametrize("sessions", [1, 3, 1100])  # the last are several blocks
@pytest.mark.parametrize("kind", [EventLSTM, EventGRU])
def test_recurrent_steps_are_those_of_the_layer(kind, sessions):
    layer, inputs = kind(4, 5), 3.0 * torch.randn(sessions, 6, 4)
    cell = cell_of(layer)
    memory = np.zeros((sessions, cell.memory_size), dtype=np.float32)
    wanted = layer(inputs)  # (sessions, 6, 5)
    for step in range(6):
        before = memory.copy()
        after = cell.step(inputs[:, step].numpy(), memory)
        np.testing.assert_array_equal(memory, before)  # what is given stays as it is
        memory = after
        same(memory[:, : cell.size], wanted[:, step])


def test_of_no_sessions_nothing_comes():
    cell = cell_of(EventLSTM(4, 5))
    assert cell.step(np.zeros((0, 4), np.float32), np.zeros((0, 10), np.float32)).shape == (0, 10)


def test_other_recurrent_layers_are_refused(refuses):
    refuses(lambda: cell_of(nn.LSTM(4, 5, num_layers=2)), "LSTM cannot take one event", "EventLSTM, EventGRU")


@pytest.mark.parametrize("kernel, dilation", [(1, 1), (2, 1), (2, 4), (3, 2)])
def test_a_convolution_keeps_what_it_reaches_back_to(kernel, dilation):
    layer = nn.Conv1d(3, 4, kernel, dilation=dilation)
    inputs = torch.randn(2, 3, 12)
    wanted = layer(nn.functional.pad(inputs, ((kernel - 1) * dilation, 0)))  # (2, 4, 12)
    steps = Convolution(layer)
    memory = steps.empty_memory(2, np.float32)
    for step in range(12):
        found, memory = steps.step(inputs[:, :, step].numpy(), memory)
        same(found, wanted[:, :, step])


@pytest.mark.parametrize(
    "module",
    [
        nn.Identity(),
        nn.Linear(4, 3),
        nn.Linear(4, 3, bias=False),
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)),
        nn.Sequential(nn.Linear(4, 5), nn.PReLU()),  # asked of torch
    ],
)
def test_layers_without_memory(module):
    inputs = torch.randn(6, 4)
    before = inputs.clone()
    same(layer_of(module)(inputs.numpy()), module(inputs))
    assert torch.equal(inputs, before)


class Hashed(nn.Module):
    """An item embedding that is no table."""

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
    memory = attention_memory(3, 5)
    for step in range(40):
        memory = attention_step(memory, scores[:, step].numpy(), values[:, step].numpy())
        np.testing.assert_allclose(memory[:, 1:], wanted[:, step], rtol=1e-5, atol=1e-6)


def test_attention_steps_begin_anew_and_fade():
    scores, values, slope = torch.randn(3, 40), torch.randn(3, 40, 5), torch.tensor(0.3)
    starts = torch.rand(3, 40) < 0.2
    wanted = triangle_attention(
        scores, values, torch.ones(3, 40, dtype=torch.bool), segments=starts.cumsum(dim=1), slope=slope
    )  # (3, 40, 5)
    memory = attention_memory(3, 5)
    for step in range(40):
        score, value, start = (one[:, step].numpy() for one in (scores, values, starts))
        memory = attention_step(memory, score, value, start, slope.numpy())
        np.testing.assert_allclose(memory[:, 1:], wanted[:, step], rtol=1e-5, atol=1e-6)


def test_an_attention_step_changes_nothing_it_is_given():
    memory, scores, values = attention_memory(3, 2), np.array([1.0, 2.0, 3.0]), np.ones((3, 2), np.float32)
    given = [one.copy() for one in (memory, scores, values)]
    attention_step(memory, scores, values, np.array([True, False, False]), 0.5)
    for one, before in zip((memory, scores, values), given, strict=True):
        np.testing.assert_array_equal(one, before)
