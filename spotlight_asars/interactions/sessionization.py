"""How long events of an ordered log were waited for: the dwell within sessions, the gaps between them, by blocks.

Where the sessions of a log begin: the events' order by user, session and time, and the sessions' numbers.
"""

import warnings

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
from spotlight_asars.interactions.vocabulary import in_order_of_appearance

ANONYMOUS_USER = 0
SESSION_GAP = 3600.0


def cut_sessions(
    user_ids: np.ndarray,
    timestamps: np.ndarray,
    session_ids: np.ndarray | None = None,
    session_gap: float = SESSION_GAP,
) -> tuple[np.ndarray, np.ndarray]:
    """
    Order events by user, session and time, and number the sessions.

    Parameters
    ----------
    user_ids : int array of shape (events,)
        0 for anonymous.
    timestamps : float array of shape (events,)
        Seconds.
    session_ids : array of shape (events,), optional
        The log's own sessions; without them a session begins after `session_gap` of inactivity.
    session_gap : float, optional
        Seconds; a pause at least this long ends a session (paper section 2.1).

    Returns
    -------
    (order, sessions) : two int64 arrays of shape (events,): the events' stable order, and their session numbers
        0, 1, ... in that order.

    Notes
    -----
    Events of equal time keep the order of the log. Sessions of one known user that overlap in time (two devices)
    are one session: taken one after the other, the second would be predicted from events that had not yet
    happened.
    """
    order, sessions, _, _ = in_sessions(user_ids, timestamps, session_ids, session_gap)
    return as_places(order, len(sessions)), sessions


