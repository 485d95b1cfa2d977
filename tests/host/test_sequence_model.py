"""ImplicitSequenceModel and its nets, on each host."""

import inspect

import numpy as np
import pytest
import torch

NETS = ["pooling", "lstm", "cnn"]
LOSSES = ["pointwise", "bpr", "hinge", "adaptive_hinge"]
USE_CUDA = [False, True] if torch.cuda.is_available() else [False]


def make_model(host, seed=0, **settings):
    settings = {"embedding_dim": 8, "n_iter": 2, "batch_size": 16, **settings}
    return host.sequence_implicit.ImplicitSequenceModel(random_state=np.random.RandomState(seed), **settings)


def weights_of(model):
    return {name: weight.clone() for name, weight in model._net.state_dict().items()}


def same_weights(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def chain(host):
    """Sequences that count from 1 to 9 in a cycle."""
    starts = np.arange(90)[:, None]
    return host.interactions.SequenceInteractions((starts + np.arange(8)) % 9 + 1, num_items=10)


def groups(host):
    """Sequences that stay within one of three groups of three items."""
    random_state = np.random.RandomState(0)
    sequences = 1 + random_state.randint(0, 3, (90, 8)) + 3 * random_state.randint(0, 3, (90, 1))
    return host.interactions.SequenceInteractions(sequences, num_items=10)


def test_constructor_has_the_arguments_users_know(host):
    parameters = inspect.signature(host.sequence_implicit.ImplicitSequenceModel).parameters
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "loss": "pointwise",
        "representation": "pooling",
        "embedding_dim": 32,
        "n_iter": 10,
        "batch_size": 256,
        "l2": 0.0,
        "learning_rate": 1e-2,
        "optimizer_func": None,
        "use_cuda": False,
        "sparse": False,
        "random_state": None,
        "num_negative_samples": 5,
    }


# A guess among ten items has a mean reciprocal rank of .29; knowing the group gives .61, the order 1.
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("representation", "data", "enough"),
    [("pooling", groups, 0.5), ("lstm", groups, 0.5), ("cnn", groups, 0.5), ("lstm", chain, 0.9), ("cnn", chain, 0.55)],
)
def test_learns_what_it_can_tell(host, representation, loss, data, enough):
    model = make_model(host, representation=representation, loss=loss, n_iter=12, embedding_dim=16, learning_rate=0.05)
    model.fit(data(host))
    assert host.evaluation.sequence_mrr_score(model, data(host)).mean() > enough


@pytest.mark.parametrize("representation", NETS)
def test_same_random_state_gives_the_same_bits(host, make_sequences, representation):
    def train(seed):
        # The constructor seeds torch's global generator for the initial values, so fit immediately.
        model = make_model(host, seed, representation=representation)
        model.fit(make_sequences(host))
        return weights_of(model)

    first, second, other = train(1), train(1), train(2)
    assert same_weights(first, second)
    assert not same_weights(first, other)


def test_fit_goes_on_from_where_it_stopped(host, make_sequences):
    sequences = make_sequences(host)
    model = make_model(host, n_iter=1)
    model.fit(sequences)
    net, optimizer, before = model._net, model._optimizer, weights_of(model)
    model.fit(sequences)

    assert model._net is net and model._optimizer is optimizer
    assert not same_weights(before, weights_of(model))
    assert optimizer.state[net.item_embeddings.weight]["step"] == 2 * 4  # epochs x minibatches


def test_verbose_prints_a_line_an_epoch(host, make_sequences, capsys):
    model = make_model(host)
    model.fit(make_sequences(host), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0] for line in lines] == ["Epoch 0: loss", "Epoch 1: loss"]
    assert all(0 < float(line.rpartition(" ")[2]) < 2 for line in lines)

    model.fit(make_sequences(host))
    assert capsys.readouterr().out == ""


def test_predict_gives_flat_scores_for_one_sequence(host, make_sequences):
    model = make_model(host, representation="lstm")
    model.fit(make_sequences(host))
    sequence = np.array([3, 1, 2])
    scores = model.predict(sequence)

    assert scores.shape == (40,)
    assert scores.dtype == np.float32
    assert np.array_equal(scores, model.predict(sequence.reshape(1, -1)))
    assert model.predict(sequence, np.array([[7], [2]])) == pytest.approx(scores[[7, 2]], abs=1e-6)
    assert model.predict(sequence, np.array([[7]])) == pytest.approx(scores[[7]], abs=1e-6)
    assert not model._net.training


def test_ids_that_the_model_does_not_know_are_refused(host, make_sequences):
    model = make_model(host)
    model.fit(make_sequences(host))
    message = "Maximum item id greater than number of items in model"
    with pytest.raises(ValueError, match=message):
        model.predict(np.array([1, 40]))
    with pytest.raises(ValueError, match=message):
        model.predict(np.array([1]), np.array([[40]]))
    with pytest.raises(ValueError, match=message):
        model.fit(make_sequences(host, num_items=50))


@pytest.mark.parametrize("representation", NETS)
def test_state_before_a_step_does_not_see_it(host, representation):
    nets = host.sequence_representations
    net = {"pooling": nets.PoolNet, "lstm": nets.LSTMNet, "cnn": nets.CNNNet}[representation](20, 6)
    items = torch.randint(1, 20, (3, 7))
    states, final = net.user_representation(items)
    changed = items.clone()
    changed[:, 4:] = 1
    changed_states, _ = net.user_representation(changed)

    assert states.shape == (3, 6, 7)
    assert final.shape == (3, 6)
    assert torch.allclose(states[:, :, :5], changed_states[:, :, :5], atol=1e-6)
    assert torch.allclose(net.user_representation(items[:, :4])[1], states[:, :, 4], atol=1e-6)


