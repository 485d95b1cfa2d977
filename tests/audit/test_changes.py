"""What the leak audit changes in rows, and that it touches nothing which a target may be predicted from."""

import numpy as np
import pytest

from spotlight_asars.audit.changes import AuditedRows
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    UNKNOWN_TIME,
)

ALL_CHANNELS = (ITEM, DWELL, TARGET, SESSION_START, SESSION_GAP_BIN, TIME)


@pytest.fixture
def audited(rows):
    return AuditedRows(rows, 8, 0)


def changed_channels(audited, change, where):
    """Names of the channels in which some of these events differ, and of those in which all do."""
    differs = change.rows.events[where] != audited.rows.events[where]  # (events, channel)
    some = {channel for channel in ALL_CHANNELS if differs[:, channel].any()}
    return some, {channel for channel in some if differs[:, channel].all()}


def test_rows_short_and_long_with_a_target_each(rows):
    audited = AuditedRows(rows, 5, 0)
    assert len(audited) == 5 and (np.diff(audited.numbers) > 0).all()
    np.testing.assert_array_equal(audited.rows.events, rows.rows(audited.numbers).events)
    lengths = audited.rows.lengths
    assert lengths.min() == rows.lengths.min() and lengths.max() == rows.lengths.max()
    flags = rows.events[:, TARGET] * (np.repeat(np.arange(len(rows)), rows.lengths) == 4)
    few = rows.rows(np.arange(len(rows)))
    few.events[:, TARGET] = flags
    assert AuditedRows(few, 5, 0).numbers.tolist() == [4]


def test_cuts_are_targets_over_the_whole_row(audited):
    cuts = list(audited.cuts(4))
    assert len(cuts) == 4
    for at in cuts:
        assert (at == 0).sum() == len(audited) and audited.is_target[at == 0].all()
        np.testing.assert_array_equal(np.diff(at)[np.diff(audited.row) == 0], 1)
    longest = audited.row == audited.rows.lengths.argmax()
    everywhere = np.stack([np.flatnonzero(at[longest] == 0) for at in audited.cuts(10**6)])[:, 0]
    assert set(everywhere) == set(np.flatnonzero(audited.is_target[longest]))


def test_other_future(audited):
    sessions_moved = 0
    for at in audited.cuts(3):
        change = audited.other_future(at)
        assert changed_channels(audited, change, at < 0) == (set(), set())
        assert changed_channels(audited, change, at == 0) == ({DWELL}, {DWELL})
        some, always = changed_channels(audited, change, at > 0)
        assert TARGET not in some and always == {ITEM, DWELL, TIME}
        sessions_moved += {SESSION_START, SESSION_GAP_BIN} <= some
        np.testing.assert_array_equal(change.still, at <= 0)
        np.testing.assert_array_equal(change.rows.session_ids[at <= 0], audited.rows.session_ids[at <= 0])
        # Sessions begin where the flags say so, and hold no event of another row.
        inside = np.diff(audited.row) == 0
        begins = np.diff(change.rows.session_ids) != 0
        np.testing.assert_array_equal(begins[inside], change.rows.events[1:, SESSION_START][inside] != 0)
        assert begins[~inside].all()
        # A time still lies after the one before it.
        assert (np.diff(change.rows.events[:, TIME])[inside] >= 0).all()
    assert sessions_moved  # few events follow the last cuts


@pytest.mark.parametrize("moves_target", [False, True])
def test_the_next_event_s_time(audited, moves_target):
    for at in audited.cuts(3):
        dwell, later = audited.other_dwell(at, moves_target), audited.later_target(at, moves_target)
        for change in (dwell, later):
            np.testing.assert_array_equal(change.still, at < 0 if moves_target else at <= 0)
        assert changed_channels(audited, dwell, at == -1) == ({DWELL}, {DWELL})
        assert changed_channels(audited, dwell, at != -1) == (set(), set())
        assert changed_channels(audited, later, at < 0) == (set(), set())
        assert changed_channels(audited, later, at >= 0) == ({TIME}, {TIME})


def test_the_target_and_other_rows(audited):
    for at in audited.cuts(3):
        change = audited.other_target(at)
        assert changed_channels(audited, change, at == 0) == ({ITEM}, {ITEM})
        assert changed_channels(audited, change, at != 0) == (set(), set())
        np.testing.assert_array_equal(change.still, at <= 0)
    of = np.arange(8) < 3
    change = audited.other_rows(of)
    np.testing.assert_array_equal(change.still, audited.row >= 3)
    assert changed_channels(audited, change, audited.row < 3) == ({ITEM}, {ITEM})
    assert changed_channels(audited, change, audited.row >= 3) == (set(), set())


def test_values_stay_within_their_range(audited):
    for at in audited.cuts(6):
        events = audited.other_future(at).rows.events
        assert events[:, ITEM].min() >= 1 and events[:, ITEM].max() < 20
        assert events[:, DWELL].min() >= 1 and events[:, DWELL].max() < audited.rows.binning.num_bins
        gaps = events[:, SESSION_GAP_BIN]
        assert gaps.max() < audited.rows.gap_binning.num_bins
        np.testing.assert_array_equal(gaps != 0, events[:, SESSION_START] != 0)


def test_unknown_times_stay_unknown_and_late_ones_in_range(rows):
    late = rows.rows(np.arange(len(rows)))
    late.events[:, TIME] = 2**31 - 2
    late.events[::2, TIME] = UNKNOWN_TIME
    audited = AuditedRows(late, 8, 0)
    times = audited.later_target(audited.cut(0.0), False).rows.events[:, TIME]
    unknown = audited.rows.events[:, TIME] == UNKNOWN_TIME
    np.testing.assert_array_equal(times == UNKNOWN_TIME, unknown)
    assert set(times[~unknown]) == {2**31 - 2, 2**31 - 1}


def test_where_there_is_nothing_else_the_value_stays(rows):
    one_item = rows.rows(np.arange(len(rows)))
    one_item.events[:, ITEM], one_item.num_items = 1, 2
    audited = AuditedRows(one_item, 4, 0)
    change = audited.other_target(audited.cut(0.5))
    np.testing.assert_array_equal(change.rows.events, audited.rows.events)


def test_rows_chosen_cut_and_joined(audited):
    chosen, origin = audited.selected([5, 2])
    np.testing.assert_array_equal(chosen.events, audited.rows.events[origin])
    assert audited.row[origin].tolist() == [5] * chosen.lengths[0] + [2] * chosen.lengths[1]
    wanted = audited.cut(0.0) <= 0
    short, origin = audited.kept(wanted)
    np.testing.assert_array_equal(origin, np.flatnonzero(wanted))
    np.testing.assert_array_equal(short.events, audited.rows.events[wanted])
    np.testing.assert_array_equal(short.lengths, np.bincount(audited.row[wanted]))
    assert (short.targets_a_row == 1).all()  # each ends at its first target
    joined, origin = audited.beside(short, origin)
    assert len(joined) == 16 and (origin[len(short.events) :] == -1).all()
    np.testing.assert_array_equal(joined.rows(np.arange(8, 16)).events, audited.rows.events)
    assert not set(joined.rows(np.arange(8)).session_ids) & set(joined.rows(np.arange(8, 16)).session_ids)
    np.testing.assert_array_equal(joined.user_ids, np.tile(audited.rows.user_ids, 2))
