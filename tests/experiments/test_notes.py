"""What a user is told about a log: exact words for small logs, silence for ordinary ones."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.cross_validation import (
    ENOUGH,
    RARE_ITEM,
    RARE_USER,
    SHORT_SESSION,
    SupportFilters,
    lacking_support,
    time_based_split,
)
from spotlight_asars.datasets.synthetic.log import generate_sessions
from spotlight_asars.experiments.notes import notes_on_filters, notes_on_split
from spotlight_asars.interactions.sessions import SessionInteractions


def sessions_of(*sessions, users=None):
    """Sessions of these items, a day apart, with their own ids unless they have users."""
    lengths = [len(one) for one in sessions]
    log = pd.DataFrame(
        {
            "item": [item for one in sessions for item in one],
            "timestamp": np.repeat(np.arange(len(sessions)) * 86_400.0, lengths)
            + np.concatenate([10.0 * np.arange(length) for length in lengths]),
        }
    )
    kind, ids = ("session", np.arange(len(sessions))) if users is None else ("user", users)
    return SessionInteractions.from_log(log.assign(**{kind: np.repeat(ids, lengths)}))


def test_why_events_lack_support():
    """Item c is rare; without it the second session is too short; user 2 has only that one."""
    log = sessions_of("ab", "ac", "ab", users=[1, 2, 1])
    found = lacking_support(log, 2, 2, 2)
    by_user = {user: found[log.user_ids == log.user_vocabulary.transform([user])[0]].tolist() for user in (1, 2)}
    assert by_user == {1: [ENOUGH] * 4, 2: [RARE_USER, RARE_ITEM]}
    assert lacking_support(log, 2, 2, 1)[log.user_ids == log.user_vocabulary.transform([2])[0]].tolist() == [
        SHORT_SESSION,
        RARE_ITEM,
    ]


class TestFilters:
    def test_what_is_dropped_and_what_keeps_more(self):
        log = sessions_of(*["ab"] * 4, "cd", "cd", "e")
        (note,) = notes_on_filters(log, SupportFilters(4, 2, 1))
        assert note == (
            "the filters 4,2,1 leave 8 of 13 events: 5 of items with fewer than 4 events; --filters 2,2,1 leaves 12"
        )

    def test_short_sessions_and_rare_users(self):
        log = sessions_of("ab", "a", "b", "ab", "ba", users=[1, 1, 1, 2, 3])
        notes = notes_on_filters(log, SupportFilters(1, 2, 2))
        assert notes == [
            "the filters 1,2,2 leave 0 of 8 events: 2 in sessions with fewer than 2 events, 6 of users with fewer than "
            "2 sessions; --filters 2,2,1 leaves 6"
        ]

    def test_sessions_of_a_single_event(self):
        log = sessions_of("aaaa", "a", "a", users=[1, 1, 2])
        found = "67% of the sessions have a single event, which nothing can be learned from"
        assert notes_on_filters(log, SupportFilters(1, 1, 1)) == [
            f"{found}; a longer --session-gap, such as 1d, joins more of them"
        ]
        assert notes_on_filters(sessions_of("aaaa", "a", "a"), SupportFilters(1, 1, 1)) == [found]

    def test_nothing_can_be_learned(self):
        (note,) = notes_on_filters(sessions_of("ab", "cd", "ef"), SupportFilters(2, 1, 1))
        assert note == "the filters 2,1,1 leave 0 of 6 events: 6 of items with fewer than 2 events"

    def test_nothing_to_say(self):
        assert notes_on_filters(sessions_of("ab", "ba", "abc"), SupportFilters(2, 2, 1)) == []


class TestSplit:
    def test_a_small_part_that_lost_much_and_repeats(self):
        log = sessions_of(*["ab", "ab"] * 4, "aaa", "xa", users=[1, 2] * 4 + [1, 9])
        notes = notes_on_split(time_based_split(log, 0.2))
        assert notes == [
            "40% of 5 test events are dropped: 1 of items that the training part lacks, 2 of users that it lacks; a "
            "smaller --test-share loses fewer",
            "the test part has 2 targets: its Recall is uncertain by 0.71 either way",
            "100% of the test targets repeat the item before: judge every system by repeat_last's row",
        ]

    @pytest.mark.once
    def test_nothing_to_say(self):
        log = generate_sessions(num_users=300, num_items=200, random_state=0).log
        assert notes_on_split(time_based_split(SessionInteractions.from_log(log))) == []
