"""Learned embeddings as tables, and the items that are close in them."""

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.recommender.best import best_items

_LEAST_LENGTH = 1e-12  # of an embedding


def embeddings_table(vectors: np.ndarray, raw_ids: Vocabulary, kind: str) -> pd.DataFrame:
    """
    Return embeddings as a table: a row an id, in the order of the numbers, and a column a dimension.

    Parameters
    ----------
    vectors : float array of shape (ids, dim)
        Of ids 1, 2, ...
    raw_ids : Vocabulary
    kind : str
        Name of the index, such as 'item'.
    """
    columns = [f"dim_{place}" for place in range(vectors.shape[1])]
    index = pd.Index(raw_ids.raw_ids, name=kind)
    return pd.DataFrame(vectors.copy(), index=index, columns=columns)


def most_similar(embeddings: pd.DataFrame, raw_ids: Hashable | Sequence[Hashable], k: int) -> pd.DataFrame:
    """
    Return the rows of a table of embeddings that are closest to some of them, by cosine.

    Parameters
    ----------
    embeddings : DataFrame
        As from :func:`embeddings_table`.
    raw_ids : raw id, or list of them
    k : int
        Number of neighbours of each.

    Returns
    -------
    DataFrame
        Columns `item`, `rank` from 1, `similar` and `similarity`, the best first. An id is not its own neighbour.

    Raises
    ------
    InputError
        If an id is unknown.
    """
    check_whole("k", k)
    wanted = (
        [raw_ids] if isinstance(raw_ids, str) or not isinstance(raw_ids, list | np.ndarray | pd.Series) else raw_ids
    )
    vocabulary = Vocabulary(embeddings.index.to_numpy())
    numbers = vocabulary.transform(list(wanted))
    for raw_id, number in zip(wanted, numbers, strict=True):
        if number == 0:
            raise InputError(f"the model does not know the item {raw_id!r:.60}: is it of the type that the log had?")
    unit = embeddings.to_numpy()
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), _LEAST_LENGTH)  # (ids, dim)
    cosines = unit[numbers - 1] @ unit.T  # (wanted, ids)
    cosines[np.arange(len(numbers)), numbers - 1] = -np.inf
    rows = []
    for raw_id, (found, values) in zip(wanted, best_items(cosines, k), strict=True):
        near = vocabulary.inverse(found).tolist()
        rows += [(raw_id, rank, *one) for rank, one in enumerate(zip(near, values.tolist(), strict=True), 1)]
    return pd.DataFrame(rows, columns=["item", "rank", "similar", "similarity"])
