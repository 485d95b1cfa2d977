"""SessionInteractions: a sorted log with sessions and dwell times, and its size as in the paper's Table 1."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError, listed
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import Interactions
from spotlight_asars.interactions.ordering import in_their_order
from spotlight_asars.interactions.sessionization import (
    ANONYMOUS_USER,
    NO_SESSION_GAP,
    SESSION_GAP,
    InterEventTimes,
    dwell_times,
    session_gap_times,
    session_starts,
    sessionize,
)
from spotlight_asars.interactions.times import duration_in_seconds, timestamps_in_seconds
from spotlight_asars.interactions.vocabulary import Vocabulary, as_column

LARGEST_NUMBER = 2**31 - 2  # largest item or user id: the number of ids, one more, must fit into 32 bits


class SessionInteractions(Interactions):
    """
    The host's Interactions, sorted by user, session and time, with sessions and raw ids.

    Parameters
    ----------
    user_ids, item_ids, ratings, timestamps, weights, num_users, num_items :
        As for the host's Interactions, with events in any order. Timestamps are required. Item 0 is padding and not
        allowed; user 0 is anonymous.
    session_ids : array of shape (events,), optional
        The log's own sessions. By default, a user's events are split into sessions by `session_gap`.
    session_gap : float, str or timedelta, optional
        Inactivity that ends a session: seconds, or a duration such as '1h'.
    timestamp_unit : {'s', 'ms', 'us', 'ns'}, optional
        Unit of the timestamps.
    item_vocabulary, user_vocabulary : Vocabulary, optional
        Raw ids of the numbers.
    copy : bool, optional
        If False, keep the arrays of a log that is already sorted instead of copying them, as the host does.

    Attributes
    ----------
    session_ids : int64 array of shape (events,)
        Session numbers 0, 1, ..., non-decreasing.
    session_gap : float
        Seconds of inactivity that end a session; infinite if the log has its own sessions.

    Raises
    ------
    InputError
        If there are no events, a time is missing or in another unit, an item id is 0, or columns and vocabularies
        do not match.
    """

    def __init__(
        self,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        ratings: np.ndarray | None = None,
        timestamps: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        num_users: int | None = None,
        num_items: int | None = None,
        session_ids: np.ndarray | None = None,
        session_gap: float = SESSION_GAP,
        timestamp_unit: str = "s",
        item_vocabulary: Vocabulary | None = None,
        user_vocabulary: Vocabulary | None = None,
        copy: bool = True,
    ) -> None:
        if timestamps is None:
            raise InputError("the interactions have no timestamps: sessions and dwell need them")
        user_ids, item_ids = _numbers("user", user_ids), _numbers("item", item_ids)
        timestamps = timestamps_in_seconds(timestamps, timestamp_unit)
        columns = {"user ids": user_ids, "timestamps": timestamps, "ratings": ratings, "weights": weights}
        for name, column in columns.items():
            if column is not None and len(column) != len(item_ids):
                raise InputError(
                    f"there are {len(item_ids)} item ids and {len(column)} {name}: give one for each event"
                )
        if len(item_ids) == 0:
            raise InputError("the log has no events")
        if item_ids.min() <= PADDING_ITEM:
            raise InputError("an item id is 0 or negative: number items from 1, 0 is the padding")
        if user_ids.min(initial=ANONYMOUS_USER) < ANONYMOUS_USER:
            raise InputError("a user id is negative: number users from 1, 0 is anonymous")
        num_users = _number_of_ids("user", num_users, user_vocabulary)
        num_items = _number_of_ids("item", num_items, item_vocabulary)
        for kind, ids, number in (("user", user_ids, num_users), ("item", item_ids, num_items)):
            if number is not None and ids.max() >= number:
                raise InputError(f"{kind} id {ids.max()} is not below num_{kind}s, {number}: omit num_{kind}s")
        super().__init__(user_ids, item_ids, ratings, timestamps, weights, num_users, num_items)
        self.item_vocabulary = item_vocabulary
        self.user_vocabulary = user_vocabulary
        self.session_gap = session_gap = duration_in_seconds("session_gap", session_gap)

        in_sessions = sessionize(user_ids, timestamps, session_ids, session_gap)
        order, self.session_ids, self.user_ids, self.timestamps = in_sessions
        self.item_ids = in_their_order(item_ids, order)
        if session_ids is not None:
            self.session_gap = NO_SESSION_GAP
        self.ratings, self.weights = (
            None if x is None else in_their_order(np.asarray(x), order) for x in (ratings, weights)
        )
        if copy and isinstance(order, slice):  # sorting has copied nothing
            for name in ("user_ids", "item_ids", "ratings", "weights"):
                values = getattr(self, name)
                setattr(self, name, None if values is None else values.copy())

    @classmethod
    def from_log(
        cls, log: pd.DataFrame, session_gap: float = SESSION_GAP, timestamp_unit: str = "s"
    ) -> "SessionInteractions":
        """
        Number the raw ids of a log and split it into sessions.

        Parameters
        ----------
        log : DataFrame
            Columns `item`, `timestamp`, and `user` or `session` or both, as returned by the readers of
            ``spotlight_asars.datasets``.
        session_gap, timestamp_unit :
            As for the constructor.

        Raises
        ------
        InputError
            If a column is missing or appears twice, or an event lacks an id.
        """
        if not isinstance(log, pd.DataFrame):
            raise InputError(f"the log is of type {type(log).__name__}: give a pandas DataFrame")
        for column in ("user", "item", "timestamp", "session"):
            if column in log and isinstance(log[column], pd.DataFrame):
                raise InputError(f"{log[column].shape[1]} columns of the log are {column!r}: rename all but one")
        for column in ("item", "timestamp"):
            if column not in log:
                raise InputError(f"the log has no column {column!r}; it has {listed(log.columns)}")
        if "user" not in log and "session" not in log:
            raise InputError("the log has neither a column 'user' nor 'session': give one of them")
        if not len(log):
            raise InputError("the log has no events")
        for column in ("user", "item", "session"):
            if column in log and log[column].isna().any():
                event = int(np.argmax(log[column].isna()))
                raise InputError(f"event {event} has no {column!r}: give it one, or leave the event out")
        item_vocabulary, item_ids = Vocabulary.fit(log["item"])
        user_vocabulary, user_ids = None, np.zeros(len(log), dtype=np.int32)
        if "user" in log:
            user_vocabulary, user_ids = Vocabulary.fit(log["user"])
        return cls(
            user_ids,
            item_ids,
            timestamps=log["timestamp"].array,
            num_users=1 if user_vocabulary is None else len(user_vocabulary) + 1,
            num_items=len(item_vocabulary) + 1,
            session_ids=log["session"].array if "session" in log else None,
            session_gap=session_gap,
            timestamp_unit=timestamp_unit,
            item_vocabulary=item_vocabulary,
            user_vocabulary=user_vocabulary,
        )

    @classmethod
    def of_ordered(
        cls,
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        timestamps: np.ndarray,
        session_ids: np.ndarray,
        session_gap: float,
        item_vocabulary: Vocabulary,
        user_vocabulary: Vocabulary | None,
    ) -> "SessionInteractions":
        """Wrap sorted events with sessions, such as those of a prepared log, without checking or sorting them again."""
        made = cls.__new__(cls)
        made.user_ids, made.item_ids, made.timestamps, made.session_ids = user_ids, item_ids, timestamps, session_ids
        made.ratings = made.weights = None
        made.session_gap, made.item_vocabulary, made.user_vocabulary = session_gap, item_vocabulary, user_vocabulary
        made.num_items = len(item_vocabulary) + 1
        made.num_users = 1 if user_vocabulary is None else len(user_vocabulary) + 1
        return made

    def select(self, events: np.ndarray) -> "SessionInteractions":
        """Return the chosen events (bool or indices), with their ids, sessions and vocabularies."""
        chosen = SessionInteractions.__new__(SessionInteractions)
        chosen.__dict__.update(self.__dict__)
        for name in ("user_ids", "item_ids", "timestamps", "session_ids", "ratings", "weights"):
            values = getattr(self, name)
            setattr(chosen, name, None if values is None else values[events])
        chosen.session_ids = np.cumsum(session_starts(chosen.session_ids)) - 1
        return chosen

    def to_log(self) -> pd.DataFrame:
        """
        Return the events as a table for :meth:`from_log`.

        Returns
        -------
        DataFrame
            Columns `user` (unless there are anonymous events), `item`, `timestamp` (seconds) and `session`, one row
            for each event; raw ids if there is a vocabulary.
        """
        columns: dict[str, pd.Series] = {}
        if (self.user_ids != ANONYMOUS_USER).all():
            columns["user"] = as_column(_raw(self.user_vocabulary, self.user_ids))
        columns["item"] = as_column(_raw(self.item_vocabulary, self.item_ids))
        return pd.DataFrame({**columns, "timestamp": self.timestamps, "session": self.session_ids})

    @property
    def num_sessions(self) -> int:
        """Number of sessions."""
        return int(self.session_ids[-1]) + 1 if len(self) else 0

    @property
    def dwell_times(self) -> np.ndarray:
        """Seconds to the next event of the session, NaN at the last one; shape (events,)."""
        return dwell_times(self.timestamps, self.session_ids)

    @property
    def session_gap_times(self) -> np.ndarray:
        """Seconds since the user's previous session at the start of a session, NaN elsewhere; shape (events,)."""
        return session_gap_times(self.timestamps, self.session_ids, self.user_ids)


