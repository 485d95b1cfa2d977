"""Rows against plain loops over users, sessions and events, against the host's own, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.host import Interactions, SequenceInteractions
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary

NAN = float("nan")
MATRICES = ("sequences", "dwell", "targets", "session_starts", "session_gaps")


def sessions_of(log):
    """Per known user, or per anonymous session, a list of sessions, each a list of (item, time)."""
    groups = {}
    for user, item, time, session in zip(log.user_ids, log.item_ids, log.timestamps, log.session_ids, strict=True):
        owner = (user, 0) if user else (0, session + 1)
        groups.setdefault(owner, {}).setdefault(session, []).append((item, time))
    return {owner: list(sessions.values()) for owner, sessions in groups.items()}


def flat_history(past, present, drop_last_event):
    """Events (item, dwell, target, start, gap before, time) of one user's past and present sessions, unbinned."""
    first = present[0][0][1]
    past = [[event for event in session if event[1] < first] for session in past]
    past = [session for session in past if session]
    events = []
    end = None
    for number, session in enumerate([*past, *present]):
        made = []
        for place, (item, time) in enumerate(session):
            dwell = session[place + 1][1] - time if place + 1 < len(session) else NAN
            gap = time - end if place == 0 and end is not None else NAN
            made.append((item, dwell, number >= len(past) and place > 0, place == 0, gap, time))
        end = session[-1][1]
        events += made[:-1] if drop_last_event else made
    return events


def loop_rows(log, length, step, history=None, drop_last_event=False):
    """Rows (user, events) as to_session_sequences promises them; users ascending, anonymous sessions first."""
    past = {} if history is None else sessions_of(history)
    rows = []
    for owner, present in sorted(sessions_of(log).items()):
        known = owner[0] > 0
        events = flat_history(past.get(owner, []) if known else [], present, drop_last_event)
        begin = predicted = 0  # an event in several rows is a target in the first of them
        while predicted < len(events):
            row = [
                (*event[:2], event[2] and begin + k >= predicted, *event[3:])
                for k, event in enumerate(events[begin : begin + length])
            ]
            if history is None or any(event[2] for event in row):
                rows.append((owner[0], row))
            predicted, begin = begin + length, begin + step
    return rows


def assert_equal_to_loops(rows, expected, length):
    dwell, gap = rows.binning.transform, rows.gap_binning.transform
    assert len(rows) == len(expected)
    for name in MATRICES:
        assert getattr(rows, name).shape == (len(expected), length)
    for r, (user, events) in enumerate(expected):
        assert rows.user_ids[r] == user
        pad = [0] * (length - len(events))
        assert rows.sequences[r].tolist() == pad + [event[0] for event in events]
        assert rows.dwell[r].tolist() == pad + [int(dwell([event[1]])[0]) for event in events]
        assert rows.targets[r].tolist() == pad + [event[2] for event in events]
        assert rows.session_starts[r].tolist() == pad + [event[3] for event in events]
        assert rows.session_gaps[r].tolist() == pad + [int(gap([event[4]])[0]) if event[3] else 0 for event in events]


def draw_windows(data):
    length = data.draw(st.integers(2, 7))
    return length, data.draw(st.integers(1, length))


def draw_both(draw_log, data, own_sessions):
    """A training and a test log of the same numbers; test times may lie anywhere among the training times."""
    users = (0, 1, 2) if own_sessions else (1, 2)
    parts = [draw_log(data, users=users, sessions=4 * own_sessions, latest=30) for _ in range(2)]
    parts[1]["item_ids"] = parts[1]["item_ids"] + len(parts[0]["item_ids"])
    num_items = int(parts[1]["item_ids"].max()) + 1
    return [SessionInteractions(**part, num_items=num_items, num_users=3, session_gap=4.0) for part in parts]


