"""Places in the catalogue and what neighbours there count, by hand and against a loop."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.training.catalogue import catalogue_neighbours, catalogue_places


@pytest.mark.parametrize(
    "items, places",
    [
        ([30, 7, 100], [0, 2, 1, 3]),
        (["sku-30", "sku-07", "sku-10"], [0, 3, 1, 2]),
        ([2.5, -1.0, 7.0], [0, 2, 1, 3]),
    ],
)
def test_places_are_in_the_order_of_raw_ids(items, places):
    log = pd.DataFrame({"item": items, "session": 1, "timestamp": [1.0, 2.0, 3.0]})
    assert catalogue_places(to_session_sequences(SessionInteractions.from_log(log))).tolist() == places


def test_mixed_ids_have_no_order_and_numbers_are_their_own():
    log = pd.DataFrame({"item": ["a", 1], "session": 1, "timestamp": [1.0, 2.0]})
    assert catalogue_places(to_session_sequences(SessionInteractions.from_log(log))) is None
    assert catalogue_places(SessionSequences(np.array([[2, 4]]))).tolist() == [0, 1, 2, 3, 4]


def test_neighbours_count_as_the_mean_pair_as_far_apart():
    counts = np.zeros((6, 6))
    counts[1, 2] = counts[2, 1] = 3.0  # neighbours, whose mean is 3 / 4
    counts[3, 5] = counts[5, 3] = 1.0  # two apart, whose mean is 1 / 3
    places = np.array([0, 1, 2, 3, 4, 5])
    found = catalogue_neighbours(sparse.csr_array(counts), places, window=3, strength=2.0).toarray()
    expected = np.diag([0] + [1.5] * 4, 1) + np.diag([0] + [2 / 3] * 3, 2)
    np.testing.assert_allclose(found, expected + expected.T)


def test_ids_that_say_nothing_count_nothing():
    """Every pair stands together equally often: no more often next to each other than anywhere."""
    counts = np.ones((9, 9)) - np.eye(9)
    counts[0] = counts[:, 0] = 0.0
    counts = sparse.csr_array(counts)
    places = np.concatenate([[0], np.random.RandomState(0).permutation(8) + 1])
    assert catalogue_neighbours(counts, places).nnz == 0
    assert catalogue_neighbours(sparse.csr_array((9, 9)), places).nnz == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(1, 10), st.randoms(use_true_random=False))
def test_neighbours_equal_a_loop(num_items, window, random):
    counts = np.zeros((num_items, num_items))
    for _ in range(2 * num_items):
        one, other = random.randrange(1, num_items), random.randrange(1, num_items)
        if one != other:
            counts[[one, other], [other, one]] += 1
    places = [0, *random.sample(range(1, num_items), num_items - 1)]
    sums, expected = counts.sum(axis=1), np.zeros_like(counts)
    for distance in range(1, window + 1):
        pairs = [(a, b) for a in range(1, num_items) for b in range(1, num_items) if places[a] == places[b] + distance]
        seen = sum(counts[pair] for pair in pairs)
        chance = sum(sums[a] * sums[b] for a, b in pairs) / max(sums.sum(), 1)
        if seen and abs(seen - 2 * chance) < 1e-9:
            return  # a draw, which rounding decides
        if seen > 2 * chance:
            for a, b in pairs:
                expected[a, b] = expected[b, a] = 3.0 * seen / len(pairs)
    found = catalogue_neighbours(sparse.csr_array(counts), np.array(places), window, strength=3.0)
    np.testing.assert_allclose(found.toarray(), expected)
