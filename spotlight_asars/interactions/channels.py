"""Events as numbers: the channels of an event, and the one place that writes them.

Nets read events as integer arrays whose last axis holds the channels, (batch, time, channel). Log rows, requests,
``predict``, live sessions and plain item sequences all write them through :func:`write_events`, so that the same
history scores the same whichever way it comes in.
"""

from typing import TypeVar

import numpy as np

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import UNKNOWN_BIN, ScottBinning
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, InterEventTimes

# Whether the newest event's dwell up to the time of prediction is an input ("observed") or not yet known ("known").
DWELL_RULES = ("observed", "known")

# USER comes last: flat events do without it, since all events of a row have the same user.
ITEM, DWELL, TARGET, SESSION_START, SESSION_GAP_BIN, TIME, USER = range(7)
NUM_CHANNELS = 7
# TIME is in whole seconds since Monday, 2001-01-01 00:00 UTC: it fits into 32 bits from 1933 to 2069, and hour and
# weekday are remainders.
TIME_ORIGIN = 978_307_200
UNKNOWN_TIME = -(2**31)

Numbers = TypeVar("Numbers")  # a numpy array or a torch tensor


def whole_seconds(timestamps: np.ndarray) -> np.ndarray:
    """
    Convert seconds since 1970 to the TIME channel.

    Parameters
    ----------
    timestamps : array of any shape

    Returns
    -------
    int32 array of the same shape
        NaN becomes UNKNOWN_TIME; times before 1933 or after 2069 are clipped.
    """
    seconds = np.array(timestamps, dtype=np.float64)
    limit = 2**31 - 1
    np.floor(seconds, out=seconds)
    seconds -= TIME_ORIGIN
    np.maximum(seconds, -limit, out=seconds)  # NaN stays NaN
    np.minimum(seconds, limit, out=seconds)
    return np.fmax(seconds, UNKNOWN_TIME, out=seconds).astype(np.int32)


def write_events(
    events: Numbers,
    items: Numbers | int,
    starts: Numbers | bool,
    dwell: Numbers | int = UNKNOWN_BIN,
    gaps: Numbers | None = None,
    times: Numbers | int = UNKNOWN_TIME,
    targets: Numbers | bool = False,
    users: Numbers | int = ANONYMOUS_USER,
) -> Numbers:
    """
    Write all channels of events.

    Parameters
    ----------
    events : integer array or tensor of shape (..., channel)
        Filled in place; without the USER channel, `users` is ignored.
    items : int array or tensor of shape (...)
        None of them padding; see :func:`write_padded_events`.
    starts : bool array or tensor of shape (...)
        Whether an event begins a session.
    dwell, times, targets, users : int arrays or tensors of shape (...), or one number for all, optional
        Dwell bins, seconds as in the TIME channel, whether events are to be predicted, and user ids. By default dwell
        and times are unknown, no event is a target and the user is anonymous.
    gaps : int array or tensor of shape (...), optional
        Bins of the gap before each session, 0 at events that begin none. By default all gaps are unknown.

    Returns
    -------
    The events.
    """
    events[..., ITEM] = items
    events[..., DWELL] = dwell
    events[..., TARGET] = targets
    events[..., SESSION_START] = starts
    events[..., SESSION_GAP_BIN] = UNKNOWN_BIN * starts if gaps is None else gaps
    events[..., TIME] = times
    if events.shape[-1] > USER:
        events[..., USER] = users
    return events


def write_padded_events(events: Numbers, items: Numbers, starts: Numbers | None = None, **channels: object) -> Numbers:
    """
    Write all channels of rows with padding, which is 0 in every channel.

    Parameters
    ----------
    events : integer array or tensor of shape (rows, time, channel)
        Filled in place.
    items : int array or tensor of shape (rows, time)
        0 is padding.
    starts : array or tensor of shape (rows, time), optional
        Where sessions begin; by default each row is one session. The first event of a row always begins one.
    channels :
        As for :func:`write_events`, each of shape (rows, time).

    Returns
    -------
    The events.
    """
    present = items != PADDING_ITEM
    first = present & (present.cumsum(1) == 1)  # cumsum(1) is along time in numpy and in torch
    write_events(events, items, first if starts is None else first | (starts != 0), **channels)
    events *= present[..., None]
    return events


def event_channels(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    sessions: np.ndarray,
    binning: ScottBinning,
    gap_binning: ScottBinning,
) -> np.ndarray:
    """
    Return the events of a sorted log; all but the first of each session are targets.

    Parameters
    ----------
    users, items, times, sessions : arrays of shape (events,)
        Sorted as by :func:`~spotlight_asars.interactions.sessionization.cut_sessions`; times in seconds since 1970.
    binning, gap_binning : ScottBinning
        Fitted binnings of dwell and of session gaps.

    Returns
    -------
    int32 array of shape (events, USER)
        All channels but USER.
    """
    events = np.empty((len(users), USER), dtype=np.int32)
    for block, between in InterEventTimes.in_blocks(times, sessions, users):
        write_events(
            events[block],
            items[block],
            between.starts,
            dwell=binning.bins_where(between.has_dwell, between.dwell),
            gaps=gap_binning.bins_where(between.has_gap, between.gap) * between.starts,
            times=whole_seconds(times[block]),
            targets=~between.starts,
        )
    return events
