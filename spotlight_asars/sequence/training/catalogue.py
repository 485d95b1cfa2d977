"""
Similar items by the order of raw ids: a shop numbers its catalogue as it grows, so neighbours are often alike.

If the order means nothing, neighbours co-occur in sessions no more often than by chance, and are ignored.
"""

import numpy as np
from scipy import sparse

from spotlight_asars.interactions.sequences import SessionSequences

WINDOW = 8  # neighbours are at most this many places apart in the catalogue
STRENGTH = 4.0  # weight of a pair of neighbours, as a multiple of the mean count of pairs equally far apart
CLEARLY = 2.0  # times as often as by chance


def catalogue_places(sequences: SessionSequences) -> np.ndarray | None:
    """
    Return the place of each item in the order of the raw ids; the items' numbers if there are no raw ids.

    Returns
    -------
    int64 array of shape (num_items,), or None
        Places from 1, 0 for the padding; None if the ids cannot be ordered, such as ids of mixed types.
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
    Return counts to add to the co-occurrences of neighbours in the catalogue.

    A pair n places apart gets `strength` times the mean count of such pairs, provided that they co-occur at least twice
    as often as their items' counts suggest.

    Parameters
    ----------
    counts : sparse array of shape (num_items, num_items)
        Symmetric, as from ``cooccurrences``.
    places : int64 array of shape (num_items,)
        As from :func:`catalogue_places`.
    window : int, optional
        The largest distance, in places.
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
        seen = pairs.data[apart == distance].sum() / 2  # the counts are symmetric
        if seen > 0 and seen >= CLEARLY * (sums[one] @ sums[other]) / sums.sum():
            weight = np.full(len(items) - distance, strength * seen / (len(items) - distance))
            total = total + sparse.csr_array((weight, (items[one], items[other])), shape=counts.shape)
    return (total + total.T).tocsr()