def in_sessions(
    user_ids: np.ndarray, timestamps: np.ndarray, session_ids: np.ndarray | None, session_gap: float
) -> tuple[np.ndarray | slice, np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`cut_sessions`, with a slice of all for the order of a log that has it, and users and times in order."""
    if session_ids is None:
        return _sessions_by_gap(user_ids, timestamps, session_gap)
    order, sessions = _sessions_by_id(user_ids, timestamps, session_ids)
    return order, sessions, user_ids[order], timestamps[order]


def _sessions_by_gap(
    user_ids: np.ndarray, timestamps: np.ndarray, session_gap: float
) -> tuple[np.ndarray | slice, np.ndarray, np.ndarray, np.ndarray]:
    if not session_gap > 0:
        raise InputError(f"session_gap is {session_gap}: give a positive number of seconds")
    anonymous = len(user_ids) - np.count_nonzero(user_ids)
    if len(user_ids) and anonymous == len(user_ids):
        raise InputError("the log has neither users nor sessions: give user ids above 0, or session ids")
    if anonymous:
        warnings.warn(
            f"the {anonymous} events of user 0 are taken as anonymous, a session for each pause: number users "
            "from 1 to keep user 0 as one of them",
            stacklevel=4,
        )
    order, users = order_by_number_and_time(user_ids, timestamps)
    times = in_their_order(timestamps, order)
    return order, _numbered_by_gap(users, times, session_gap), users, times


def _numbered_by_gap(users: np.ndarray, times: np.ndarray, session_gap: float) -> np.ndarray:
    """Session numbers 0, 1, ... of events in order of user and time."""
    sessions = np.zeros(len(users), dtype=np.int64)
    for block in blocks(len(users) - 1):
        after = slice(block.start + 1, block.stop + 1)
        starts = (users[after] != users[block]) | (times[after] - times[block] >= session_gap)
        np.cumsum(starts, out=sessions[after])
        sessions[after] += sessions[block.start]
    return sessions


def _sessions_by_id(
    user_ids: np.ndarray, timestamps: np.ndarray, session_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    codes, _ = in_order_of_appearance(session_ids)
    if len(codes) != len(user_ids):
        raise InputError(f"there are {len(user_ids)} events and {len(codes)} session ids: give every event one")
    if (codes < 0).any():
        raise InputError(f"the session id of event {int(np.argmax(codes < 0))} is missing: give every event one")
    codes, _ = pd.factorize(user_ids.astype(np.int64) * (codes.max(initial=0) + 1) + codes)

    # Places in the users' timelines stand for times here: events of equal time have the order of the log.
    in_timelines = as_places(order_by_number_and_time(user_ids, timestamps)[0], len(codes))
    place = np.empty(len(codes), dtype=np.int64)
    place[in_timelines] = np.arange(len(codes))
    by_session = in_timelines[order_by_number(codes[in_timelines])]
    first = np.flatnonzero(changes(codes[by_session]))  # (sessions,)
    last = np.append(first[1:], len(codes)) - 1
    begin, end = place[by_session[first]], place[by_session[last]]

    in_order = np.argsort(begin)  # (sessions,), by user, then by time
    starts = user_ids[by_session[first]][in_order] == ANONYMOUS_USER
    starts[0] = True
    starts[1:] |= begin[in_order][1:] > np.maximum.accumulate(end[in_order])[:-1]
    number = np.empty(len(in_order), dtype=np.int64)
    number[in_order] = np.cumsum(starts) - 1

    sessions = number[codes]  # (events,)
    order = in_timelines[order_by_number(sessions[in_timelines])]
    return order, sessions[order]


def changes(values: np.ndarray) -> np.ndarray:
    """True where a value differs from the one before; always at the first. Shape (n,)."""
    changes = np.ones(len(values), dtype=bool)
    changes[1:] = values[1:] != values[:-1]
    return changes


def dwell_times(timestamps: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """
    Seconds from each event to the next of its session; NaN for the last one, whose dwell nobody saw.

    Parameters
    ----------
    timestamps, sessions : arrays of shape (events,)
        Ordered as by ``cut_sessions``.
    """
    dwell = np.empty(len(timestamps))
    np.subtract(timestamps[1:], timestamps[:-1], out=dwell[:-1])
    np.copyto(dwell[:-1], np.nan, where=sessions[1:] != sessions[:-1])
    dwell[-1:] = np.nan
    return dwell


def session_gap_times(timestamps: np.ndarray, sessions: np.ndarray, user_ids: np.ndarray) -> np.ndarray:
    """
    Seconds between the end of the user's previous session and the start of this one, shape (events,).

    Known only at the first event of a known user's second and later sessions; NaN elsewhere.
    """
    gaps = np.full(len(timestamps), np.nan)
    follows = (sessions[1:] != sessions[:-1]) & (user_ids[1:] == user_ids[:-1]) & (user_ids[1:] != ANONYMOUS_USER)
    np.subtract(timestamps[1:], timestamps[:-1], out=gaps[1:], where=follows)
    return gaps


def session_starts(sessions: np.ndarray) -> np.ndarray:
    """True at the first event of each session, shape (events,)."""
    return changes(sessions)


class Waits:
    """
    What lies before each event of a block, and before the one after it.

    Parameters
    ----------
    users, times, sessions : arrays of shape (events,)
        Ordered as by ``cut_sessions``.
    block : slice
        Of the events; n of them.

    Attributes
    ----------
    seconds : float64 array of shape (n + 1,)
        Since the event before, whosever it was; 0 where the log begins and ends.
    starts : bool array of shape (n + 1,)
        Whether the event begins a session; so does the end of the log.
    is_gap : bool array of shape (n + 1,)
        Whether the seconds lie between two sessions of one known user.
    """

    def __init__(self, users: np.ndarray, times: np.ndarray, sessions: np.ndarray, block: slice) -> None:
        number = block.stop - block.start
        self.seconds, self.starts = np.zeros(number + 1), np.ones(number + 1, dtype=bool)
        self.is_gap = np.zeros(number + 1, dtype=bool)
        near = slice(max(block.start - 1, 0), min(block.stop + 1, len(times)))
        inside = slice(near.start + 1 - block.start, near.stop - block.start)  # all that has an event before it
        users, times, sessions = users[near], times[near], sessions[near]
        np.subtract(times[1:], times[:-1], out=self.seconds[inside])
        np.not_equal(sessions[1:], sessions[:-1], out=self.starts[inside])
        np.equal(users[1:], users[:-1], out=self.is_gap[inside])
        self.is_gap[inside] &= self.starts[inside]
        self.is_gap[inside] &= users[1:] != ANONYMOUS_USER
