"""
What the order of the raw ids tells of items: a shop numbers its catalogue as it grows, so neighbours are often alike.

Where ids say nothing, as random numbers do, neighbours stand together in sessions no more often than chance has it, and
nothing is made of them.
"""

import numpy as np
from scipy import sparse

from spotlight_asars.interactions.sequences import SessionSequences

WINDOW = 8  # places in the catalogue that neighbours are apart at most
STRENGTH = 4.0  # times that a pair of neighbours counts as the mean pair as far apart stands together
CLEARLY = 2.0  # times as often as chance has it


def catalogue_places(sequences: SessionSequences) -> np.ndarray | None:
    """
    The place of each item in the order of the raw ids; the items' numbers where there are no raw ids.

    Returns
    -------
    int64 array of shape (num_items,), or None
        Places from 1, 0 for the padding; None where the ids have no order, as those of mixed types.
    """
    if sequences.item_vocabulary is None:
        return np.arange(sequences.num_items)
    try:
        order = np.argsort(sequences.item_vocabulary.raw_ids, kind="stable")
    except TypeError:
        return None
    places = np.zeros(sequences.num_items, dtype=np.int64)
    places[order + 1] = np.arange(1, sequences.num_items)
    return places


def catalogue_neighbours(
    counts: sparse.csr_array, places: np.ndarray, window: int = WINDOW, strength: float = STRENGTH
) -> sparse.csr_array:
    """
    Counts by which neighbours in the catalogue shall stand together beyond those that were seen.

    A pair n places apart gets `strength` times the mean count of such pairs, if they stand together at least twice as
    often as their items' counts let expect; else nothing.

    Parameters
    ----------
    counts : sparse array of shape (num_items, num_items)
        Symmetric, as of ``cooccurrences``.
    places : int64 array of shape (num_items,)
        As of :func:`catalogue_places`.
    window : int, optional
        The most places apart.
    strength : float, optional

    Returns
    -------
    float64 array of shape (num_items, num_items)
        Symmetric.
    """
    items = np.argsort(places[1:]) + 1  # (num_items - 1,), in the order of the catalogue
    sums = np.asarray(counts.sum(axis=1)).ravel()[items]  # (num_items - 1,)
    pairs = counts.tocoo()
    apart = np.abs(places[pairs.row] - places[pairs.col])  # (pairs,)
    total = sparse.csr_array(counts.shape, dtype=np.float64)
    for distance in range(1, min(window, len(items) - 1) + 1):
        one, other = slice(None, -distance), slice(distance, None)
        seen = pairs.data[apart == distance].sum() / 2  # each pair stands there twice
        if seen > 0 and seen >= CLEARLY * (sums[one] @ sums[other]) / sums.sum():
            weight = np.full(len(items) - distance, strength * seen / (len(items) - distance))
            total = total + sparse.csr_array((weight, (items[one], items[other])), shape=counts.shape)
    return (total + total.T).tocsr()
