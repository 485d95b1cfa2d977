"""Support filters and the session-aware split by time (paper section 3.1).

Rows split by time: earlier sessions to fit on, later ones to learn from how well that went.
"""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import TARGET, TIME
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER
from spotlight_asars.interactions.sessions import SessionInteractions, as_session_interactions
from spotlight_asars.interactions.vocabulary import Vocabulary


@dataclass(frozen=True)
class SupportFilters:
    """
    How much support items, sessions and users need to stay in a log.

    Parameters
    ----------
    item_support: int
        The fewest events an item must have.
    session_length: int
        The fewest events a session must have.
    user_sessions: int
        The fewest sessions a user must have; without effect on logs without users.
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
    Drop rare items, short sessions and seldom users until nothing more falls out.

    Parameters
    ----------
    interactions : SessionInteractions
    item_support : int, optional
        Fewest events of an item.
    session_length : int, optional
        Fewest events of a session.
    user_sessions : int, optional
        Fewest sessions of a user; anonymous sessions are not asked.

    Returns
    -------
    SessionInteractions
        What is left, with items and users numbered anew where there are vocabularies to tell their raw ids; without
        them numbers stay as they are. The cut into sessions stays as it was.

    Raises
    ------
    InputError
        If nothing is left.
    """
    interactions = as_session_interactions(interactions)
    return _renumbered(interactions.select(supported(interactions, item_support, session_length, user_sessions)))


def supported(
    interactions: SessionInteractions, item_support: int, session_length: int, user_sessions: int
) -> np.ndarray:
    """
    Whether :func:`filter_support` leaves each event, bool (events,).

    Arguments and errors are those of :func:`filter_support`.
    """
    kept = _supported(interactions, item_support, session_length, user_sessions)
    if not kept.any():
        _complain_of_filters(interactions, item_support, session_length, user_sessions)
    return kept


def _supported(
    interactions: SessionInteractions, item_support: int, session_length: int, user_sessions: int
) -> np.ndarray:
    users, items, sessions = interactions.user_ids, interactions.item_ids, interactions.session_ids
    kept = np.ones(len(interactions), dtype=bool)
    while True:
        item_count, length, session_count = _support(interactions, kept)
        stays = (item_count[items] >= item_support) & (length[sessions] >= session_length)
        stays &= (session_count[users] >= user_sessions) | (users == ANONYMOUS_USER)
        stays &= kept
        if stays.sum() == kept.sum():
            return kept
        kept = stays


def _complain_of_filters(
    interactions: SessionInteractions, item_support: int, session_length: int, user_sessions: int
) -> NoReturn:
    """Say that the filters leave nothing, and lower ones that leave half of the events, where there are any."""
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
    """A number's half, a quarter, ... down to 1."""
    return [number >> times for times in range(1, number.bit_length())]


