"""Negative sampling."""

import numpy as np

from spotlight_asars.host.embedded._random import as_random_state


def sample_items(num_items, shape, random_state=None):
    """
    Draw item ids uniformly and independently from 0 to ``num_items - 1``.

    As in Spotlight, the padding id 0 is drawn like any other.

    Parameters
    ----------
    num_items : int
        Number of item ids, 0 included.
    shape : int or tuple of int
        Shape of the result.
    random_state : numpy.random.RandomState, int or None
        The source of randomness.

    Returns
    -------
    numpy.ndarray of int64, of the given shape
    """
    return as_random_state(random_state).randint(0, num_items, shape, dtype=np.int64)
