"""Taobao user behaviour from Alibaba's Tianchi: UserBehavior.csv."""

import os
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from spotlight_asars.datasets._table import Layout, joined, table_blocks
from spotlight_asars.datasets._text import complain, file_name
from spotlight_asars.errors import InputError

NAMES = ("user", "item", "category", "behaviour", "timestamp")
BEHAVIOURS = ("pv", "buy", "cart", "fav")  # page views, purchases, additions to the cart, favourites
# The nine days of the log, 2017-11-25 to 2017-12-03, China time. About 0.05 % of its 100 million events have times that
# are decades off, in both directions; the late ones would make up the test part.
FIRST_SECOND, LAST_SECOND = 1_511_539_200, 1_512_316_799


def read_tianchi(
    path: str | os.PathLike,
    behaviours: str | Sequence[str] | None = None,
    categories: bool = False,
    all_times: bool = False,
) -> pd.DataFrame:
    """
    Read user, item, category, behaviour and time (seconds), separated by commas, without a header.

    Parameters
    ----------
    path: str or PathLike
        The file; a name that ends in .gz is decompressed.
    behaviours: str or sequence of str, optional
        Which of 'pv' (page view), 'buy', 'cart' and 'fav' to keep: a comma-separated string or a sequence. All by
        default, as in the paper, whose numbers of events, users and items (section 3.1) are those of the whole log.
    categories: bool, optional
        Keep the item's category.
    all_times: bool, optional
        Keep events with times outside the nine days of the log, which are errors in the data.

    Returns
    -------
    DataFrame, (events,)
        The columns `user`, `item` and `timestamp` (float64 seconds), in the order of the file.

    Raises
    ------
    InputError
        If the file or one of its values is invalid, or no event is left.

    Warns
    -----
    UserWarning
        If events are dropped for their times, with their number.
    """
    return joined(tianchi_blocks(path, behaviours, categories, all_times))


def tianchi_blocks(
    path: str | os.PathLike,
    behaviours: str | Sequence[str] | None = None,
    categories: bool = False,
    all_times: bool = False,
) -> Iterator[pd.DataFrame]:
    """Yield what :func:`read_tianchi` reads, one block of events at a time."""
    wanted = _checked(behaviours)
    roles = ["user", "item", "timestamp", *(["category"] if categories else [])]
    columns = {role: role for role in [*roles, *(["behaviour"] if wanted else [])]}
    found = events = outside = 0
    for log in table_blocks(path, Layout(columns, ",", NAMES)):
        events += len(log)
        kept = np.ones(len(log), dtype=bool)
        if wanted:
            kept &= log["behaviour"].isin(wanted).to_numpy()
        if not all_times:
            in_time = log["timestamp"].between(FIRST_SECOND, LAST_SECOND).to_numpy()
            outside += int((kept & ~in_time).sum())
            kept &= in_time
        found += int(kept.sum())
        if kept.any():
            yield log.loc[kept, roles].reset_index(drop=True)
    if outside:
        what = f"{outside:,} of {events:,} events have times outside the nine days of the log and are dropped"
        if found:
            warnings.warn(f"{file_name(path)}: {what}", stacklevel=2)
        else:
            complain(path, f"{what}, and no event is left; all_times=True keeps them")
    elif not found:
        complain(path, f"no event has the behaviour {', '.join(wanted)}; choose from {', '.join(BEHAVIOURS)}")


def _checked(behaviours: str | Sequence[str] | None) -> list[str]:
    if behaviours is None:
        return []
    names = behaviours.split(",") if isinstance(behaviours, str) else list(behaviours)
    names = [str(name).strip() for name in names]
    for name in names:
        if name not in BEHAVIOURS:
            raise InputError(f"behaviours has {name!r}; choose from {', '.join(BEHAVIOURS)}")
    return names
