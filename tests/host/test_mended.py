"""The embedded host is correct where Spotlight 0.1.6 crashes or broadcasts to a wrong shape."""

import numpy as np
import pytest
import torch

NETS = ["pooling", "lstm", "cnn"]
LOSSES = ["pointwise", "bpr", "hinge", "adaptive_hinge"]


@pytest.fixture(scope="module")
def sequence_model(embedded):
    return embedded.sequence_implicit.ImplicitSequenceModel


@pytest.fixture(scope="module")
def factorization_model(embedded):
    return embedded.factorization_implicit.ImplicitFactorizationModel


def make_net(embedded, representation, dim=4):
    nets = embedded.sequence_representations
    torch.manual_seed(0)
    return {"pooling": nets.PoolNet, "lstm": nets.LSTMNet, "cnn": nets.CNNNet}[representation](30, dim)


@pytest.mark.parametrize(("batch", "time", "dim"), [(1, 1, 4), (1, 5, 4), (6, 1, 4), (4, 1, 4), (6, 5, 1)])
@pytest.mark.parametrize("representation", NETS)
def test_scores_of_any_size_are_dot_products(embedded, representation, batch, time, dim):
    """Spotlight's squeeze drops an axis of length one and broadcasts over the next."""
    net = make_net(embedded, representation, dim)
    items, targets = torch.randint(1, 30, (batch, time)), torch.randint(0, 30, (batch, time))
    states, _ = net.user_representation(items)
    expected = torch.einsum("bdt,btd->bt", states, net.item_embeddings(targets))
    found = net(states, targets)
    assert found.shape == (batch, time)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("representation", NETS)
@pytest.mark.parametrize(("num_sequences", "length", "dim", "batch_size"), [(17, 1, 8, 8), (16, 1, 8, 8), (9, 4, 1, 4)])
def test_windows_of_one_and_one_dimension_train(
    embedded, sequence_model, make_sequences, representation, loss, num_sequences, length, dim, batch_size
):
    sequences = make_sequences(embedded, num_sequences, length)
    model = sequence_model(loss, representation, embedding_dim=dim, n_iter=2, batch_size=batch_size, random_state=0)
    model.fit(sequences)
    scores = model.predict(np.array([3]))
    assert scores.shape == (40,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("representation", NETS)
def test_states_without_time_score_many_targets(embedded, representation):
    net = make_net(embedded, representation)
    _, final = net.user_representation(torch.randint(1, 30, (3, 5)))
    targets = torch.randint(0, 30, (3, 7))
    expected = torch.einsum("bd,btd->bt", final, net.item_embeddings(targets))
    assert torch.allclose(net(final, targets), expected, atol=1e-6)


def test_a_channel_axis_does_not_stop_several_negatives(embedded, make_sequences, sequence_model):
    class Channels(sequence_model):
        def _get_negative_prediction(self, shape, user_representation):
            assert shape == (6, 8, 3)
            return torch.arange(48.0).reshape(6, 8)

    model = Channels("adaptive_hinge", random_state=0)
    found = model._get_multiple_negative_predictions((2, 8, 3), torch.zeros(2, 4, 8), n=3)
    assert torch.equal(found, torch.arange(48.0).reshape(3, 2, 8))


def test_adaptive_hinge_keeps_an_axis_of_one(embedded):
    positive, negative = torch.randn(5, 1), torch.randn(3, 5, 1)
    mask = torch.tensor([[True], [True], [False], [True], [True]])
    expected = torch.clamp(1 + negative.max(0).values - positive, min=0)[mask].mean()
    found = embedded.losses.adaptive_hinge_loss(positive, negative, mask=mask)
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)
    flat = embedded.losses.adaptive_hinge_loss(positive[:, 0], negative, mask=mask)
    assert flat.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("seed", [0, 7, np.int64(7)])
def test_random_state_may_be_an_int(embedded, make_sequences, sequence_model, seed):
    weights = []
    for random_state in (seed, np.random.RandomState(int(seed))):
        model = sequence_model(n_iter=1, random_state=random_state)
        model.fit(make_sequences(embedded))
        weights.append(model._net.item_embeddings.weight)
    assert torch.equal(*weights)


def test_random_state_may_be_none_and_nothing_else(sequence_model):
    assert isinstance(sequence_model(random_state=None)._random_state, np.random.RandomState)
    with pytest.raises(ValueError, match=r"RandomState, an int or None, not str"):
        sequence_model(random_state="seven")


def test_unknown_names_are_refused_with_the_choices(embedded, make_sequences, sequence_model, factorization_model):
    for model in (sequence_model, factorization_model):
        with pytest.raises(ValueError, match=r"'pointwise', 'bpr', 'hinge', 'adaptive_hinge', not 'warp'"):
            model(loss="warp")
    with pytest.raises(ValueError, match=r"'pooling', 'cnn', 'lstm' or a module, not 'gru'"):
        sequence_model(representation="gru")
    with pytest.raises(ValueError, match=r"'mixture' needs the real Spotlight"):
        sequence_model(representation="mixture")
    with pytest.raises(ValueError, match=r"or a module, not int"):
        sequence_model(representation=3).fit(make_sequences(embedded))


