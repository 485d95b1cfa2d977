"""Sessionization: split a log into sessions, and the times between its events.

The time between consecutive events is dwell inside a session and a session gap between two sessions of a user.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.ordering import (
    as_places,
    blocks,
    in_their_order,
    order_by_number,
    order_by_number_and_time,
)
from spotlight_asars.interactions.times import SECONDS_PER_DAY, duration_in_seconds
from spotlight_asars.interactions.vocabulary import in_order_of_appearance

ANONYMOUS_USER = 0
SESSION_GAP = 3600.0
NO_SESSION_GAP = np.inf  # of a log that has its own sessions: no pause ends one
LONG_PAUSE = SECONDS_PER_DAY / 2  # inside one of the log's own sessions: its id has probably been used again


def cut_sessions(
    user_ids: np.ndarray,
    timestamps: np.ndarray,
    session_ids: np.ndarray | None = None,
    session_gap: float = SESSION_GAP,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Sort events by user, session and time, and number the sessions.

    Parameters
    ----------
    user_ids : int array of shape (events,)
        0 is anonymous.
    timestamps : float array of shape (events,)
        Seconds.
    session_ids : array of shape (events,), optional
        The log's own sessions. By default, a user's events are split into sessions by `session_gap`.
    session_gap : float, str or timedelta, optional
        Inactivity that ends a session (paper section 2.1): seconds, or a duration such as '1h'.

    Returns
    -------
    order : int64 array of shape (events,)
        Stable order of the events.
    sessions : int64 array of shape (events,)
        Session numbers 0, 1, ... in that order.

    Raises
    ------
    InputError
        If `session_gap` is not positive, a session id is missing, or there are neither users nor sessions.

    Notes
    -----
    Events with equal times keep their order. Sessions of a known user that overlap in time (two devices) are merged:
    kept apart, the second one would be predicted from events that had not happened yet.
    """
    order, sessions, _, _ = sessionize(user_ids, timestamps, session_ids, session_gap)
    return as_places(order, len(sessions)), sessions


def sessionize(
    user_ids: np.ndarray, timestamps: np.ndarray, session_ids: np.ndarray | None, session_gap: float
) -> tuple[np.ndarray | slice, np.ndarray, np.ndarray, np.ndarray]:
    """
    Return the order and sessions of :func:`cut_sessions`, then the sorted users and times.

    The order is a slice if the events are sorted already.
    """
    if session_ids is None:
        return _sessions_by_gap(user_ids, timestamps, session_gap)
    order, sessions = _sessions_by_id(user_ids, timestamps, session_ids)
    return order, sessions, user_ids[order], timestamps[order]


def ends_session(seconds: np.ndarray, session_gap: float) -> np.ndarray:
    """Return where an inter-event time is long enough to end a session; unknown times (NaN) are not."""
    return seconds >= session_gap


def number_sessions(users: np.ndarray, times: np.ndarray, session_gap: float) -> np.ndarray:
    """
    Split sorted events into sessions by inactivity.

    Parameters
    ----------
    users, times : arrays of shape (events,)
        Sorted by user, then by time.
    session_gap : float
        Seconds of inactivity that end a session.

    Returns
    -------
    int64 array of shape (events,)
        Session numbers 0, 1, ...
    """
    sessions = np.zeros(len(users), dtype=np.int64)
    for block in blocks(len(users) - 1):
        after = slice(block.start + 1, block.stop + 1)
        starts = (users[after] != users[block]) | ends_session(times[after] - times[block], session_gap)
        np.cumsum(starts, out=sessions[after])
        sessions[after] += sessions[block.start]
    return sessions


def _sessions_by_gap(
    user_ids: np.ndarray, timestamps: np.ndarray, session_gap: float
) -> tuple[np.ndarray | slice, np.ndarray, np.ndarray, np.ndarray]:
    session_gap = duration_in_seconds("session_gap", session_gap)
    anonymous = len(user_ids) - np.count_nonzero(user_ids)
    if len(user_ids) and anonymous == len(user_ids):
        raise InputError("the log has neither users nor sessions: give user ids above 0, or session ids")
    if anonymous:
        warnings.warn(
            f"the {anonymous} events of user 0 are taken as anonymous and split by inactivity alone: number users "
            "from 1 if user 0 is a known user",
            stacklevel=4,
        )
    order, users = order_by_number_and_time(user_ids, timestamps)
    times = in_their_order(timestamps, order)
    return order, number_sessions(users, times, session_gap), users, times


