"""interactions.channels"""

import numpy as np

from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.ordering import blocks
from spotlight_asars.interactions.sessionization import Waits

DWELL_RULES = ("observed", "known")  # whether the newest event's dwell, up to the moment of prediction, counts

# The channels of an event as it travels through the host's `fit`: (batch, time, channel).
ITEM, DWELL, TARGET, SESSION_START, SESSION_GAP_BIN, TIME, USER = range(7)
NUM_CHANNELS = 7
# TIME counts whole seconds from a Monday, 2001-01-01 00:00 UTC, so that it fits 32 bits from 1933 to 2069 and tells
# the hour and the weekday by a remainder.
TIME_ORIGIN = 978_307_200
UNKNOWN_TIME = -(2**31)


def whole_seconds(timestamps: np.ndarray) -> np.ndarray:
    """
    Seconds since 1970 as the TIME channel holds them; int32, of the same shape.

    NaN becomes UNKNOWN_TIME; what lies outside the years 1933 to 2069 is held at their ends.
    """
    seconds = np.array(timestamps, dtype=np.float64)
    limit = 2**31 - 1
    np.floor(seconds, out=seconds)
    seconds -= TIME_ORIGIN
    np.maximum(seconds, -limit, out=seconds)  # NaN stays NaN
    np.minimum(seconds, limit, out=seconds)
    return np.fmax(seconds, UNKNOWN_TIME, out=seconds).astype(np.int32)


def event_channels(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    sessions: np.ndarray,
    binning: ScottBinning,
    gap_binning: ScottBinning,
) -> np.ndarray:
    """
    All channels of events but USER; all but the first of a session are targets.

    Parameters
    ----------
    users, items, times, sessions : arrays of shape (events,)
        Ordered as by ``cut_sessions``.
    binning, gap_binning : ScottBinning
        Fitted.

    Returns
    -------
    int32 array of shape (events, channel)
    """
    channels = np.empty((len(users), USER), dtype=np.int32)
    for block in blocks(len(users)):
        waits, of_block = Waits(users, times, sessions, block), channels[block]
        starts = waits.starts[:-1]
        of_block[:, ITEM] = items[block]
        of_block[:, DWELL] = binning.bins_where(~waits.starts[1:], waits.seconds[1:])
        of_block[:, TARGET] = ~starts
        of_block[:, SESSION_START] = starts
        of_block[:, SESSION_GAP_BIN] = gap_binning.bins_where(waits.is_gap[:-1], waits.seconds[:-1]) * starts
        of_block[:, TIME] = whole_seconds(times[block])
    return channels