def test_predict_before_fit_says_so(sequence_model, factorization_model):
    with pytest.raises(RuntimeError, match="call fit before predict"):
        sequence_model().predict(np.array([1, 2]))
    with pytest.raises(RuntimeError, match="call fit before predict"):
        factorization_model().predict(1)


def test_predict_takes_any_one_sequence(embedded, make_sequences, sequence_model):
    model = sequence_model(n_iter=1, random_state=0)
    model.fit(make_sequences(embedded))
    scores = model.predict([3, 1])
    assert np.array_equal(scores, model.predict(np.array([[3, 1]])))
    assert model.predict([3, 1], np.array([5, 7])) == pytest.approx(scores[[5, 7]], abs=1e-6)
    assert model.predict([3, 1], [5]) == pytest.approx(scores[[5]], abs=1e-6)
    # The state of an empty sequence is zero, which leaves the biases.
    assert np.array_equal(model.predict([]), model._net.item_biases.weight.detach().numpy().ravel())


def test_predict_refuses_a_batch_instead_of_joining_its_rows(embedded, make_sequences, sequence_model):
    model = sequence_model(n_iter=1, random_state=0)
    model.fit(make_sequences(embedded))
    with pytest.raises(ValueError, match=r"one sequence.*\(2, 3\)"):
        model.predict(np.array([[1, 2, 3], [4, 5, 6]]))


def test_negative_ids_are_refused(embedded, make_sequences, make_pairs, sequence_model, factorization_model):
    model = sequence_model(n_iter=1, random_state=0)
    model.fit(make_sequences(embedded))
    with pytest.raises(ValueError, match="Negative item id"):
        model.predict(np.array([1, -1]))
    model = factorization_model(n_iter=1, random_state=0)
    model.fit(make_pairs(embedded))
    with pytest.raises(ValueError, match="Negative user id"):
        model.predict(-1)


def test_fitting_nothing_says_so(embedded, sequence_model, factorization_model):
    nothing = embedded.interactions.SequenceInteractions(np.zeros((0, 4), dtype=int), num_items=9)
    with pytest.raises(ValueError, match="the interactions are empty"):
        sequence_model(random_state=0).fit(nothing)

    ids = np.array([], dtype=np.int32)
    nobody = embedded.interactions.Interactions(ids, ids, timestamps=ids, num_users=3, num_items=4)
    assert nobody.to_sequence(5).sequences.shape == (0, 5)
    assert nobody.tocsr().shape == (3, 4)
    with pytest.raises(ValueError, match="the interactions are empty"):
        factorization_model(random_state=0).fit(nobody)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("num_pairs", "dim"), [(65, 4), (64, 1), (1, 1)])
def test_factorization_trains_on_a_batch_of_one_and_one_dimension(
    embedded, make_pairs, factorization_model, loss, num_pairs, dim
):
    model = factorization_model(loss, embedding_dim=dim, n_iter=2, batch_size=32, random_state=0)
    model.fit(make_pairs(embedded, num_pairs))
    assert np.isfinite(model.predict(0)).all()


def test_factorization_predicts_one_item_and_refuses_what_cannot_be_paired(embedded, make_pairs, factorization_model):
    model = factorization_model(n_iter=1, random_state=0)
    model.fit(make_pairs(embedded))
    scores = model.predict(2)
    assert model.predict(2, np.array([5])) == pytest.approx(scores[[5]], abs=1e-6)
    assert model.predict(2, [5, 6]) == pytest.approx(scores[[5, 6]], abs=1e-6)
    assert model.predict(2, np.array([], dtype=int)).shape == (0,)
    with pytest.raises(ValueError, match="Cannot pair 3 users with 2 items"):
        model.predict(np.array([1, 2, 3]), np.array([1, 2]))


def test_interactions_take_lists_and_refuse_lengths_that_leave_nothing(embedded):
    interactions = embedded.interactions.Interactions([0, 0, 0, 1], [1, 2, 3, 4], timestamps=[3, 2, 1, 1])
    assert interactions.to_sequence(2).sequences.tolist() == [[2, 1], [0, 3], [0, 4]]
    assert interactions.to_sequence(2, min_sequence_length=0).sequences.shape == (3, 2)
    with pytest.raises(ValueError, match="min_sequence_length"):
        interactions.to_sequence(2, min_sequence_length=3)
    for lengths in ({"max_sequence_length": 0}, {"step_size": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            interactions.to_sequence(**lengths)


def test_sequences_with_channels_have_a_repr(embedded):
    sequences = embedded.interactions.SequenceInteractions(np.ones((2, 3, 4), dtype=int))
    assert repr(sequences) == "<Sequence interactions dataset (2 sequences x 3 sequence length)>"


def test_training_pairs_may_know_fewer_users_than_test_pairs(embedded):
    class Zeros:
        def predict(self, _):
            return np.zeros(4, dtype=np.float32)

    test = embedded.interactions.Interactions([0, 5], [1, 2], num_items=4)
    train = embedded.interactions.Interactions([0], [3], num_items=4)
    assert embedded.evaluation.mrr_score(Zeros(), test, train).tolist() == [1 / 2, 1 / 2.5]