def _sessions_by_id(
    user_ids: np.ndarray, timestamps: np.ndarray, session_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    codes, _ = in_order_of_appearance(session_ids)
    if len(codes) != len(user_ids):
        raise InputError(f"there are {len(user_ids)} events and {len(codes)} session ids: give every event one")
    if (codes < 0).any():
        raise InputError(f"the session id of event {int(np.argmax(codes < 0))} is missing: give every event one")
    codes, _ = pd.factorize(user_ids.astype(np.int64) * (codes.max(initial=0) + 1) + codes)

    # Positions in the users' timelines replace times, so that events with equal times keep the order of the log.
    in_timelines = as_places(order_by_number_and_time(user_ids, timestamps)[0], len(codes))
    place = np.empty(len(codes), dtype=np.int64)
    place[in_timelines] = np.arange(len(codes))
    by_session = in_timelines[order_by_number(codes[in_timelines])]
    first = np.flatnonzero(changes(codes[by_session]))  # (sessions,)
    last = np.append(first[1:], len(codes)) - 1
    begin, end = place[by_session[first]], place[by_session[last]]
    _warn_of_long_pauses(timestamps[by_session], first)

    in_order = np.argsort(begin)  # (sessions,), by user, then by time
    starts = user_ids[by_session[first]][in_order] == ANONYMOUS_USER
    starts[0] = True
    starts[1:] |= begin[in_order][1:] > np.maximum.accumulate(end[in_order])[:-1]
    number = np.empty(len(in_order), dtype=np.int64)
    number[in_order] = np.cumsum(starts) - 1

    sessions = number[codes]  # (events,)
    order = in_timelines[order_by_number(sessions[in_timelines])]
    return order, sessions[order]


def _warn_of_long_pauses(times: np.ndarray, first: np.ndarray) -> None:
    """Warn if a session pauses for half a day; the times are ordered by session, of whose events `first` are first."""
    pauses = np.diff(times)
    pauses[first[1:] - 1] = 0.0  # between sessions
    if pauses.max(initial=0.0) >= LONG_PAUSE:
        warnings.warn(
            "a session id of the log has events half a day or more apart, which count as one session: if ids are used "
            "again, make them unique, such as by adding the date, or leave the sessions out",
            stacklevel=5,
        )


def changes(values: np.ndarray) -> np.ndarray:
    """Return where a value differs from the previous one; always True at the first. Shape (n,)."""
    changes = np.ones(len(values), dtype=bool)
    changes[1:] = values[1:] != values[:-1]
    return changes


def session_starts(sessions: np.ndarray) -> np.ndarray:
    """Return True at the first event of each session; shape (events,)."""
    return changes(sessions)


class InterEventTimes:
    """
    Times before and after the events of one block of a sorted log.

    Parameters
    ----------
    times, sessions : arrays of shape (events,)
        The whole log, sorted as by :func:`cut_sessions`.
    block : slice
        The block's n events.
    users : array of shape (events,), optional
        Needed for session gaps.

    Attributes
    ----------
    starts : bool array of shape (n,)
        Whether an event begins a session.
    dwell, gap : float64 arrays of shape (n,)
        Seconds to the next event, and since the previous one; 0 at the ends of the log. They are dwell and session
        gaps only where the next two attributes say so.
    has_dwell : bool array of shape (n,)
        Whether the next event belongs to the same session.
    has_gap : bool array of shape (n,)
        Whether an event begins a known user's second or later session; False without `users`.
    """

    def __init__(self, times: np.ndarray, sessions: np.ndarray, block: slice, users: np.ndarray | None = None) -> None:
        number = block.stop - block.start
        # Entry i is about the time before event i of the block; the last one is about the time after the block.
        seconds, starts = np.zeros(number + 1), np.ones(number + 1, dtype=bool)
        is_gap = np.zeros(number + 1, dtype=bool)
        near = slice(max(block.start - 1, 0), min(block.stop + 1, len(times)))
        inside = slice(near.start + 1 - block.start, near.stop - block.start)  # all that have a previous event
        times, sessions = times[near], sessions[near]
        np.subtract(times[1:], times[:-1], out=seconds[inside])
        np.not_equal(sessions[1:], sessions[:-1], out=starts[inside])
        if users is not None:
            users = users[near]
            np.equal(users[1:], users[:-1], out=is_gap[inside])
            is_gap[inside] &= starts[inside]
            is_gap[inside] &= users[1:] != ANONYMOUS_USER
        self.starts = starts[:-1]
        self.dwell, self.has_dwell = seconds[1:], ~starts[1:]
        self.gap, self.has_gap = seconds[:-1], is_gap[:-1]

    @classmethod
    def in_blocks(
        cls, times: np.ndarray, sessions: np.ndarray, users: np.ndarray | None = None
    ) -> Iterator[tuple[slice, "InterEventTimes"]]:
        """Yield the blocks of a sorted log, each with its inter-event times."""
        for block in blocks(len(times)):
            yield block, cls(times, sessions, block, users)


def dwell_times(timestamps: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """
    Return the seconds from each event to the next one of its session; NaN at the last, whose dwell is unknown.

    Parameters
    ----------
    timestamps, sessions : arrays of shape (events,)
        Sorted as by :func:`cut_sessions`.

    Returns
    -------
    float64 array of shape (events,)
    """
    dwell = np.full(len(timestamps), np.nan)
    for block, between in InterEventTimes.in_blocks(timestamps, sessions):
        np.copyto(dwell[block], between.dwell, where=between.has_dwell)
    return dwell


def session_gap_times(timestamps: np.ndarray, sessions: np.ndarray, user_ids: np.ndarray) -> np.ndarray:
    """
    Return the seconds between the end of the user's previous session and the start of this one.

    Parameters
    ----------
    timestamps, sessions, user_ids : arrays of shape (events,)
        Sorted as by :func:`cut_sessions`.

    Returns
    -------
    float64 array of shape (events,)
        Known at the first event of a known user's second and later sessions; NaN elsewhere.
    """
    gaps = np.full(len(timestamps), np.nan)
    for block, between in InterEventTimes.in_blocks(timestamps, sessions, user_ids):
        np.copyto(gaps[block], between.gap, where=between.has_gap)
    return gaps
