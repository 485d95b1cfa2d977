"""The events of a log as rows: the channels of an event, and which events stand in which row."""

from collections.abc import Iterator

import numpy as np

from spotlight_asars.binning import ScottBinning
from spotlight_asars.blocks import blocks
from spotlight_asars.cutting import ANONYMOUS_USER, changes
from spotlight_asars.errors import InputError
from spotlight_asars.sessions import SessionInteractions
from spotlight_asars.waits import Waits

# The channels of an event as it travels through the host's `fit`: (batch, time, channel).
ITEM, DWELL, TARGET, SESSION_START, SESSION_GAP_BIN, TIME, USER = range(7)
NUM_CHANNELS = 7

# TIME counts whole seconds from a Monday, 2001-01-01 00:00 UTC, so that it fits 32 bits from 1933 to 2069 and tells
# the hour and the weekday by a remainder.
TIME_ORIGIN = 978_307_200
UNKNOWN_TIME = -(2**31)


def whole_seconds(timestamps: np.ndarray) -> np.ndarray:
    """
    Seconds since 1970 as the TIME channel holds them; int32, of the same shape.

    NaN becomes UNKNOWN_TIME; what lies outside the years 1933 to 2069 is held at their ends.
    """
    seconds = np.array(timestamps, dtype=np.float64)
    limit = 2**31 - 1
    np.floor(seconds, out=seconds)
    seconds -= TIME_ORIGIN
    np.maximum(seconds, -limit, out=seconds)  # NaN stays NaN
    np.minimum(seconds, limit, out=seconds)
    return np.fmax(seconds, UNKNOWN_TIME, out=seconds).astype(np.int32)


def event_channels(
    users: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    sessions: np.ndarray,
    binning: ScottBinning,
    gap_binning: ScottBinning,
) -> np.ndarray:
    """
    All channels of events but USER; all but the first of a session are targets.

    Parameters
    ----------
    users, items, times, sessions : arrays of shape (events,)
        Ordered as by ``cut_sessions``.
    binning, gap_binning : ScottBinning
        Fitted.

    Returns
    -------
    int32 array of shape (events, channel)
    """
    channels = np.empty((len(users), USER), dtype=np.int32)
    for block in blocks(len(users)):
        waits, of_block = Waits(users, times, sessions, block), channels[block]
        starts = waits.starts[:-1]
        of_block[:, ITEM] = items[block]
        of_block[:, DWELL] = binning.bins_where(~waits.starts[1:], waits.seconds[1:])
        of_block[:, TARGET] = ~starts
        of_block[:, SESSION_START] = starts
        of_block[:, SESSION_GAP_BIN] = gap_binning.bins_where(waits.is_gap[:-1], waits.seconds[:-1]) * starts
        of_block[:, TIME] = whole_seconds(times[block])
    return channels


def with_history(
    interactions: SessionInteractions, history: SessionInteractions | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Users, items, times, sessions and whether an event is only context, each of shape (events,)."""
    parts = (interactions.user_ids, interactions.item_ids, interactions.timestamps, interactions.session_ids)
    if history is None:
        return *parts, np.zeros(len(interactions), dtype=bool)
    num_users = max(interactions.num_users, history.num_users)
    first_time = np.full(num_users, -np.inf)  # (users,); nobody's past is wanted unless he is in `interactions`
    first_of_user = np.flatnonzero(changes(interactions.user_ids))
    # Sessions of a known user are in order of time, so his first event is his earliest.
    first_time[interactions.user_ids[first_of_user]] = interactions.timestamps[first_of_user]
    first_time[ANONYMOUS_USER] = -np.inf
    past = history.select(history.timestamps < first_time[history.user_ids])
    users = np.concatenate([past.user_ids, interactions.user_ids])
    order = np.argsort(users, kind="stable")  # each user's past before his present
    joined = (
        np.concatenate([before, now])[order]
        for before, now in (
            (past.item_ids, interactions.item_ids),
            (past.timestamps, interactions.timestamps),
            (past.session_ids, interactions.session_ids + past.num_sessions),
            (np.ones(len(past), dtype=bool), np.zeros(len(interactions), dtype=bool)),
        )
    )
    return users[order], *joined


def check_same_numbering(interactions: SessionInteractions, history: SessionInteractions) -> None:
    """Raise an InputError where one number stands for two users or items."""
    for name in ("item_vocabulary", "user_vocabulary"):
        ours, theirs = getattr(interactions, name), getattr(history, name)
        if ours is not None and theirs is not None and ours != theirs:
            raise InputError(f"interactions and history differ in their {name}: align the test part first")
    if interactions.num_items != history.num_items:
        raise InputError(
            f"interactions have {interactions.num_items} item ids and history has {history.num_items}: "
            f"give both the same num_items"
        )


def check_windows(max_sequence_length: int, step_size: int | None) -> tuple[int, int]:
    """Both as numbers; an InputError where they are none that rows can be made with."""
    if max_sequence_length < 2:
        raise InputError(f"max_sequence_length is {max_sequence_length}: give at least 2")
    step_size = max(max_sequence_length // 2, 1) if step_size is None else step_size
    if not 1 <= step_size <= max_sequence_length:
        raise InputError(f"step_size is {step_size}: give 1 to max_sequence_length, {max_sequence_length}")
    return max_sequence_length, step_size


def row_windows(
    users: np.ndarray, sessions: np.ndarray, max_sequence_length: int, step_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First event, first event that is this row's own to predict, and end of each row; shape (rows,) each."""
    if not len(users):
        raise InputError("no events are left: loosen the filters, or keep the last events")
    group_offsets = np.concatenate([[0], *_group_begins(users, sessions), [len(users)]])
    return windows_of_groups(group_offsets, max_sequence_length, step_size)


def _group_begins(users: np.ndarray, sessions: np.ndarray) -> Iterator[np.ndarray]:
    """Where events begin, but the first, that have no row in common with those before, in pieces."""
    for block in blocks(len(users) - 1):
        after = slice(block.start + 1, block.stop + 1)
        starts, anonymous = users[after] != users[block], users[after] == ANONYMOUS_USER
        if anonymous.any():
            starts |= anonymous & (sessions[after] != sessions[block])
        yield after.start + np.flatnonzero(starts)


def lie_in_rows(begin: np.ndarray, stop: np.ndarray, events: int) -> bool:
    """Whether the rows hold all events, as they lie, each in one row."""
    return bool(len(begin) and begin[0] == 0 and stop[-1] == events and (begin[1:] == stop[:-1]).all())


def windows_of_groups(
    group_offsets: np.ndarray, max_sequence_length: int, step_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As :func:`row_windows`, for groups of events that have no row in common: events from one offset to the next."""
    group_begin, length = group_offsets[:-1], np.diff(group_offsets)
    if length.max(initial=0) <= max_sequence_length:  # a row a group
        return group_begin, group_begin, group_offsets[1:]
    more = np.maximum(length - max_sequence_length, 0)
    numrow_windows = 1 + -(-more // step_size)
    group = np.repeat(np.arange(len(length)), numrow_windows)  # (rows,)
    from_end = np.arange(len(group)) - np.repeat(np.cumsum(numrow_windows) - numrow_windows, numrow_windows)
    stop = length[group] - from_end * step_size
    begin = np.maximum(stop - max_sequence_length, 0)
    target_begin = np.where(begin == 0, 0, stop - step_size)
    base = group_begin[group]
    return base + begin, base + target_begin, base + stop


def flat_positions(begin: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For rows ``begin[r] : begin[r] + lengths[r]``: each event's index, its row and its place in the row."""
    row = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return begin[row] + position, row, position
