"""Which rows go through a net together: of like length, so that little padding is computed, or of any length."""

import numpy as np


def like_length_batches(
    lengths: np.ndarray, batch_size: int, random_state: np.random.RandomState | None = None
) -> list[np.ndarray]:
    """
    Cut rows into batches of like length.

    Parameters
    ----------
    lengths : int array of shape (rows,)
    batch_size : int
        Rows a batch.
    random_state : numpy RandomState, optional
        Shuffles rows of equal length among each other and the batches; without it the order is by length.

    Returns
    -------
    list of int64 arrays
        Row numbers; each row stands in one batch.
    """
    rows = len(lengths)
    if not rows:
        return []
    ties = np.arange(rows) if random_state is None else random_state.permutation(rows)
    order = np.lexsort((ties, lengths))
    batches = np.split(order, np.arange(batch_size, rows, batch_size))
    if random_state is not None:
        batches = [batches[place] for place in random_state.permutation(len(batches))]
    return batches


def mixed_batches(rows: int, batch_size: int, random_state: np.random.RandomState) -> list[np.ndarray]:
    """
    Cut rows into batches at random, whatever their lengths.

    Parameters
    ----------
    rows : int
        How many there are.
    batch_size : int
        Rows a batch.
    random_state : numpy RandomState

    Returns
    -------
    list of int64 arrays
        Row numbers; each row stands in one batch.
    """
    return np.split(random_state.permutation(rows), np.arange(batch_size, rows, batch_size))
