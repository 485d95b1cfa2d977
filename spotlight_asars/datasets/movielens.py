"""MovieLens ratings: 100K, 1M, 10M, 20M and later, and Spotlight's own files."""

import os
from collections.abc import Iterator

import pandas as pd

from spotlight_asars.datasets._table import Layout, joined, table_blocks
from spotlight_asars.datasets._text import first_bytes
from spotlight_asars.datasets.spotlight_files import HDF5_SIGNATURE, read_interactions

COLUMNS = {role: role for role in ("user", "item", "timestamp")}
NAMES = ("user", "item", "rating", "timestamp")
RATINGS_100K = Layout(COLUMNS, "\t", NAMES)
RATINGS_1M = Layout(COLUMNS, "::", NAMES)
RATINGS_LATEST = Layout({"user": "userId", "item": "movieId", "timestamp": "timestamp"}, ",")


def read_movielens(path: str | os.PathLike) -> pd.DataFrame:
    """
    Read ratings; the first line of the file determines its format.

    Parameters
    ----------
    path: str or PathLike
        100K's `u.data` (tabs), 1M's and 10M's `ratings.dat` ('::'), `ratings.csv` of 20M and later (header
        userId,movieId,rating,timestamp), or an HDF5 file of Spotlight's datasets. A name that ends in .gz is
        decompressed.

    Returns
    -------
    DataFrame, (events,)
        The columns `user`, `item` and `timestamp` (float64 seconds), in the order of the file. Every rating is an
        event, whatever its value.

    Raises
    ------
    InputError
        If the file or one of its values is invalid.
    """
    return joined(movielens_blocks(path))


def movielens_blocks(path: str | os.PathLike) -> Iterator[pd.DataFrame]:
    """Yield what :func:`read_movielens` reads, one block of events at a time."""
    begin = first_bytes(path)
    if begin.startswith(HDF5_SIGNATURE):
        yield _from_spotlight_file(path)
        return
    line = begin.removeprefix(b"\xef\xbb\xbf").lstrip().splitlines()[:1]
    layout = RATINGS_100K
    if line and line[0].startswith(b"userId,"):
        layout = RATINGS_LATEST
    elif line and b"::" in line[0]:
        layout = RATINGS_1M
    yield from table_blocks(path, layout)


def _from_spotlight_file(path: str | os.PathLike) -> pd.DataFrame:
    interactions = read_interactions(path)
    columns = (interactions.user_ids, interactions.item_ids, interactions.timestamps.astype("float64"))
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
