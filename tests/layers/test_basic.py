"""Basic layers: unit embedding, scaled linear layer and dropout."""

import pytest
import torch

from spotlight_asars.layers.basic import Dropout, ScaledLinear, UnitEmbedding


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
        for apart in range(1, 9):  # four elements share a draw
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
