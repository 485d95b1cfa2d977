"""
Support filters, session-aware splits by time (paper section 3.1), and logs numbered like a fitted system.

:func:`filter_support` and :func:`time_based_split` work on logs, :func:`split_rows_by_time` on rows of sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np

from spotlight_asars.errors import InputError, check_share
from spotlight_asars.interactions.channels import ITEM, SESSION_GAP_BIN, SESSION_START, TARGET, TIME
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, changes
from spotlight_asars.interactions.sessions import SessionInteractions, as_session_interactions
from spotlight_asars.interactions.vocabulary import Vocabulary

ENOUGH, RARE_ITEM, SHORT_SESSION, RARE_USER = range(4)  # of lacking_support


@dataclass(frozen=True)
class SupportFilters:
    """
    The support that items, sessions and users need to stay in a log.

    Parameters
    ----------
    item_support : int
        Minimum number of events of an item.
    session_length : int
        Minimum number of events of a session.
    user_sessions : int
        Minimum number of sessions of a user; no effect on logs without users.
    """

    item_support: int
    session_length: int
    user_sessions: int


def filter_support(
    interactions: SessionInteractions,
    item_support: int = 10,
    session_length: int = 2,
    user_sessions: int = 10,
) -> SessionInteractions:
    """
    Drop rare items, short sessions and infrequent users until all that remain have enough support.

    Parameters
    ----------
    interactions : SessionInteractions
    item_support : int, optional
        Minimum number of events of an item.
    session_length : int, optional
        Minimum number of events of a session.
    user_sessions : int, optional
        Minimum number of sessions of a user; does not apply to anonymous sessions.

    Returns
    -------
    SessionInteractions
        The remaining events in unchanged sessions. Items and users that have a vocabulary are renumbered without gaps.

    Raises
    ------
    InputError
        If nothing remains.
    """
    interactions = as_session_interactions(interactions)
    return _renumbered(interactions.select(supported(interactions, item_support, session_length, user_sessions)))


def supported(
    interactions: SessionInteractions, item_support: int, session_length: int, user_sessions: int
) -> np.ndarray:
    """
    Return whether :func:`filter_support` keeps each event, bool (events,).

    Parameters and errors are those of :func:`filter_support`.
    """
    kept = _supported(interactions, item_support, session_length, user_sessions)
    if not kept.any():
        _complain_of_filters(interactions, item_support, session_length, user_sessions)
    return kept


def _supported(
    interactions: SessionInteractions, item_support: int, session_length: int, user_sessions: int
) -> np.ndarray:
    return lacking_support(interactions, item_support, session_length, user_sessions) == ENOUGH


def lacking_support(
    interactions: SessionInteractions, item_support: int, session_length: int, user_sessions: int
) -> np.ndarray:
    """
    Return why :func:`filter_support` drops each event.

    Returns
    -------
    int8 array of shape (events,)
        ENOUGH for an event that stays; else what was too rare or short when the event was dropped: RARE_ITEM,
        SHORT_SESSION or RARE_USER, the first of these.
    """
    users, items, sessions = interactions.user_ids, interactions.item_ids, interactions.session_ids
    lacking = np.full(len(interactions), ENOUGH, dtype=np.int8)
    while True:
        kept = lacking == ENOUGH
        item_count, length, session_count = _support(interactions, kept)
        fails = {
            RARE_USER: (session_count[users] < user_sessions) & (users != ANONYMOUS_USER),
            SHORT_SESSION: length[sessions] < session_length,
            RARE_ITEM: item_count[items] < item_support,
        }
        for reason, failing in fails.items():
            lacking[kept & failing] = reason
        if (lacking == ENOUGH).sum() == kept.sum():
            return lacking


def _support(interactions: SessionInteractions, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the kept events per item and per session, and the sessions per user; 0 for the anonymous user."""
    item_count = np.bincount(interactions.item_ids[kept], minlength=interactions.num_items)
    length = np.bincount(interactions.session_ids[kept], minlength=interactions.num_sessions)
    owner = np.zeros(interactions.num_sessions, dtype=np.int64)
    owner[interactions.session_ids] = interactions.user_ids
    session_count = np.bincount(owner[length > 0], minlength=interactions.num_users)
    session_count[ANONYMOUS_USER] = 0
    return item_count, length, session_count


