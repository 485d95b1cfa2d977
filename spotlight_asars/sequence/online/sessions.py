"""
Live sessions: a fitted model answers event by event, at a cost that does not grow with the session.

:class:`LiveSessions` updates many sessions as one batch, :class:`LiveSession` is one of them.
"""

import hashlib
import warnings
from collections.abc import Hashable, Iterator, Sequence
from threading import RLock

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.interactions.binning import PADDING_BIN
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    NUM_CHANNELS,
    SESSION_GAP_BIN,
    USER,
    whole_seconds,
    write_events,
)
from spotlight_asars.interactions.sessionization import ends_session
from spotlight_asars.interactions.times import timestamps_in_seconds
from spotlight_asars.sequence.online.events import NEWEST, Carry, append_event, has_event, missing_events
from spotlight_asars.sequence.online.protocols import LiveModel
from spotlight_asars.sequence.online.saved import check_saved
from spotlight_asars.sequence.online.seen_items import SessionItems
from spotlight_asars.sequence.recommender.allowed import AllowedItems
from spotlight_asars.sequence.recommender.best import best_items
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Fields, Text, Whole
from spotlight_asars.serialization.state import SystemState, name_of

_SCORES_PER_BLOCK = 2**23  # scores computed at a time: 32 MiB
_FORMAT = 2  # of a saved state; in format 1, no carry held the newest event
_SAVED = ("users", "events", "newest_time", "latest_time", "starts_next", "session_marks")


class StaleSessions(InputError):
    """Saved live sessions that this model or version cannot continue; their events can be observed again."""


