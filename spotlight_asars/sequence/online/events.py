"""
The four events that stand for a whole history.

A live session cannot keep every event. Beside its carry it keeps the few events whose channels nets read one by one:
times and gaps are measured from the first event of the row or of the session, or from the previous event.
"""

import numpy as np

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import PADDING_BIN
from spotlight_asars.interactions.channels import ITEM, NUM_CHANNELS, SESSION_START, write_events

ROW_FIRST, SESSION_FIRST, PREVIOUS, NEWEST = range(4)
Carry = dict[str, np.ndarray]  # what one event hands to the next, by name: arrays of shape (sessions, ...)


def missing_events(rows: int) -> np.ndarray:
    """Return the four events of histories that are still empty: int64, (rows, 4, channel)."""
    events = np.zeros((rows, 4, NUM_CHANNELS), dtype=np.int64)
    return write_events(events, PADDING_ITEM, starts=False, dwell=PADDING_BIN)


def has_event(events: np.ndarray) -> np.ndarray:
    """Return whether each history has any event: bool, (rows,)."""
    return events[:, NEWEST, ITEM] != PADDING_ITEM


def append_event(events: np.ndarray, newest: np.ndarray) -> None:
    """
    Append one event to each history.

    The newest event becomes the previous one, and also the first of the row or of its session if it is.

    Parameters
    ----------
    events : int64 array of shape (rows, 4, channel)
        Changed in place.
    newest : int64 array of shape (rows, channel)
    """
    last = events[:, NEWEST]  # (rows, channel)
    opens_session = last[:, SESSION_START] != 0
    if opens_session.any():
        np.copyto(events[:, SESSION_FIRST], last, where=opens_session[:, None])
    opens_row = events[:, ROW_FIRST, ITEM] == PADDING_ITEM
    if opens_row.any():
        np.copyto(events[:, ROW_FIRST], last, where=(opens_row & has_event(events))[:, None])
    events[:, PREVIOUS] = last
    events[:, NEWEST] = newest