def _complain_of_filters(
    interactions: SessionInteractions, item_support: int, session_length: int, user_sessions: int
) -> NoReturn:
    """Raise an InputError that suggests lower filters which keep half of the events, if there are any."""
    most = ",".join(f"{count.max(initial=0)}" for count in _support(interactions, np.ones(len(interactions), bool)))
    mend = "lower them (--filters ITEM,SESSION,USER), or give a longer log"
    lower = [(item_support, session_length, sessions) for sessions in _halves(user_sessions)]
    lower += [(support, session_length, 1) for support in _halves(item_support)]
    for filters in lower:
        left = int(_supported(interactions, *filters).sum())
        if 2 * left >= len(interactions):
            told = "--filters {},{},{}".format(*filters)
            mend = f"lower them ({told} leaves {left:,} of {len(interactions):,} events), or give a longer log"
            break
    raise InputError(
        f"no event is left after the filters {item_support},{session_length},{user_sessions} (events an item, events "
        f"a session, sessions a user; the most that the log has of each: {most}): {mend}"
    )


def _halves(number: int) -> list[int]:
    """Return a number's half, its quarter, ... down to 1."""
    return [number >> times for times in range(1, number.bit_length())]


def collapse_repeats(interactions: SessionInteractions) -> SessionInteractions:
    """
    Keep only the first of events of one item that follow each other in a session: a, a, b, a becomes a, b, a.

    Reloads and double clicks look like such repeats, and a system that predicts the last item again gets them right.
    GRU4Rec's own preprocessing does the same (Hidasi and Karatzoglou 2018).
    """
    interactions = as_session_interactions(interactions)
    repeats = np.zeros(len(interactions), dtype=bool)
    repeats[1:] = (np.diff(interactions.session_ids) == 0) & (np.diff(interactions.item_ids) == 0)
    return interactions.select(~repeats)


@dataclass(frozen=True)
class TimeSplit:
    """
    A training part and a test part with the same numbering.

    Attributes
    ----------
    train, test : SessionInteractions
    boundary : float or None
        Seconds; sessions whose last event is later are in the test part. None if the parts were given.
    dropped_test_events, dropped_test_sessions : float
        Shares of the test part that were dropped: events of items or users that are not in the training part, and
        sessions with fewer than two remaining events.
    unseen_items, unseen_users : int
        Number of test events whose item, or whose user, is not in the training part.
    """

    train: SessionInteractions
    test: SessionInteractions
    boundary: float | None
    dropped_test_events: float
    dropped_test_sessions: float
    unseen_items: int = 0
    unseen_users: int = 0


def time_based_split(
    interactions: SessionInteractions, test_share: float = 0.2, boundary: float | None = None
) -> TimeSplit:
    """
    Split sessions by the time of their last event.

    Parameters
    ----------
    interactions : SessionInteractions
    test_share : float, optional
        Share of the sessions in the test part; ignored if a boundary is given.
    boundary : float, optional
        Seconds; sessions that end later are in the test part.

    Returns
    -------
    TimeSplit

    Raises
    ------
    InputError
        If a part would be empty.
    """
    interactions = as_session_interactions(interactions)
    is_test, boundary = in_test_part(interactions, test_share, boundary)
    return align_test(interactions.select(~is_test), interactions.select(is_test), boundary)


