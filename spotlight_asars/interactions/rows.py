"""Rows of a log: which events each row holds, and which rows form a mini-batch."""

from collections.abc import Iterator

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.ordering import blocks
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, changes
from spotlight_asars.interactions.sessions import SessionInteractions

MOST_EVENTS_A_BATCH = 2**16  # that are scored together, padding included; a net takes some 7 kB for each


def with_history(
    interactions: SessionInteractions, history: SessionInteractions | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """
    Put each known user's earlier events from `history` before the user's events in `interactions`.

    Returns
    -------
    users, items, times, sessions, is_context : arrays of shape (events,)
        `is_context` is True for the events of `history`.
    """
    parts = (interactions.user_ids, interactions.item_ids, interactions.timestamps, interactions.session_ids)
    if history is None:
        return *parts, np.zeros(len(interactions), dtype=bool)
    num_users = max(interactions.num_users, history.num_users)
    first_time = np.full(num_users, -np.inf)  # (users,); -inf: users without interactions need no past
    first_of_user = np.flatnonzero(changes(interactions.user_ids))
    # The sessions of a known user are sorted by time, so the user's first event is the earliest.
    first_time[interactions.user_ids[first_of_user]] = interactions.timestamps[first_of_user]
    first_time[ANONYMOUS_USER] = -np.inf
    past = history.select(history.timestamps < first_time[history.user_ids])
    users = np.concatenate([past.user_ids, interactions.user_ids])
    order = np.argsort(users, kind="stable")  # each user's history first
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
    """Raise an InputError if both logs do not number users and items alike."""
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
    """Return both, with the default step size filled in; raise an InputError if rows cannot be built from them."""
    if max_sequence_length < 2:
        raise InputError(f"max_sequence_length is {max_sequence_length}: give at least 2")
    step_size = max(max_sequence_length // 2, 1) if step_size is None else step_size
    if not 1 <= step_size <= max_sequence_length:
        raise InputError(f"step_size is {step_size}: give 1 to max_sequence_length, {max_sequence_length}")
    return max_sequence_length, step_size


def history_offsets(users: np.ndarray, sessions: np.ndarray) -> np.ndarray:
    """
    Return where the histories of a sorted log begin, and its number of events.

    A known user has one history, and so has each session of the anonymous user.

    Parameters
    ----------
    users, sessions : int arrays of shape (events,)

    Returns
    -------
    int array of shape (histories + 1,)

    Raises
    ------
    InputError
        If there are no events.
    """
    if not len(users):
        raise InputError("no events are left: loosen the filters, or keep the last events")
    return np.concatenate([[0], *_history_begins(users, sessions), [len(users)]])


def _history_begins(users: np.ndarray, sessions: np.ndarray) -> Iterator[np.ndarray]:
    """Yield where users, or sessions of the anonymous user, begin after the first event, block by block."""
    for block in blocks(len(users) - 1):
        after = slice(block.start + 1, block.stop + 1)
        starts, anonymous = users[after] != users[block], users[after] == ANONYMOUS_USER
        if anonymous.any():
            starts |= anonymous & (sessions[after] != sessions[block])
        yield after.start + np.flatnonzero(starts)


def lie_in_rows(begin: np.ndarray, stop: np.ndarray, events: int) -> bool:
    """Return whether the rows hold all events in order, each event in one row."""
    return bool(len(begin) and begin[0] == 0 and stop[-1] == events and (begin[1:] == stop[:-1]).all())


def history_windows(
    offsets: np.ndarray, max_sequence_length: int, step_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Divide histories into overlapping windows of at most `max_sequence_length` events.

    Windows begin `step_size` events apart, from the first event of their history on, so that an event's context depends
    on the events before it alone.

    Parameters
    ----------
    offsets : int array of shape (histories + 1,)
        History h holds events ``offsets[h]:offsets[h + 1]``.

    Returns
    -------
    begin, target_begin, stop : int arrays of shape (windows,)
        First event of each window, first event that is predicted in this window and not in an earlier one, and end.
    """
    history_begin, length = offsets[:-1], np.diff(offsets)
    if length.max(initial=0) <= max_sequence_length:  # one window per history
        return history_begin, history_begin, offsets[1:]
    more = np.maximum(length - max_sequence_length, 0)
    num_windows = 1 + -(-more // step_size)
    history = np.repeat(np.arange(len(length)), num_windows)  # (windows,)
    number = np.arange(len(history)) - np.repeat(np.cumsum(num_windows) - num_windows, num_windows)
    begin = number * step_size
    stop = np.minimum(begin + max_sequence_length, length[history])
    target_begin = np.where(number == 0, 0, begin + max_sequence_length - step_size)  # the end of the window before
    base = history_begin[history]
    return base + begin, base + target_begin, base + stop


def flat_positions(begin: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    List the events of rows ``begin[r] : begin[r] + lengths[r]``, one row after the other.

    Returns
    -------
    event, row, position : int arrays of shape (events,)
        Index of each event, its row, and its position in the row.
    """
    row = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return begin[row] + position, row, position


def bounded_batches(lengths: np.ndarray, most_rows: int | None = None) -> list[np.ndarray]:
    """
    Divide rows into batches of bounded size for scoring: rows of similar length share a batch.

    Parameters
    ----------
    lengths : int array of shape (rows,)
    most_rows : int, optional
        Most rows in a batch.

    Returns
    -------
    list of int64 arrays
        Row numbers of each batch; each row is in one batch. A batch of several rows has at most MOST_EVENTS_A_BATCH
        events, padding included. Without rows, one empty batch.
    """
    order = np.argsort(lengths, kind="stable")
    most_rows = MOST_EVENTS_A_BATCH if most_rows is None else min(most_rows, MOST_EVENTS_A_BATCH)
    batches, begin = [], 0
    while begin < len(order) or not batches:
        rows = order[begin : begin + most_rows]
        padded = lengths[rows] * np.arange(1, len(rows) + 1)  # events of a batch that ends with each of these rows
        rows = rows[: max(1, np.searchsorted(padded, MOST_EVENTS_A_BATCH, side="right"))]
        batches.append(rows)
        begin += len(rows)
    return batches


def length_bucketed_batches(
    lengths: np.ndarray, batch_size: int, random_state: np.random.RandomState
) -> list[np.ndarray]:
    """
    Divide rows into batches by length bucketing: rows of similar length share a batch, which saves padding.

    Parameters
    ----------
    lengths : int array of shape (rows,)
    batch_size : int
        Rows in a batch.
    random_state : numpy RandomState
        Shuffles rows of equal length, and the batches.

    Returns
    -------
    list of int64 arrays
        Row numbers of each batch; each row is in one batch.
    """
    rows = len(lengths)
    if not rows:
        return []
    order = np.lexsort((random_state.permutation(rows), lengths))
    batches = np.split(order, np.arange(batch_size, rows, batch_size))
    return [batches[place] for place in random_state.permutation(len(batches))]


def shuffled_batches(rows: int, batch_size: int, random_state: np.random.RandomState) -> list[np.ndarray]:
    """
    Divide rows into batches at random, regardless of their lengths.

    Parameters
    ----------
    rows : int
        Number of rows.
    batch_size : int
        Rows in a batch.
    random_state : numpy RandomState

    Returns
    -------
    list of int64 arrays
        Row numbers of each batch; each row is in one batch.
    """
    return np.split(random_state.permutation(rows), np.arange(batch_size, rows, batch_size))


def chronological_batches(times: np.ndarray, batch_size: int, random_state: np.random.RandomState) -> list[np.ndarray]:
    """
    Divide rows into batches in order of time; rows of equal time are shuffled.

    Parameters
    ----------
    times : array of shape (rows,)
    batch_size : int
        Rows in a batch.
    random_state : numpy RandomState

    Returns
    -------
    list of int64 arrays
        Row numbers of each batch; each row is in one batch.
    """
    rows = len(times)
    order = np.lexsort((random_state.permutation(rows), times))
    return np.split(order, np.arange(batch_size, rows, batch_size))
