"""Recommendations for a pandas DataFrame of events, as a DataFrame."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError, listed
from spotlight_asars.sequence.requests import request_seconds
from spotlight_asars.vocabulary import as_column, in_order_of_appearance

if TYPE_CHECKING:
    from spotlight_asars.sequence.recommending import Recommends  # which imports this

_SCORES_A_BLOCK = 2**24  # of histories that are scored together


def recommend_for_log(
    system: "Recommends", log: pd.DataFrame, k: int, now: float | None, exclude_seen: bool
) -> pd.DataFrame:
    """
    The k best next items for every user, or every session, of a log.

    Parameters
    ----------
    system : fitted system
    log : DataFrame
        Column `item`, and where there are any `timestamp` (seconds or datetimes; events of equal time stay in order)
        and `user`, or `session` in an anonymous log. Without both all is one history.
    k, now, exclude_seen :
        As for ``Recommends.recommend``.

    Returns
    -------
    DataFrame
        Columns `user` or `session`, as the log has it, `rank`, `item` and `score`: k rows for each, in order of first
        appearance.
    """
    if not len(log):
        raise InputError("the log has no events")
    if "item" not in log:
        raise InputError(f"the log has no column 'item'; it has {listed(log.columns)}")
    by = next((name for name in ("user", "session") if name in log), None)
    for name in ("item", by):
        if name is not None and log[name].isna().any():
            raise InputError(f"event {int(np.argmax(log[name].isna()))} has no {name!r}: give it one, or leave it out")
    if now is not None and np.ndim(now):
        raise InputError("now goes for all of a DataFrame: give one moment")
    codes, keys = np.zeros(len(log), dtype=np.int64), [None]
    if by is not None:
        codes, keys = in_order_of_appearance(log[by])
        keys = keys.tolist()
    seconds = request_seconds("timestamp", log["timestamp"]) if "timestamp" in log else np.zeros(len(log))
    order = np.lexsort((seconds, codes))  # stable
    ends = np.cumsum(np.bincount(codes, minlength=len(keys)))[:-1]
    items = [part.tolist() for part in np.split(log["item"].to_numpy(dtype=object)[order], ends)]
    times = np.split(seconds[order], ends) if "timestamp" in log else None
    found = []
    size = max(1, _SCORES_A_BLOCK // system.num_items)
    for begin in range(0, len(keys), size):
        block = slice(begin, begin + size)
        users = keys[block] if by == "user" else None
        histories = (items[block], None if times is None else times[block], users)
        found += system.recommend(*histories, k, now, exclude_seen, return_scores=True)
    rows = [(key, rank, *one) for key, ranked in zip(keys, found, strict=True) for rank, one in enumerate(ranked, 1)]
    names = [by or "user", "rank", "item", "score"]
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    table = pd.DataFrame({name: as_column(list(column)) for name, column in zip(names, columns, strict=True)})
    return table if by is not None else table.drop(columns="user")
