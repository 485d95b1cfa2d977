"""Sessionization and inter-event times, by hand and against plain loops."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.interactions import ordering
from spotlight_asars.interactions.sessionization import (
    InterEventTimes,
    cut_sessions,
    dwell_times,
    ends_session,
    number_sessions,
    session_gap_times,
)
from spotlight_asars.interactions.sessions import SessionInteractions, known_dwell_times, known_session_gap_times

NAN = float("nan")
GAP = 3.0


def in_order_of_time(events):
    """Indices of events (user, time, session) by user, then time, then log."""
    return sorted(range(len(events)), key=lambda k: (events[k][0], events[k][1], k))


def split_by_gap(events):
    """Lists of event indices, one for each session."""
    sessions = []
    for k in in_order_of_time(events):
        last = events[sessions[-1][-1]] if sessions else None
        if last is None or last[0] != events[k][0] or events[k][1] - last[1] >= GAP:
            sessions.append([])
        sessions[-1].append(k)
    return sessions


def split_by_id(events):
    """Lists of event indices: a known user's timeline is split where no session id stands on both sides."""
    sessions = []
    order = in_order_of_time(events)
    anonymous = {}
    for k in order:
        if events[k][0] == 0:
            anonymous.setdefault(events[k][2], []).append(k)
    sessions.extend(anonymous.values())
    for user in sorted({event[0] for event in events} - {0}):
        own = [k for k in order if events[k][0] == user]
        for place, k in enumerate(own):
            before, after = ({events[j][2] for j in part} for part in (own[:place], own[place:]))
            if not before & after:
                sessions.append([])
            sessions[-1].append(k)
    return sessions


def as_lists(order, sessions):
    return [order[sessions == number].tolist() for number in range(sessions.max() + 1)]


