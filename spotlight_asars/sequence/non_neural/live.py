"""Live sessions of systems without a net: what they keep of a session, and the histories that they score."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TIME
from spotlight_asars.sequence.non_neural.prefixes import Histories, NewestEvents
from spotlight_asars.sequence.online.events import NEWEST, Carry
from spotlight_asars.sequence.online.seen_items import SessionItems, Tallies
from spotlight_asars.sequence.recommender.fitted import Numbering
from spotlight_asars.serialization.state import sha256_of


@dataclass(frozen=True)
class LiveHistories:
    """
    The histories of some live sessions; see ``Histories``.

    Attributes
    ----------
    seen : SessionItems
        With tallies.
    rows : int array of shape (targets,)
        Where the sessions stand in `seen`.
    newest_items, newest_bins : int64 arrays of shape (targets, newest)
        Items and dwell bins of the newest events of the session, left-padded.
    times : int64 array of shape (targets,)
        Of the newest event, as in the TIME channel.
    """

    seen: SessionItems
    rows: np.ndarray
    newest_items: np.ndarray
    newest_bins: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: slice | np.ndarray) -> "LiveHistories":
        own = (self.rows, self.newest_items, self.newest_bins, self.times)
        return LiveHistories(self.seen, *(array[chosen] for array in own))

    @property
    def lengths(self) -> np.ndarray:
        """See ``Histories``."""
        return self.seen.lengths(self.rows)

    @property
    def has_earlier(self) -> np.ndarray:
        """See ``Histories``."""
        return np.bincount(self.earlier_tallies.row, minlength=len(self)) > 0

    @property
    def costs(self) -> np.ndarray:
        """Number of entries in `seen`: (targets,)."""
        return self.seen.sizes(self.rows)

    @cached_property
    def tallies(self) -> Tallies:
        """The items of the present sessions, by their latest event."""
        return self.seen.tallies(self.rows)

    @cached_property
    def earlier_tallies(self) -> Tallies:
        """The items of earlier sessions."""
        return self.seen.earlier_tallies(self.rows)

    def last_items(self) -> np.ndarray:
        """See ``Histories``."""
        return self.newest_items[:, -1]

    def last_times(self) -> np.ndarray:
        """See ``Histories``."""
        return self.times

    def newest_events(self, most: int) -> NewestEvents:
        """See ``Histories``; `most` is at most the number of newest events that the steps keep."""
        items = self.newest_items[:, -most:]  # (targets, most)
        target, place = items.nonzero()
        return NewestEvents(
            target, items.shape[1] - place, items[target, place], self.newest_bins[:, -most:][target, place]
        )

    def distinct_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``Histories``."""
        found = self.tallies
        return found.row, found.item, self.lengths[found.row] + 1 - found.positions

    def session_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """See ``Histories``."""
        found = self.tallies
        return found.row, found.item, found.counts, found.dwell

    def earlier_items(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``Histories``."""
        found = self.earlier_tallies
        return found.row, found.item, found.counts


class HistorySystem(Protocol):
    """
    A system that scores histories: it has the attributes of a ``Numbering``, too.

    Attributes
    ----------
    newest_read : int
        How many of the newest events of a session it reads one by one.
    """

    newest_read: int

    def item_scores(self, states: Histories) -> Tensor:
        """Return scores of items 1, 2, ...: float32, (targets, num_items - 1)."""


def newest_carry(sessions: int, newest: int) -> Carry:
    """Return the carry of :func:`append_newest` before the first event."""
    return {name: np.full((sessions, newest), PADDING_ITEM, dtype=np.int64) for name in ("items", "bins")}


def append_newest(carry: Carry, events: np.ndarray) -> Carry:
    """Append the newest events to items and bins, (sessions, newest) each, which begin anew with each session."""
    event = events[:, NEWEST]  # (sessions, channel)
    goes_on = event[:, SESSION_START, None] == 0  # (sessions, 1)
    after = {}
    for name, channel in (("items", ITEM), ("bins", DWELL)):
        after[name] = np.empty_like(carry[name])  # (sessions, newest)
        after[name][:, :-1] = carry[name][:, 1:] * goes_on
        after[name][:, -1] = event[:, channel]
    return after


def with_newest_bin(bins: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Return dwell bins, (sessions, newest), with that of the newest event."""
    after = bins.copy()
    after[:, -1] = events[:, NEWEST, DWELL]
    return after


class HistorySteps:
    """
    The ``LiveSteps`` of a system that scores histories: its newest events are the carry, the rest are tallies.

    The system's present counts are read at each answer, so that live sessions go on after a ``partial_fit``.

    Parameters
    ----------
    system : HistorySystem
        Fitted.
    """

    needs_tallies = True

    def __init__(self, system: HistorySystem) -> None:
        self._system, self._numbering = system, Numbering.of(system)

    def initial_carry(self, sessions: int) -> Carry:
        """Return the carry before the first event."""
        return newest_carry(sessions, self._system.newest_read)

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Append the newest items."""
        return append_newest(carry, events)

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Set the dwell of the newest events."""
        return {"bins": with_newest_bin(carry["bins"], events)}

    def scores(self, carry: Carry, events: np.ndarray, seen: SessionItems, rows: np.ndarray) -> np.ndarray:
        """Return the scores of all items: (sessions, num_items - 1)."""
        return self._system.item_scores(live_histories(carry, events, seen, rows)).numpy()

    def check_current(self) -> None:
        """Raise an InputError if the system numbers its items or dwell bins otherwise by now."""
        now = Numbering.of(self._system)
        if any(getattr(now, name) is not getattr(self._numbering, name) for name in ("item_vocabulary", "binning")):
            raise InputError("the model has been fitted anew since these sessions began: begin new ones")

    def digest(self) -> str:
        """Return a digest of how the system numbers items and dwell bins, and of how many newest events it reads."""
        found = hashlib.sha256(json.dumps([self._system.newest_read, self._numbering.fitted()]).encode())
        for name in ("item_vocabulary", "binning"):
            part = getattr(self._numbering, name)
            if part is not None:
                state = part.state()
                found.update(json.dumps([state.settings, state.fitted], sort_keys=True).encode())
                found.update(sha256_of(*state.arrays.values()).encode())
        return found.hexdigest()


def live_histories(carry: Carry, events: np.ndarray, seen: SessionItems, rows: np.ndarray) -> LiveHistories:
    """Return the histories of some live sessions; the arguments are those of ``LiveSteps.scores``."""
    bins = with_newest_bin(carry["bins"], events)
    return LiveHistories(seen, rows, carry["items"], bins, events[:, NEWEST, TIME])
