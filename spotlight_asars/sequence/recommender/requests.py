"""Requests with raw ids as rows that a fitted system can score."""

import warnings
from collections.abc import Hashable, Sequence

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.channels import DWELL, TARGET, USER, event_channels, write_events
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import (
    InterEventTimes,
    changes,
    cut_sessions,
    ends_session,
    number_sessions,
    session_starts,
)
from spotlight_asars.interactions.times import timestamps_in_seconds
from spotlight_asars.sequence.recommender.fitted import NumberedSystem

_NOBODY = ("nobody",)  # a raw id that is in no log


def request_rows(
    model: NumberedSystem,
    items: Sequence[Sequence[Hashable]],
    timestamps: Sequence[Sequence[float]] | None,
    users: Sequence[Hashable] | None,
    now: Sequence[float] | None,
    sessions: Sequence[Sequence[Hashable]] | None = None,
    warn: bool = True,
) -> SessionSequences:
    """
    Return one row for each request.

    Parameters
    ----------
    model : fitted system
        Provides vocabularies, binnings and the session gap.
    items, timestamps, users, now, sessions :
        One entry for each request; see ``Recommender.recommend``.
    warn : bool, optional
        Warn if the model knows none of the items.

    Returns
    -------
    SessionSequences
        Without targets and without unknown items.

    Raises
    ------
    InputError
        If the lists differ in length, an id or a time is invalid, or times decrease.
    """
    num_requests = len(items)
    lengths = np.array([len(history) for history in items], dtype=np.int64)
    _check_lengths(num_requests, lengths, timestamps, users, now, sessions)
    row = np.repeat(np.arange(num_requests), lengths)  # (events,)
    raw_ids = [raw_id for history in items for raw_id in history]
    numbers = model.raw_items.transform(raw_ids)
    if warn and raw_ids and not numbers.any():
        warnings.warn(
            f"the model knows none of the {len(raw_ids)} items given, such as {raw_ids[0]!r}: are they of the type "
            "that the log had?",
            stacklevel=3,
        )
    seconds = None
    if timestamps is not None:
        # The model keeps seconds, whatever the unit of its log, so requests are in seconds.
        seconds = request_seconds("timestamps", [time for history in timestamps for time in history])
        if (np.diff(seconds)[row[1:] == row[:-1]] < 0).any():
            raise InputError("the timestamps of a request run backwards: give its events oldest first")

    known = numbers > 0
    row, numbers = row[known], numbers[known]
    seconds = None if seconds is None else seconds[known]
    names = None
    if sessions is not None:
        names = [name for history in sessions for name in history]
        names = [name for name, is_known in zip(names, known.tolist(), strict=True) if is_known]
    events, numbered = _events(model, row, numbers, seconds, names)
    if seconds is not None and now is not None and len(row):
        _write_newest_dwell(model, events, row, seconds, now)
    user_numbers = np.zeros(num_requests, dtype=np.int32)
    if users is not None and model.user_vocabulary is not None:
        user_numbers = model.user_vocabulary.transform([_NOBODY if user is None else user for user in users])
    return SessionSequences.from_flat(
        np.concatenate([[0], np.cumsum(np.bincount(row, minlength=num_requests))]),
        events,
        numbered,
        user_numbers,
        int(lengths.max(initial=1)),
        like=model,
        binning=model.binning,
        gap_binning=model.gap_binning,
    )


