"""Orders are those of numpy's stable sorts, whatever the blocks and the digits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spotlight_asars.interactions import ordering
from spotlight_asars.interactions.ordering import (
    in_order,
    order_and_numbers,
    order_by_number,
    order_by_number_and_time,
    order_by_time,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
few = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 0.5, 1.4e9, 1.4e9 + 1, 1e308, -1e308, 5e-324])
numbers_of_users = st.one_of(st.integers(0, 5), st.sampled_from([2**31 - 2, 2**31 - 3, 1 << 20]))
kinds_of_log = st.sampled_from(["drawn", "in order", "backwards", "in order of time", "one number", "one time"])


def as_kind(kind, numbers, times):
    """Events laid or made so that the log is of a kind."""
    if kind == "one number":
        numbers = np.full_like(numbers, 7)
    elif kind == "one time":
        times = np.full_like(times, 5.0)
    order = {
        "in order": np.lexsort((times, numbers)),
        "backwards": np.lexsort((times, numbers))[::-1],
        "in order of time": np.argsort(times, kind="stable"),
    }.get(kind, slice(None))
    return numbers[order], times[order]


@given(arrays.arrays(np.float64, st.integers(0, 30), elements=st.one_of(finite, few)), st.sampled_from([8, 20, 63]))
def test_any_times_by_digits_of_any_length(times, key_bits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "KEY_BITS", key_bits)
        np.testing.assert_array_equal(order_by_time(times), np.argsort(times, kind="stable"))


@given(st.lists(st.tuples(numbers_of_users, few), max_size=30), kinds_of_log, st.integers(1, 7))
def test_numbers_then_times(events, kind, block):
    numbers, times = np.array([event[0] for event in events], np.int32), np.array([event[1] for event in events])
    numbers, times = as_kind(kind, numbers, times)
    expected = np.lexsort((times, numbers)) if events else np.zeros(0, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "BLOCK", block)
        order, ordered = order_by_number_and_time(numbers, times)
    np.testing.assert_array_equal(np.arange(len(events))[order], expected)
    np.testing.assert_array_equal(ordered, numbers[expected])
    assert ordered.dtype == numbers.dtype
    assert isinstance(order, slice) == (expected.tolist() == list(range(len(events))))


@given(st.lists(few, max_size=9), st.integers(1, 4))
def test_in_order(values, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "BLOCK", block)
        assert in_order(np.array(values)) == (values == sorted(values))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
def test_numbers_of_any_type(dtype):
    numbers = np.random.RandomState(0).randint(100, size=5000).astype(dtype)
    expected = np.argsort(numbers, kind="stable")
    order, ordered = order_and_numbers(numbers)
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(ordered, numbers[expected])
    assert (order.dtype, ordered.dtype) == (np.int64, dtype)


@pytest.mark.parametrize("largest", [2**40, 2**61 - 1, 2**61, 2**63 - 1])
def test_large_numbers_with_room_for_places_and_without(largest):
    assert order_by_number(np.array([largest, 5, largest, 7])).tolist() == [1, 3, 0, 2]


def test_numbers_that_are_no_array_of_their_own():
    events = np.array([(3, 1.0), (0, 2.0), (3, 0.0)], dtype=[("owner", "<i4"), ("time", "<f8")])
    assert order_by_number(events["owner"]).tolist() == [1, 0, 2]
    assert order_by_number_and_time(events["owner"], events["time"])[0].tolist() == [1, 2, 0]


@pytest.mark.parametrize("scale", [1.0, 0.001, 1e-7])
def test_many_real_times(scale):
    times = np.random.RandomState(0).randint(1_300_000_000, 1_500_000_000, size=50_000) * scale
    np.testing.assert_array_equal(order_by_time(times), np.argsort(times, kind="stable"))


@pytest.mark.parametrize("kind", ["drawn", "in order", "backwards", "in order of time", "one number", "one time"])
def test_many_numbers_then_times(kind):
    draw = np.random.RandomState(0)
    numbers, times = draw.randint(3000, size=100_000).astype(np.int32), draw.randint(1000, size=100_000) + 0.5
    numbers, times = as_kind(kind, numbers, times)
    order, ordered = order_by_number_and_time(numbers, times)
    expected = np.lexsort((times, numbers))
    np.testing.assert_array_equal(np.arange(len(numbers))[order], expected)
    np.testing.assert_array_equal(ordered, numbers[expected])