class TestSessions:
    def test_by_gap_by_hand(self):
        users = np.array([2, 1, 1, 1, 2, 1])
        times = np.array([50.0, 0.0, 3600.0, 3599.0, 40.0, 7200.0])
        order, sessions = cut_sessions(users, times)
        np.testing.assert_array_equal(order, [1, 3, 2, 5, 4, 0])
        np.testing.assert_array_equal(sessions, [0, 0, 0, 1, 2, 2])

    def test_a_pause_as_long_as_the_gap_ends_a_session(self):
        for last, number in ((3599.999, 0), (3600.0, 1)):
            assert cut_sessions(np.array([1, 1]), np.array([0.0, last]))[1][1] == number

    def test_equal_times_keep_the_order_of_the_log(self):
        order, _ = cut_sessions(np.ones(50, dtype=int), np.repeat([5.0, 1.0], 25))
        np.testing.assert_array_equal(order, [*range(25, 50), *range(25)])

    def test_own_sessions_outlast_any_gap(self):
        _, sessions = cut_sessions(np.array([1, 1, 1]), np.array([0.0, 4e4, 4e4 + 1]), np.array(["a", "a", "b"]))
        np.testing.assert_array_equal(sessions, [0, 0, 1])

    @pytest.mark.parametrize("users", [[1, 1, 1, 1], [0, 0, 0, 0]])
    def test_session_ids_that_begin_again_days_later_are_said(self, users):
        times, ids = np.array([0.0, 30.0, 2e5, 2e5 + 30.0]), np.array([1, 2, 1, 2])
        with pytest.warns(UserWarning, match="events half a day or more apart.*make them unique") as told:
            cut_sessions(np.array(users), times, ids)
        assert len(told) == 1

    def test_a_pause_between_sessions_is_as_long_as_it_likes(self):
        cut_sessions(np.array([1, 1, 2, 2]), np.array([0.0, 1e6, 0.0, 1e6]), np.array([1, 2, 1, 2]))

    @pytest.mark.parametrize(
        "gap", ["1h", "60min", "3600", timedelta(hours=1), pd.Timedelta("1h"), np.timedelta64(1, "h")], ids=str
    )
    def test_the_gap_may_be_a_duration(self, gap):
        """Regression: comparing a duration with a number ended in a TypeError."""
        users, times = np.array([1, 1, 1]), np.array([0.0, 3599.0, 7199.0])
        np.testing.assert_array_equal(cut_sessions(users, times, session_gap=gap)[1], [0, 0, 1])
        log = SessionInteractions(users, users, timestamps=times, session_gap=gap)
        assert log.session_gap == 3600.0 and type(log.session_gap) is float

    @pytest.mark.parametrize("gap", ["soon", "", "-1h", pd.NaT, None, [1.0], float("nan"), 0, "1 hour and a half"])
    def test_a_gap_that_is_none_is_refused_in_one_line(self, gap, refuses):
        refuses(lambda: cut_sessions(np.array([1]), np.array([0.0]), session_gap=gap), "session_gap is", "such as '1h'")

    def test_one_session_id_of_two_users_is_two_sessions(self):
        order, sessions = cut_sessions(np.array([1, 2, 1, 0]), np.array([0.0, 1.0, 2.0, 3.0]), np.array([7, 7, 7, 7]))
        np.testing.assert_array_equal(order, [3, 0, 2, 1])
        np.testing.assert_array_equal(sessions, [0, 1, 1, 2])

    def test_two_devices_at_once_are_one_session_of_a_known_user_only(self):
        times, ids = np.array([0.0, 5.0, 10.0, 15.0]), np.array(["a", "b", "a", "b"])
        order, sessions = cut_sessions(np.ones(4, dtype=int), times, ids)
        np.testing.assert_array_equal(order, [0, 1, 2, 3])
        np.testing.assert_array_equal(sessions, [0, 0, 0, 0])
        order, sessions = cut_sessions(np.zeros(4, dtype=int), times, ids)
        np.testing.assert_array_equal(order, [0, 2, 1, 3])
        np.testing.assert_array_equal(sessions, [0, 0, 1, 1])

    def test_a_long_session_holds_all_that_begin_before_its_end(self):
        times, ids = np.array([0.0, 1.0, 2.0, 5.0, 9.0, 10.0]), np.array(["long", "b", "b", "c", "long", "d"])
        _, sessions = cut_sessions(np.ones(6, dtype=int), times, ids)
        np.testing.assert_array_equal(sessions, [0, 0, 0, 0, 0, 1])

    def test_sessions_that_touch_stay_apart_unless_the_log_mixes_them(self):
        times = np.array([0.0, 10.0, 10.0, 20.0])
        _, apart = cut_sessions(np.ones(4, dtype=int), times, np.array(["a", "a", "b", "b"]))
        np.testing.assert_array_equal(apart, [0, 0, 1, 1])
        order, mixed = cut_sessions(np.ones(4, dtype=int), times, np.array(["a", "b", "a", "b"]))
        np.testing.assert_array_equal(order, [0, 1, 2, 3])
        np.testing.assert_array_equal(mixed, [0, 0, 0, 0])

    def test_kinds_of_session_ids(self):
        for ids in (
            [1, "1", 1, "1"],
            [(1, 2), (1, 3), (1, 2), (1, 3)],
            pd.Series(["a", "b", "a", "b"], index=[3, 3, 1, 0]),
        ):
            _, sessions = cut_sessions(np.zeros(4, dtype=int), np.arange(4.0), ids)
            np.testing.assert_array_equal(sessions, [0, 0, 1, 1])

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_gap_against_loops(self, draw_log, data):
        log = draw_log(data)
        order, sessions = cut_sessions(log["user_ids"], log["timestamps"], session_gap=GAP)
        events = list(zip(log["user_ids"], log["timestamps"], strict=True))
        assert as_lists(order, sessions) == split_by_gap(events)

    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_ids_against_loops(self, draw_log, data):
        log = draw_log(data, users=(0, 1, 2), sessions=5)
        order, sessions = cut_sessions(log["user_ids"], log["timestamps"], log["session_ids"])
        events = list(zip(log["user_ids"], log["timestamps"], log["session_ids"], strict=True))
        assert as_lists(order, sessions) == split_by_id(events)

    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_sessions_of_any_log_are_in_order(self, draw_log, data):
        log = draw_log(data, users=(0, 1, 2), sessions=4)
        order, sessions = cut_sessions(log["user_ids"], log["timestamps"], log["session_ids"])
        assert sorted(order) == list(range(len(order)))
        assert set(np.diff(sessions)) <= {0, 1}
        users, times = log["user_ids"][order], log["timestamps"][order]
        assert (np.diff(users) >= 0).all()
        same_session, same_user = np.diff(sessions) == 0, (np.diff(users) == 0) & (users[1:] > 0)
        assert not (same_session & (np.diff(users) != 0)).any()
        assert (np.diff(times)[same_session | same_user] >= 0).all()
        tied = (np.diff(times) == 0) & (same_session | same_user)
        assert (np.diff(order)[tied] > 0).all()

    def test_refusals(self, refuses):
        users, times = np.array([0, 0]), np.array([0.0, 1.0])
        refuses(lambda: cut_sessions(users, times), "neither users nor sessions", "or session ids")
        refuses(lambda: cut_sessions(users, times, np.array([1.0, NAN])), "session id of event 1 is missing", "every")
        refuses(lambda: cut_sessions(users, times, ["a", None]), "session id of event 1 is missing")
        refuses(lambda: cut_sessions(users, times, np.array([5])), "2 events and 1 session ids", "give every event one")
        for gap in (0, -1.0, NAN):
            refuses(lambda gap=gap: cut_sessions(users + 1, times, session_gap=gap), "session_gap", "positive number")

    @given(st.data(), st.integers(1, 6))
    @settings(max_examples=60, deadline=None)
    def test_sorted_events_are_numbered_alike_in_blocks_of_any_size(self, draw_log, data, block):
        log = draw_log(data)
        order, sessions = cut_sessions(log["user_ids"], log["timestamps"], session_gap=GAP)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ordering, "BLOCK", block)
            numbered = number_sessions(log["user_ids"][order], log["timestamps"][order], GAP)
        np.testing.assert_array_equal(numbered, sessions)

    def test_an_unknown_time_ends_no_session(self):
        assert ends_session(np.array([GAP - 0.001, GAP, NAN]), GAP).tolist() == [False, True, False]


