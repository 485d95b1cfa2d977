"""Orders by counting are those of numpy's stable sorts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spotlight_asars.ordering import in_order_of_number, order_by_number, order_by_number_and_time, order_by_time

finite = st.floats(allow_nan=False, allow_infinity=False)
few = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 0.5, 1.4e9, 1.4e9 + 1, 1e308, -1e308, 5e-324])


@given(arrays.arrays(np.float64, st.integers(0, 30), elements=st.one_of(finite, few)))
def test_any_times(times):
    np.testing.assert_array_equal(order_by_time(times), np.argsort(times, kind="stable"))


@given(st.lists(st.tuples(st.integers(0, 5), few), max_size=30))
def test_numbers_then_times(events):
    numbers, times = np.array([event[0] for event in events], np.int32), np.array([event[1] for event in events])
    expected = np.lexsort((times, numbers)) if events else []
    np.testing.assert_array_equal(order_by_number_and_time(numbers, times), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
def test_numbers_of_any_type(dtype):
    numbers = np.random.RandomState(0).randint(100, size=5000).astype(dtype)
    np.testing.assert_array_equal(order_by_number(numbers, 100), np.argsort(numbers, kind="stable"))


def test_few_large_numbers_need_no_counters():
    assert order_by_number(np.array([2**40, 5, 2**40, 7]), 2**40 + 1).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("scale", [1.0, 0.001, 1e-7])
def test_many_real_times(scale):
    times = np.random.RandomState(0).randint(1_300_000_000, 1_500_000_000, size=50_000) * scale
    np.testing.assert_array_equal(order_by_time(times), np.argsort(times, kind="stable"))


@pytest.mark.parametrize("times", [[1.0, 5.0, 0.0, 0.0, 7.0], [1.0, 5.0, 0.0, 0.0, -7.0]])
def test_a_log_in_order_of_number_and_time_stays_as_it_is_and_no_other(times):
    numbers, times = np.array([1, 1, 2, 2, 2]), np.array(times)
    np.testing.assert_array_equal(order_by_number_and_time(numbers, times), np.lexsort((times, numbers)))


@pytest.mark.parametrize("largest", [3, 2**31 - 2])
def test_numbers_in_order(largest):
    numbers = np.array([3, 0, largest, 1, 0], dtype=np.int32)
    found = in_order_of_number(numbers)
    assert found.dtype == np.int32 and found.tolist() == sorted(numbers.tolist())