def in_test_part(
    interactions: SessionInteractions, test_share: float, boundary: float | None = None
) -> tuple[np.ndarray, float]:
    """
    Return whether the session of each event ends after the boundary, bool (events,), and the boundary.

    Parameters and errors are those of :func:`time_based_split`.
    """
    last = np.append(np.diff(interactions.session_ids) != 0, True)
    end = interactions.timestamps[last]  # (sessions,)
    if boundary is None:
        check_share("test_share", test_share)
        boundary = float(np.quantile(end, 1.0 - test_share, method="lower"))
    is_test = (end > boundary)[interactions.session_ids]
    if is_test.all() or not is_test.any():
        part = "training" if is_test.all() else "test"
        raise InputError(f"the {part} part of the split by time is empty: give a longer log or another boundary")
    return is_test, boundary


def align_test(train: SessionInteractions, test: SessionInteractions, boundary: float | None = None) -> TimeSplit:
    """
    Number the test part like the training part, and drop what is not in the training part.

    Events of unseen items and users are dropped, and then sessions of fewer than two events. The parts may come from
    one log, with the same numbers, or from two logs, which are matched by their raw ids as by ``Vocabulary.match``.

    Parameters
    ----------
    train, test : SessionInteractions
    boundary : float, optional
        Recorded in the result.

    Returns
    -------
    TimeSplit

    Raises
    ------
    InputError
        If nothing of the test part remains, or only one part has raw ids.
    """
    train, test = _renumbered(as_session_interactions(train)), as_session_interactions(test)
    items = _numbers_in(train, test, "item")
    users = _numbers_in(train, test, "user")
    unseen_items, unseen_users = items == 0, (users == 0) & (test.user_ids != ANONYMOUS_USER)
    kept = _in_long_sessions(test, ~unseen_items & ~unseen_users, 2)
    if not kept.any():
        mend = "are their ids those of training?"
        if boundary is not None:  # one log, with the same ids
            mend = "split earlier or later (--test-share), or keep sessions longer (--session-gap)"
        raise InputError(
            "no test session of two or more events has only items and users of the training part: of "
            f"{len(test)} test events {unseen_items.sum()} are of unseen items, {unseen_users.sum()} of unseen users; "
            f"{mend}"
        )
    aligned = _numbered_like(train, test, items, users, kept)
    unseen = int(unseen_items.sum()), int(unseen_users.sum())
    return TimeSplit(train, aligned, boundary, *_dropped_shares(test, aligned), *unseen)


class NumberedSystem(Protocol):
    """A fitted system that numbers items and users."""

    num_items: int
    num_users: int
    item_vocabulary: Vocabulary | None
    user_vocabulary: Vocabulary | None
    raw_items: Vocabulary
    raw_users: Vocabulary


@dataclass(frozen=True)
class NumberedLog:
    """
    A log numbered like a fitted system, and how much of it the system does not know.

    Attributes
    ----------
    events : SessionInteractions
        The events that the system knows.
    unknown_items, unknown_users : int
        Number of events of unknown items, and of unknown users.
    dropped_events, dropped_sessions : float
        Shares of the log that are not in `events`.
    """

    events: SessionInteractions
    unknown_items: int
    unknown_users: int
    dropped_events: float
    dropped_sessions: float


def number_like(system: NumberedSystem, log: SessionInteractions, session_length: int = 2) -> NumberedLog:
    """
    Number the items and users of a log like a fitted system.

    Events of unknown items and users are dropped, and then short sessions, and raw ids are matched, as
    :func:`align_test` does. If the system was fitted without users, all users become anonymous.

    Parameters
    ----------
    system : fitted system
    log : SessionInteractions
        A log without raw ids must have the system's numbers.
    session_length : int, optional
        Minimum number of events of a session.

    Returns
    -------
    NumberedLog

    Raises
    ------
    InputError
        If nothing remains.
    """
    log = as_session_interactions(log)
    items = _in_numbers_of(system.raw_items, log.item_vocabulary, log.item_ids)
    users = np.zeros(len(log), dtype=np.int32)
    if system.num_users > 1:
        users = _in_numbers_of(system.raw_users, log.user_vocabulary, log.user_ids)
    unknown_items = items == 0
    unknown_users = (users == 0) & (log.user_ids != ANONYMOUS_USER) & (system.num_users > 1)
    kept = _in_long_sessions(log, ~unknown_items & ~unknown_users, session_length)
    if not kept.any():
        raise InputError(
            f"no session of {session_length} or more events has only items and users that the model knows: of "
            f"{len(log)} events {int(unknown_items.sum())} are of unknown items, {int(unknown_users.sum())} of unknown "
            "users; are the ids of the type they had in training?"
        )
    events = _numbered_like(system, log, items, users, kept)
    return NumberedLog(events, int(unknown_items.sum()), int(unknown_users.sum()), *_dropped_shares(log, events))


