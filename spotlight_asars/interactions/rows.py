"""The events of a log as rows: the channels of an event, and which events stand in which row.

Which rows go through a net together: of like length, so that little padding is computed, or of any length.
"""

from collections.abc import Iterator

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.ordering import blocks
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, changes
from spotlight_asars.interactions.sessions import SessionInteractions


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


def like_length_batches(
    lengths: np.ndarray, batch_size: int, random_state: np.random.RandomState | None = None
) -> list[np.ndarray]:
    """
    Cut rows into batches of like length.

    Parameters
    ----------
    lengths : int array of shape (rows,)
    batch_size : int
        Rows a batch.
    random_state : numpy RandomState, optional
        Shuffles rows of equal length among each other and the batches; without it the order is by length.

    Returns
    -------
    list of int64 arrays
        Row numbers; each row stands in one batch.
    """
    rows = len(lengths)
    if not rows:
        return []
    ties = np.arange(rows) if random_state is None else random_state.permutation(rows)
    order = np.lexsort((ties, lengths))
    batches = np.split(order, np.arange(batch_size, rows, batch_size))
    if random_state is not None:
        batches = [batches[place] for place in random_state.permutation(len(batches))]
    return batches


def mixed_batches(rows: int, batch_size: int, random_state: np.random.RandomState) -> list[np.ndarray]:
    """
    Cut rows into batches at random, whatever their lengths.

    Parameters
    ----------
    rows : int
        How many there are.
    batch_size : int
        Rows a batch.
    random_state : numpy RandomState

    Returns
    -------
    list of int64 arrays
        Row numbers; each row stands in one batch.
    """
    return np.split(random_state.permutation(rows), np.arange(batch_size, rows, batch_size))
