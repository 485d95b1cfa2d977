"""SessionInteractions: columns, vocabularies, selections, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.host import Interactions
from spotlight_asars.interactions.sessions import SessionInteractions, as_session_interactions
from spotlight_asars.interactions.vocabulary import Vocabulary


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


class TestWhatWouldBeLostSilently:
    def test_user_0_among_others_is_told(self):
        """Spotlight's simulators number users from 0; here 0 is anonymous, and such a user would lose his history."""
        with pytest.warns(UserWarning, match="2 events of user 0 are taken as anonymous"):
            SessionInteractions(np.array([0, 0, 1, 1]), np.array([1, 2, 1, 2]), timestamps=np.array([1, 2, 3, 4]))
