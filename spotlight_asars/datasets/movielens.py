"""Ratings of MovieLens 100K."""

import os

import pandas as pd

from spotlight_asars.datasets._table import read_table


def read_movielens(path: str | os.PathLike) -> pd.DataFrame:
    """
    Read `u.data`: user, item, rating and time (seconds), split by tabs, without a header.

    Parameters
    ----------
    path: str or PathLike
        The file; a name that ends in .gz is unpacked.

    Returns
    -------
    DataFrame, (events,)
        The columns `user`, `item` and `timestamp` (float64 seconds), in the order of the file. Every rating
        is an event, whatever its value.

    Raises
    ------
    InputError
        If the file or one of its values is not as described.
    """
    names = ("user", "item", "rating", "timestamp")
    return read_table(path, {name: name for name in ("user", "item", "timestamp")}, separator="\t", names=names)