def channels_by_time(
    model: NumberedSystem, sequences: np.ndarray, timestamps: np.ndarray, session_starts: np.ndarray | None
) -> dict[str, np.ndarray]:
    """
    Return what the times of rows of items tell a system.

    Parameters
    ----------
    model : fitted system
    sequences : int array of shape (rows, time)
        0 is padding.
    timestamps : float array of shape (rows, time)
        Seconds; NaN where unknown.
    session_starts : bool array of shape (rows, time), optional
        By default, the model's session gap decides.

    Returns
    -------
    dict
        `session_starts`, and the bins `dwell` and `session_gaps`, each of shape (rows, time).

    Raises
    ------
    InputError
        If times decrease.
    """
    present = sequences != PADDING_ITEM
    owners = np.nonzero(present)[0] + 1  # (events,); each row is a user of its own, and none is anonymous
    seconds = np.asarray(timestamps, dtype=np.float64)[present]
    if (np.diff(seconds)[owners[1:] == owners[:-1]] < 0).any():
        raise InputError("the timestamps of a sequence run backwards: give its events oldest first")
    if session_starts is None:
        sessions = number_sessions(owners, seconds, model.session_gap)
    else:
        sessions = np.cumsum(changes(owners) | (np.asarray(session_starts)[present] != 0))
    between = InterEventTimes(seconds, sessions, slice(0, len(seconds)), owners)
    found = {
        "session_starts": between.starts,
        "dwell": model.binning.transform(np.where(between.has_dwell, between.dwell, np.nan)),
        "session_gaps": between.starts * model.gap_binning.transform(np.where(between.has_gap, between.gap, np.nan)),
    }
    matrices = {name: np.zeros(sequences.shape, dtype=values.dtype) for name, values in found.items()}
    for name, values in found.items():
        matrices[name][present] = values
    return matrices


def request_seconds(name: str, times: Sequence[float]) -> np.ndarray:
    """Return the times of requests as float64 seconds, shape (times,); an InputError starts with their `name`."""
    try:
        return timestamps_in_seconds(times)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _check_lengths(
    num_requests: int,
    lengths: np.ndarray,
    timestamps: Sequence[Sequence[float]] | None,
    users: Sequence[Hashable] | None,
    now: Sequence[float] | None,
    sessions: Sequence[Sequence[Hashable]] | None,
) -> None:
    for name, given in (("timestamps", timestamps), ("user", users), ("now", now), ("sessions", sessions)):
        if given is not None and (isinstance(given, str) or not hasattr(given, "__len__")):
            raise InputError(f"there are {num_requests} requests and a single {name}: give a list with one for each")
        if given is not None and len(given) != num_requests:
            raise InputError(f"there are {num_requests} requests and {len(given)} entries of {name}: give one for each")
    for name, given in (("timestamps", timestamps), ("sessions", sessions)):
        for place, (one, length) in enumerate(zip([] if given is None else given, lengths, strict=given is not None)):
            if isinstance(one, str) or not hasattr(one, "__len__"):
                raise InputError(f"the {name} of request {place} are {one!r}: give a list, one for each item")
            if len(one) != length:
                raise InputError(f"request {place} has {length} items and {len(one)} {name}: give one for each")


def _events(
    model: NumberedSystem,
    row: np.ndarray,
    numbers: np.ndarray,
    seconds: np.ndarray | None,
    names: list[Hashable] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the events of all requests, (events, channel), and their sessions, (events,); none is a target."""
    owners = row + 1  # each request is a user of its own, and none is anonymous
    if names:
        times = np.arange(len(row), dtype=np.float64) if seconds is None else seconds
        _, sessions = cut_sessions(owners, times, names)  # events are in order already
    elif seconds is None:
        sessions = row
    else:
        sessions = number_sessions(owners, seconds, model.session_gap)
    if seconds is None:
        events = np.zeros((len(row), USER), dtype=np.int32)  # (events, channel)
        return write_events(events, numbers, session_starts(sessions)), sessions
    events = event_channels(owners, numbers, seconds, sessions, model.binning, model.gap_binning)
    events[:, TARGET] = 0
    return events, sessions


def _write_newest_dwell(
    model: NumberedSystem,
    events: np.ndarray,
    row: np.ndarray,
    seconds: np.ndarray,
    now: Sequence[float],
) -> None:
    """Write the dwell of each request's newest event, from its time until `now`; unknown after a session gap."""
    newest = np.append(np.diff(row) != 0, True)
    dwell = request_seconds("now", now)[row[newest]] - seconds[newest]
    if (dwell < 0).any():
        raise InputError("now lies before the newest event of a request: give the time of the request")
    events[newest, DWELL] = model.binning.transform(np.where(ends_session(dwell, model.session_gap), np.nan, dwell))