@register_kind("sessions")
class LiveSessions:
    """
    Many live sessions, updated as one batch. For a single one see ``model.session()`` and :class:`LiveSession`.

    After every event the scores equal those of ``model.recommend`` for the whole history, up to rounding. A session
    takes a fixed amount of memory, plus its distinct items.

    Several threads may share the object: each call sees every session before or after an event, never in between, and
    items are scored while other threads observe.

    Parameters
    ----------
    model : Recommender
        A fitted system that has live sessions. Fitting it further ends them; ``partial_fit`` does not.
    users : list of raw ids
        The user of each session. None and unknown users are anonymous.
    most_items : int, optional
        How many distinct items of each session to remember at least, for `exclude_seen` and for nets with a pointer.
        A session with more forgets its oldest ones. All by default.

    Raises
    ------
    InputError
        If the model is not fitted, or has no live sessions.
    """

    def __init__(self, model: LiveModel, users: Sequence[Hashable], most_items: int | None = None) -> None:
        self._steps = model.live_steps()
        _check_users(users)
        self.model = model
        self._raw_items = model.raw_items
        self._raw_ids = self._raw_items.raw_ids  # (num_items - 1,)
        self._all = np.arange(len(users))  # (sessions,)
        self._users = self._user_numbers(users)
        self._events = missing_events(len(users))  # (sessions, 4, channel)
        self._newest_time = np.full(len(users), np.nan)  # of the newest event, in seconds; NaN before the first
        self._latest_time = np.full(len(users), -np.inf)  # the same, including events of unknown items
        self._starts_next = np.zeros(len(users), dtype=bool)  # whether an unknown item began a new session
        self._session_marks = np.zeros(len(users), dtype=np.int64)  # of the newest event's session id; 0 without one
        self._carry = self._steps.initial_carry(len(users))
        self._seen = SessionItems(len(users), self._steps.needs_tallies, most_items)
        self._lock = RLock()  # guards all arrays; scores are computed on copies, outside it

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<LiveSessions ({len(self)} sessions, {self.model.system_name})>"

    def observe(
        self,
        items: Sequence[Hashable],
        timestamps: Sequence[float],
        sessions: Sequence[int] | None = None,
        new_session: bool | Sequence[bool] | None = None,
        session_ids: Sequence[Hashable] | None = None,
    ) -> None:
        """
        Add one event to each of some sessions.

        Parameters
        ----------
        items : list of raw ids
            An item unknown to the model is skipped, as ``recommend`` does.
        timestamps : list of seconds, or of datetimes
        sessions : list of int, optional
            The sessions that the events belong to, each at most once; all by default.
        new_session : bool or list of bool, optional
            Whether each event begins the user's next session. By default it does after a pause of at least the
            session gap of the training rows, which is infinite if the training part had its own sessions.
        session_ids : list of raw ids, optional
            The user's session that each event belongs to: an event begins a session if its id is another than that of
            the event before. Instead of `new_session`.

        Raises
        ------
        InputError
            If the lists do not match, `new_session` and `session_ids` are both given, or time runs backwards. No
            session has changed then.
        """
        self._steps.check_current()
        rows = self._rows(sessions)
        _check_one_each("timestamps", timestamps, rows)
        seconds = timestamps_in_seconds(timestamps)
        _check_one_each("items", items, rows)
        starts = None if new_session is None else _for_each("new_session", new_session, rows).astype(bool)
        marks = None if session_ids is None else self._marks_of(rows, session_ids, starts)
        numbers = self._raw_items.transform(items)
        known = numbers > 0
        with self._lock:
            at = self._places(rows)
            late = seconds < self._latest_time[at]
            if late.any():
                raise InputError(
                    f"time runs backwards: session {rows[late][0]} has an event later than {seconds[late][0]:.15g}: "
                    "give the events of each session oldest first"
                )
            if marks is not None:
                starts = marks != self._session_marks[at]
            if not known.all():
                self._skip_unknown(rows[~known], [items[place] for place in np.flatnonzero(~known)], starts, known)
            if known.all():
                self._update(rows, numbers, seconds, starts)
            elif known.any():
                self._update(rows[known], numbers[known], seconds[known], None if starts is None else starts[known])
            self._latest_time[at] = seconds
            if marks is not None:
                self._session_marks[at] = marks

    @staticmethod
    def _marks_of(rows: np.ndarray, session_ids: Sequence[Hashable], starts: np.ndarray | None) -> np.ndarray:
        if starts is not None:
            raise InputError("new_session and session_ids both say where sessions begin: give one of them")
        _check_one_each("session_ids", session_ids, rows)
        return session_marks(session_ids)

    def _skip_unknown(
        self, rows: np.ndarray, items: list[Hashable], starts: np.ndarray | None, known: np.ndarray
    ) -> None:
        """Remember where unknown items begin a session, and warn if the model has known no item so far."""
        if starts is not None:
            self._starts_next[rows] |= starts[~known]
        if not known.any() and np.isnan(self._newest_time).all():
            warnings.warn(
                f"the model knows none of the items so far, such as {items[0]!r}: do they have the same type as the "
                "item ids of the log?",
                stacklevel=4,
            )

    def _update(self, rows: np.ndarray, numbers: np.ndarray, seconds: np.ndarray, is_start: np.ndarray | None) -> None:
        """Add events of known items; without `is_start`, the session gap decides which of them begin a session."""
        model, at = self.model, self._places(rows)
        elapsed = seconds - self._newest_time[at]  # (rows,); NaN before the first event
        starts = ends_session(elapsed, model.session_gap) if is_start is None else is_start
        starts = starts | self._starts_next[at] | np.isnan(elapsed)
        bins = model.binning.transform(np.where(starts, np.nan, elapsed))

        newest = write_events(
            np.zeros((len(rows), NUM_CHANNELS), dtype=np.int64),  # (rows, channel)
            numbers,
            starts,
            gaps=model.gap_binning.transform(elapsed) * starts if starts.any() else PADDING_BIN,
            times=whole_seconds(seconds),
            users=self._users[at],
        )

        events, carry = self._events[rows], self._carry_of(rows)  # (rows, 4, channel)
        happened = has_event(events)  # (rows,)
        events[:, NEWEST, DWELL] = bins if happened.all() else np.where(happened, bins, PADDING_BIN)
        carry.update(self._update_dwell(carry, events, happened))
        self._seen.add_dwell(rows, bins)
        append_event(events, newest)
        carry.update(self._steps.update_item(carry, events))
        self._store_carry(rows, carry)
        self._events[at], self._newest_time[at], self._starts_next[at] = events, seconds, False
        self._seen.append(rows, numbers, starts)

    def _update_dwell(self, carry: Carry, events: np.ndarray, happened: np.ndarray) -> Carry:
        """Return what changes of some sessions' carry as the dwell of their newest events, if any, becomes known."""
        if happened.all():
            return self._steps.update_dwell(carry, events)
        if not happened.any():
            return {}
        changed = self._steps.update_dwell({name: array[happened] for name, array in carry.items()}, events[happened])
        whole = {name: carry[name].copy() for name in changed}
        for name, array in changed.items():
            whole[name][happened] = array
        return whole

    def recommend(
        self,
        k: int = 20,
        now: float | Sequence[float] | None = None,
        exclude_seen: bool = False,
        return_scores: bool = False,
        sessions: Sequence[int] | None = None,
        candidates: AllowedItems | Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] = (),
    ) -> list[list]:
        """
        Return the k best next items of some sessions, as ``model.recommend`` does for their whole histories.

        Parameters
        ----------
        k : int, optional
        now : seconds, or a list with one value per session, optional
            Time of the request. Under ``dwell='observed'``, the newest event's dwell lasts until then.
        exclude_seen : bool, optional
            Exclude the items of the session, and of earlier sessions observed here.
        return_scores : bool, optional
            Return (raw id, score) pairs.
        sessions : list of int, optional
            All by default.
        candidates : list of raw ids, or AllowedItems, optional
            Recommend only these; unknown ids are ignored.
        exclude : list of raw ids, optional
            Never recommend these.

        Returns
        -------
        list of lists
            Raw ids or pairs of each session, best first.
        """
        check_whole("k", k)
        allowed, answers = AllowedItems.of(self._raw_items, candidates, exclude), []
        for taken, at in self._blocks(now, sessions):
            answers += taken.best(k, at, exclude_seen, return_scores, allowed)
        return answers

    def best(
        self,
        k: int,
        now: np.ndarray | None = None,
        exclude_seen: bool = False,
        return_scores: bool = False,
        allowed: AllowedItems | None = None,
    ) -> list[list]:
        """
        Do as :meth:`recommend` for all sessions as one block, without a copy, while no other thread changes them.

        Parameters
        ----------
        k : int
        now : float64 array of shape (sessions,), optional
            Seconds.
        exclude_seen, return_scores : bool, optional
        allowed : AllowedItems, optional
            All by default.

        Returns
        -------
        list of lists
            Raw ids or pairs of each session, best first.
        """
        answers, scores = [], self._scores_at(now)
        if exclude_seen:
            row, item = self._seen.seen_by(self._all)
            scores[row, item - 1] = -np.inf
        if allowed is not None:
            allowed.leave(scores)
        for numbers, values in best_items(scores, k):
            raw, values = self._raw_ids[numbers - 1].tolist(), values.tolist()
            answers.append(list(zip(raw, values, strict=True)) if return_scores else raw)
        return answers

    def scores(self, now: float | Sequence[float] | None = None, sessions: Sequence[int] | None = None) -> Tensor:
        """
        Return the scores of all items; `now` and `sessions` are those of :meth:`recommend`.

        Returns
        -------
        tensor of shape (sessions, num_items - 1)
            Scores of items 1, 2, ... by the model's item numbers.
        """
        blocks = [taken._scores_at(at) for taken, at in self._blocks(now, sessions)]
        return torch.from_numpy(np.concatenate(blocks)) if blocks else torch.zeros(0, self.model.num_items - 1)

    def restart(self, sessions: Sequence[int], users: Sequence[Hashable]) -> None:
        """
        Replace some sessions by new ones without events.

        Parameters
        ----------
        sessions : list of int
        users : list of raw ids
            The user of each new session; None and unknown users are anonymous.
        """
        rows = self._rows(sessions)
        _check_users(users)
        if len(users) != len(rows):
            raise InputError(f"there are {len(rows)} sessions and {len(users)} users: give one user for each session")
        numbers, carry = self._user_numbers(users), self._steps.initial_carry(len(rows))
        with self._lock:
            self._users[rows], self._events[rows] = numbers, missing_events(len(rows))
            self._newest_time[rows], self._latest_time[rows], self._starts_next[rows] = np.nan, -np.inf, False
            self._session_marks[rows] = 0
            self._store_carry(rows, carry)
            self._seen.clear(rows)

    def end(self, sessions: Sequence[int]) -> None:
        """Let the next event of each of some sessions begin the user's next session, however soon it comes."""
        rows = self._rows(sessions)
        with self._lock:
            self._starts_next[rows] = True

    def repeats(self, item: Hashable, timestamp: float, session: int, session_id: Hashable = None) -> bool:
        """Return whether an event is the newest event of a session once more: same item, time and session id if any."""
        (number,) = self._raw_items.transform([item])
        (row,) = self._rows([session])
        with self._lock:
            if session_id is not None and session_marks([session_id])[0] != self._session_marks[row]:
                return False
            same_item = number > 0 and self._events[row, NEWEST, ITEM] == number
            return bool(same_item and self._newest_time[row] == self._latest_time[row] == timestamp)

    def take(self, sessions: Sequence[int] | None = None) -> "LiveSessions":
        """
        Return a copy of some sessions, as they are now.

        Parameters
        ----------
        sessions : list of int, optional
            All by default.
        """
        rows = self._rows(sessions)
        taken = LiveSessions.__new__(LiveSessions)
        taken.__dict__.update(self.__dict__)  # all that never changes is shared
        taken._lock, taken._all = RLock(), np.arange(len(rows))
        with self._lock:
            for name in _SAVED:
                setattr(taken, f"_{name}", getattr(self, f"_{name}")[rows])
            taken._carry = {name: array[rows] for name, array in self._carry.items()}
            taken._seen = self._seen.take(rows)
        return taken

    @property
    def most_items(self) -> int | None:
        """How many distinct items of each session to remember at least; None for all."""
        return self._seen.most

    @most_items.setter
    def most_items(self, most: int | None) -> None:
        self._seen.most = most

    def latest_times(self, sessions: Sequence[int] | None = None) -> np.ndarray:
        """
        Return the time of the latest event of some sessions, including events of unknown items.

        Parameters
        ----------
        sessions : list of int, optional
            All by default.

        Returns
        -------
        float64 array of shape (sessions,)
            Seconds; -inf for a session without events.
        """
        rows = self._rows(sessions)
        with self._lock:
            return self._latest_time[rows]

    def _blocks(
        self, now: float | Sequence[float] | None, sessions: Sequence[int] | None
    ) -> Iterator[tuple["LiveSessions", np.ndarray | None]]:
        """Yield copies of sessions, few enough to be scored together, each with the times of its requests."""
        rows = self._rows(sessions)
        now = None if now is None else np.broadcast_to(_seconds_of_requests(now, rows), len(rows))
        size = max(1, _SCORES_PER_BLOCK // self.model.num_items)
        for begin in range(0, len(rows), size):
            block = slice(begin, begin + size)
            yield self.take(rows[block]), None if now is None else now[block]

    def _scores_at(self, now: np.ndarray | None) -> np.ndarray:
        """Return the scores of all sessions, whose newest dwell ends now if that is given: (sessions, items)."""
        self._steps.check_current()
        events = self._events  # (sessions, 4, channel)
        bins = None if now is None else self._dwell_bins_at(now)
        if bins is not None:
            events = events.copy()
            events[:, NEWEST, DWELL] = bins
        return self._steps.scores(self._carry, events, self._seen, self._all)

    def _dwell_bins_at(self, now: np.ndarray) -> np.ndarray | None:
        """Return the newest events' dwell bins if their dwell ended now; None if the model does not read them."""
        elapsed = now - self._newest_time  # (sessions,)
        if (elapsed < 0).any():
            raise InputError("now lies before the newest event of a session: give the time of the request")
        if self.model.dwell != "observed":
            return None
        bins = self.model.binning.transform(np.where(ends_session(elapsed, self.model.session_gap), np.nan, elapsed))
        return np.where(np.isnan(elapsed), PADDING_BIN, bins)

    def _places(self, rows: np.ndarray) -> np.ndarray | slice:
        """Return an index of some sessions: a slice, which copies nothing, for all of them."""
        return slice(None) if rows is self._all else rows

    def _carry_of(self, rows: np.ndarray) -> Carry:
        at = self._places(rows)
        return {name: array[at] for name, array in self._carry.items()}

    def _store_carry(self, rows: np.ndarray, carry: Carry) -> None:
        if rows is self._all:
            self._carry = carry
            return
        for name, array in carry.items():
            self._carry[name][rows] = array

    def _rows(self, sessions: Sequence[int] | None) -> np.ndarray:
        if sessions is None:
            return self._all
        rows = _as_array("sessions", sessions)
        if not rows.size:
            rows = rows.astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise InputError(f"sessions is {sessions!r:.60}: give a list of whole numbers")
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise InputError(
                f"sessions run from {rows.min()} to {rows.max()}, but there are only {len(self)}, numbered from 0"
            )
        if len(rows) > 1 and len(np.unique(rows)) < len(rows):
            raise InputError("a session is named twice: give each session at most once per call")
        return rows.astype(np.int64)

    def _user_numbers(self, users: Sequence[Hashable]) -> np.ndarray:
        numbers = np.zeros(len(users), dtype=np.int64)
        named = [place for place, user in enumerate(users) if user is not None]
        if named and self.model.user_vocabulary is not None:
            numbers[named] = self.model.user_vocabulary.transform([users[place] for place in named])
        return numbers

    def state(self) -> SystemState:
        """Return the sessions, without their model, as a ``SystemState``."""
        taken = self.take()
        arrays = {name: getattr(taken, f"_{name}") for name in _SAVED}
        arrays["memory"], arrays["seen"] = taken._carry, taken._seen.arrays()
        fitted = {"weights": self._steps.digest(), "form": _FORMAT}
        return SystemState(code={"model": name_of(self.model)}, fitted=fitted, arrays=arrays)

    @classmethod
    def from_state(cls, state: SystemState) -> "LiveSessions":
        """
        Recreate the sessions, with their model from ``state.settings``.

        Raises
        ------
        StaleSessions
            If the model has other weights or ids, or another version of this package saved the sessions.
        InputError
            If the state does not fit any sessions of the model.
        """
        Fields({"users": Array("i", (None,))}).check("live sessions", state.arrays)
        # Releases before 0.2.0 knew no session ids.
        state.arrays.setdefault("session_marks", np.zeros(len(state.arrays["users"]), dtype=np.int64))
        Fields({"form": Whole(), "weights": Text()}).check("live sessions", state.fitted)
        if state.fitted["form"] != _FORMAT:
            raise StaleSessions("the live sessions were saved by another version of spotlight_asars: begin new ones")
        model = state.settings["model"]
        one = cls(model, [None])
        if one._steps.digest() != state.fitted["weights"]:
            raise StaleSessions(
                "the live sessions belong to a model with other weights or ids: give the model as it was when they "
                "were saved"
            )
        numbers = {
            ITEM: model.num_items,
            USER: 1 if model.user_vocabulary is None else len(model.user_vocabulary) + 1,
            DWELL: model.binning.num_bins,
            SESSION_GAP_BIN: model.gap_binning.num_bins,
        }
        check_saved(state.arrays, one.state().arrays, numbers)
        sessions = cls(model, [None] * len(state.arrays["users"]))
        for name in _SAVED:
            setattr(sessions, f"_{name}", state.arrays[name].copy())
        sessions._carry = {name: array.copy() for name, array in state.arrays["memory"].items()}
        sessions._seen = SessionItems.from_arrays(state.arrays["seen"])
        return sessions


@register_kind("sessions")
class LiveSession:
    """
    One live session, as ``model.session()`` makes it.

    Parameters
    ----------
    model : Recommender
        A fitted system that has live sessions. Fitting it further ends the session; ``partial_fit`` does not.
    user : raw id, optional
        None and unknown users are anonymous.

    Raises
    ------
    InputError
        If the model is not fitted, or has no live sessions.
    """

    def __init__(self, model: LiveModel, user: Hashable = None) -> None:
        self._batch = LiveSessions(model, [user])

    def observe(
        self, item: Hashable, timestamp: float, new_session: bool | None = None, session_id: Hashable = None
    ) -> None:
        """Add one event; see :meth:`LiveSessions.observe`."""
        ids = None if session_id is None else [session_id]
        self._batch.observe([item], [timestamp], new_session=new_session, session_ids=ids)

    def recommend(
        self,
        k: int = 20,
        now: float | None = None,
        exclude_seen: bool = False,
        return_scores: bool = False,
        candidates: AllowedItems | Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] = (),
    ) -> list:
        """Return the raw ids of the k best next items, best first; see :meth:`LiveSessions.recommend`."""
        return self._batch.recommend(k, now, exclude_seen, return_scores, None, candidates, exclude)[0]

    def scores(self, now: float | None = None) -> Tensor:
        """Return the scores of items 1, 2, ...: (num_items - 1,); see :meth:`LiveSessions.scores`."""
        return self._batch.scores(now)[0]

    def state(self) -> SystemState:
        """Return the session, without its model, as a ``SystemState``."""
        return self._batch.state()

    @classmethod
    def from_state(cls, state: SystemState) -> "LiveSession":
        """Recreate the session; see :meth:`LiveSessions.from_state`."""
        session = cls.__new__(cls)
        session._batch = LiveSessions.from_state(state)
        return session


