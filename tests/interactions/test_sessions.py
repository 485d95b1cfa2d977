"""Sessions: how a log is cut, ordered and timed, against plain loops and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.errors import InputError
from spotlight_asars.host import Interactions
from spotlight_asars.interactions.sessionization import cut_sessions, dwell_times
from spotlight_asars.interactions.sessions import SessionInteractions, as_session_interactions
from spotlight_asars.interactions.times import timestamps_in_seconds
from spotlight_asars.interactions.vocabulary import Vocabulary

NAN = float("nan")
GAP = 3.0


def in_order_of_time(events):
    """Indices of events (user, time, session) by user, then time, then log."""
    return sorted(range(len(events)), key=lambda k: (events[k][0], events[k][1], k))


def cut_by_gap(events):
    """Lists of event indices, one a session."""
    sessions = []
    for k in in_order_of_time(events):
        last = events[sessions[-1][-1]] if sessions else None
        if last is None or last[0] != events[k][0] or events[k][1] - last[1] >= GAP:
            sessions.append([])
        sessions[-1].append(k)
    return sessions


def cut_by_id(events):
    """Lists of event indices: a known user's timeline is cut where no session id stands on both sides."""
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


class TestCut:
    def test_by_gap_by_hand(self):
        users = np.array([2, 1, 1, 1, 2, 1])
        times = np.array([50.0, 0.0, 3600.0, 3599.0, 40.0, 7200.0])
        order, sessions = cut_sessions(users, times)
        np.testing.assert_array_equal(order, [1, 3, 2, 5, 4, 0])
        np.testing.assert_array_equal(sessions, [0, 0, 0, 1, 2, 2])

    def test_a_pause_as_long_as_the_gap_cuts(self):
        for last, number in ((3599.999, 0), (3600.0, 1)):
            assert cut_sessions(np.array([1, 1]), np.array([0.0, last]))[1][1] == number

    def test_equal_times_keep_the_order_of_the_log(self):
        order, _ = cut_sessions(np.ones(50, dtype=int), np.repeat([5.0, 1.0], 25))
        np.testing.assert_array_equal(order, [*range(25, 50), *range(25)])

    def test_own_sessions_outlast_any_gap(self):
        _, sessions = cut_sessions(np.array([1, 1, 1]), np.array([0.0, 1e6, 1e6 + 1]), np.array(["a", "a", "b"]))
        np.testing.assert_array_equal(sessions, [0, 0, 1])

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
        assert as_lists(order, sessions) == cut_by_gap(events)

    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_ids_against_loops(self, draw_log, data):
        log = draw_log(data, users=(0, 1, 2), sessions=5)
        order, sessions = cut_sessions(log["user_ids"], log["timestamps"], log["session_ids"])
        events = list(zip(log["user_ids"], log["timestamps"], log["session_ids"], strict=True))
        assert as_lists(order, sessions) == cut_by_id(events)

    @given(st.data())
    @settings(max_examples=200, deadline=None)
    def test_whatever_cuts_them_sessions_are_in_order(self, draw_log, data):
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


