"""Waits by blocks, and what is made of them, against the dwell and the gaps of a whole log."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.errors import InputError
from spotlight_asars.host import Interactions
from spotlight_asars.interactions import ordering as blocks
from spotlight_asars.interactions.binning import PADDING_BIN, ScottBinning
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    event_channels,
    whole_seconds,
)
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessionization import session_starts
from spotlight_asars.interactions.sessions import SessionInteractions, known_dwell_times, known_session_gap_times


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
    np.testing.assert_array_equal(
        np.concatenate(list(known_dwell_times(log))), log.dwell_times[~np.isnan(log.dwell_times)]
    )
    np.testing.assert_array_equal(
        np.concatenate(list(known_session_gap_times(log))), log.session_gap_times[~np.isnan(log.session_gap_times)]
    )
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
        patch.setattr(blocks, "BLOCK", block)
        assert_equal_to_the_whole(SessionInteractions(**columns, session_gap=3.0))


@pytest.mark.parametrize("order", ["time", "user", "backwards", "none"])
@pytest.mark.parametrize("users", [1, 50, 100_000])
def test_many_events_in_any_order(order, users):
    draw, number = np.random.RandomState(0), 2 * blocks.BLOCK + 3
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