class TestAgainstLoops:
    @pytest.mark.parametrize("own_sessions", [False, True])
    @given(data=st.data())
    @settings(max_examples=200, deadline=None)
    def test_one_log(self, draw_log, own_sessions, data):
        users = (0, 1, 2) if own_sessions else (1, 2, 3)
        log = SessionInteractions(**draw_log(data, users=users, sessions=5 * own_sessions, latest=30), session_gap=4.0)
        length, step = draw_windows(data)
        rows = to_session_sequences(log, length, step)
        assert_equal_to_loops(rows, loop_rows(log, length, step), length)

    @pytest.mark.parametrize("own_sessions", [False, True])
    @pytest.mark.parametrize("drop_last_event", [False, True])
    @given(data=st.data())
    @settings(max_examples=120, deadline=None)
    def test_with_history(self, draw_log, own_sessions, drop_last_event, data):
        history, log = draw_both(draw_log, data, own_sessions)
        length, step = draw_windows(data)
        expected = loop_rows(log, length, step, history, drop_last_event)
        if drop_last_event and all(len(flat_history([], s, True)) == 0 for s in sessions_of(log).values()):
            return  # to_session_sequences refuses what holds no event
        rows = to_session_sequences(log, length, step, history=history, drop_last_event=drop_last_event)
        assert_equal_to_loops(rows, expected, length)

    @pytest.mark.parametrize("own_sessions", [False, True])
    @given(data=st.data())
    @settings(max_examples=150, deadline=None)
    def test_promises(self, draw_log, own_sessions, data):
        history, log = draw_both(draw_log, data, own_sessions)
        length, step = draw_windows(data)
        rows = to_session_sequences(log, length, step, history=history)
        facts = {}  # items are unique, so an item names its event
        for part in (history, log):
            for k in range(len(part)):
                first = k == 0 or part.session_ids[k] != part.session_ids[k - 1]
                facts[int(part.item_ids[k])] = (part.user_ids[k], part.timestamps[k], part is log and not first)
        predicted = []
        for r in range(len(rows)):
            present = np.flatnonzero(rows.sequences[r])
            items = rows.sequences[r, present].tolist()
            users, times, may_be_target = zip(*(facts[item] for item in items), strict=True)
            assert set(users) == {rows.user_ids[r]}
            assert list(times) == sorted(times)
            own = [item for item, target in zip(items, rows.targets[r, present], strict=True) if target]
            assert all(is_target for item, is_target in zip(items, may_be_target, strict=True) if item in own)
            assert own
            if users[0] == 0:
                assert len({facts[item][0] for item in items}) == 1
                assert rows.session_starts[r].sum() <= 1
            predicted += own
        assert sorted(predicted) == sorted(item for item, fact in facts.items() if fact[2])
        assert rows.num_targets == rows.targets_a_row.sum() == len(predicted)
        np.testing.assert_array_equal(rows.targets_a_row, rows.targets.sum(axis=1))
        np.testing.assert_array_equal(rows.lengths, (rows.sequences > 0).sum(axis=1))

    @given(data=st.data())
    @settings(max_examples=120, deadline=None)
    def test_every_target_has_the_context_it_can_have(self, draw_log, data):
        log = SessionInteractions(**draw_log(data, users=(1, 2), latest=3))
        length, step = draw_windows(data)
        rows = to_session_sequences(log, length, step)
        before = {}
        for user in (1, 2):
            before |= {item: place for place, item in enumerate(log.item_ids[log.user_ids == user].tolist())}
        for row, column in np.argwhere(rows.targets):
            context = (rows.sequences[row, :column] > 0).sum()
            assert context >= min(length - step, before[int(rows.sequences[row, column])])

    @given(data=st.data())
    @settings(max_examples=120, deadline=None)
    def test_no_later_event_decides_the_context_of_a_target(self, draw_log, data):
        """Regression: rows were cut from their ends, so that each later event moved what a target followed."""
        whole = SessionInteractions(**draw_log(data, users=(1, 2), latest=3))
        length, step = draw_windows(data)
        last = data.draw(st.integers(0, len(whole) - 1))
        before = whole.select(np.arange(len(whole)) <= last)
        contexts = []
        for log in (whole, before):
            rows = to_session_sequences(log, length, step)
            contexts.append(
                {
                    int(rows.sequences[row, column]): rows.sequences[row, :column][rows.sequences[row, :column] > 0]
                    for row, column in np.argwhere(rows.targets)
                }
            )
        for item, context in contexts[1].items():
            np.testing.assert_array_equal(context, contexts[0][item])


class TestAgainstHost:
    @given(data=st.data())
    @settings(max_examples=120, deadline=None)
    def test_item_rows_are_the_hosts(self, draw_log, data):
        """Where no history is longer than a row: the host cuts longer ones from their ends."""
        host = Interactions(**draw_log(data, users=(1, 2, 5), num_items=9))
        length = max(2, int(np.bincount(host.user_ids).max()) + data.draw(st.integers(0, 3)))
        theirs = host.to_sequence(max_sequence_length=length)
        ours = to_session_sequences(host, max_sequence_length=length, step_size=length)
        np.testing.assert_array_equal(ours.sequences, theirs.sequences)
        np.testing.assert_array_equal(ours.user_ids, theirs.user_ids)
        assert (ours.num_items, ours.max_sequence_length) == (theirs.num_items, theirs.max_sequence_length)

    def test_is_a_sequence_of_the_host(self):
        rows = SessionSequences(np.array([[0, 3, 4]]))
        assert isinstance(rows, SequenceInteractions)
        assert repr(rows) == repr(SequenceInteractions(np.array([[0, 3, 4]])))

    def test_as_session_sequences(self, refuses):
        host = SequenceInteractions(np.array([[0, 3, 4], [1, 2, 3]]), user_ids=np.array([7, 8]), num_items=10)
        rows = as_session_sequences(host)
        np.testing.assert_array_equal(rows.sequences, host.sequences)
        np.testing.assert_array_equal(rows.dwell, [[0, 1, 1], [1, 1, 1]])
        np.testing.assert_array_equal(rows.targets, [[False, False, True], [False, True, True]])
        np.testing.assert_array_equal(rows.user_ids, [7, 8])
        assert (rows.num_items, rows.num_users) == (10, 9)
        assert as_session_sequences(rows) is rows
        nobody = as_session_sequences(SequenceInteractions(np.array([[0, 3]])))
        np.testing.assert_array_equal(nobody.user_ids, [0])
        log = Interactions(np.array([1]), np.array([1]))
        refuses(lambda: as_session_sequences(log), "no timestamps")
        refuses(lambda: as_session_sequences([[1, 2]]), "list holds no sequences", "to_session_sequences")


