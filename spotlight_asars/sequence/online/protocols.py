"""What live sessions ask of a fitted system, net or not."""

from typing import Protocol

import numpy as np

from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.events import Carry
from spotlight_asars.sequence.online.seen_items import SessionItems


class LiveSteps(Protocol):
    """
    How one fitted system follows live sessions. Anything with these attributes and methods will do.

    An event arrives in two parts, its item when it is observed and its dwell when the next event ends it, hence two
    updates. `carry` holds arrays of shape (sessions, ...), and `events` is an int64 array of shape
    (sessions, 4, channel): the first event of the row, the first of the session, the previous one and the newest. No
    method changes its arguments.

    Attributes
    ----------
    needs_tallies : bool
        Whether `scores` reads the tallies of the items seen.
    """

    needs_tallies: bool

    def initial_carry(self, sessions: int) -> Carry:
        """Return the carry before the first event."""

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Return the entries of the carry that change when the newest events are observed, their dwell unknown."""

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Return the entries of the carry that change when the dwell of the newest events becomes known."""

    def scores(self, carry: Carry, events: np.ndarray, seen: SessionItems, rows: np.ndarray) -> np.ndarray:
        """
        Return the scores of items 1, 2, ... after the newest events, some sessions may have none.

        Parameters
        ----------
        carry : dict of arrays of shape (sessions, ...)
        events : int64 array of shape (sessions, 4, channel)
            With the dwell of the newest events as of now.
        seen : SessionItems
            The items that these and other sessions have seen.
        rows : int array of shape (sessions,)
            Where the sessions stand in `seen`.

        Returns
        -------
        float array of shape (sessions, num_items - 1)
            The caller may change it.
        """

    def check_current(self) -> None:
        """Raise an InputError if the system has changed so that a carry of these steps no longer fits it."""

    def digest(self) -> str:
        """Return a digest of all that a saved carry depends on."""


class LiveModel(Protocol):
    """
    What live sessions need of a fitted system.

    Attributes
    ----------
    num_items : int
        Number of item ids, the padding included.
    dwell : {'known', 'observed'} or None
        The dwell rule.
    session_gap : float
        Seconds without an event after which a session ends; infinite if the training part had its own sessions.
    binning, gap_binning : ScottBinning
        Fitted binnings of dwell and of session gaps.
    user_vocabulary : Vocabulary or None
        Raw user ids.
    """

    num_items: int | None
    dwell: str | None
    session_gap: float
    binning: ScottBinning
    gap_binning: ScottBinning
    user_vocabulary: Vocabulary | None

    @property
    def raw_items(self) -> Vocabulary:
        """The raw item ids."""

    def live_steps(self) -> LiveSteps:
        """Return the system's steps; an InputError if it is not fitted or has no live sessions."""