def integers(name: str, values: np.ndarray, mend: str = "give integers") -> np.ndarray:
    """
    Convert integers to int32, without rounding or wrapping; int32 arrays are returned unchanged.

    Parameters
    ----------
    name, mend : str
        What the values are, and how to mend them, for messages.
    values : array of any shape

    Raises
    ------
    InputError
        If a value is not an integer, or too large.
    """
    try:
        values = np.asarray(values)
    except ValueError as error:  # lists of several lengths
        raise InputError(f"the {name} are lists of several lengths: {mend}") from error
    if values.size and values.dtype.kind not in "iu":
        raise InputError(f"the {name} are of type {values.dtype}: {mend}")
    for end in (values.min(), values.max()) if values.size else ():
        if abs(int(end)) > LARGEST_NUMBER:
            raise InputError(f"{end} among the {name} is too large: {mend}")
    return values.astype(np.int32, copy=False)


def _numbers(kind: str, ids: np.ndarray) -> np.ndarray:
    numbers = integers(f"{kind} ids", ids, f"give integers, {kind}s 1, 2, ..., or raw ids to from_log")
    if numbers.ndim != 1:
        raise InputError(f"the {kind} ids have shape {numbers.shape}: give a list, one for each event")
    return numbers


def _raw(vocabulary: Vocabulary | None, numbers: np.ndarray) -> np.ndarray:
    return numbers if vocabulary is None else vocabulary.inverse(numbers)


