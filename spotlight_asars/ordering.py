"""Stable orders by counting: sorting a log by user and time costs the same for each event, however many there are."""

import numpy as np
from scipy.sparse import csc_array

DIGIT_BITS = 18  # counters of one digit fit a cache
SIGN = np.int64(-(2**63))


def order_by_number(numbers: np.ndarray, how_many: int) -> np.ndarray:
    """
    The stable order of small whole numbers, in one pass.

    Parameters
    ----------
    numbers : int array of shape (n,)
        From 0 to below `how_many`.
    how_many : int
        Counters to keep; where they would be many more than numbers, numpy sorts.

    Returns
    -------
    int array of shape (n,) : ``np.argsort(numbers, kind="stable")``
    """
    if how_many > 4 * len(numbers) + (1 << 20):  # more to count than to sort
        return np.argsort(numbers, kind="stable")
    # A matrix with one entry a column, turned from columns to rows: scipy counts the rows and keeps the columns' order.
    # Of one type, or scipy copies them to one; int32 as long as that will do.
    kind = np.int32 if max(len(numbers), how_many) < 2**31 else np.int64
    columns = (np.zeros(len(numbers), np.int8), numbers.astype(kind), np.arange(len(numbers) + 1, dtype=kind))
    return csc_array(columns, shape=(how_many, len(numbers))).tocsr().indices


def in_order_of_number(numbers: np.ndarray) -> np.ndarray:
    """``np.sort(numbers)`` for numbers from 0, by counting: nothing has to be fetched from all over the memory."""
    if int(numbers.max(initial=0)) >= len(numbers):  # more to count than to sort
        return np.sort(numbers)
    counts = np.bincount(numbers)
    return np.repeat(np.arange(len(counts), dtype=numbers.dtype), counts)


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
    low = (used & -used).bit_length() - 1  # whole seconds leave the lowest bits empty
    order = None
    for shift in range(low, used.bit_length(), DIGIT_BITS):
        digit = (keys >> np.uint64(shift)) & np.uint64((1 << DIGIT_BITS) - 1)
        step = order_by_number(digit if order is None else digit[order], 1 << DIGIT_BITS)
        order = step if order is None else order[step]
    return order


def order_by_number_and_time(numbers: np.ndarray, times: np.ndarray) -> np.ndarray:
    """``np.lexsort((times, numbers))`` for numbers from 0, about as many as there are of them."""
    how_many = int(numbers.max(initial=0)) + 1
    if in_order(numbers) and ((times[1:] >= times[:-1]) | (numbers[1:] > numbers[:-1])).all():
        return np.arange(len(numbers))
    if in_order(times):
        return order_by_number(numbers, how_many)
    order = order_by_time(times)
    return order[order_by_number(numbers[order], how_many)]


def in_order(values: np.ndarray) -> bool:
    """Whether no value is less than the one before, as the times of most logs."""
    return bool((values[1:] >= values[:-1]).all())