class TestTimes:
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

    @pytest.mark.parametrize("unit, number", [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
    def test_units(self, unit, number, refuses):
        seconds = np.array([1_400_000_000, 1_400_003_600, -5])
        given_times = seconds * number
        found = timestamps_in_seconds(given_times, unit)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, seconds, rtol=1e-15)
        np.testing.assert_array_equal(given_times, seconds * number)
        if unit != "s":
            refuses(lambda: timestamps_in_seconds(given_times), f"look like {unit}", f"timestamp_unit='{unit}'")

    def test_refusals(self, refuses):
        refuses(lambda: timestamps_in_seconds(np.array([1.0]), "minutes"), "'minutes'", "s, ms, us, ns")
        refuses(lambda: timestamps_in_seconds(np.array(["2020-01-01"])), "type <U10", "give numbers, in seconds")
        for bad in (NAN, math.inf, -math.inf):
            for times in (np.array([1.0, bad]), [1.0, bad], [1, bad] * 20):
                refuses(lambda times=times: timestamps_in_seconds(times), "event 1", str(bad), "finite time")

    @pytest.mark.parametrize("unit", ["us", "ns"])
    def test_moments_in_any_unit_are_the_same_seconds(self, unit):
        milliseconds = 1_396_310_400_000 + np.random.RandomState(0).randint(10**9, size=500)
        found = timestamps_in_seconds(milliseconds.astype("datetime64[ms]").astype(f"datetime64[{unit}]"))
        np.testing.assert_array_equal(found, milliseconds / 1000)

    @pytest.mark.parametrize("count", [0, 1, 3, 40])
    @pytest.mark.parametrize("kinds", [(float,), (int,), (float, int), (np.float64,), (np.int64, float)])
    def test_a_list_is_read_as_an_array_is(self, kinds, count):
        times = [kinds[place % len(kinds)](1_400_000_000 - 7 * place) for place in range(count)]
        found = timestamps_in_seconds(times)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, timestamps_in_seconds(np.array(times, dtype=np.float64)))

    @pytest.mark.parametrize("count", [1, 40])
    @pytest.mark.parametrize(
        "time, part",
        [(True, "type bool"), ("1.5", "type <U3"), (None, "type object"), (1.4e12, "look like ms"), (10**400, "")],
        ids=["bool", "text", "none", "milliseconds", "huge"],
    )
    def test_what_a_list_may_not_hold(self, time, part, count, refuses):
        refuses(lambda: timestamps_in_seconds([time] * count), part)


