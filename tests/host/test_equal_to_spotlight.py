"""The embedded host against the real Spotlight: the same interface and bit-identical numbers."""

import inspect

import numpy as np
import pytest
import torch

NETS = ["pooling", "lstm", "cnn"]
LOSSES = ["pointwise", "bpr", "hinge", "adaptive_hinge"]

OPTIMIZERS = {
    "adam": {},
    "weight decay": {"l2": 1e-3, "learning_rate": 0.03},
    "adagrad": {"optimizer_func": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1)},
    "sparse": {"sparse": True, "optimizer_func": lambda parameters: torch.optim.SGD(parameters, lr=0.5)},
}

PUBLIC = {
    "interactions": ["Interactions", "SequenceInteractions"],
    "layers": ["ScaledEmbedding", "ZeroEmbedding"],
    "losses": ["pointwise_loss", "bpr_loss", "hinge_loss", "adaptive_hinge_loss"],
    "sampling": ["sample_items"],
    "torch_utils": ["gpu", "cpu", "minibatch", "shuffle", "set_seed", "assert_no_grad"],
    "evaluation": ["mrr_score", "sequence_mrr_score"],
    "sequence_implicit": ["ImplicitSequenceModel"],
    "sequence_representations": ["PoolNet", "LSTMNet", "CNNNet"],
    "factorization_implicit": ["ImplicitFactorizationModel"],
    "factorization_representations": ["BilinearNet"],
}
PRIVATE = [
    "_initialize",
    "_check_input",
    "_get_negative_prediction",
    "_get_multiple_negative_predictions",
]


def methods(cls):
    return {
        name: method
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if method.__module__.startswith("spotlight.") and (not name.startswith("_") or name in PRIVATE)
    }


def same_arrays(first, second):
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def assert_same_run(mine, theirs):
    assert mine["printed"] == theirs["printed"]
    assert list(mine["weights"]) == list(theirs["weights"])
    for name, weight in mine["weights"].items():
        assert torch.equal(weight, theirs["weights"][name]), name
    assert same_arrays(mine["scores"], theirs["scores"])
    assert mine["next draw"] == theirs["next draw"]


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_signatures(embedded, spotlight, module):
    for name in PUBLIC[module]:
        mine, theirs = (getattr(getattr(host, module), name) for host in (embedded, spotlight))
        assert inspect.signature(mine) == inspect.signature(theirs), name
        if inspect.isclass(theirs):
            for method, function in methods(theirs).items():
                assert inspect.signature(getattr(mine, method)) == inspect.signature(function), f"{name}.{method}"


def test_private_attributes(embedded, spotlight):
    for module, name in (
        ("sequence_implicit", "ImplicitSequenceModel"),
        ("factorization_implicit", "ImplicitFactorizationModel"),
    ):
        mine, theirs = (getattr(getattr(host, module), name)() for host in (embedded, spotlight))
        assert vars(mine).keys() == vars(theirs).keys()
        assert mine._initialized is theirs._initialized is False
        assert repr(mine) == repr(theirs)


def run_sequence_model(host, sequences, capsys, net=None, **settings):
    if net is not None:
        torch.manual_seed(11)
        settings["representation"] = net(host.sequence_representations)
    random_state = np.random.RandomState(5)
    model = host.sequence_implicit.ImplicitSequenceModel(n_iter=2, random_state=random_state, **settings)
    model.fit(sequences, verbose=True)
    rows = sequences.sequences
    scores = [model.predict(rows[0])]
    model.fit(sequences, verbose=True)
    scores += [model.predict(rows[1]), model.predict(rows[:1], np.array([[3], [5]]))]
    scores += [model.predict(rows[2], np.array([[3]]))]
    scores += [host.evaluation.sequence_mrr_score(model, sequences, exclude) for exclude in (False, True)]
    return {
        "printed": capsys.readouterr().out,
        "weights": model._net.state_dict(),
        "scores": scores,
        "next draw": random_state.randint(10**9),
    }


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("representation", NETS)
def test_sequence_models(embedded, spotlight, make_sequences, capsys, representation, loss, optimizer):
    # 33 rows leave a last minibatch of one.
    for num_sequences, length, dim, batch_size in ((33, 5, 8, 16), (40, 12, 32, 13)):
        mine, theirs = (
            run_sequence_model(
                host,
                make_sequences(host, num_sequences, length),
                capsys,
                representation=representation,
                loss=loss,
                embedding_dim=dim,
                batch_size=batch_size,
                **OPTIMIZERS[optimizer],
            )
            for host in (embedded, spotlight)
        )
        assert_same_run(mine, theirs)


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
@pytest.mark.parametrize(
    "settings",
    [
        {"num_layers": 3},
        {"kernel_width": (3, 5), "dilation": (1, 2), "num_layers": 2},
        {"nonlinearity": "relu", "residual_connections": False, "num_layers": 2},
        {"kernel_width": 2, "dilation": 3},
        {"kernel_width": 1},
        {"kernel_width": (3, 3, 3), "dilation": 1},
    ],
)
def test_convolutional_nets(embedded, spotlight, make_sequences, capsys, settings, loss):
    mine, theirs = (
        run_sequence_model(
            host,
            make_sequences(host),
            capsys,
            net=lambda nets: nets.CNNNet(40, embedding_dim=12, **settings),
            loss=loss,
            batch_size=16,
        )
        for host in (embedded, spotlight)
    )
    assert_same_run(mine, theirs)


