"""The four events that stand for a whole row: all that nets ask of single events, see ``SessionNet.step``."""

import numpy as np

from spotlight_asars.interactions import PADDING_ITEM
from spotlight_asars.rows import ITEM, NUM_CHANNELS, SESSION_START, TIME, UNKNOWN_TIME

ROW_FIRST, SESSION_FIRST, BEFORE, NEWEST = range(4)


def missing_events(rows: int) -> np.ndarray:
    """Those of rows without events: int64, (rows, 4, channel)."""
    events = np.zeros((rows, 4, NUM_CHANNELS), dtype=np.int64)
    events[:, :, TIME] = UNKNOWN_TIME
    return events


def has_event(events: np.ndarray) -> np.ndarray:
    """Whether there is an event at all: bool, (rows,)."""
    return events[:, NEWEST, ITEM] != PADDING_ITEM


def moved_on(events: np.ndarray, newest: np.ndarray) -> np.ndarray:
    """
    The four events after one more.

    Parameters
    ----------
    events : int64 array of shape (rows, 4, channel)
    newest : int64 array of shape (rows, channel)

    Returns
    -------
    int64 array of shape (rows, 4, channel)
        The first event of a session comes to its place when it is the newest no longer.
    """
    moved = events.copy()
    moved[:, BEFORE] = last = events[:, NEWEST]
    opens_row = has_event(events) & (events[:, ROW_FIRST, ITEM] == PADDING_ITEM)
    opens_session = last[:, SESSION_START] != 0
    np.copyto(moved[:, ROW_FIRST], last, where=opens_row[:, None])
    np.copyto(moved[:, SESSION_FIRST], last, where=opens_session[:, None])
    moved[:, NEWEST] = newest
    return moved
