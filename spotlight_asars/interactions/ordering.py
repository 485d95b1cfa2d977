"""Stable orders of a log by number and time, as fast as numpy sorts plain integers.

Long arrays in blocks that stay in a processor's cache while several steps work on them.
"""

from collections.abc import Iterator

import numpy as np

BLOCK = 1 << 15


def blocks(length: int) -> Iterator[slice]:
    """Slices that cover an array of this length, in order."""
    for begin in range(0, length, BLOCK):
        yield slice(begin, min(begin + BLOCK, length))


KEY_BITS = 63
SIGN = np.int64(-(2**63))


def order_by_number(numbers: np.ndarray) -> np.ndarray:
    """
    The stable order of whole numbers from 0.

    Parameters
    ----------
    numbers : int array of shape (n,)

    Returns
    -------
    int64 array of shape (n,) : ``np.argsort(numbers, kind="stable")``
    """
    return order_and_numbers(numbers)[0]


def order_and_numbers(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`order_by_number`, and the numbers in that order."""
    place_bits = _place_bits(len(numbers))
    if int(numbers.max(initial=0)).bit_length() + place_bits > KEY_BITS:
        order = np.argsort(numbers, kind="stable")
        return order, numbers[order]
    # Number and place in one integer: no two are equal, so the fastest sort is a stable one, and both come back
    # without a look at memory in random order.
    keys = np.empty(len(numbers), dtype=np.int64)
    for block in blocks(len(numbers)):
        np.left_shift(numbers[block].astype(np.int64), place_bits, out=keys[block])
        keys[block] |= np.arange(block.start, block.stop)
    keys.sort()
    ordered = np.empty(len(numbers), dtype=numbers.dtype)
    for block in blocks(len(numbers)):
        ordered[block] = keys[block] >> place_bits
        keys[block] &= (1 << place_bits) - 1
    return keys, ordered


def order_by_time(times: np.ndarray) -> np.ndarray:
    """
    The stable order of finite times, by their digits.

    Parameters
    ----------
    times : float64 array of shape (n,)

    Returns
    -------
    int array of shape (n,) : ``np.argsort(times, kind="stable")``
    """
    if in_order(times):
        return np.arange(len(times))
    # The bits of a number that is not negative rise with it, read as an integer; those of a negative one fall.
    bits = (times + 0.0).view(np.int64)  # -0.0 and 0.0 are equal
    bits = np.where(bits < 0, SIGN - bits, bits)
    keys = bits.view(np.uint64) - np.uint64(bits.min().view(np.uint64))  # (n,), wraps round to what lies between
    used = int(np.bitwise_or.reduce(keys))
    low = (used & -used).bit_length() - 1  # whole seconds leave the lowest bits empty, and all go in one digit
    digit_bits = KEY_BITS - _place_bits(len(times))
    order = None
    for shift in range(low, used.bit_length(), digit_bits):
        digit = (keys >> np.uint64(shift)) & np.uint64((1 << digit_bits) - 1)
        step = order_by_number(digit if order is None else digit[order])
        order = step if order is None else order[step]
    return order


def order_by_number_and_time(numbers: np.ndarray, times: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray]:
    """
    The stable order of numbers from 0, and of finite times where those are equal.

    Returns
    -------
    (order, numbers) : ``np.lexsort((times, numbers))``, or a slice of all where they lie so already, and the numbers
        in that order
    """
    if in_order(numbers, times):
        return slice(None), numbers
    if in_order(times):
        return order_and_numbers(numbers)
    order = order_by_time(times)
    step, ordered = order_and_numbers(numbers[order])
    return order[step], ordered


def in_their_order(values: np.ndarray, order: np.ndarray | slice) -> np.ndarray:
    """Values of events in another order, the events' own where that is a slice of all."""
    if isinstance(order, slice):
        return values
    return values.take(order, mode="clip")  # no place is outside, and so none need be checked


def as_places(order: np.ndarray | slice, length: int) -> np.ndarray:
    """An order as int64 places, where it may be a slice of all."""
    return np.arange(length) if isinstance(order, slice) else order


def in_order(values: np.ndarray, then: np.ndarray | None = None) -> bool:
    """Whether no value is less than the one before, as the times of most logs, nor `then` where values are equal."""
    for block in blocks(len(values) - 1):
        after = slice(block.start + 1, block.stop + 1)
        if then is None:
            fine = values[after] >= values[block]
        else:
            fine = (values[after] > values[block]) | ((values[after] == values[block]) & (then[after] >= then[block]))
        if not fine.all():
            return False
    return True


def _place_bits(length: int) -> int:
    """Bits that any place in an array of this length has."""
    return max(length - 1, 0).bit_length()
