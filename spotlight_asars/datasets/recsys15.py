"""Clicks of the RecSys Challenge 2015: as published, and in the form common among session-based recommenders."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from spotlight_asars.datasets._table import Layout, joined, table_blocks
from spotlight_asars.datasets._text import first_bytes
from spotlight_asars.interactions.times import ISO

PUBLISHED = Layout(
    {"item": "item", "timestamp": "timestamp", "session": "session"},
    ",",
    names=("session", "timestamp", "item", "category"),
    timestamp_unit=ISO,
)
SHARED = Layout({"item": "ItemId", "timestamp": "Time", "session": "SessionId"}, "\t")
PUBLISHED_LINE = re.compile(rb"\d+,\d{4}-\d\d-\d\dT")


def read_recsys15(path: str | os.PathLike, categories: bool = False) -> pd.DataFrame:
    """
    Read clicks; the first line of the file determines which of the two forms it has.

    Parameters
    ----------
    path: str or PathLike
        `yoochoose-clicks.dat` as published (comma-separated session, time such as 2014-04-07T10:51:09.277Z, item and
        category, no header), or a tab-separated file with the header SessionId, ItemId, Time (seconds), whose further
        columns are ignored. A name that ends in .gz is decompressed.
    categories: bool, optional
        Keep the category, which only the published form has: "S" is a special offer, "0" is unknown.

    Returns
    -------
    DataFrame, (events,)
        The columns `item`, `timestamp` (float64 seconds) and `session`, in the order of the file; this log has no
        users.

    Raises
    ------
    InputError
        If the file or one of its values is invalid.
    """
    return joined(recsys15_blocks(path, categories))


def recsys15_blocks(path: str | os.PathLike, categories: bool = False) -> Iterator[pd.DataFrame]:
    """Yield what :func:`read_recsys15` reads, one block of events at a time."""
    layout = PUBLISHED if PUBLISHED_LINE.match(first_bytes(path)) else SHARED
    if categories:
        layout = replace(layout, columns={**layout.columns, "category": "category"})
    return table_blocks(path, layout)
