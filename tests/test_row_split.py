"""Rows split by time, by hand and by what must hold for any log."""

import numpy as np
import pytest

from spotlight_asars.cross_validation import split_rows_by_time
from spotlight_asars.interactions.channels import ITEM, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions


def pieces(rows):
    """Items and whether they are targets, row by row."""
    ends = rows.offsets[1:-1]
    items, targets = np.split(rows.events[:, ITEM], ends), np.split(rows.events[:, TARGET], ends)
    return [(one.tolist(), wanted.tolist()) for one, wanted in zip(items, targets, strict=True)]


def log_of_two(times):
    """User 1 has sessions 1 2 and 3 4 5, user 2 has 6 7 and 8 9; they end at ``times``."""
    lengths = [2, 3, 2, 2]
    ends = np.repeat(times, lengths)
    return SessionInteractions(
        np.repeat([1, 1, 2, 2], lengths),
        np.arange(1, 10),
        timestamps=ends - np.array([1, 0, 2, 1, 0, 1, 0, 1, 0]),
        session_ids=np.repeat([0, 1, 2, 3], lengths),
    )


def random_rows(seed=0, users=5, events=150, **windows):
    """Users with several sessions one after the other; user 0 is anonymous."""
    random_state = np.random.RandomState(seed)
    session = np.sort(random_state.randint(40, size=events))
    times = np.cumsum(random_state.randint(0, 60, size=events))
    log = SessionInteractions(
        random_state.randint(users, size=40)[session],
        random_state.randint(1, 9, size=events),
        timestamps=times,
        session_ids=session,
    )
    return to_session_sequences(log, **windows)


class TestByHand:
    def test_halves(self):
        early, late = split_rows_by_time(to_session_sequences(log_of_two([10, 100, 50, 60])), 0.5)
        assert pieces(early) == [([1, 2], [0, 1]), ([6, 7], [0, 1])]
        assert pieces(late) == [([1, 2, 3, 4, 5], [0, 0, 0, 1, 1]), ([6, 7, 8, 9], [0, 0, 0, 1])]

    def test_a_user_may_have_late_sessions_only_or_none(self):
        early, late = split_rows_by_time(to_session_sequences(log_of_two([10, 20, 50, 60])), 0.5)
        assert pieces(early) == [([1, 2, 3, 4, 5], [0, 1, 0, 1, 1])] and early.user_ids.tolist() == [1]
        assert pieces(late) == [([6, 7, 8, 9], [0, 1, 0, 1])] and late.user_ids.tolist() == [2]

    def test_share_of_the_sessions(self):
        rows = to_session_sequences(log_of_two([10, 100, 50, 60]))
        assert [split_rows_by_time(rows, share)[1].num_targets for share in (0.25, 0.5, 0.75)] == [2, 3, 4]

    def test_numbering_and_bins_stay(self):
        rows = to_session_sequences(log_of_two([10, 100, 50, 60]))
        for part in split_rows_by_time(rows, 0.5):
            assert (part.num_items, part.num_users, part.session_gap) == (rows.num_items, rows.num_users, 3600.0)
            assert part.binning is rows.binning and part.gap_binning is rows.gap_binning
        assert rows.num_targets == 5  # the rows given are as they were

    def test_too_few_sessions_are_refused(self, refuses):
        one = SessionSequences(np.array([[1, 2, 3]]))
        refuses(lambda: split_rows_by_time(one, 0.3), "too few sessions", "longer training part")
        refuses(lambda: split_rows_by_time(SessionSequences(np.array([[1], [2]])), 0.5), "too few sessions")


@pytest.mark.parametrize("windows", [{}, {"max_sequence_length": 6, "step_size": 2}])
@pytest.mark.parametrize("known_times", [True, False])
class TestAnyLog:
    def test_each_target_is_in_one_part(self, windows, known_times):
        rows = random_rows(**windows)
        if not known_times:
            rows.events[:, TIME] = UNKNOWN_TIME
        early, late = split_rows_by_time(rows, 0.3)
        assert early.num_targets and late.num_targets
        assert early.num_targets + late.num_targets == rows.num_targets
        ours, theirs = (set(one.session_ids[one.events[:, TARGET] != 0]) for one in (early, late))
        assert not ours & theirs
        assert not set(early.session_ids) & theirs  # nothing of a late session is fitted on
        assert early.events[:, TIME].max() <= late.events[late.events[:, TARGET] != 0, TIME].min()

    def test_a_late_target_has_all_that_came_before_it(self, windows, known_times):
        rows = random_rows(**windows)
        if not known_times:
            rows.events[:, TIME] = UNKNOWN_TIME
        _, late = split_rows_by_time(rows, 0.3)
        whole = {tuple(items): targets for items, targets in pieces(rows)}
        for items, targets in pieces(late):
            assert sum(targets) and all(had >= has for had, has in zip(whole[tuple(items)], targets, strict=True))