def run_factorization_model(host, pairs, capsys, **settings):
    random_state = np.random.RandomState(5)
    model = host.factorization_implicit.ImplicitFactorizationModel(n_iter=2, random_state=random_state, **settings)
    model.fit(pairs, verbose=True)
    scores = [model.predict(3)]
    model.fit(pairs, verbose=True)
    scores += [model.predict(np.array([1, 2, 3]), np.array([4, 5, 6])), model.predict(np.array([4]))]
    scores += [model.predict(2, np.array([4, 5, 6]))]
    scores += [host.evaluation.mrr_score(model, pairs, train) for train in (None, pairs)]
    return {
        "printed": capsys.readouterr().out,
        "weights": model._net.state_dict(),
        "scores": scores,
        "next draw": random_state.randint(10**9),
    }


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("loss", LOSSES)
def test_factorization_models(embedded, spotlight, make_pairs, capsys, loss, optimizer):
    for num_pairs, dim, batch_size in ((203, 7, 50), (200, 32, 256)):
        mine, theirs = (
            run_factorization_model(
                host,
                make_pairs(host, num_pairs),
                capsys,
                loss=loss,
                embedding_dim=dim,
                batch_size=batch_size,
                **OPTIMIZERS[optimizer],
            )
            for host in (embedded, spotlight)
        )
        assert_same_run(mine, theirs)


@pytest.mark.parametrize("representation", NETS)
def test_weights_move_between_hosts(embedded, spotlight, make_sequences, representation):
    models = []
    for host, seed in ((embedded, 1), (spotlight, 2)):
        model = host.sequence_implicit.ImplicitSequenceModel(
            representation=representation, n_iter=1, random_state=np.random.RandomState(seed)
        )
        model.fit(make_sequences(host))
        models.append(model)
    mine, theirs = models
    sequence = np.array([4, 2, 9])
    assert not np.array_equal(mine.predict(sequence), theirs.predict(sequence))
    theirs._net.load_state_dict(mine._net.state_dict())
    assert np.array_equal(mine.predict(sequence), theirs.predict(sequence))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_their_gradients(embedded, spotlight, loss, masked):
    results = []
    for host in (embedded, spotlight):
        torch.manual_seed(0)
        positive = torch.randn(9, 7).round(decimals=1).requires_grad_()  # rounded: some margins are exact
        negative = torch.randn((4, 9, 7) if loss == "adaptive_hinge" else (9, 7)).round(decimals=1)
        negative.requires_grad_()
        mask = torch.rand(9, 7) < 0.7 if masked else None
        value = getattr(host.losses, f"{loss}_loss")(positive, negative, mask=mask)
        value.backward()
        results.append((value, positive.grad, negative.grad))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*results, strict=True))


def test_draws(embedded, spotlight):
    drawn, shuffled = [], []
    for host in (embedded, spotlight):
        random_state = np.random.RandomState(4)
        drawn.append(host.sampling.sample_items(1000, (6, 5), random_state))
        shuffled.append(host.torch_utils.shuffle(np.arange(50), random_state=random_state))
    assert np.array_equal(*drawn)
    assert np.array_equal(*shuffled)


def run_subclass(host):
    """A model that trains on events of two channels and samples its own negatives."""

    class TwoChannelModel(host.sequence_implicit.ImplicitSequenceModel):
        def _check_input(self, item_ids):
            assert item_ids[..., 0].max() < self._num_items

        def _initialize(self, interactions):
            super()._initialize(interactions)
            loss = self._loss_func
            self._loss_func = lambda positive, negative, mask: loss(positive, negative, mask=mask[..., 0])

        def _get_negative_prediction(self, shape, user_representation):
            drawn = host.sampling.sample_items(self._num_items, tuple(shape), self._random_state)
            return self._net(user_representation, torch.from_numpy(drawn))

    class FirstChannelNet(host.sequence_representations.LSTMNet):
        def user_representation(self, events):
            return super().user_representation(events[..., 0])

        def forward(self, states, events):
            return super().forward(states, events[..., 0])

    torch.manual_seed(0)
    net = FirstChannelNet(30, 8)
    model = TwoChannelModel("bpr", net, n_iter=3, batch_size=9, random_state=np.random.RandomState(0))
    events = np.random.RandomState(1).randint(0, 30, (40, 6, 2))
    model.fit(host.interactions.SequenceInteractions(events, num_items=30))
    return net.state_dict()


def test_subclasses_with_channels(embedded, spotlight):
    mine, theirs = run_subclass(embedded), run_subclass(spotlight)
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
