"""Requests with raw ids as rows that a model can score."""

import warnings
from collections.abc import Hashable, Sequence

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.binning import PADDING_BIN, UNKNOWN_BIN, ScottBinning
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    SESSION_GAP_BIN,
    SESSION_START,
    TIME,
    UNKNOWN_TIME,
    USER,
    whole_seconds,
)
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import dwell_times, session_gap_times, session_starts
from spotlight_asars.interactions.times import timestamps_in_seconds


def request_rows(
    model: "ASARSSequenceModel",  # noqa: F821 - the model imports this module
    items: Sequence[Sequence[Hashable]],
    timestamps: Sequence[Sequence[float]] | None,
    users: Sequence[Hashable] | None,
    now: Sequence[float] | None,
    warn: bool = True,
) -> SessionSequences:
    """
    One row a request; see ``ASARSSequenceModel.recommend`` for the parameters.

    With `warn`, a warning where no item is known.

    Raises
    ------
    InputError
        If the lists do not fit together, an id or a time is none, or times run backwards.
    """
    asked = len(items)
    lengths = np.array([len(one) for one in items], dtype=np.int64)
    _check_lengths(asked, lengths, timestamps, users, now)
    row = np.repeat(np.arange(asked), lengths)  # (events,)
    asked_ids = [raw for one in items for raw in one]
    numbers = model.raw_items.transform(asked_ids)
    if warn and asked_ids and not numbers.any():
        warnings.warn(
            f"the model knows none of the {len(asked_ids)} items given, such as {asked_ids[0]!r}: are they of the type "
            "that the log had?",
            stacklevel=3,
        )
    seconds = None
    if timestamps is not None:
        # One unit for all: the model keeps seconds, whatever its log had.
        seconds = request_seconds("timestamps", [time for one in timestamps for time in one])
        if (np.diff(seconds)[row[1:] == row[:-1]] < 0).any():
            raise InputError("the timestamps of a request run backwards: give its events oldest first")

    known = numbers > 0
    row, numbers = row[known], numbers[known]
    seconds = None if seconds is None else seconds[known]
    events = np.zeros((len(row), USER), dtype=np.int32)  # (events, channel)
    sessions = _sessions(row, seconds, model.session_gap)
    events[:, ITEM] = numbers
    events[:, DWELL] = _dwell_bins(model.binning, row, sessions, seconds, now, model.session_gap)
    events[:, SESSION_START] = session_starts(sessions)
    gaps = np.full(len(row), np.nan) if seconds is None else session_gap_times(seconds, sessions, row + 1)
    events[:, SESSION_GAP_BIN] = np.where(events[:, SESSION_START], model.gap_binning.transform(gaps), PADDING_BIN)
    events[:, TIME] = UNKNOWN_TIME if seconds is None else whole_seconds(seconds)
    numbers_of_users = np.zeros(asked, dtype=np.int32)
    if users is not None and model.user_vocabulary is not None:
        numbers_of_users = model.user_vocabulary.transform([_NOBODY if user is None else user for user in users])
    return SessionSequences.from_flat(
        np.concatenate([[0], np.cumsum(np.bincount(row, minlength=asked))]),
        events,
        sessions,
        numbers_of_users,
        int(lengths.max(initial=1)),
        like=model,
        binning=model.binning,
        gap_binning=model.gap_binning,
    )


_NOBODY = ("nobody",)  # a raw id that no log has


def request_seconds(name: str, times: Sequence[float]) -> np.ndarray:
    """Times of a request as float64 seconds, (times,); no times at all have no type of their own."""
    try:
        return timestamps_in_seconds(times)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _check_lengths(asked: int, lengths: np.ndarray, timestamps, users, now) -> None:
    for name, given in (("timestamps", timestamps), ("user", users), ("now", now)):
        if given is not None and (isinstance(given, str) or not hasattr(given, "__len__")):
            raise InputError(f"there are {asked} requests and a single {name}: give a list with one for each")
        if given is not None and len(given) != asked:
            raise InputError(f"there are {asked} requests and {len(given)} entries of {name}: give one for each")
    if timestamps is not None:
        for place, (one, length) in enumerate(zip(timestamps, lengths, strict=True)):
            if isinstance(one, str) or not hasattr(one, "__len__"):
                raise InputError(f"request {place} has {one!r} for its timestamps: give a list, one for each item")
            if len(one) != length:
                raise InputError(f"request {place} has {length} items and {len(one)} timestamps: give one for each")


def _sessions(row: np.ndarray, seconds: np.ndarray | None, session_gap: float) -> np.ndarray:
    starts = session_starts(row)
    if seconds is not None and len(row):
        starts[1:] |= np.diff(seconds) >= session_gap
    return np.cumsum(starts) - 1


def _dwell_bins(
    binning: ScottBinning,
    row: np.ndarray,
    sessions: np.ndarray,
    seconds: np.ndarray | None,
    now: Sequence[float] | None,
    session_gap: float,
) -> np.ndarray:
    if seconds is None or not len(row):
        return np.full(len(row), UNKNOWN_BIN, dtype=np.int32)
    dwell = dwell_times(seconds, sessions)
    if now is not None:
        newest = np.append(np.diff(row) != 0, True)
        waited = request_seconds("now", now)[row[newest]] - seconds[newest]
        if (waited < 0).any():
            raise InputError("now lies before the newest event of a request")
        dwell[newest] = np.where(waited < session_gap, waited, np.nan)
    return binning.transform(dwell)