def _seconds_of_requests(now: float | Sequence[float], rows: np.ndarray) -> np.ndarray:
    """Return the times of requests, one for each of some sessions or a single one for all."""
    return timestamps_in_seconds([now] if isinstance(now, int | float) else _for_each("now", now, rows))


def _check_users(users: Sequence[Hashable]) -> None:
    if isinstance(users, str) or not hasattr(users, "__len__"):
        raise InputError(f"users is {users!r}: give a list with one for each session, None if anonymous")


def _check_one_each(name: str, given: Sequence, rows: np.ndarray) -> None:
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != len(rows):
        raise InputError(f"there are {len(rows)} sessions and {name} is {given!r:.60}: give a list of one per session")


def _for_each(name: str, given: object, rows: np.ndarray) -> np.ndarray:
    """Return one value per session, from a single value for all or a list."""
    array = _as_array(name, given)
    if array.ndim == 0:
        return np.full(len(rows), given)
    _check_one_each(name, given, rows)
    return array


def _as_array(name: str, given: object) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists of different lengths
        raise InputError(f"{name} is {given!r:.60}: give one value for each session") from error


def session_marks(session_ids: Sequence[Hashable]) -> np.ndarray:
    """
    Return numbers that stand for session ids: int64, never 0, different for different ids.

    They are digests of 64 bits, so that a live session keeps one number whatever the ids are.
    """
    digests = [hashlib.blake2b(repr(_plain_id(one)).encode(), digest_size=8).digest() for one in session_ids]
    marks = np.frombuffer(b"".join(digests), dtype="<i8").astype(np.int64)
    return np.where(marks == 0, 1, marks)


def _plain_id(raw_id: Hashable) -> Hashable:
    """Return an id as Python's own type, where equal numbers are alike."""
    if isinstance(raw_id, tuple):
        return tuple(map(_plain_id, raw_id))
    if isinstance(raw_id, np.generic):
        raw_id = raw_id.item()
    return int(raw_id) if isinstance(raw_id, float) and raw_id.is_integer() else raw_id
