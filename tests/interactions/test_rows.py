"""Times as the rows hold them: whole seconds in 32 bits, and the timestamps of SessionSequences."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotlight_asars.interactions.channels import TIME, TIME_ORIGIN, UNKNOWN_TIME, whole_seconds
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions

LIMIT = 2**31 - 1


class TestWholeSeconds:
    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [
            (978_307_200, 0),  # 2001-01-01 00:00 UTC
            (0, -978_307_200),  # 1970
            (978_307_200.999, 0),
            (978_307_199.001, -1),
            (-0.5, -978_307_201),  # fractions before 1970 go down too
            (-1.0, -978_307_201),
            (np.nan, UNKNOWN_TIME),
            (np.inf, LIMIT),
            (-np.inf, -LIMIT),
            (1e18, LIMIT),
            (-1e18, -LIMIT),
            (TIME_ORIGIN + LIMIT, LIMIT),
            (TIME_ORIGIN + LIMIT + 1, LIMIT),
            (TIME_ORIGIN - LIMIT, -LIMIT),
            (TIME_ORIGIN - LIMIT - 1, -LIMIT),  # would be the number of an unknown time
        ],
    )
    def test_worked_by_hand(self, seconds, expected):
        found = whole_seconds(np.array([seconds]))
        assert found.dtype == np.int32 and found.tolist() == [expected]

    @given(st.lists(st.floats(-1e9, 3e9) | st.just(np.nan), max_size=9), st.booleans())
    def test_equals_the_loop_and_keeps_the_shape(self, seconds, column):
        given_seconds = np.array(seconds)[:, None] if column else np.array(seconds)
        found = whole_seconds(given_seconds)
        assert found.shape == given_seconds.shape
        expected = [UNKNOWN_TIME if np.isnan(one) else int(one // 1) - TIME_ORIGIN for one in seconds]
        assert found.ravel().tolist() == expected

    def test_integers_and_what_is_given(self):
        seconds = np.array([[5, 7]], dtype=np.int64)
        assert (whole_seconds(seconds) + TIME_ORIGIN).tolist() == [[5, 7]]
        assert seconds.tolist() == [[5, 7]]


class TestTimestamps:
    items = np.array([[0, 1, 2], [3, 0, 4]])

    def test_unknown_by_default(self):
        rows = SessionSequences(self.items)
        assert np.isnan(rows.timestamps).all() and (rows.events[:, TIME] == UNKNOWN_TIME).all()

    def test_whole_seconds_come_back_and_padding_has_none(self):
        times = np.array([[7.0, -1.5, 1.4e9 + 0.75], [0.0, 3.0, np.nan]])
        before = times.copy()
        rows = SessionSequences(self.items, timestamps=times)
        expected = [[np.nan, -2.0, 1.4e9], [np.nan, 0.0, np.nan]]  # padding between moves to the left
        np.testing.assert_array_equal(rows.timestamps, expected)
        assert rows.timestamps.dtype == np.float64
        np.testing.assert_array_equal(times, before)
        np.testing.assert_array_equal(SessionSequences(rows.sequences, timestamps=expected).timestamps, expected)

    def test_of_a_log(self):
        log = SessionInteractions([1, 1, 2], [1, 2, 3], timestamps=[10.5, 20.0, 1.4e9])
        rows = to_session_sequences(log, max_sequence_length=3)
        np.testing.assert_array_equal(rows.timestamps, [[np.nan, 10.0, 20.0], [np.nan, np.nan, 1.4e9]])
        np.testing.assert_array_equal(rows.rows([1]).timestamps, rows.timestamps[[1]])

    def test_of_the_past_too(self):
        train = SessionInteractions([1, 1], [1, 2], timestamps=[10.0, 20.0], num_items=4)
        test = SessionInteractions([1, 1], [3, 1], timestamps=[9000.0, 9005.0], num_items=4)
        rows = to_session_sequences(test, max_sequence_length=4, history=train)
        assert rows.timestamps.tolist() == [[10.0, 20.0, 9000.0, 9005.0]]

    def test_another_shape_is_refused(self, refuses):
        refuses(lambda: SessionSequences(self.items, timestamps=np.zeros((2, 2))), "timestamps has shape (2, 2)")