class TestSessionInteractions:
    def test_by_hand(self):
        log = SessionInteractions(
            user_ids=np.array([2, 1, 2, 1]),
            item_ids=np.array([5, 6, 7, 8]),
            ratings=np.array([0.5, 0.6, 0.7, 0.8]),
            timestamps=np.array([9000, 50, 10, 20]),
            weights=np.array([50, 60, 70, 80]),
        )
        np.testing.assert_array_equal(log.user_ids, [1, 1, 2, 2])
        np.testing.assert_array_equal(log.item_ids, [8, 6, 7, 5])
        np.testing.assert_array_equal(log.timestamps, [20.0, 50.0, 10.0, 9000.0])
        np.testing.assert_array_equal(log.session_ids, [0, 0, 1, 2])
        np.testing.assert_array_equal(log.ratings, [0.8, 0.6, 0.7, 0.5])
        np.testing.assert_array_equal(log.weights, [80, 60, 70, 50])
        assert (log.num_users, log.num_items, log.num_sessions, len(log)) == (3, 9, 3, 4)
        assert (log.user_ids.dtype, log.item_ids.dtype, log.timestamps.dtype) == (np.int32, np.int32, np.float64)
        assert log.tocsr()[1, 8] == 0.8

    @given(st.data())
    @settings(max_examples=120, deadline=None)
    def test_no_event_is_lost_or_changed(self, draw_log, data):
        columns = draw_log(data, users=(0, 1, 2), sessions=3)
        given_columns = {name: column.copy() for name, column in columns.items()}
        log = SessionInteractions(**columns)
        for name, column in columns.items():
            np.testing.assert_array_equal(column, given_columns[name])
        place = np.argsort(log.item_ids)  # the log's order again, since item k + 1 is event k
        np.testing.assert_array_equal(log.user_ids[place], columns["user_ids"])
        np.testing.assert_array_equal(log.timestamps[place], columns["timestamps"])

    @pytest.mark.parametrize("in_order", [True, False])
    def test_what_was_given_is_copied_unless_it_may_be_kept(self, in_order):
        names = ("user_ids", "item_ids", "timestamps", "ratings", "weights")
        users, seconds = np.array([1, 1, 2], np.int32), np.array([1.0, 2.0, 0.0] if in_order else [2.0, 1.0, 0.0])
        given_columns = (users, np.array([5, 6, 7], np.int32), seconds, np.ones(3), np.ones(3))
        columns = dict(zip(names, given_columns, strict=True))
        for copy in (True, False):
            log = SessionInteractions(**columns, copy=copy)
            shared = [name for name in names if np.shares_memory(getattr(log, name), columns[name])]
            assert shared == ([] if copy or not in_order else ["user_ids", "item_ids", "ratings", "weights"])

    def test_lists_and_series_are_columns_too(self):
        index = [9, 9, 4]
        series = [pd.Series(column, index=index) for column in ([1, 1, 2], [3, 4, 5], [20.0, 10.0, 0.0])]
        for users, items, times in (([1, 1, 2], [3, 4, 5], [20.0, 10.0, 0.0]), series):
            log = SessionInteractions(users, items, timestamps=times)
            np.testing.assert_array_equal(log.item_ids, [4, 3, 5])
            assert isinstance(log.item_ids, np.ndarray)

    def test_from_log(self):
        frame = pd.DataFrame(
            {"user": ["b", "a", "b", "b"], "item": [(1,), "x", "x", 7], "timestamp": [7, 5, 3, 9000]},
            index=[3, 3, 0, 1],
        )
        kept = frame.copy()
        log = SessionInteractions.from_log(frame)
        pd.testing.assert_frame_equal(frame, kept)
        np.testing.assert_array_equal(log.user_vocabulary.inverse(log.user_ids), ["b", "b", "b", "a"])
        assert list(log.item_vocabulary.inverse(log.item_ids)) == ["x", (1,), 7, "x"]
        np.testing.assert_array_equal(log.session_ids, [0, 0, 1, 2])
        assert (log.num_users, log.num_items) == (3, 4)

    def test_from_log_without_users(self):
        frame = pd.DataFrame({"session": ["s", "t", "s"], "item": ["x", "y", "y"], "timestamp": [1, 2, 3]})
        log = SessionInteractions.from_log(frame)
        np.testing.assert_array_equal(log.user_ids, [0, 0, 0])
        np.testing.assert_array_equal(log.session_ids, [0, 0, 1])
        assert (log.user_vocabulary, log.num_users) == (None, 1)

    def test_from_log_unit_and_gap(self):
        frame = pd.DataFrame({"user": [1, 1, 1], "item": [1, 2, 3], "timestamp": [10**12, 10**12 + 999, 10**12 + 2000]})
        log = SessionInteractions.from_log(frame, session_gap=1.0, timestamp_unit="ms")
        np.testing.assert_array_equal(log.session_ids, [0, 0, 1])

    def test_numbers_of_ids_follow_the_vocabularies(self):
        vocabulary = Vocabulary(["a", "b", "c"])
        log = SessionInteractions([1], [2], timestamps=[0.0], item_vocabulary=vocabulary, user_vocabulary=vocabulary)
        assert (log.num_items, log.num_users) == (4, 4)

    def test_select(self):
        log = SessionInteractions([1, 1, 1, 2], [1, 2, 3, 4], timestamps=[0.0, 1.0, 9e3, 0.0], ratings=[1, 2, 3, 4])
        chosen = log.select(np.array([True, False, True, True]))
        np.testing.assert_array_equal(chosen.item_ids, [1, 3, 4])
        np.testing.assert_array_equal(chosen.ratings, [1, 3, 4])
        np.testing.assert_array_equal(chosen.session_ids, [0, 1, 2])
        np.testing.assert_array_equal(log.select(np.array([2, 3])).session_ids, [0, 1])
        assert (chosen.num_items, chosen.num_users, chosen.num_sessions) == (5, 3, 3)
        nothing = log.select(np.zeros(4, dtype=bool))
        assert (len(nothing), nothing.num_sessions) == (0, 0)
        assert nothing.dwell_times.shape == nothing.session_gap_times.shape == (0,)
        np.testing.assert_array_equal(log.item_ids, [1, 2, 3, 4])

    def test_as_session_interactions(self):
        host = Interactions(
            np.array([1, 1]), np.array([1, 2]), timestamps=np.array([5000, 0]), num_users=4, num_items=9
        )
        log = as_session_interactions(host, session_gap=5000)
        assert (log.num_users, log.num_items, log.num_sessions) == (4, 9, 2)
        assert as_session_interactions(host, session_gap=5001).num_sessions == 1
        assert as_session_interactions(log) is log
        np.testing.assert_array_equal(host.item_ids, [1, 2])

    def test_refusals(self, refuses):
        make = SessionInteractions
        refuses(lambda: make([1], [1]), "no timestamps")
        refuses(lambda: make([], [], timestamps=[]), "no events")
        refuses(lambda: make([1, 1], [1, 0], timestamps=[0, 1]), "0 or negative", "number items from 1")
        refuses(lambda: make([1, -1], [1, 1], timestamps=[0, 1]), "user id is negative", "number users from 1")
        refuses(lambda: make([1], [1.5], timestamps=[0]), "item ids are of type float64", "give integers")
        refuses(lambda: make([0.5], [1], timestamps=[0]), "user ids are of type float64", "from_log")
        refuses(lambda: make(["a"], [1], timestamps=[0]), "user ids are of type <U1", "from_log")
        # As int32, 2**32 would be item 0, the padding.
        refuses(lambda: make([1], [2**32], timestamps=[0]), "4294967296 among the item ids is too large", "from_log")
        refuses(lambda: make([-(2**32)], [1], timestamps=[0]), "-4294967296 among the user ids", "from_log")
        refuses(
            lambda: make([1], [1], timestamps=[0], num_items=9, item_vocabulary=Vocabulary("ab")), "num_items is 9", "3"
        )
        refuses(
            lambda: make([1], [1], timestamps=[0], num_users=2, user_vocabulary=Vocabulary("ab")), "num_users is 2", "3"
        )
        refuses(lambda: make([1, 1], [1, 1], timestamps=[0, 1], session_ids=[5]), "2 events and 1 session ids")

    def test_refusals_from_log(self, refuses):
        frame = pd.DataFrame({"user": [1], "item": [1], "timestamp": [0]})
        for column in ("item", "timestamp"):
            refuses(
                lambda column=column: SessionInteractions.from_log(frame.drop(columns=column)), f"'{column}'", "it has"
            )
        refuses(lambda: SessionInteractions.from_log(frame.drop(columns="user")), "neither", "'user' nor 'session'")
        refuses(lambda: SessionInteractions.from_log(frame[:0]), "no events")
        for column in ("user", "item", "session"):
            gap = pd.DataFrame(
                {"user": [1, 2], "item": ["a", "b"], "session": [1, 1], "timestamp": [0, 1]}, dtype=object
            )
            gap["timestamp"] = [0, 1]
            gap.loc[1, column] = None
            refuses(
                lambda gap=gap: SessionInteractions.from_log(gap), "event 1 has no", repr(column), "leave the event out"
            )