def _number_of_ids(kind: str, number: int | None, vocabulary: Vocabulary | None) -> int | None:
    if vocabulary is None:
        return number
    if number not in (None, len(vocabulary) + 1):
        raise InputError(f"num_{kind}s is {number}: {kind}_vocabulary has {len(vocabulary) + 1}, omit num_{kind}s")
    return len(vocabulary) + 1


def as_session_interactions(
    interactions: Interactions, session_gap: float = SESSION_GAP, timestamp_unit: str = "s"
) -> SessionInteractions:
    """Return the host's Interactions split into sessions; SessionInteractions are returned unchanged."""
    if isinstance(interactions, SessionInteractions):
        return interactions
    return SessionInteractions(
        interactions.user_ids,
        interactions.item_ids,
        ratings=interactions.ratings,
        timestamps=interactions.timestamps,
        weights=interactions.weights,
        num_users=interactions.num_users,
        num_items=interactions.num_items,
        session_gap=session_gap,
        timestamp_unit=timestamp_unit,
        copy=False,
    )


def known_dwell_times(log: SessionInteractions) -> Iterator[np.ndarray]:
    """Yield the known ``dwell_times`` of a log, block by block."""
    for _, between in InterEventTimes.in_blocks(log.timestamps, log.session_ids):
        yield between.dwell.compress(between.has_dwell)


def known_session_gap_times(log: SessionInteractions) -> Iterator[np.ndarray]:
    """Yield the known ``session_gap_times`` of a log, block by block."""
    for _, between in InterEventTimes.in_blocks(log.timestamps, log.session_ids, log.user_ids):
        yield between.gap.compress(between.has_gap)


@dataclass(frozen=True)
class LogCounts:
    """
    The size of a log, as in the paper's Table 1; ``str`` formats it as one line.

    Attributes
    ----------
    events, users, items, sessions : int
        `users` is 0 if all events are anonymous.
    """

    events: int
    users: int
    items: int
    sessions: int

    @classmethod
    def of(cls, interactions: SessionInteractions) -> "LogCounts":
        """Count the events, users, items and sessions of a log; ids without events do not count."""
        known = np.bincount(interactions.user_ids) > 0
        known[ANONYMOUS_USER] = False
        items = np.bincount(interactions.item_ids) > 0
        return cls(len(interactions), int(known.sum()), int(items.sum()), interactions.num_sessions)

    def in_words(self) -> str:
        """Return the counts as a phrase, such as ``7 events, 2 users, 3 items, 4 sessions``."""
        users = f"{self.users:,} users" if self.users else "anonymous"
        return f"{self.events:,} events, {users}, {self.items:,} items, {self.sessions:,} sessions"

    def __str__(self) -> str:
        users = f"{self.users:,}" if self.users else "/"
        return f"events {self.events:,}  users {users}  items {self.items:,}  sessions {self.sessions:,}"