class TestByHand:
    def test_training_rows(self):
        log = SessionInteractions(
            [1, 1, 1, 1, 1, 2, 2],
            [1, 2, 3, 4, 5, 6, 7],
            timestamps=[0.0, 10.0, 10.0, 9000.0, 9060.0, 5.0, 6.0],
            item_vocabulary=Vocabulary("abcdefg"),
        )
        rows = to_session_sequences(log, max_sequence_length=4, step_size=2)
        np.testing.assert_array_equal(rows.sequences, [[1, 2, 3, 4], [0, 3, 4, 5], [0, 0, 6, 7]])
        np.testing.assert_array_equal(rows.targets, [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
        np.testing.assert_array_equal(rows.session_starts, [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]])
        # Known dwells 10, 0, 60, 1: their deviation is 24.63, the width 54.2, and only 60 reaches the second bin.
        np.testing.assert_array_equal(rows.dwell, [[2, 2, 1, 3], [0, 1, 3, 1], [0, 0, 2, 1]])
        np.testing.assert_array_equal(rows.session_gaps, [[1, 0, 0, 2], [0, 0, 2, 0], [0, 0, 1, 0]])
        np.testing.assert_array_equal(rows.user_ids, [1, 1, 2])
        np.testing.assert_array_equal(rows.session_ids, [0, 0, 0, 1, 0, 1, 1, 2, 2])
        assert (rows.num_items, rows.num_users, rows.item_vocabulary) == (8, 3, log.item_vocabulary)

    def test_dropping_the_last_event_leaves_known_dwells(self):
        log = SessionInteractions([1, 1, 1, 1, 2], [1, 2, 3, 4, 5], timestamps=[0.0, 5.0, 9.0, 9e4, 0.0])
        rows = to_session_sequences(log, 4, drop_last_event=True)
        np.testing.assert_array_equal(rows.sequences, [[0, 0, 1, 2]])
        assert (rows.dwell[0, 2:] >= 2).all()

    def test_test_rows(self):
        train = SessionInteractions([1, 1, 2, 2, 3], [1, 2, 3, 4, 5], timestamps=[0, 1, 0, 1, 0], num_items=9)
        test = SessionInteractions([1, 1, 1, 2], [6, 7, 8, 8], timestamps=[9000, 9001, 9002, 9000], num_items=9)
        rows = to_session_sequences(test, 6, history=train)
        # User 2 has one test event, the first of its session; user 3 has none: neither has a row.
        np.testing.assert_array_equal(rows.sequences, [[0, 1, 2, 6, 7, 8]])
        np.testing.assert_array_equal(rows.targets, [[0, 0, 0, 0, 1, 1]])
        np.testing.assert_array_equal(rows.session_starts, [[0, 1, 0, 1, 0, 0]])
        assert rows.session_gaps[0, 1] == 1  # nothing came before
        assert rows.session_gaps[0, 3] >= 2

    def test_what_happens_after_a_users_first_test_event_is_no_context(self):
        train = SessionInteractions([1, 1, 1, 1], [1, 2, 3, 4], timestamps=[0, 5, 50, 99], num_items=9)
        test = SessionInteractions([1, 1], [5, 6], timestamps=[50, 51], num_items=9)
        rows = to_session_sequences(test, 6, history=train)
        np.testing.assert_array_equal(rows.sequences, [[0, 0, 1, 2, 5, 6]])
        assert rows.dwell[0, 3] == 1  # the session it belonged to is cut there

    def test_nothing_to_predict_gives_no_row(self):
        train = SessionInteractions([1, 1], [1, 2], timestamps=[0, 1], num_items=4)
        test = SessionInteractions([1], [3], timestamps=[9000], num_items=4)
        rows = to_session_sequences(test, 5, history=train)
        assert (len(rows), rows.num_targets, rows.sequences.shape) == (0, 0, (0, 5))

    def test_half_the_length_is_the_default_step(self):
        log = SessionInteractions([1] * 9, np.arange(1, 10), timestamps=np.arange(9.0))
        np.testing.assert_array_equal(
            to_session_sequences(log, 4).sequences, to_session_sequences(log, 4, step_size=2).sequences
        )


class TestBinningIsFittedOnTrainingOnly:
    def test_extreme_test_times_do_not_move_the_bins(self):
        train = SessionInteractions([1, 1, 1, 1, 1], [1, 2, 3, 4, 5], timestamps=[0, 3, 13, 9e4, 9e4 + 1], num_items=9)
        bins = []
        for seconds in (2.0, 3e9):
            times = np.array([0, 1, 2]) * seconds + 1e6
            test = SessionInteractions([1] * 3, [6, 7, 8], timestamps=times, num_items=9, session_gap=1e12)
            rows = to_session_sequences(test, 9, history=train)
            bins.append([(b.low, b.width, b.num_known_bins) for b in (rows.binning, rows.gap_binning)])
            assert rows.dwell.max() < rows.binning.num_bins
            assert rows.session_gaps.max() < rows.gap_binning.num_bins
        assert bins[0] == bins[1]
        dwell, gaps = ScottBinning().fit([3, 10, 1]), ScottBinning(scale="log").fit([9e4 - 13])
        assert bins[0] == [(b.low, b.width, b.num_known_bins) for b in (dwell, gaps)]

    def test_given_bins_are_used_as_they_are(self):
        log = SessionInteractions([1, 1, 1], [1, 2, 3], timestamps=[0, 7, 9000])
        binning, gap_binning = ScottBinning().fit(np.arange(100.0)), ScottBinning().fit(np.arange(1e4))
        before = (binning.low, binning.width, gap_binning.width)
        rows = to_session_sequences(log, 4, binning=binning, gap_binning=gap_binning)
        assert (rows.binning, rows.gap_binning) == (binning, gap_binning)
        assert before == (binning.low, binning.width, gap_binning.width)
        np.testing.assert_array_equal(rows.dwell[0], [0, binning.transform(7.0), 1, 1])
        np.testing.assert_array_equal(rows.session_gaps[0], [0, 1, 0, gap_binning.transform(8993.0)])


def test_nothing_given_is_changed():
    train, test = (
        Interactions(np.array([2, 1, 1]), items, timestamps=times, num_items=7)
        for items, times in (
            (np.array([1, 2, 3]), np.array([5, 4, 3])),
            (np.array([4, 5, 6]), np.array([5, 4, 3]) + 9000),
        )
    )
    before = {
        name: getattr(part, name).copy() for part in (train, test) for name in ("user_ids", "item_ids", "timestamps")
    }
    to_session_sequences(test, 4, history=train)
    sessions = SessionInteractions(test.user_ids, test.item_ids, timestamps=test.timestamps, num_items=7)
    rows = to_session_sequences(sessions, 4, history=train, drop_last_event=True)
    rows.sequences[:] = 0
    np.testing.assert_array_equal(sessions.item_ids, [6, 5, 4])
    for part in (train, test):
        for name, column in before.items():
            if part is test:
                np.testing.assert_array_equal(getattr(part, name), column)
    np.testing.assert_array_equal(train.item_ids, [1, 2, 3])


def test_refusals(refuses):
    log = SessionInteractions([1, 1], [1, 2], timestamps=[0, 1], item_vocabulary=Vocabulary("ab"))
    other = SessionInteractions([1, 1], [1, 2], timestamps=[0, 1], item_vocabulary=Vocabulary("ba"))
    larger = SessionInteractions([1, 1], [1, 2], timestamps=[0, 1], num_items=9)
    refuses(lambda: to_session_sequences(log, 1), "max_sequence_length is 1", "at least 2")
    for step in (0, 5):
        refuses(lambda step=step: to_session_sequences(log, 4, step_size=step), f"step_size is {step}", "1 to", "4")
    refuses(lambda: to_session_sequences(log, history=other), "differ in their item_vocabulary", "align the test part")
    refuses(lambda: to_session_sequences(log, history=larger), "3 item ids", "history has 9", "same num_items")
    single = SessionInteractions([1, 2], [1, 2], timestamps=[0, 1])
    refuses(lambda: to_session_sequences(single, drop_last_event=True), "no events are left", "keep the last events")
    untimed = Interactions(np.array([1]), np.array([1]))
    refuses(lambda: to_session_sequences(untimed), "no timestamps")
    in_ms = Interactions(np.array([1]), np.array([1]), timestamps=np.array([1.4e12]))
    refuses(lambda: to_session_sequences(in_ms), "timestamp_unit='ms'")
    assert len(to_session_sequences(in_ms, timestamp_unit="ms")) == 1
