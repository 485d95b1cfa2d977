"""The items that live sessions have seen: limits, tallies and copies."""

import numpy as np

from spotlight_asars.sequence.online.seen_items import SessionItems


def with_events(items, most=None, starts=()):
    seen = SessionItems(2, with_tallies=True, most=most)
    for place, item in enumerate(items):
        row = np.array([1])
        seen.append(row, np.array([item]), np.array([place == 0 or place in starts]))
    return seen


def test_a_limit_keeps_the_latest_items_with_their_tallies():
    items = [1, 2, 1, *range(10, 30), 2, 2]
    whole, limited = with_events(items).tallies(np.array([1])), with_events(items, most=4).tallies(np.array([1]))
    latest = np.isin(whole.item, limited.item)
    assert 4 <= latest.sum() < len(whole.item) and latest[-4:].all()
    np.testing.assert_array_equal(limited.item, whole.item[latest])
    np.testing.assert_array_equal(limited.positions, whole.positions[latest])
    assert whole.counts[whole.item == 2] == 3 and whole.positions[whole.item == 1] == 3
    assert limited.counts[limited.item == 2] == 2  # the first was forgotten


def test_items_of_earlier_sessions_are_forgotten_first():
    seen = with_events([*range(1, 9), *range(20, 30)], most=6, starts=(8,))
    _, item = seen.seen_by(np.array([1]))
    assert not np.isin(item, np.arange(1, 9)).any()
    _, _, places = seen.places_in(np.array([1]))
    assert set(places) <= {0, 1}


def test_a_copy_is_independent():
    seen = with_events([1, 2, 3, 2])
    copy = seen.take(np.array([1, 0]))
    seen.append(np.array([1]), np.array([9]), np.array([False]))
    found = copy.tallies(np.array([0]))
    assert found.item.tolist() == [1, 3, 2] and found.counts.tolist() == [1, 1, 2]
    assert copy.most is None and not len(copy.tallies(np.array([1])).item)
