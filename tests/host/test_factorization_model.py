"""ImplicitFactorizationModel and BilinearNet, on each host."""

import inspect

import numpy as np
import pytest
import torch

LOSSES = ["pointwise", "bpr", "hinge", "adaptive_hinge"]


def make_model(host, seed=0, **settings):
    settings = {"embedding_dim": 8, "n_iter": 2, "batch_size": 32, **settings}
    return host.factorization_implicit.ImplicitFactorizationModel(random_state=np.random.RandomState(seed), **settings)


@pytest.fixture(scope="module")
def two_tastes(host):
    """Even users interact with items below 10, odd users with the others."""
    random_state = np.random.RandomState(0)
    users = random_state.randint(0, 20, 600)
    items = random_state.randint(0, 10, 600) + 10 * (users % 2)
    return host.interactions.Interactions(users, items, num_users=20, num_items=20)


def test_constructor_has_the_arguments_users_know(host):
    parameters = inspect.signature(host.factorization_implicit.ImplicitFactorizationModel).parameters
    assert list(parameters) == [
        "loss",
        "embedding_dim",
        "n_iter",
        "batch_size",
        "l2",
        "learning_rate",
        "optimizer_func",
        "use_cuda",
        "representation",
        "sparse",
        "random_state",
        "num_negative_samples",
    ]


@pytest.mark.parametrize("loss", LOSSES[:3])
def test_learns_two_tastes(host, two_tastes, loss):
    model = make_model(host, loss=loss, n_iter=15, learning_rate=0.05)
    model.fit(two_tastes)
    even, odd = model.predict(2), model.predict(3)
    assert even[:10].min() > even[10:].max()
    assert odd[10:].min() > odd[:10].max()


@pytest.mark.parametrize("loss", LOSSES)
def test_fits_resumes_and_prints(host, make_pairs, loss, capsys):
    model = make_model(host, loss=loss, batch_size=30)
    model.fit(make_pairs(host), verbose=True)
    net = model._net
    model.fit(make_pairs(host), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["Epoch 0: loss", "Epoch 1: loss"] * 2
    assert model._net is net
    assert model._optimizer.state[net.item_embeddings.weight]["step"] == 4 * 7


def test_predict_scores_a_user_or_pairs(host, make_pairs):
    model = make_model(host)
    model.fit(make_pairs(host))
    scores = model.predict(4)
    assert scores.shape == (30,)
    assert scores.dtype == np.float32
    assert model.predict(4, np.array([3, 9])) == pytest.approx(scores[[3, 9]], abs=1e-6)
    pairs = model.predict(np.array([4, 5]), np.array([3, 9]))
    assert pairs == pytest.approx([scores[3], model.predict(5)[9]], abs=1e-6)
    assert not model._net.training


def test_ids_that_the_model_does_not_know_are_refused(host, make_pairs):
    model = make_model(host)
    model.fit(make_pairs(host))
    with pytest.raises(ValueError, match="Maximum user id greater than number of users in model"):
        model.predict(20)
    with pytest.raises(ValueError, match="Maximum item id greater than number of items in model"):
        model.predict(2, np.array([1, 30]))
    with pytest.raises(ValueError, match="Maximum user id"):
        model.fit(make_pairs(host, num_users=25))


def test_score_is_the_dot_product_plus_both_biases(host):
    net = host.factorization_representations.BilinearNet(6, 9, 4)
    for layer in (net.user_biases, net.item_biases):
        torch.nn.init.normal_(layer.weight)
    users, items = torch.tensor([0, 5, 5]), torch.tensor([8, 0, 3])
    weights = {name: weight.detach() for name, weight in net.named_parameters()}
    expected = [
        weights["user_embeddings.weight"][user] @ weights["item_embeddings.weight"][item]
        + weights["user_biases.weight"][user, 0]
        + weights["item_biases.weight"][item, 0]
        for user, item in zip(users, items, strict=True)
    ]
    assert list(weights) == [
        "user_embeddings.weight",
        "item_embeddings.weight",
        "user_biases.weight",
        "item_biases.weight",
    ]
    assert torch.allclose(net(users, items), torch.stack(expected), atol=1e-6)


def test_layers_and_nets_can_be_supplied(host, make_pairs):
    layers, nets = host.layers, host.factorization_representations
    users, items = layers.ScaledEmbedding(20, 4), layers.ScaledEmbedding(30, 4)
    net = nets.BilinearNet(20, 30, 4, user_embedding_layer=users, item_embedding_layer=items, sparse=True)
    assert net.user_embeddings is users and net.item_embeddings is items
    assert net.user_biases.sparse

    model = make_model(host, representation=net, optimizer_func=lambda p: torch.optim.SGD(p, lr=0.1))
    model.fit(make_pairs(host))
    assert model._net is net


def test_negatives_of_a_user_are_read_back_as_spotlight_does(host, make_pairs):
    """A quirk of the host: a column of adaptive hinge's negatives holds the scores of several users."""
    asked = []

    class Recorder(host.factorization_implicit.ImplicitFactorizationModel):
        def _get_negative_prediction(self, user_ids):
            asked.append(user_ids.tolist())
            return user_ids.float()

    model = Recorder(random_state=np.random.RandomState(0))
    scores = model._get_multiple_negative_predictions(torch.tensor([7, 8, 9]), n=2)
    assert asked == [[7, 7, 8, 8, 9, 9]]
    assert scores.tolist() == [[7, 7, 8], [8, 9, 9]]