@pytest.mark.parametrize("representation", NETS)
def test_score_is_the_dot_product_plus_the_bias(host, representation):
    nets = host.sequence_representations
    net = {"pooling": nets.PoolNet, "lstm": nets.LSTMNet, "cnn": nets.CNNNet}[representation](20, 6)
    torch.nn.init.normal_(net.item_biases.weight)
    items, targets = torch.randint(1, 20, (3, 7)), torch.randint(0, 20, (3, 7))
    states, final = net.user_representation(items)
    vectors, biases = net.item_embeddings(targets), net.item_biases(targets)[:, :, 0]

    expected = torch.einsum("bdt,btd->bt", states, vectors) + biases
    assert torch.allclose(net(states, targets), expected, atol=1e-6)
    expected = torch.einsum("bd,bd->b", final, vectors[:, 0]) + biases[:, 0]
    assert torch.allclose(net(final, targets[:, :1]), expected, atol=1e-6)


def test_pooling_averages_what_came_before(host):
    net = host.sequence_representations.PoolNet(20, 6)
    vectors = net.item_embeddings.weight
    states, final = net.user_representation(torch.tensor([[0, 3, 5]]))
    assert torch.equal(states[0, :, :2], torch.zeros(6, 2))
    assert torch.allclose(states[0, :, 2], vectors[3] / 2)
    assert torch.allclose(final[0], (vectors[3] + vectors[5]) / 3)


def test_state_dict_keys(host):
    nets = host.sequence_representations
    common = ["item_embeddings.weight", "item_biases.weight"]
    assert list(nets.PoolNet(9, 4).state_dict()) == common
    assert list(nets.LSTMNet(9, 4).state_dict()) == [
        *common,
        *(f"lstm.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    ]
    assert list(nets.CNNNet(9, 4, num_layers=2).state_dict()) == [
        *common,
        *(f"cnn_{layer}.{name}" for layer in (0, 1) for name in ("weight", "bias")),
    ]
    assert nets.PADDING_IDX == 0


def test_convolutions_take_a_setting_for_each_layer(host, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    net = host.sequence_representations.CNNNet(
        9, 4, kernel_width=(2, 3), dilation=(1, 4), num_layers=2, nonlinearity="relu", benchmark=False
    )
    assert [layer.kernel_size for layer in net.cnn_layers] == [(2, 1), (3, 1)]
    assert [layer.dilation for layer in net.cnn_layers] == [(1, 1), (4, 1)]
    assert torch.backends.cudnn.benchmark is False
    with pytest.raises(ValueError, match="tanh, relu"):
        host.sequence_representations.CNNNet(9, 4, nonlinearity="sine")


def test_a_module_is_taken_as_it_is(host, make_sequences):
    net = host.sequence_representations.LSTMNet(40, 5)
    model = make_model(host, representation=net)
    assert not model._initialized
    assert repr(model) == "<ImplicitSequenceModel: [uninitialised]>"
    model.fit(make_sequences(host))
    assert model._initialized
    assert model._net is net
    assert "LSTMNet" in repr(model)


def test_an_item_embedding_can_be_supplied(host):
    nets = host.sequence_representations
    layer = host.layers.ScaledEmbedding(9, 4, padding_idx=0)
    for net in (nets.PoolNet, nets.LSTMNet, nets.CNNNet):
        assert net(9, 4, item_embedding_layer=layer).item_embeddings is layer


@pytest.mark.parametrize("representation", NETS)
def test_sparse_gradients_and_an_optimizer_of_ones_own(host, make_sequences, representation):
    model = make_model(
        host,
        representation=representation,
        sparse=True,
        optimizer_func=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    )
    model.fit(make_sequences(host))
    assert isinstance(model._optimizer, torch.optim.SGD)
    assert model._net.item_embeddings.weight.grad.is_sparse
    assert (model._net.item_embeddings.weight[0] == 0).all()


def test_a_loss_that_is_not_a_number_stops_training(host):
    padding_only = host.interactions.SequenceInteractions(np.zeros((20, 4), dtype=int), num_items=9)
    with pytest.raises(ValueError, match="Degenerate epoch loss: nan"):
        make_model(host).fit(padding_only)


def test_a_loss_of_exactly_zero_stops_training(host, make_sequences):
    model = make_model(host)
    model._initialize(make_sequences(host))
    model._loss_func = lambda positive, negative, mask: (positive * 0).sum()
    with pytest.raises(ValueError, match=r"Degenerate epoch loss: 0\.0"):
        model.fit(make_sequences(host))


def test_predict_leaves_dropout_off(host, make_sequences):
    """A quirk that subclasses fix; both hosts have it, so that their numbers agree."""
    model = make_model(host)
    model.fit(make_sequences(host))
    assert model._net.training
    model.predict(np.array([1, 2]))
    model.fit(make_sequences(host))
    assert not model._net.training


@pytest.mark.parametrize("use_cuda", USE_CUDA)
@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
@pytest.mark.parametrize("representation", NETS)
def test_each_device(host, make_sequences, representation, loss, use_cuda):
    model = make_model(host, representation=representation, loss=loss, use_cuda=use_cuda)
    model.fit(make_sequences(host))
    assert next(model._net.parameters()).is_cuda is use_cuda
    scores = model.predict(np.array([3, 1, 2]))
    assert isinstance(scores, np.ndarray)
    assert np.isfinite(scores).all()