def _support(interactions: SessionInteractions, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the events kept: how many an item, how many a session, and how many sessions a user; none of no user."""
    item_count = np.bincount(interactions.item_ids[kept], minlength=interactions.num_items)
    length = np.bincount(interactions.session_ids[kept], minlength=interactions.num_sessions)
    owner = np.zeros(interactions.num_sessions, dtype=np.int64)
    owner[interactions.session_ids] = interactions.user_ids
    session_count = np.bincount(owner[length > 0], minlength=interactions.num_users)
    session_count[ANONYMOUS_USER] = 0
    return item_count, length, session_count


@dataclass(frozen=True)
class TimeSplit:
    """
    A training and a test part, numbered alike, and what the test part lost.

    Attributes
    ----------
    train, test : SessionInteractions
    boundary : float or None
        Seconds; a session whose last event is later is test. None where the parts were given.
    dropped_test_events, dropped_test_sessions : float
        Shares of the test part that left it, since their items or users are not in the training part, or since
        fewer than two events of their session stayed.
    """

    train: SessionInteractions
    test: SessionInteractions
    boundary: float | None
    dropped_test_events: float
    dropped_test_sessions: float


def time_based_split(
    interactions: SessionInteractions, test_share: float = 0.2, boundary: float | None = None
) -> TimeSplit:
    """
    Split sessions by the time of their last event.

    Parameters
    ----------
    interactions : SessionInteractions
    test_share : float, optional
        Share of the sessions that are test; used where no boundary is given.
    boundary : float, optional
        Seconds; sessions that end later are test.

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
    Whether each event is of a session that ends after the boundary, bool (events,); and the boundary.

    Arguments and errors are those of :func:`time_based_split`.
    """
    last = np.append(np.diff(interactions.session_ids) != 0, True)
    end = interactions.timestamps[last]  # (sessions,)
    if boundary is None:
        if not 0.0 < test_share < 1.0:
            raise InputError(f"test_share is {test_share}: give a share between 0 and 1")
        boundary = float(np.quantile(end, 1.0 - test_share, method="lower"))
    is_test = (end > boundary)[interactions.session_ids]
    if is_test.all() or not is_test.any():
        part = "training" if is_test.all() else "test"
        raise InputError(f"the {part} part of the split by time is empty: give a longer log or another boundary")
    return is_test, boundary


def align_test(train: SessionInteractions, test: SessionInteractions, boundary: float | None = None) -> TimeSplit:
    """
    Number the test part as the training part, and drop what the training part has never seen.

    Events of unseen items and users leave the test part, and then sessions of fewer than two events. The two may
    come from one log (numbered alike) or from two (then their raw ids say what is the same).

    Raises
    ------
    InputError
        If nothing of the test part is left, or one part has raw ids and the other none.
    """
    train, test = _renumbered(as_session_interactions(train)), as_session_interactions(test)
    items = _numbers_in(train, test, "item")
    users = _numbers_in(train, test, "user")
    seen = (items > 0) & ((users > 0) | (test.user_ids == ANONYMOUS_USER))
    length = np.bincount(test.session_ids[seen], minlength=test.num_sessions)
    kept = seen & (length[test.session_ids] >= 2)
    if not kept.any():
        raise InputError("no test session of two or more events has only items and users of the training part")
    aligned = _numbered_like(train, test, items, users, kept)
    return TimeSplit(
        train,
        aligned,
        boundary,
        dropped_test_events=1.0 - len(aligned) / len(test),
        dropped_test_sessions=1.0 - aligned.num_sessions / test.num_sessions,
    )


@dataclass(frozen=True)
class NumberedLog:
    """
    A log in the numbers of a fitted system, and what of it that has never seen.

    Attributes
    ----------
    events : SessionInteractions
        Without what the system does not know.
    unknown_items, unknown_users : int
        Events of such items, and of such users.
    dropped_events, dropped_sessions : float
        Shares of the log that are not in `events`.
    """

    events: SessionInteractions
    unknown_items: int
    unknown_users: int
    dropped_events: float
    dropped_sessions: float


def number_like(system: "Recommender", log: SessionInteractions, session_length: int = 2) -> NumberedLog:  # noqa: F821
    """
    Number a log as a fitted system numbers its items and users.

    Events of items and users that the system does not know leave the log, and then sessions that are too short, as
    :func:`align_test` does it with a training part. To a system that was fitted without users all are anonymous.

    Parameters
    ----------
    system : a fitted system with `recommend`
    log : SessionInteractions
        With raw ids; a log without is taken as numbered like the system's.
    session_length : int, optional
        Fewest events of a session that stays.

    Raises
    ------
    InputError
        If nothing is left.
    """
    log = as_session_interactions(log)
    items = _in_numbers_of(system.raw_items, log.item_vocabulary, log.item_ids)
    users = np.zeros(len(log), dtype=np.int32)
    if system.num_users > 1:
        users = _in_numbers_of(system.raw_users, log.user_vocabulary, log.user_ids)
    unknown_items = items == 0
    unknown_users = (users == 0) & (log.user_ids != ANONYMOUS_USER) & (system.num_users > 1)
    seen = ~unknown_items & ~unknown_users
    length = np.bincount(log.session_ids[seen], minlength=log.num_sessions)
    kept = seen & (length[log.session_ids] >= session_length)
    if not kept.any():
        raise InputError(
            f"no session of {session_length} or more events has only items and users that the model knows: of "
            f"{len(log)} events {int(unknown_items.sum())} are of unknown items, {int(unknown_users.sum())} of unknown "
            "users; are the ids of the type they had in training?"
        )
    events = _numbered_like(system, log, items, users, kept)
    return NumberedLog(
        events,
        int(unknown_items.sum()),
        int(unknown_users.sum()),
        1.0 - len(events) / len(log),
        1.0 - events.num_sessions / log.num_sessions,
    )


def _in_numbers_of(ours: Vocabulary, theirs: Vocabulary | None, numbers: np.ndarray) -> np.ndarray:
    """Numbers of a log in those of a vocabulary, 0 where it does not know them; shape (events,)."""
    raw_ids = np.arange(1, numbers.max(initial=0) + 1) if theirs is None else theirs.raw_ids
    return np.concatenate([[0], ours.transform(raw_ids)]).astype(np.int32)[numbers]


def _numbered_like(
    like: "SessionInteractions | Recommender",  # noqa: F821
    log: SessionInteractions,
    items: np.ndarray,
    users: np.ndarray,
    kept: np.ndarray,
) -> SessionInteractions:
    """Some events of a log under other numbers, (events,) each, ordered by these."""
    numbered = log.select(kept)
    numbered.item_ids, numbered.user_ids = items[kept], users[kept]
    for name in ("num_items", "num_users", "item_vocabulary", "user_vocabulary"):
        setattr(numbered, name, getattr(like, name))
    return _ordered_by_user(numbered)


def _numbers_in(train: SessionInteractions, test: SessionInteractions, kind: str) -> np.ndarray:
    """The test part's items or users in the training part's numbers, 0 where unseen; shape (events,)."""
    name = f"{kind}_vocabulary"
    ours, theirs = getattr(train, name), getattr(test, name)
    numbers = getattr(test, f"{kind}_ids")
    if (ours is None) != (theirs is None):
        raise InputError(f"only one of the training and the test part has {kind}s with raw ids: give both or none")
    if ours is None:
        seen = np.zeros(max(getattr(train, f"num_{kind}s"), getattr(test, f"num_{kind}s")), dtype=bool)
        seen[getattr(train, f"{kind}_ids")] = True
        return np.where(seen[numbers], numbers, 0).astype(np.int32)
    lookup = np.concatenate([[0], ours.transform(theirs.raw_ids)]).astype(np.int32)
    return lookup[numbers]


def _renumbered(interactions: SessionInteractions) -> SessionInteractions:
    """A copy with items and users numbered without gaps, where there are raw ids to tell which is which."""
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
    """Events in the order of the (new) user numbers; sessions and their events stay in order."""
    order = np.lexsort((interactions.session_ids, interactions.user_ids))
    return interactions.select(order)


def split_rows_by_time(sequences: SessionSequences, late_share: float) -> tuple[SessionSequences, SessionSequences]:
    """
    Split rows into their earlier sessions, and the later ones with the earlier as their history.

    Parameters
    ----------
    sequences : SessionSequences
    late_share : float
        Share of the sessions, by the time of their last event, that are late.

    Returns
    -------
    (early, late) : two SessionSequences
        `early` holds the events of early sessions only. `late` holds the rows that have a target in a late session,
        and only those targets.

    Raises
    ------
    InputError
        If one of them would have no target.
    """
    session, place = np.unique(sequences.session_ids, return_inverse=True)
    last = np.full(len(session), np.iinfo(np.int64).min)
    np.maximum.at(last, place, sequences.events[:, TIME])
    # Sessions that end at the same time, or at an unknown one, keep their order.
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


def rows_of(split: TimeSplit, max_sequence_length: int) -> tuple[SessionSequences, SessionSequences]:
    """Rows of both parts; those of the second have the first as their history, and its bins."""
    train = to_session_sequences(split.train, max_sequence_length)
    test = to_session_sequences(
        split.test,
        max_sequence_length,
        history=split.train,
        binning=train.binning,
        gap_binning=train.gap_binning,
    )
    return train, test