def _in_long_sessions(log: SessionInteractions, kept: np.ndarray, session_length: int) -> np.ndarray:
    """Return which of the kept events are in sessions of at least `session_length` kept events, bool (events,)."""
    length = np.bincount(log.session_ids[kept], minlength=log.num_sessions)
    return kept & (length[log.session_ids] >= session_length)


def _dropped_shares(before: SessionInteractions, after: SessionInteractions) -> tuple[float, float]:
    """Return the shares of events and of sessions that were dropped."""
    return 1.0 - len(after) / len(before), 1.0 - after.num_sessions / before.num_sessions


def _in_numbers_of(ours: Vocabulary, theirs: Vocabulary | None, numbers: np.ndarray) -> np.ndarray:
    """Translate numbers of a log to those of a vocabulary, 0 if unknown; shape (events,)."""
    raw_ids = np.arange(1, numbers.max(initial=0) + 1) if theirs is None else theirs.raw_ids
    return _translated(ours, raw_ids, numbers)


def _translated(ours: Vocabulary, raw_ids: Sequence | np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Translate numbers, where number n stands for ``raw_ids[n - 1]``, to those of a vocabulary; shape (events,)."""
    return np.concatenate([[0], ours.match(raw_ids)]).astype(np.int32)[numbers]


def _numbers_in(train: SessionInteractions, test: SessionInteractions, kind: str) -> np.ndarray:
    """Return the test part's items or users in the training part's numbers, 0 if unseen; shape (events,)."""
    name = f"{kind}_vocabulary"
    ours, theirs = getattr(train, name), getattr(test, name)
    numbers = getattr(test, f"{kind}_ids")
    if (ours is None) != (theirs is None):
        raise InputError(f"only one of the training and the test part has {kind}s with raw ids: give both or none")
    if ours is None:
        seen = np.zeros(max(getattr(train, f"num_{kind}s"), getattr(test, f"num_{kind}s")), dtype=bool)
        seen[getattr(train, f"{kind}_ids")] = True
        return np.where(seen[numbers], numbers, 0).astype(np.int32)
    return _translated(ours, theirs.raw_ids, numbers)


def _numbered_like(
    like: SessionInteractions | NumberedSystem,
    log: SessionInteractions,
    items: np.ndarray,
    users: np.ndarray,
    kept: np.ndarray,
) -> SessionInteractions:
    """Return the kept events of a log with new numbers, (events,) each, and ordered by them."""
    numbered = log.select(kept)
    numbered.item_ids, numbered.user_ids = items[kept], users[kept]
    for name in ("num_items", "num_users", "item_vocabulary", "user_vocabulary"):
        setattr(numbered, name, getattr(like, name))
    return _ordered_by_user(numbered)


def _renumbered(interactions: SessionInteractions) -> SessionInteractions:
    """Return a copy whose items and users are numbered without gaps, if they have a vocabulary."""
    interactions = interactions.select(slice(None))
    for kind in ("item", "user"):
        vocabulary = getattr(interactions, f"{kind}_vocabulary")
        if vocabulary is None:
            continue
        numbers = getattr(interactions, f"{kind}_ids")
        kept = np.bincount(numbers, minlength=len(vocabulary) + 1) > 0
        smaller, renumber = vocabulary.keep(kept)
        setattr(interactions, f"{kind}_vocabulary", smaller)
        setattr(interactions, f"{kind}_ids", renumber[numbers])
        setattr(interactions, f"num_{kind}s", len(smaller) + 1)
    return interactions


def _ordered_by_user(interactions: SessionInteractions) -> SessionInteractions:
    """Order events by the (new) user numbers; sessions and their events keep their order."""
    order = np.lexsort((interactions.session_ids, interactions.user_ids))
    return interactions.select(order)


def split_rows_by_time(sequences: SessionSequences, late_share: float) -> tuple[SessionSequences, SessionSequences]:
    """
    Split rows into their earlier sessions, and their later sessions with the earlier ones as history.

    Parameters
    ----------
    sequences : SessionSequences
    late_share : float
        Share of the sessions, ordered by the time of their last event, that are late.

    Returns
    -------
    (early, late) : two SessionSequences
        `early` holds only the events of early sessions. `late` holds the rows with a target in a late session, with
        only those targets.

    Raises
    ------
    InputError
        If one of them would have no target.
    """
    session, place = np.unique(sequences.session_ids, return_inverse=True)
    last = np.full(len(session), np.iinfo(np.int64).min)
    np.maximum.at(last, place, sequences.events[:, TIME])
    # Sessions that end at the same time, or at an unknown time, keep their order.
    rank = np.empty(len(session), dtype=np.int64)
    rank[np.argsort(last, kind="stable")] = np.arange(len(session))
    is_late = (rank >= round(len(session) * (1.0 - late_share)))[place]  # (events,)
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)

    lengths = np.bincount(row[~is_late], minlength=len(sequences))
    early = sequences.with_events(sequences.events[~is_late], sequences.session_ids[~is_late], lengths)
    late_events = sequences.events.copy()
    late_events[~is_late, TARGET] = 0
    late = sequences.with_events(late_events)
    early, late = early.rows(early.lengths > 0), late.rows(late.targets_a_row > 0)
    if not early.num_targets or not late.num_targets:
        raise InputError("the rows have too few sessions to hold some of them back: give a longer training part")
    return early, late


def without_unseen_items(sequences: SessionSequences, known: SessionSequences) -> SessionSequences:
    """
    Drop the events of items that do not occur in other rows, and then rows without a target.

    A system that is fitted on the other rows has learned nothing about these items, and a server leaves them out of its
    histories. The first event left of a session opens it, and is a target only if the first one was.

    Parameters
    ----------
    sequences, known : SessionSequences
        Numbered alike.
    """
    seen = np.zeros(sequences.num_items, dtype=bool)
    seen[known.events[:, ITEM]] = True
    kept = seen[sequences.events[:, ITEM]]  # (events,)
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)
    begins = changes(row)
    begins[1:] |= sequences.session_ids[1:] != sequences.session_ids[:-1]  # a session inside a row
    piece = (np.cumsum(begins) - 1)[kept]
    opening = sequences.events[np.flatnonzero(begins)[piece]]  # (kept, channel)
    first, events = changes(piece), sequences.events[kept]
    for channel in (SESSION_START, SESSION_GAP_BIN):
        events[first, channel] = opening[first, channel]
    events[first, TARGET] &= opening[first, TARGET]
    lengths = np.bincount(row[kept], minlength=len(sequences))
    found = sequences.with_events(events, sequences.session_ids[kept], lengths)
    return found.rows(found.targets_a_row > 0)


def rows_of(split: TimeSplit, max_sequence_length: int) -> tuple[SessionSequences, SessionSequences]:
    """Return the rows of both parts; the test rows have the training part as history, and use its bins."""
    train = to_session_sequences(split.train, max_sequence_length)
    test = to_session_sequences(
        split.test,
        max_sequence_length,
        history=split.train,
        binning=train.binning,
        gap_binning=train.gap_binning,
    )
    return train, test