class TestInterEventTimes:
    def test_dwell_by_hand(self):
        dwell = dwell_times(np.array([1.0, 4.0, 4.0, 90.0, 95.0, 7.0]), np.array([0, 0, 0, 1, 1, 2]))
        np.testing.assert_array_equal(dwell, [3.0, 0.0, NAN, 5.0, NAN, NAN])

    def test_gaps_by_hand(self):
        log = SessionInteractions(
            np.array([0, 0, 1, 1, 1, 2]),
            np.arange(1, 7),
            timestamps=np.array([1.0, 50.0, 10.0, 30.0, 70.0, 100.0]),
            session_ids=np.array(["a", "b", "c", "c", "d", "e"]),
        )
        np.testing.assert_array_equal(log.session_gap_times, [NAN, NAN, NAN, NAN, 40.0, NAN])
        np.testing.assert_array_equal(log.dwell_times, [NAN, NAN, 20.0, NAN, NAN, NAN])

    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_dwell_and_gaps_against_loops(self, draw_log, data):
        log = SessionInteractions(**draw_log(data, users=(0, 1, 2), sessions=4))
        dwell, gaps = log.dwell_times, log.session_gap_times
        for k in range(len(log)):
            later = [j for j in range(k + 1, len(log)) if log.session_ids[j] == log.session_ids[k]]
            np.testing.assert_equal(dwell[k], log.timestamps[later[0]] - log.timestamps[k] if later else NAN)
            earlier = [j for j in range(k) if log.user_ids[j] == log.user_ids[k] > 0]
            starts = bool(earlier) and log.session_ids[earlier[-1]] != log.session_ids[k]
            np.testing.assert_equal(gaps[k], log.timestamps[k] - log.timestamps[earlier[-1]] if starts else NAN)

    @given(st.data(), st.integers(1, 6))
    @settings(max_examples=60, deadline=None)
    def test_blocks_of_any_size(self, draw_log, data, block):
        log = SessionInteractions(**draw_log(data, users=(0, 1, 2), sessions=4))
        columns = log.timestamps, log.session_ids
        dwell, gaps = dwell_times(*columns), session_gap_times(*columns, log.user_ids)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ordering, "BLOCK", block)
            np.testing.assert_array_equal(dwell_times(*columns), dwell)
            np.testing.assert_array_equal(session_gap_times(*columns, log.user_ids), gaps)
            for pieces, times in ((known_dwell_times(log), dwell), (known_session_gap_times(log), gaps)):
                np.testing.assert_array_equal(np.concatenate(list(pieces)), times[~np.isnan(times)])
            slices = [one for one, _ in InterEventTimes.in_blocks(*columns)]
        assert [one.start for one in slices] == list(range(0, len(log), block)) and slices[-1].stop == len(log)

    def test_without_users_there_are_no_gaps(self):
        ((_, between),) = InterEventTimes.in_blocks(np.array([0.0, 5.0]), np.array([0, 1]))
        assert not between.has_gap.any() and between.starts.all() and between.gap.tolist() == [0.0, 5.0]
