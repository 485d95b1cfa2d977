"""Self-attention against a loop in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars.layers.self_attention import SelfAttention


def by_loop(layer: SelfAttention, inputs: torch.Tensor, allowed: torch.Tensor) -> np.ndarray:
    """Return the states of one sequence, (time, dim), head by head and step by step."""

    def norm(module: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
        scaled = (x - x.mean()) / np.sqrt(x.var() + module.eps)
        return scaled * module.weight.detach().numpy() + module.bias.detach().numpy()

    def linear(module: nn.Linear, x: np.ndarray) -> np.ndarray:
        return module.weight.detach().numpy() @ x + module.bias.detach().numpy()

    time, dim = inputs.shape
    positions = layer.positions.detach().numpy()
    states = [inputs[t].numpy() + positions[min(t, len(positions) - 1)] for t in range(time)]
    for block in layer.blocks:
        projected = [linear(block.queries_keys_values, norm(block.attention_norm, x)) for x in states]
        width, after = dim // block.heads, []
        for t in range(time):
            mixed = np.zeros(dim)
            for head in range(block.heads):
                own = slice(head * width, (head + 1) * width)
                query = projected[t][:dim][own]
                steps = [k for k in range(time) if allowed[t, k]]
                logits = np.array([query @ projected[k][dim : 2 * dim][own] / np.sqrt(width) for k in steps])
                weights = np.exp(logits) / np.exp(logits).sum()
                mixed[own] = sum(w * projected[k][2 * dim :][own] for w, k in zip(weights, steps, strict=True))
            x = states[t] + linear(block.output, mixed)
            hidden = np.maximum(linear(block.forward_layers[0], norm(block.forward_norm, x)), 0.0)
            after.append(x + linear(block.forward_layers[2], hidden))
        states = after
    return np.stack([norm(layer.norm, x) for x in states])


@pytest.mark.parametrize("window", [3, 8])
@pytest.mark.parametrize(("blocks", "heads"), [(1, 1), (2, 2)])
def test_states_are_those_of_a_loop(blocks, heads, window):
    torch.manual_seed(0)
    layer = SelfAttention(4, blocks, heads, window).double()
    for weight in layer.parameters():
        nn.init.normal_(weight)
    inputs = torch.randn(2, 6, 4, dtype=torch.float64)
    allowed = torch.rand(6, 6) < 0.5
    allowed |= torch.eye(6, dtype=torch.bool)
    found = layer(inputs, allowed).detach().numpy()
    for row in range(2):
        np.testing.assert_allclose(found[row], by_loop(layer, inputs[row], allowed), atol=1e-10)
