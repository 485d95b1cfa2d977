"""Item embeddings to begin with: exact counts, a slow reference, and what the model does with them."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.training.catalogue import catalogue_neighbours, catalogue_places
from spotlight_asars.sequence.training.initial_embeddings import (
    cooccurrence_embeddings,
    cooccurrences,
    positive_pointwise_mutual_information,
)


def rows_of(*sessions):
    longest = max(len(session) for session in sessions)
    items = [[0] * (longest - len(session)) + list(session) for session in sessions]
    return SessionSequences(np.array(items))


def test_cooccurrences_weigh_by_distance_and_leave_out_an_item_beside_itself():
    found = cooccurrences(rows_of([1, 2, 2, 3]), window=2).toarray()
    # 1-2 neighbours and two apart, 2-3 likewise; 1-3 are three apart, beyond the window.
    assert found.tolist() == [[0, 0, 0, 0], [0, 0, 1.5, 0], [0, 1.5, 0, 1.5], [0, 0, 1.5, 0]]


def test_sessions_of_one_row_do_not_mix():
    rows = SessionSequences(np.array([[1, 2, 3, 4]]), session_starts=np.array([[True, False, True, False]]))
    found = cooccurrences(rows)
    assert sorted(zip(*map(list, found.nonzero()), strict=True)) == [(1, 2), (2, 1), (3, 4), (4, 3)]


def test_an_event_in_several_rows_counts_in_one():
    targets = np.array([[False, True, True], [False, False, True]])
    twice = SessionSequences(np.array([[1, 2, 3], [2, 3, 1]]), targets=targets)
    # The second row has 2 and 3 as history of its one target, 1.
    assert cooccurrences(twice).toarray()[2, 3] == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=7), min_size=1, max_size=5), st.integers(1, 4))
def test_cooccurrences_equal_a_loop(sessions, window):
    rows = rows_of(*sessions)
    expected = np.zeros((rows.num_items, rows.num_items))
    for session in sessions:
        for later, other in enumerate(session):
            for earlier in range(max(0, later - window), later):
                if session[earlier] != other:
                    expected[session[earlier], other] += 1 / (later - earlier)
                    expected[other, session[earlier]] += 1 / (later - earlier)
    np.testing.assert_allclose(cooccurrences(rows, window).toarray(), expected, atol=1e-12)


def test_mutual_information_of_a_small_case():
    counts = sparse.csr_array(np.array([[0, 4.0, 1.0], [4.0, 0, 1.0], [1.0, 1.0, 0]]))
    found = positive_pointwise_mutual_information(counts).toarray()
    # c(0, 1) c / (c(0) c(1)) = 4 * 12 / 25; c(0, 2) c / (c(0) c(2)) = 12 / 10
    expected = [[0, np.log(48 / 25), np.log(1.2)], [np.log(48 / 25), 0, np.log(1.2)], [np.log(1.2), np.log(1.2), 0]]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("embedding_dim", [3, 5, 40])
def test_embeddings_of_two_worlds_lie_apart(embedding_dim):
    random = np.random.RandomState(0)
    first, second = random.randint(1, 6, (40, 5)), random.randint(6, 11, (40, 5))
    rows = SessionSequences(np.concatenate([first, second]))
    found = cooccurrence_embeddings(rows, embedding_dim)
    assert found.shape == (11, embedding_dim) and not found[0].any()
    assert torch.allclose(found[1:].norm(dim=1), torch.ones(10), atol=1e-5)
    across = found[1:6] @ found[6:].T
    assert across.abs().max() < 1e-5


def test_embeddings_of_sparse_and_dense_factorisations_agree():
    """ARPACK finds what the dense one does, but for signs: the products of rows are equal."""
    rows = SessionSequences(np.random.RandomState(1).randint(1, 13, (30, 4)))
    information = positive_pointwise_mutual_information(cooccurrences(rows)).toarray()
    vectors, values, _ = np.linalg.svd(information)
    expected = vectors[:, :6] * np.sqrt(values[:6])
    expected = expected[1:] / np.linalg.norm(expected[1:], axis=1, keepdims=True)
    found = cooccurrence_embeddings(rows, 6)[1:].numpy()
    np.testing.assert_allclose(np.abs(found @ found.T), np.abs(expected @ expected.T), atol=1e-4)


def test_rows_without_two_different_items_together_have_none():
    assert not cooccurrence_embeddings(rows_of([1, 1], [2, 2]), 4).any()


def test_the_model_begins_there_and_keeps_the_random_start_of_lone_items():
    rows = rows_of([1, 2, 3], [3, 2, 1], [4, 4], [2, 3, 1])
    keywords = {"representation": "gru4rec", "embedding_dim": 4, "n_iter": 1, "random_state": 0, "learning_rate": 0.0}
    plain = ASARSSequenceModel(**keywords).fit(rows).net.item_embeddings.weight
    begun = (
        ASARSSequenceModel(**keywords, training={"initial_embeddings": "cooccurrence"})
        .fit(rows)
        .net.item_embeddings.weight
    )
    expected = 0.3 * plain + cooccurrence_embeddings(rows, 4)
    torch.testing.assert_close(begun[1:4], expected[1:4])
    assert torch.equal(begun[4], plain[4]) and not begun[0].any()


def test_by_catalogue_they_factorise_what_neighbours_there_count_too():
    sessions = [[10, 11], [20, 21], [30, 31], [20, 22], [12, 40], [50, 60]] * 3
    log = pd.DataFrame(
        {
            "item": [item for session in sessions for item in session],
            "session": np.repeat(np.arange(len(sessions)), 2),
            "timestamp": np.arange(2 * len(sessions)) * 10.0 + 1e9,
        }
    )
    rows = to_session_sequences(SessionInteractions.from_log(log))
    counts = cooccurrences(rows)
    neighbours = catalogue_neighbours(counts, catalogue_places(rows))
    assert neighbours.nnz
    vectors, values, _ = np.linalg.svd(positive_pointwise_mutual_information(counts + neighbours).toarray())
    expected = (vectors * np.sqrt(values))[1:]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = cooccurrence_embeddings(rows, 20, by_catalogue=True)
    np.testing.assert_allclose(found[1:] @ found[1:].T, expected @ expected.T, atol=1e-6)
    plain = cooccurrence_embeddings(rows, 20)
    assert not torch.allclose(found @ found.T, plain @ plain.T)

    keywords = {"representation": "gru4rec", "embedding_dim": 20, "n_iter": 1, "random_state": 0, "learning_rate": 0.0}
    begun = (
        ASARSSequenceModel(**keywords, training={"initial_embeddings": "catalogue"})
        .fit(rows)
        .net.item_embeddings.weight
    )
    kept = ASARSSequenceModel(**keywords).fit(rows).net.item_embeddings.weight
    torch.testing.assert_close(begun[1:], 0.3 * kept[1:] + found[1:])


def test_ids_without_an_order_give_plain_cooccurrence():
    log = pd.DataFrame({"item": ["a", 1, "b", 1, "a", 2], "session": [1, 1, 2, 2, 3, 3], "timestamp": np.arange(6.0)})
    rows = to_session_sequences(SessionInteractions.from_log(log))
    assert torch.equal(cooccurrence_embeddings(rows, 2), cooccurrence_embeddings(rows, 2, by_catalogue=True))


def test_a_second_fit_goes_on_from_the_first():
    rows = rows_of([1, 2, 3], [3, 2, 1], [2, 3, 1])
    keywords = {"representation": "gru4rec", "embedding_dim": 4, "random_state": 0, "learning_rate": 0.0}
    model = ASARSSequenceModel(**keywords, n_iter=1, training={"initial_embeddings": "cooccurrence"}).fit(rows)
    before = model.net.item_embeddings.weight.clone()
    assert torch.equal(model.fit(rows).net.item_embeddings.weight, before)


def test_wrong_choices_are_told():
    with pytest.raises(ValueError, match="initial_embeddings is 'svd': choose one of random, cooccurrence, catalogue"):
        ASARSSequenceModel(training={"initial_embeddings": "svd"})
    rows = rows_of([1, 2, 3], [3, 2, 1])
    model = ASARSSequenceModel(
        representation=lambda **settings: _Untabled(), loss="bpr", training={"initial_embeddings": "cooccurrence"}
    )
    for _ in range(2):  # it is not half made after the first
        with pytest.raises(InputError, match="_Untabled does not have: choose 'random'"):
            model.fit(rows)


class _Untabled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
