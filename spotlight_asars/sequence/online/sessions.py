"""Live sessions: a model's answers click by click, at a cost that does not grow with the session."""

import warnings
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System
from spotlight_asars.interactions.binning import PADDING_BIN
from spotlight_asars.interactions.channels import DWELL, NUM_CHANNELS, whole_seconds, write_events
from spotlight_asars.interactions.sessionization import ends_session
from spotlight_asars.interactions.times import timestamps_in_seconds
from spotlight_asars.sequence.online.cells import NEWEST, Memory, has_event, missing_events, move_on
from spotlight_asars.sequence.online.scores import LiveScores, SeenItems
from spotlight_asars.sequence.online.steps import live_net
from spotlight_asars.sequence.recommender.base import best_items, check_k
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.state import SystemState, name_of
from spotlight_asars.serialization.weights import digest_of

_CELLS_A_BLOCK = 2**23  # scores at a time: 32 MiB


@register_kind("sessions")
class LiveSessions:
    """
    Many live sessions, stepped as one batch; ``model.session()`` gives one alone, see :class:`LiveSession`.

    What is kept of a session has the same size however long it is, but for the different items it has seen. At every
    step scores are those of ``model.recommend`` for the whole history, up to rounding. What the newest
    event's dwell changes waits until the next one says how long it was.

    Parameters
    ----------
    model : ASARSSequenceModel
        Fitted; when it is fitted further, its live sessions end.
    users : list of raw ids
        One for each session; None or an unknown one is anonymous.

    Raises
    ------
    InputError
        If the model's net cannot take one event after the other.
    """

    def __init__(self, model: System, users: Sequence[Hashable]) -> None:
        model._check_fitted()
        _check_users(users)
        self.model = model
        self._steps = live_net(model.net)
        self._scores = LiveScores(model.net, model.num_items)
        self._epochs = len(model.epoch_records)
        self._raw_items = model.raw_items
        self._raw_ids = self._raw_items.raw_ids  # (num_items - 1,)
        self._all = np.arange(len(users))  # (sessions,)
        self._users = self._user_numbers(users)
        self._events = missing_events(len(users))  # (sessions, 4, channel)
        self._newest_time = np.full(len(users), np.nan)  # seconds of the newest event; NaN before the first
        self._latest_time = np.full(len(users), -np.inf)  # the same, events of unknown items too
        self._starts_next = np.zeros(len(users), dtype=bool)  # a session began with an unknown item
        self._memory = self._steps.empty_memory(len(users))
        self._seen = SeenItems(len(users))

    def __len__(self) -> int:
        return len(self._all)

    def __repr__(self) -> str:
        return f"<LiveSessions ({len(self)} sessions, {type(self.model.net).__name__})>"

    def observe(
        self,
        items: Sequence[Hashable],
        timestamps: Sequence[float],
        sessions: Sequence[int] | None = None,
        new_session: bool | Sequence[bool] | None = None,
    ) -> None:
        """
        Take in one event for each of some sessions.

        Parameters
        ----------
        items : list of raw ids
            One the model does not know is left out, as by ``recommend``.
        timestamps : list of seconds, or of datetimes
        sessions : list of int, optional
            Which of the sessions the events are of, each at most once; all by default.
        new_session : bool or list of bool, optional
            Whether the user's next session begins with the event. By default it does after a pause as long as in the
            rows the model was fitted on.

        Raises
        ------
        InputError
            If the lists do not fit together, or time runs backwards; nothing has been taken in then.
        """
        self._check_model()
        rows = self._rows(sessions)
        _check_one_each("timestamps", timestamps, rows)
        seconds = timestamps_in_seconds(timestamps)
        _check_one_each("items", items, rows)
        at = self._places(rows)
        late = seconds < self._latest_time[at]
        if late.any():
            raise InputError(
                f"time runs backwards: session {rows[late][0]} has seen a later event than {seconds[late][0]:.15g}: "
                "give a session's events oldest first"
            )
        said = None if new_session is None else _for_each("new_session", new_session, rows).astype(bool)
        numbers = self._raw_items.transform(items)
        known = numbers > 0
        self._latest_time[at] = seconds
        if not known.all():
            self._leave_out(rows[~known], [items[place] for place in np.flatnonzero(~known)], said, known)
            rows, numbers, seconds = rows[known], numbers[known], seconds[known]
            said = None if said is None else said[known]
        if len(rows):
            self._take_in(rows, numbers, seconds, said)

    def _leave_out(self, rows: np.ndarray, items: list[Hashable], said: np.ndarray | None, known: np.ndarray) -> None:
        if said is not None:
            self._starts_next[rows] |= said[~known]
        if not known.any() and np.isnan(self._newest_time).all():
            warnings.warn(
                f"the model knows none of the items so far, such as {items[0]!r}: are they of the type the log had?",
                stacklevel=4,
            )

    def _take_in(self, rows: np.ndarray, numbers: np.ndarray, seconds: np.ndarray, said: np.ndarray | None) -> None:
        model, at = self.model, self._places(rows)
        waited = seconds - self._newest_time[at]  # (rows,); NaN before the first event
        starts = ends_session(waited, model.session_gap) if said is None else said
        starts = starts | self._starts_next[at] | np.isnan(waited)
        bins = model.binning.transform(np.where(starts, np.nan, waited))

        newest = write_events(
            np.zeros((len(rows), NUM_CHANNELS), dtype=np.int64),  # (rows, channel)
            numbers,
            starts,
            gaps=model.gap_binning.transform(waited) * starts if starts.any() else PADDING_BIN,
            times=whole_seconds(seconds),
            users=self._users[at],
        )

        events, memory = self._events[rows], self._memory_of(rows)  # (rows, 4, channel)
        happened = has_event(events)  # (rows,)
        events[:, NEWEST, DWELL] = bins if happened.all() else np.where(happened, bins, PADDING_BIN)
        memory.update(self._dwelt_on(memory, events, happened))
        move_on(events, newest)
        memory.update(self._steps.taken_in(memory, events))
        self._keep(rows, memory)
        self._events[at], self._newest_time[at], self._starts_next[at] = events, seconds, False
        self._seen.append(rows, numbers, starts)

    def _dwelt_on(self, memory: Memory, events: np.ndarray, happened: np.ndarray) -> Memory:
        """What changes of some sessions' memory as their newest events get their dwell, where there are such."""
        if happened.all():
            return self._steps.dwelt_on(memory, events)
        if not happened.any():
            return {}
        changed = self._steps.dwelt_on({name: array[happened] for name, array in memory.items()}, events[happened])
        whole = {name: memory[name].copy() for name in changed}
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
    ) -> list[list]:
        """
        The k best next items of some sessions, as ``model.recommend`` gives them for their histories.

        Parameters
        ----------
        k : int, optional
        now : seconds, or one for each of the sessions, optional
            The moment of asking; under ``dwell='observed'`` the newest event has been dwelt on since its time, and
            counts the more or the less the longer the user lingers.
        exclude_seen : bool, optional
            Leave out the items of the session and of the user's earlier ones here.
        return_scores : bool, optional
            Give (raw id, score) pairs.
        sessions : list of int, optional
            Which; all by default.

        Returns
        -------
        list of lists of raw ids, best first
        """
        check_k(k)
        answers = []
        for rows, scores in self._blocks_of_scores(now, sessions):
            if exclude_seen:
                row, item = self._seen.of(rows)
                scores[row, item - 1] = -np.inf
            for numbers, values in best_items(scores, k):
                raw, values = self._raw_ids[numbers - 1].tolist(), values.tolist()
                answers.append(list(zip(raw, values, strict=True)) if return_scores else raw)
        return answers

    def scores(self, now: float | Sequence[float] | None = None, sessions: Sequence[int] | None = None) -> Tensor:
        """
        Scores of all items as the next ones; `now` and `sessions` as in :meth:`recommend`.

        Returns
        -------
        tensor of shape (sessions, num_items - 1)
            Of items 1, 2, ... in the model's numbers.
        """
        blocks = [scores for _, scores in self._blocks_of_scores(now, sessions)]
        return torch.from_numpy(np.concatenate(blocks)) if blocks else torch.zeros(0, self.model.num_items - 1)

    def restart(self, sessions: Sequence[int], users: Sequence[Hashable]) -> None:
        """Let the places of some sessions be those of others, of the users given, without any event so far."""
        rows = self._rows(sessions)
        _check_users(users)
        if len(users) != len(rows):
            raise InputError(f"there are {len(rows)} sessions and {len(users)} users: give one for each")
        self._users[rows], self._events[rows] = self._user_numbers(users), missing_events(len(rows))
        self._newest_time[rows], self._latest_time[rows], self._starts_next[rows] = np.nan, -np.inf, False
        self._keep(rows, self._steps.empty_memory(len(rows)))
        self._seen.forget(rows)

    def _blocks_of_scores(
        self, now: float | Sequence[float] | None, sessions: Sequence[int] | None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some sessions at a time, and their scores."""
        self._check_model()
        rows = self._rows(sessions)
        bins = None if now is None else self._lingering_bins(rows, now)
        size = max(1, _CELLS_A_BLOCK // self.model.num_items)
        for begin in range(0, len(rows), size):
            block = rows if size >= len(rows) else rows[begin : begin + size]
            events = self._events[block]  # (block, 4, channel)
            if bins is not None:
                events[:, NEWEST, DWELL] = bins[begin : begin + size]
            states = self._steps.states(self._memory_of(block), events)  # (block, dim)
            yield block, self._scores.of(states, self._seen, block)  # (block, num_items - 1)

    def _lingering_bins(self, rows: np.ndarray, now: float | Sequence[float]) -> np.ndarray | None:
        """Dwell bins of the newest events had the next come now; None where the model does not look at them."""
        now = [now] if isinstance(now, int | float) else _for_each("now", now, rows)
        waited = timestamps_in_seconds(now) - self._newest_time[self._places(rows)]  # (rows,)
        if (waited < 0).any():
            raise InputError("now lies before the newest event of a session: give the moment of asking")
        if self.model.dwell != "observed":
            return None
        bins = self.model.binning.transform(np.where(waited < self.model.session_gap, waited, np.nan))
        return np.where(np.isnan(waited), PADDING_BIN, bins)

    def _places(self, rows: np.ndarray) -> np.ndarray | slice:
        """Where some sessions lie; all of them without a copy."""
        return slice(None) if rows is self._all else rows

    def _memory_of(self, rows: np.ndarray) -> Memory:
        at = self._places(rows)
        return {name: array[at] for name, array in self._memory.items()}

    def _keep(self, rows: np.ndarray, memory: Memory) -> None:
        if rows is self._all:
            self._memory = memory
            return
        for name, array in memory.items():
            self._memory[name][rows] = array

    def _check_model(self) -> None:
        if len(self.model.epoch_records) != self._epochs:
            raise InputError("the model was fitted further since these sessions began: begin new ones")
        if self.model.net.training:
            self.model.net.train(False)

    def _rows(self, sessions: Sequence[int] | None) -> np.ndarray:
        if sessions is None:
            return self._all
        rows = _as_array("sessions", sessions)
        if not rows.size:
            rows = rows.astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise InputError(f"sessions is {sessions!r:.60}: give a list of whole numbers")
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise InputError(f"sessions run from {rows.min()} to {rows.max()}, and there are {len(self)}, from 0 on")
        if len(rows) > 1 and len(np.unique(rows)) < len(rows):
            raise InputError("a session is named twice: give one event of each at a time")
        return rows.astype(np.int64)

    def _user_numbers(self, users: Sequence[Hashable]) -> np.ndarray:
        numbers = np.zeros(len(users), dtype=np.int64)
        named = [place for place, user in enumerate(users) if user is not None]
        if named and self.model.user_vocabulary is not None:
            numbers[named] = self.model.user_vocabulary.transform([users[place] for place in named])
        return numbers

    def state(self) -> SystemState:
        """The sessions as data, without their model; see ``SystemState``."""
        arrays = {name: getattr(self, f"_{name}").copy() for name in _KEPT}
        arrays["memory"] = {name: array.copy() for name, array in self._memory.items()}
        arrays["seen"] = self._seen.arrays()
        fitted = {"weights": digest_of(self.model.net), "form": _FORM}
        return SystemState(code={"model": name_of(self.model)}, fitted=fitted, arrays=arrays)

    @classmethod
    def from_state(cls, state: SystemState) -> "LiveSessions":
        """
        Equal sessions of the model given anew.

        Raises
        ------
        InputError
            If that is another model than theirs, or their memory is that of another version.
        """
        if state.fitted.get("form") != _FORM:
            raise InputError("the live sessions were kept by another version of spotlight_asars: begin new ones")
        model = state.settings["model"]
        sessions = cls(model, [None] * len(state.arrays["users"]))
        if digest_of(model.net) != state.fitted["weights"]:
            raise InputError(
                "the live sessions are of a model with other weights: give the one they began with, as it was then"
            )
        for name in _KEPT:
            setattr(sessions, f"_{name}", state.arrays[name].copy())
        sessions._memory = {name: array.copy() for name, array in state.arrays["memory"].items()}
        sessions._seen = SeenItems.from_arrays(state.arrays["seen"])
        return sessions


_FORM = 2  # of what is kept; in form 1 the newest event was in no net's memory
_KEPT = ("users", "events", "newest_time", "latest_time", "starts_next")


@register_kind("sessions")
class LiveSession:
    """
    One live session, see ``model.session``; the same as :class:`LiveSessions` of one.

    Parameters
    ----------
    model : ASARSSequenceModel
    user : raw id, optional
        None or an unknown one is anonymous.
    """

    def __init__(self, model: System, user: Hashable = None) -> None:
        self._batch = LiveSessions(model, [user])

    def observe(self, item: Hashable, timestamp: float, new_session: bool | None = None) -> None:
        """Take in one event; see :meth:`LiveSessions.observe`."""
        self._batch.observe([item], [timestamp], new_session=new_session)

    def recommend(
        self, k: int = 20, now: float | None = None, exclude_seen: bool = False, return_scores: bool = False
    ) -> list:
        """The k best next items, raw ids, best first; see :meth:`LiveSessions.recommend`."""
        return self._batch.recommend(k, now, exclude_seen, return_scores)[0]

    def scores(self, now: float | None = None) -> Tensor:
        """Scores of items 1, 2, ..., (num_items - 1,); see :meth:`LiveSessions.scores`."""
        return self._batch.scores(now)[0]

    def state(self) -> SystemState:
        """The session as data, see ``SystemState``."""
        return self._batch.state()

    @classmethod
    def from_state(cls, state: SystemState) -> "LiveSession":
        """An equal session; see :meth:`LiveSessions.from_state`."""
        session = cls.__new__(cls)
        session._batch = LiveSessions.from_state(state)
        return session


def _check_users(users: Sequence[Hashable]) -> None:
    if isinstance(users, str) or not hasattr(users, "__len__"):
        raise InputError(f"users is {users!r}: give a list with one for each session, None for nobody")


def _check_one_each(name: str, given: Sequence, rows: np.ndarray) -> None:
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != len(rows):
        raise InputError(f"there are {len(rows)} sessions and {name} is {given!r:.60}: give a list with one for each")


def _for_each(name: str, given: object, rows: np.ndarray) -> np.ndarray:
    """One value for all, or a list with one for each."""
    array = _as_array(name, given)
    if array.ndim == 0:
        return np.full(len(rows), given)
    _check_one_each(name, given, rows)
    return array


def _as_array(name: str, given: object) -> np.ndarray:
    try:
        return np.asarray(given)
    except ValueError as error:  # lists of several lengths
        raise InputError(f"{name} is {given!r:.60}: give one value for each session") from error
