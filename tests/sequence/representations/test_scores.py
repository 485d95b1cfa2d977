"""Scores by cosine, item offsets outside training, and the item path of attention."""

import numpy as np
import pytest
import torch

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import ITEM, NUM_CHANNELS, SESSION_START
from spotlight_asars.sequence.representations.asars import AsarsTimeAttNet, AsarsUserAttNet
from spotlight_asars.sequence.representations.baselines import GRU4RecNet


def net_of(**options):
    torch.manual_seed(0)
    net = GRU4RecNet(6, 4, **options).double().eval()
    net.item_biases.weight.data[1:, 0] = torch.arange(5.0)
    return net


def test_cosine_scores_by_hand():
    net = net_of(scores="cosine", temperature=0.5)
    net.item_embeddings.weight.data[1:] = torch.tensor(
        [[3.0, 0, 0, 0], [0, 5, 0, 0], [1, 1, 0, 0], [-2, 0, 0, 0], [0, 0, 7, 0]]
    )
    state = torch.tensor([[10.0, 0, 0, 0]], dtype=torch.float64)
    found = net.score_shared(state)[0].detach()
    wanted = np.array([1, 0, 0.5**0.5, -1, 0]) / 0.5 + np.arange(5)
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    np.testing.assert_allclose(net.score(state.expand(5, -1), torch.arange(1, 6)).detach(), wanted, atol=1e-12)
    np.testing.assert_allclose(net.score_shared(state, torch.tensor([4, 2]))[0].detach(), wanted[[3, 1]], atol=1e-12)


def test_cosine_scores_do_not_depend_on_lengths():
    net = net_of(scores="cosine")
    state = torch.randn(3, 4, dtype=torch.float64)
    before = net.score_shared(state)
    net.item_embeddings.weight.data *= torch.arange(1.0, 7.0)[:, None]
    torch.testing.assert_close(net.score_shared(9.0 * state), before)


def test_a_zero_state_has_finite_cosine_scores():
    assert torch.isfinite(net_of(scores="cosine").score_shared(torch.zeros(1, 4, dtype=torch.float64))).all()


@pytest.mark.parametrize("options", [{}, {"scores": "cosine"}])
def test_item_offsets_count_outside_training_only(options):
    net, state = net_of(**options), torch.randn(2, 4, dtype=torch.float64)
    before, items = net.score_shared(state), torch.tensor([[1, 5], [2, 2]])
    alone = net.score(state, items)
    net.item_offsets[:] = torch.arange(6.0)
    torch.testing.assert_close(net.score_shared(state), before + torch.arange(1.0, 6.0))
    torch.testing.assert_close(net.score(state, items), alone + items)
    net.train()
    torch.testing.assert_close(net.score_shared(state), before)
    torch.testing.assert_close(net.score(state, items), alone)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_temperature_is_refused(temperature):
    with pytest.raises(InputError, match="temperature is"):
        net_of(temperature=temperature)


@pytest.mark.parametrize("kind", [AsarsTimeAttNet, AsarsUserAttNet])
def test_the_item_path_mixes_embeddings_by_the_attention_weights(kind):
    """The last state begins with sum_k a_k e_k, for the weights that `attention_weights` gives."""
    torch.manual_seed(0)
    net = kind(9, 4, hidden_dim=5, item_path=True, scope="session", recency=True).double().eval()
    events = torch.ones(3, 7, NUM_CHANNELS, dtype=torch.long)
    events[:, :, ITEM] = torch.randint(1, 9, (3, 7))
    events[:, :, SESSION_START] = torch.tensor([1, 0, 0, 1, 0, 0, 0])
    items = net.item_embeddings(events[:, :, ITEM])  # (batch, time, embedding)
    users = torch.randn(3, net.options.user_dim, dtype=torch.float64)
    net._users = lambda sequences: users
    with torch.no_grad():
        states = net.encode(items, events, users)  # (batch, time, state)
        weights = net.attention_weights(events)  # (batch, time)
    assert states.shape == (3, 7, 4 + 5 + 5)
    torch.testing.assert_close(states[:, -1, :4], torch.einsum("bt,btd->bd", weights, items).detach())
