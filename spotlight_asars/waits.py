"""How long events of an ordered log were waited for: the dwell within sessions, the gaps between them, by blocks."""

from collections.abc import Iterator

import numpy as np

from spotlight_asars.blocks import blocks
from spotlight_asars.cutting import ANONYMOUS_USER
from spotlight_asars.sessions import SessionInteractions


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


def known_dwell(log: SessionInteractions) -> Iterator[np.ndarray]:
    """The ``dwell_times`` of a log that are known, in pieces."""
    for waits in _waits_of(log):
        yield waits.seconds[1:].compress(~waits.starts[1:])


def known_session_gaps(log: SessionInteractions) -> Iterator[np.ndarray]:
    """The ``session_gap_times`` of a log that are known, in pieces."""
    for waits in _waits_of(log):
        yield waits.seconds[:-1].compress(waits.is_gap[:-1])


def _waits_of(log: SessionInteractions) -> Iterator[Waits]:
    for block in blocks(len(log)):
        yield Waits(log.user_ids, log.timestamps, log.session_ids, block)
