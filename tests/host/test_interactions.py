"""Interactions and SequenceInteractions, on each host."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def slow_to_sequence(users, items, timestamps, length, min_length, step):
    """The reference, one window at a time."""
    windows, owners = [], []
    for user in sorted(set(users)):
        events = sorted(
            (time, position) for position, (who, time) in enumerate(zip(users, timestamps, strict=True)) if who == user
        )
        own = [items[position] for _, position in events]
        end = len(own)
        while end > 0:
            window = own[max(0, end - length) : end]
            if min_length is None or len(window) >= min_length:
                windows.append([0] * (length - len(window)) + window)
                owners.append(user)
            end -= step
    return np.array(windows, dtype=np.int32).reshape(-1, length), np.array(owners, dtype=np.int32)


def one_user(host, items, timestamps=None):
    items = np.array(items)
    timestamps = np.arange(len(items)) if timestamps is None else np.array(timestamps)
    return host.interactions.Interactions(np.zeros(len(items), dtype=np.int32), items, timestamps=timestamps)


def test_sizes_are_one_more_than_the_greatest_id_unless_given(host):
    users, items = np.array([0, 4]), np.array([7, 1])
    found = host.interactions.Interactions(users, items)
    given_ = host.interactions.Interactions(users, items, num_users=9, num_items=10)

    assert (found.num_users, found.num_items, len(found)) == (5, 8, 2)
    assert (given_.num_users, given_.num_items) == (9, 10)
    assert repr(found) == "<Interactions dataset (5 users x 8 items x 2 interactions)>"
    assert found.user_ids is users
    assert found.ratings is None and found.timestamps is None and found.weights is None


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"num_users": 4}, "Maximum user id greater"),
        ({"num_items": 7}, "Maximum item id greater"),
        ({"ratings": np.ones(3)}, "Invalid ratings dimensions"),
        ({"timestamps": np.ones(1)}, "Invalid timestamps dimensions"),
        ({"weights": np.ones(3)}, "Invalid weights dimensions"),
    ],
)
def test_what_does_not_fit_is_refused(host, settings_, message):
    with pytest.raises(ValueError, match=message):
        host.interactions.Interactions(np.array([0, 4]), np.array([7, 1]), **settings_)


def test_items_of_another_length_are_refused(host):
    with pytest.raises(ValueError, match="Invalid item IDs dimensions"):
        host.interactions.Interactions(np.array([0, 4]), np.array([7, 1, 2]))


def test_matrices_hold_ratings_or_ones_and_add_up_repeats(host):
    users, items = np.array([0, 1, 1]), np.array([2, 0, 0])
    plain = host.interactions.Interactions(users, items)
    rated = host.interactions.Interactions(users, items, ratings=np.array([3.0, 4.0, 5.0]))

    assert plain.tocoo().format == "coo"
    assert plain.tocsr().format == "csr"
    assert plain.tocsr().toarray().tolist() == [[0, 0, 1], [2, 0, 0]]
    assert rated.tocsr().toarray().tolist() == [[0, 0, 3], [9, 0, 0]]


@pytest.mark.parametrize(
    ("length", "step", "expected"),
    [
        (5, 1, [[1, 2, 3, 4, 5], [0, 1, 2, 3, 4], [0, 0, 1, 2, 3], [0, 0, 0, 1, 2], [0, 0, 0, 0, 1]]),
        (5, 2, [[1, 2, 3, 4, 5], [0, 0, 1, 2, 3], [0, 0, 0, 0, 1]]),
        (3, None, [[3, 4, 5], [0, 1, 2]]),
        (2, 4, [[4, 5], [0, 1]]),
        (7, None, [[0, 0, 1, 2, 3, 4, 5]]),
        (1, None, [[5], [4], [3], [2], [1]]),
    ],
)
def test_windows_of_one_user(host, length, step, expected):
    sequences = one_user(host, [1, 2, 3, 4, 5]).to_sequence(max_sequence_length=length, step_size=step)

    assert sequences.sequences.tolist() == expected
    assert sequences.sequences.dtype == np.int32
    assert sequences.user_ids.tolist() == [0] * len(expected)
    assert sequences.max_sequence_length == length
    assert sequences.num_items == 6


def test_windows_follow_time_and_equal_times_keep_the_stored_order(host):
    sequences = one_user(host, [1, 2, 3, 4], timestamps=[5, 1, 5, 1]).to_sequence(max_sequence_length=4)
    assert sequences.sequences.tolist() == [[2, 4, 1, 3]]


def test_windows_never_mix_users_and_keep_their_ids(host):
    interactions = host.interactions.Interactions(
        np.array([9, 4, 9, 4, 4]), np.array([1, 2, 3, 4, 5]), timestamps=np.arange(5)
    )
    sequences = interactions.to_sequence(max_sequence_length=2, min_sequence_length=2)
    assert sequences.sequences.tolist() == [[4, 5], [1, 3]]
    assert sequences.user_ids.tolist() == [4, 9]


def test_padding_cannot_be_an_item_and_time_is_needed(host):
    with pytest.raises(ValueError, match="0 is used as an item id"):
        one_user(host, [1, 0]).to_sequence()
    with pytest.raises(ValueError, match="timestamps not available"):
        host.interactions.Interactions(np.array([0]), np.array([1])).to_sequence()


events = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(0, 6)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(events=events, length=st.integers(1, 7), step=st.integers(1, 8), data=st.data())
def test_to_sequence_equals_the_loop(host, events, length, step, data):
    min_length = data.draw(st.none() | st.integers(1, length))
    users, items, timestamps = zip(*events, strict=True)
    interactions = host.interactions.Interactions(np.array(users), np.array(items), timestamps=np.array(timestamps))
    found = interactions.to_sequence(max_sequence_length=length, min_sequence_length=min_length, step_size=step)
    sequences, owners = slow_to_sequence(users, items, timestamps, length, min_length, step)

    assert np.array_equal(found.sequences, sequences)
    assert np.array_equal(found.user_ids, owners)
    assert found.sequences.dtype == found.user_ids.dtype == np.int32
    assert found.num_items == max(items) + 1


def test_sequence_interactions_keep_what_they_are_given(host):
    sequences = np.array([[0, 1, 2], [3, 4, 5]])
    found = host.interactions.SequenceInteractions(sequences, user_ids=np.array([7, 8]))

    assert found.sequences is sequences
    assert found.num_items == 6
    assert found.max_sequence_length == 3
    assert repr(found) == "<Sequence interactions dataset (2 sequences x 3 sequence length)>"
    assert host.interactions.SequenceInteractions(sequences, num_items=50).num_items == 50
