"""The four events that stand for a whole row: all that nets ask of single events, see ``LiveNet.step``."""

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


def move_on(events: np.ndarray, newest: np.ndarray) -> None:
    """
    Let one more event come after the four.

    Parameters
    ----------
    events : int64 array of shape (rows, 4, channel)
        Changed in place: the first event of a session comes to its place when it is the newest no longer.
    newest : int64 array of shape (rows, channel)
    """
    last = events[:, NEWEST]  # (rows, channel)
    opens_session = last[:, SESSION_START] != 0
    if opens_session.any():
        np.copyto(events[:, SESSION_FIRST], last, where=opens_session[:, None])
    opens_row = events[:, ROW_FIRST, ITEM] == PADDING_ITEM
    if opens_row.any():
        np.copyto(events[:, ROW_FIRST], last, where=(opens_row & has_event(events))[:, None])
    events[:, BEFORE] = last
    events[:, NEWEST] = newest
