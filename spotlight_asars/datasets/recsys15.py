"""Clicks of the RecSys Challenge 2015 in the form that session-based recommenders share."""

import os

import pandas as pd

from spotlight_asars.datasets._table import read_table


def read_recsys15(path: str | os.PathLike) -> pd.DataFrame:
    """
    Read a log with the header SessionId, ItemId, Time (seconds), split by tabs.

    Parameters
    ----------
    path: str or PathLike
        The file; a name that ends in .gz is unpacked. Further columns are left out.

    Returns
    -------
    DataFrame, (events,)
        The columns `item`, `timestamp` (float64 seconds) and `session`, in the order of the file; this log
        has no users.

    Raises
    ------
    InputError
        If the file or one of its values is not as described.
    """
    return read_table(path, {"item": "ItemId", "timestamp": "Time", "session": "SessionId"}, separator="\t")