class TestDatetimes:
    @pytest.mark.parametrize("zone", [None, "Europe/Paris"])
    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_datetimes_are_times_too(self, unit, zone):
        seconds = np.array([1.4e9, 1.4e9 + 5, 1.4e9 + 7200])
        moments = pd.Series(pd.to_datetime(seconds, unit="s", utc=zone is not None).as_unit(unit))
        moments = moments if zone is None else moments.dt.tz_convert(zone)
        log = pd.DataFrame({"user": 1, "item": [1, 2, 3], "timestamp": moments})
        read = SessionInteractions.from_log(log)
        np.testing.assert_array_equal(read.timestamps, seconds)
        assert read.session_ids.tolist() == [0, 0, 1]

    def test_a_missing_datetime_is_told(self):
        log = pd.DataFrame({"user": 1, "item": [1, 2], "timestamp": [pd.Timestamp(5, unit="s"), pd.NaT]})
        with pytest.raises(InputError, match="event 1 is nan"):
            SessionInteractions.from_log(log)


class TestWhatWouldBeLostSilently:
    def test_user_0_among_others_is_told(self):
        """Spotlight's simulators number users from 0; here 0 is anonymous, and such a user would lose his history."""
        with pytest.warns(UserWarning, match="2 events of user 0 are taken as anonymous"):
            SessionInteractions(np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2]), timestamps=np.array([1, 2, 3, 4]))

    def test_a_single_time_in_another_unit_is_told(self):
        times = np.array([1.5e9, 1.5e9 + 5, 1.5e12, 1.5e9 + 9])
        with pytest.raises(InputError, match=r"event 2 is about 1\.5e\+12, no time in s"):
            SessionInteractions(np.ones(4, dtype=int), np.arange(1, 5), timestamps=times)


def test_times_of_text_that_is_no_unicode_are_refused(refuses):
    log = pd.DataFrame({"user": [1, 1], "item": [1, 2], "timestamp": pd.Series(["\ud800", "a"], dtype=object)})
    refuses(lambda: SessionInteractions.from_log(log), "give numbers, in seconds")
