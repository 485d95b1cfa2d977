"""Embeddings, losses, sampling and tensor helpers, on each host."""

import math

import numpy as np
import pytest
import torch


def logistic(value):
    return 1.0 / (1.0 + math.exp(-value))


# Loss of one positive score and its list of negative scores.
SLOW_LOSSES = {
    "pointwise_loss": lambda positive, negatives: 1.0 - logistic(positive) + logistic(negatives[0]),
    "bpr_loss": lambda positive, negatives: 1.0 - logistic(positive - negatives[0]),
    "hinge_loss": lambda positive, negatives: max(0.0, 1.0 + negatives[0] - positive),
    "adaptive_hinge_loss": lambda positive, negatives: max(0.0, 1.0 + max(negatives) - positive),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", sorted(SLOW_LOSSES))
def test_losses_equal_the_loop(host, name, masked):
    random_state = np.random.RandomState(1)
    positive = random_state.normal(0, 2, (6, 5))
    negative = random_state.normal(0, 2, (3, 6, 5))
    mask = random_state.uniform(size=(6, 5)) < 0.6
    counted = mask if masked else np.ones_like(mask)
    expected = np.mean(
        [
            SLOW_LOSSES[name](positive[row, column], negative[:, row, column].tolist())
            for row, column in np.argwhere(counted)
        ]
    )

    several = name == "adaptive_hinge_loss"
    found = getattr(host.losses, name)(
        torch.from_numpy(positive),
        torch.from_numpy(negative if several else negative[0]),
        mask=torch.from_numpy(mask) if masked else None,
    )
    assert found.shape == ()
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted(SLOW_LOSSES))
def test_masked_entries_get_no_gradient(host, name):
    positive = torch.zeros(2, 3, requires_grad=True)
    negative = torch.zeros(4, 2, 3) if name == "adaptive_hinge_loss" else torch.zeros(2, 3)
    mask = torch.tensor([[False, True, True], [True, False, True]])
    getattr(host.losses, name)(positive, negative, mask=mask).backward()
    assert torch.equal(positive.grad != 0, mask)


@pytest.mark.parametrize("name", sorted(SLOW_LOSSES))
def test_nothing_but_padding_gives_nan(host, name):
    negative = torch.zeros(4, 2, 3) if name == "adaptive_hinge_loss" else torch.zeros(2, 3)
    loss = getattr(host.losses, name)(torch.zeros(2, 3), negative, mask=torch.zeros(2, 3, dtype=torch.bool))
    assert torch.isnan(loss)


def test_scaled_embedding_starts_small_with_a_zero_padding_row(host):
    torch.manual_seed(0)
    weight = host.layers.ScaledEmbedding(500, 20, padding_idx=0).weight.detach()
    assert (weight[0] == 0).all()
    assert weight[1:].std().item() == pytest.approx(1 / 20, rel=0.05)
    assert (host.layers.ScaledEmbedding(5, 4).weight[0] != 0).all()


def test_zero_embedding_starts_at_zero(host):
    layer = host.layers.ZeroEmbedding(5, 1, padding_idx=0, sparse=True)
    assert (layer.weight == 0).all()
    assert layer.weight.requires_grad
    assert layer.sparse


def test_embeddings_can_start_anew(host):
    layer = host.layers.ScaledEmbedding(5, 4, padding_idx=0)
    before = layer.weight.detach().clone()
    layer.reset_parameters()
    assert not torch.equal(layer.weight, before)
    assert (layer.weight[0] == 0).all()


def test_sampling_draws_all_ids_and_only_these(host):
    drawn = host.sampling.sample_items(7, (40, 50), random_state=np.random.RandomState(0))
    assert drawn.shape == (40, 50)
    assert drawn.dtype == np.int64
    assert sorted(set(drawn.ravel())) == list(range(7))
    # Each of 7 ids is expected 2,000 / 7 = 286 times, with a standard deviation of 16.
    assert np.abs(np.bincount(drawn.ravel()) - 2000 / 7).max() < 4 * 16


def test_sampling_repeats_with_its_random_state_and_takes_a_plain_length(host):
    first, second = (host.sampling.sample_items(90, 5, np.random.RandomState(3)) for _ in range(2))
    assert np.array_equal(first, second)
    assert host.sampling.sample_items(90, 5).shape == (5,)


def test_minibatches_cover_everything_in_order(host):
    numbers = torch.arange(7)
    batches = list(host.torch_utils.minibatch(numbers, batch_size=3))
    assert [batch.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    pairs = list(host.torch_utils.minibatch(numbers, numbers * 2, batch_size=4))
    assert [(a.tolist(), b.tolist()) for a, b in pairs] == [
        ([0, 1, 2, 3], [0, 2, 4, 6]),
        ([4, 5, 6], [8, 10, 12]),
    ]
    assert [len(batch) for batch in host.torch_utils.minibatch(torch.arange(200))] == [128, 72]


def test_shuffle_moves_rows_together_and_leaves_its_input(host):
    rows, labels = np.arange(20).reshape(10, 2), np.arange(10)
    new_rows, new_labels = host.torch_utils.shuffle(rows, labels, random_state=np.random.RandomState(0))
    assert np.array_equal(new_rows, rows[new_labels])
    assert sorted(new_labels) == list(range(10))
    assert labels.tolist() == list(range(10)) != new_labels.tolist()
    assert host.torch_utils.shuffle(labels).shape == (10,)
    with pytest.raises(ValueError, match="same length"):
        host.torch_utils.shuffle(rows, labels[:-1])


def test_devices_seeds_and_targets(host):
    tensor = torch.ones(2)
    assert host.torch_utils.gpu(tensor, False) is tensor
    assert host.torch_utils.cpu(tensor) is tensor

    host.torch_utils.set_seed(5)
    first = torch.rand(3)
    host.torch_utils.set_seed(5)
    assert torch.equal(first, torch.rand(3))

    host.torch_utils.assert_no_grad(tensor)
    with pytest.raises(ValueError, match="gradients"):
        host.torch_utils.assert_no_grad(torch.ones(1, requires_grad=True))
