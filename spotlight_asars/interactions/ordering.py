"""Stable sorting of a log by number and time, as fast as numpy sorts integers, in cache-sized blocks."""

from collections.abc import Iterator

import numpy as np

BLOCK = 1 << 15  # elements that stay in the cache while several operations work on them
KEY_BITS = 63
SIGN = np.int64(-(2**63))


def blocks(length: int) -> Iterator[slice]:
    """Yield consecutive slices that cover an array of this length."""
    for begin in range(0, length, BLOCK):
        yield slice(begin, min(begin + BLOCK, length))


def order_by_number(numbers: np.ndarray) -> np.ndarray:
    """
    Return ``np.argsort(numbers, kind="stable")``.

    Parameters
    ----------
    numbers : int array of shape (n,)
        None is negative.

    Returns
    -------
    int64 array of shape (n,)
    """
    return order_and_numbers(numbers)[0]


def order_and_numbers(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return :func:`order_by_number` and the sorted numbers, shape (n,) each."""
    position_bits = _position_bits(len(numbers))
    if int(numbers.max(initial=0)).bit_length() + position_bits > KEY_BITS:
        order = np.argsort(numbers, kind="stable")
        return order, numbers[order]
    # Number and position in one integer: all keys differ, so the fastest sort is stable too, and both are read back
    # without random access to memory.
    keys = np.empty(len(numbers), dtype=np.int64)
    for block in blocks(len(numbers)):
        np.left_shift(numbers[block].astype(np.int64), position_bits, out=keys[block])
        keys[block] |= np.arange(block.start, block.stop)
    keys.sort()
    ordered = np.empty(len(numbers), dtype=numbers.dtype)
    for block in blocks(len(numbers)):
        ordered[block] = keys[block] >> position_bits
        keys[block] &= (1 << position_bits) - 1
    return keys, ordered


def order_by_time(times: np.ndarray) -> np.ndarray:
    """
    Return ``np.argsort(times, kind="stable")``, computed by a radix sort.

    Parameters
    ----------
    times : float64 array of shape (n,)
        Finite.

    Returns
    -------
    int array of shape (n,)
    """
    if in_order(times):
        return np.arange(len(times))
    # Read as an integer, the bits of a positive float grow with it, and those of a negative one fall.
    bits = (times + 0.0).view(np.int64)  # -0.0 and 0.0 are equal
    bits = np.where(bits < 0, SIGN - bits, bits)
    keys = bits.view(np.uint64) - np.uint64(bits.min().view(np.uint64))  # (n,), wraps to the distance from the minimum
    used = int(np.bitwise_or.reduce(keys))
    low = (used & -used).bit_length() - 1  # whole seconds leave the low bits 0 and fit into one digit
    digit_bits = KEY_BITS - _position_bits(len(times))
    order = None
    for shift in range(low, used.bit_length(), digit_bits):
        digit = (keys >> np.uint64(shift)) & np.uint64((1 << digit_bits) - 1)
        step = order_by_number(digit if order is None else digit[order])
        order = step if order is None else order[step]
    return order


def order_by_number_and_time(numbers: np.ndarray, times: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
    """
    Return ``np.lexsort((times, numbers))`` and the sorted numbers.

    Parameters
    ----------
    numbers : int array of shape (n,)
        None is negative.
    times : float64 array of shape (n,)
        Finite.

    Returns
    -------
    order : int array of shape (n,), or slice
        A slice if the events are sorted already.
    numbers : int array of shape (n,)
    """
    if in_order(numbers, times):
        return slice(None), numbers
    if in_order(times):
        return order_and_numbers(numbers)
    order = order_by_time(times)
    step, ordered = order_and_numbers(numbers[order])
    return order[step], ordered


def in_their_order(values: np.ndarray, order: np.ndarray | slice) -> np.ndarray:
    """Return values in another order; the values themselves, not a copy, if the order is a slice."""
    if isinstance(order, slice):
        return values
    return values.take(order, mode="clip")  # all positions are valid, so skip the bounds check


def as_places(order: np.ndarray | slice, length: int) -> np.ndarray:
    """Return an order that may be a slice as int64 positions."""
    return np.arange(length) if isinstance(order, slice) else order


def in_order(values: np.ndarray, then: np.ndarray | None = None) -> bool:
    """Return whether values are sorted, with ties sorted by `then`, as the times of most logs are."""
    for block in blocks(len(values) - 1):
        after = slice(block.start + 1, block.stop + 1)
        if then is None:
            sorted_here = values[after] >= values[block]
        else:
            is_tie = values[after] == values[block]
            sorted_here = (values[after] > values[block]) | (is_tie & (then[after] >= then[block]))
        if not sorted_here.all():
            return False
    return True


def _position_bits(length: int) -> int:
    """Return the number of bits of the largest position in an array of this length."""
    return max(length - 1, 0).bit_length()
