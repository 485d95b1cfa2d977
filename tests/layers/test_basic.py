"""The linear layer whose weights move by shorter steps: its start, its steps and its gradients."""

import pytest
import torch

from spotlight_asars.layers.basic import ScaledLinear


class TestScaledLinear:
    def test_it_begins_as_a_linear_layer(self):
        torch.manual_seed(0)
        plain = torch.nn.Linear(5, 3)
        torch.manual_seed(0)
        scaled = ScaledLinear(5, 3, 0.25)
        inputs = torch.randn(2, 4, 5)
        torch.testing.assert_close(scaled(inputs), plain(inputs))
        torch.testing.assert_close(scaled.weight * 0.25, plain.weight)

    @pytest.mark.parametrize("scale", [1.0, 0.1])
    def test_a_step_moves_its_weights_so_much_less(self, scale):
        """Adagrad's first step is as long as the learning rate, in each weight that has a gradient."""
        layer = ScaledLinear(5, 3, scale).double()
        inputs = torch.randn(7, 5, dtype=torch.float64)
        before = layer(torch.eye(5, dtype=torch.float64)) - layer(torch.zeros(5, 5, dtype=torch.float64))
        (layer(inputs) ** 2).sum().backward()
        torch.optim.Adagrad(layer.parameters(), lr=0.5).step()
        after = layer(torch.eye(5, dtype=torch.float64)) - layer(torch.zeros(5, 5, dtype=torch.float64))
        torch.testing.assert_close((after - before).abs(), torch.full((5, 3), 0.5 * scale, dtype=torch.float64))

    def test_gradients(self):
        layer = ScaledLinear(4, 2, 0.3).double()
        inputs = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda *given: layer(given[0]), (inputs, *layer.parameters()))
