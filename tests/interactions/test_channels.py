"""Channels of events: the writer for arrays and tensors, TIME, and the events of a log against whole arrays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.errors import InputError
from spotlight_asars.host import Interactions
from spotlight_asars.interactions import ordering
from spotlight_asars.interactions.binning import PADDING_BIN, UNKNOWN_BIN, ScottBinning
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    NUM_CHANNELS,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    TIME_ORIGIN,
    UNKNOWN_TIME,
    USER,
    event_channels,
    whole_seconds,
    write_events,
    write_padded_events,
)
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessionization import session_starts
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


class TestWriteEvents:
    def test_defaults(self):
        events = write_events(np.zeros((2, NUM_CHANNELS), dtype=np.int64), np.array([5, 6]), np.array([True, False]))
        expected = np.zeros((2, NUM_CHANNELS), dtype=np.int64)
        expected[:, ITEM], expected[:, DWELL], expected[:, TIME] = [5, 6], UNKNOWN_BIN, UNKNOWN_TIME
        expected[0, [SESSION_START, SESSION_GAP_BIN]] = 1, UNKNOWN_BIN
        np.testing.assert_array_equal(events, expected)

    def test_every_channel(self):
        given_channels = {"dwell": [2, 3], "gaps": [4, 0], "times": [7, 8], "targets": [False, True], "users": 9}
        given_channels = {name: np.array(values) for name, values in given_channels.items()}
        events = np.full((2, NUM_CHANNELS), -1, dtype=np.int32)
        found = write_events(events, np.array([5, 6]), np.array([True, False]), **given_channels)
        assert found is events
        columns = {ITEM: [5, 6], DWELL: [2, 3], SESSION_START: [1, 0], SESSION_GAP_BIN: [4, 0], TIME: [7, 8]}
        for channel, values in {**columns, TARGET: [0, 1], USER: [9, 9]}.items():
            assert events[:, channel].tolist() == values
        without_user = write_events(
            events[:, :USER].copy(), np.array([5, 6]), np.array([True, False]), **given_channels
        )
        np.testing.assert_array_equal(without_user, events[:, :USER])


class TestWritePaddedEvents:
    items = np.array([[0, 0, 4, 2], [7, 0, 3, 0], [0, 0, 0, 0]])

    def test_padding_is_zero_and_the_first_event_begins_a_session(self):
        events = write_padded_events(np.zeros((3, 4, NUM_CHANNELS), dtype=np.int64), self.items, users=5)
        assert not events[self.items == 0].any()
        np.testing.assert_array_equal(events[..., SESSION_START], [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
        np.testing.assert_array_equal(events[..., SESSION_GAP_BIN], events[..., SESSION_START] * UNKNOWN_BIN)
        np.testing.assert_array_equal(events[..., DWELL], (self.items != 0) * UNKNOWN_BIN)
        np.testing.assert_array_equal(events[..., USER], (self.items != 0) * 5)

    @given(st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=4), st.booleans())
    def test_tensors_are_written_as_arrays_are(self, items, with_starts):
        items = np.array(items)
        starts = items == 2 if with_starts else None
        array = write_padded_events(np.zeros((*items.shape, NUM_CHANNELS), dtype=np.int64), items, starts)
        tensor = write_padded_events(
            torch.zeros(*items.shape, NUM_CHANNELS, dtype=torch.long),
            torch.from_numpy(items),
            None if starts is None else torch.from_numpy(starts),
        )
        np.testing.assert_array_equal(tensor.numpy(), array)


def channels_of_the_whole(log, binning, gap_binning):
    """As event_channels, without blocks."""
    starts = session_starts(log.session_ids)
    channels = np.empty((len(log), 6), dtype=np.int32)
    channels[:, ITEM] = log.item_ids
    channels[:, DWELL] = binning.transform(log.dwell_times)
    channels[:, TARGET] = ~starts
    channels[:, SESSION_START] = starts
    channels[:, SESSION_GAP_BIN] = np.where(starts, gap_binning.transform(log.session_gap_times), PADDING_BIN)
    channels[:, TIME] = whole_seconds(log.timestamps)
    return channels


def assert_equal_to_the_whole(log):
    binning, gap_binning = ScottBinning().fit(log.dwell_times), ScottBinning(scale="log").fit(log.session_gap_times)
    expected = channels_of_the_whole(log, binning, gap_binning)
    columns = (log.user_ids, log.item_ids, log.timestamps, log.session_ids)
    np.testing.assert_array_equal(event_channels(*columns, binning, gap_binning), expected)
    rows = to_session_sequences(log, max_sequence_length=len(log) + 1)
    assert (rows.binning, rows.gap_binning) == (binning, gap_binning)
    np.testing.assert_array_equal(rows.events, expected)
    np.testing.assert_array_equal(rows.session_ids, log.session_ids)


@pytest.mark.parametrize("own_sessions", [False, True])
@given(data=st.data(), block=st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_blocks_of_any_size(draw_log, own_sessions, data, block):
    users = (0, 1, 2**31 - 3) if own_sessions else (1, 2, 2**31 - 3)
    columns = draw_log(data, users=users, sessions=4 * own_sessions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "BLOCK", block)
        assert_equal_to_the_whole(SessionInteractions(**columns, session_gap=3.0))


@pytest.mark.parametrize("order", ["time", "user", "backwards", "none"])
@pytest.mark.parametrize("users", [1, 50, 100_000])
def test_many_events_in_any_order(order, users):
    draw, number = np.random.RandomState(0), 2 * ordering.BLOCK + 3
    user_ids, items = draw.randint(1, users + 1, size=number), draw.randint(1, 500, size=number)
    times = draw.randint(10**6, size=number) * 0.25
    orders = {"time": np.argsort(times), "user": np.lexsort((times, user_ids)), "none": np.arange(number)}
    laid = orders.get(order, orders["user"][::-1])
    assert_equal_to_the_whole(SessionInteractions(user_ids[laid], items[laid], timestamps=times[laid], session_gap=500))


def test_times_that_fall_inside_a_session_are_refused():
    log = SessionInteractions([1, 1, 1], [1, 2, 3], timestamps=[1.0, 2.0, 3.0])
    log.timestamps = np.array([3.0, 2.0, 1.0])
    with pytest.raises(InputError, match="negative: sort the events by time first"):
        to_session_sequences(log)


def test_a_log_of_the_host_is_neither_changed_nor_shared():
    users, items, times = np.array([1, 1, 2], np.int32), np.array([1, 2, 3], np.int32), np.array([1.0, 5.0, 2.0])
    rows = to_session_sequences(Interactions(users, items, timestamps=times))
    before = rows.events.copy(), rows.user_ids.copy()
    users[:], items[:], times[:] = 9, 9, 9
    np.testing.assert_array_equal(rows.events, before[0])
    np.testing.assert_array_equal(rows.user_ids, before[1])
