"""Filters to their fixed point, and splits that take nothing from the test part into the training part."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.cross_validation import (
    align_test,
    collapse_repeats,
    filter_support,
    split_rows_by_time,
    supported,
    time_based_split,
    without_unseen_items,
)
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import (
    ITEM,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    UNKNOWN_TIME,
)
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessionization import NO_SESSION_GAP
from spotlight_asars.interactions.sessions import SessionInteractions

COLUMNS = ("user_ids", "item_ids", "timestamps", "session_ids")


@pytest.fixture(scope="session")
def draw_sessions(draw_log):
    """Draw a log with raw ids: users 'u1', ..., items 'i1', ... and sessions of either kind."""

    def draw(data, own_sessions=False, anonymous=False, num_items=4, **options):
        users = (0,) if anonymous else (1, 2, 3)
        own_sessions = own_sessions or anonymous
        log = draw_log(data, users=users, sessions=6 * own_sessions, num_items=num_items, latest=40, **options)
        frame = pd.DataFrame({"item": [f"i{k}" for k in log["item_ids"]], "timestamp": log["timestamps"]})
        if not anonymous:
            frame["user"] = [f"u{k}" for k in log["user_ids"]]
        if own_sessions:
            frame["session"] = log["session_ids"]
        return SessionInteractions.from_log(frame, session_gap=4.0)

    return draw


def raw_events(log):
    """Each event as (raw user, raw item, time), in the order of the log's events."""
    users = [0] * len(log) if log.user_vocabulary is None else log.user_vocabulary.inverse(log.user_ids)
    return list(zip(users, log.item_vocabulary.inverse(log.item_ids), log.timestamps.tolist(), strict=True))


def raw_sessions(log):
    """Each session as a tuple of raw events."""
    events = raw_events(log)
    return [tuple(events[k] for k in np.flatnonzero(log.session_ids == number)) for number in range(log.num_sessions)]


def snapshot(log):
    arrays = {name: getattr(log, name).copy() for name in COLUMNS}
    return arrays, (log.num_users, log.num_items, log.user_vocabulary, log.item_vocabulary)


def assert_unchanged(log, before):
    for name, column in before[0].items():
        np.testing.assert_array_equal(getattr(log, name), column)
        assert getattr(log, name).dtype == column.dtype
    assert (log.num_users, log.num_items) == before[1][:2]
    assert log.user_vocabulary is before[1][2]
    assert log.item_vocabulary is before[1][3]


def largest_that_satisfies(log, item_support, session_length, user_sessions):
    """Which events stay, dropping one unfit event at a time."""
    stays = set(range(len(log)))
    while True:
        items = Counter(log.item_ids[k] for k in stays)
        lengths = Counter(log.session_ids[k] for k in stays)
        sessions = Counter(user for user, _ in {(log.user_ids[k], log.session_ids[k]) for k in stays})
        unfit = [
            k
            for k in sorted(stays)
            if items[log.item_ids[k]] < item_support
            or lengths[log.session_ids[k]] < session_length
            or (log.user_ids[k] > 0 and sessions[log.user_ids[k]] < user_sessions)
        ]
        if not unfit:
            return sorted(stays)
        stays.remove(unfit[-1])


def assert_numbered_without_gaps(log):
    for kind in ("item", "user"):
        vocabulary = getattr(log, f"{kind}_vocabulary")
        numbers = getattr(log, f"{kind}_ids")
        if vocabulary is not None:
            assert set(numbers.tolist()) == set(range(1, len(vocabulary) + 1))
            assert getattr(log, f"num_{kind}s") == len(vocabulary) + 1
            assert numbers.dtype == np.int32


class TestFilterSupport:
    def test_by_hand(self):
        # Item c is rare; without it session 3 is too short; without that user v has one session and goes;
        # then item b, which v had twice, is rare as well.
        frame = pd.DataFrame(
            {
                "user": list("uuuuuuvvvv"),
                "session": [1, 1, 2, 2, 2, 2, 3, 3, 4, 4],
                "item": list("aaaaabcbab"),
                "timestamp": np.arange(10),
            }
        )
        log = SessionInteractions.from_log(frame)
        kept = filter_support(log, item_support=2, session_length=2, user_sessions=2)
        assert [event[:2] for event in raw_events(kept)] == [("u", "a")] * 5
        np.testing.assert_array_equal(kept.session_ids, [0, 0, 1, 1, 1])
        assert (kept.num_items, kept.num_users) == (2, 2)

    @pytest.mark.parametrize("own_sessions, anonymous", [(False, False), (True, False), (True, True)])
    @given(data=st.data())
    @settings(max_examples=120, deadline=None)
    def test_fixed_point_and_nothing_more(self, draw_sessions, own_sessions, anonymous, data):
        log = draw_sessions(data, own_sessions, anonymous)
        before = snapshot(log)
        limits = tuple(data.draw(st.integers(1, high)) for high in (4, 3, 3))
        expected = largest_that_satisfies(log, *limits)
        if not expected:
            with pytest.raises(InputError, match="no event is left after the filters"):
                filter_support(log, *limits)
        else:
            kept = filter_support(log, *limits)
            events = raw_events(log)
            assert raw_events(kept) == [events[k] for k in expected]
            same = log.session_ids[expected]
            np.testing.assert_array_equal(np.diff(kept.session_ids) > 0, np.diff(same) > 0)
            assert_numbered_without_gaps(kept)
            again = filter_support(kept, *limits)
            assert raw_events(again) == raw_events(kept)
        assert_unchanged(log, before)

    def test_the_defaults_are_the_papers(self):
        sessions, support = 10, 10
        users = np.repeat([1, 2], [sessions * 2, (sessions - 1) * 2])
        times = np.arange(len(users)) // 2 * 1e4 + np.arange(len(users)) % 2
        log = SessionInteractions(users, 1 + np.arange(len(users)) % 2, timestamps=times)
        kept = filter_support(log)
        np.testing.assert_array_equal(np.unique(kept.user_ids), [1])
        assert np.bincount(kept.item_ids)[1:].tolist() == [support, support]

    def test_anonymous_sessions_are_not_asked_for_a_user(self):
        log = SessionInteractions([0, 0], [1, 1], timestamps=[0, 1], session_ids=[1, 1])
        assert len(filter_support(log, item_support=2)) == 2

    def test_refusal_says_the_limits(self, refuses):
        log = SessionInteractions([1, 1], [1, 2], timestamps=[0, 1])
        refuses(lambda: filter_support(log), "filters 10,2,10 (events an item", "each: 1,2,1", "lower them")

    def test_refusal_names_the_first_lower_filters_that_leave_half(self, refuses):
        """Two users of 3 and 1 sessions of two events of one item, and one session of rare items."""
        sessions = np.repeat(np.arange(5), 2)
        users = np.array([1, 1, 1, 1, 1, 1, 2, 2, 3, 3])
        log = SessionInteractions(
            users, [7] * 8 + [8, 9], timestamps=1e5 * sessions + np.tile([0, 1], 5), session_ids=sessions
        )
        refuses(lambda: filter_support(log, 8, 2, 4), "(--filters 8,2,1 leaves 8 of 10 events)")
        refuses(lambda: filter_support(log, 6, 2, 7), "(--filters 6,2,3 leaves 6 of 10 events)")
        refuses(lambda: filter_support(log, 99, 2, 1), "(--filters 6,2,1 leaves 8 of 10 events)")
        refuses(lambda: filter_support(log, 1, 3, 1), "lower them (--filters ITEM,SESSION,USER)")

    def test_supported_events_are_those_that_stay(self):
        log = SessionInteractions([1, 1, 1, 2, 2], [1, 2, 1, 2, 3], timestamps=np.arange(5.0))
        kept = supported(log, 2, 2, 1)
        assert kept.tolist() == [True, False, True, False, False]
        assert filter_support(log, 2, 2, 1).item_ids.tolist() == log.item_ids[kept].tolist()


class TestTimeBasedSplit:
    def make(self, ends, users=None):
        """Sessions of two events, of items 1 and 2, that end at the given times."""
        count = len(ends)
        return SessionInteractions(
            np.repeat(np.zeros(count, dtype=int) if users is None else users, 2),
            np.tile([1, 2], count),
            timestamps=np.stack([np.array(ends) - 1.0, ends], axis=1).ravel(),
            session_ids=np.repeat(np.arange(count), 2),
        )

    def test_share(self):
        split = time_based_split(self.make([50, 10, 30, 20, 40, 60, 100, 80, 70, 90]), test_share=0.2)
        assert split.boundary == 80.0
        np.testing.assert_array_equal(split.test.timestamps, [89, 90, 99, 100])
        assert len(split.train) == 16
        assert (split.dropped_test_events, split.dropped_test_sessions) == (0.0, 0.0)

    def test_a_session_is_test_when_its_last_event_is_past_the_boundary(self):
        log = SessionInteractions(
            [1, 1, 1, 1, 1, 1], [1, 2, 1, 2, 2, 1], timestamps=[0, 10, 15, 25, 40, 41], session_ids=[1, 1, 2, 2, 3, 3]
        )
        split = time_based_split(log, boundary=20.0)
        np.testing.assert_array_equal(split.train.timestamps, [0, 10])
        np.testing.assert_array_equal(split.test.timestamps, [15, 25, 40, 41])
        np.testing.assert_array_equal(time_based_split(log, boundary=25.0).test.timestamps, [40, 41])

    @pytest.mark.parametrize("own_sessions, anonymous", [(False, False), (True, False), (True, True)])
    @given(data=st.data())
    @settings(max_examples=150, deadline=None)
    def test_against_loops(self, draw_sessions, own_sessions, anonymous, data):
        log = draw_sessions(data, own_sessions, anonymous)
        boundary = float(data.draw(st.integers(0, 40)))
        before = snapshot(log)
        sessions = raw_sessions(log)
        train = [session for session in sessions if session[-1][2] <= boundary]
        test = [session for session in sessions if session[-1][2] > boundary]
        users, items = ({event[place] for session in train for event in session} for place in (0, 1))
        seen = [tuple(event for event in session if event[0] in users and event[1] in items) for session in test]
        seen = [session for session in seen if len(session) >= 2]
        if not train or not test or not seen:
            with pytest.raises(InputError, match=r"is empty|no test session"):
                time_based_split(log, boundary=boundary)
        else:
            split = time_based_split(log, boundary=boundary)
            assert Counter(raw_sessions(split.train)) == Counter(train)
            assert Counter(raw_sessions(split.test)) == Counter(seen)
            assert split.train.timestamps.max() <= boundary
            assert_numbered_without_gaps(split.train)
            assert set(split.train.item_vocabulary.raw_ids) == items
            for name in ("item_vocabulary", "user_vocabulary", "num_items", "num_users"):
                assert getattr(split.test, name) is getattr(split.train, name) or not name.endswith("vocabulary")
                assert getattr(split.test, name) == getattr(split.train, name)
            lost = 1 - sum(map(len, seen)) / sum(map(len, test))
            assert split.dropped_test_events == pytest.approx(lost)
            assert split.dropped_test_sessions == pytest.approx(1 - len(seen) / len(test))
            assert (np.diff(split.test.user_ids) >= 0).all()
            rows = to_session_sequences(split.test, 5, history=split.train)
            assert rows.num_targets == len(split.test) - split.test.num_sessions
        assert_unchanged(log, before)

    def test_what_the_test_part_holds_moves_nothing_in_training(self):
        frame = pd.DataFrame(
            {"user": list("uuvvuuvv"), "item": list("ababaxba"), "timestamp": [0, 1, 2, 3, 9000, 9001, 9002, 9003]}
        )
        other = frame.assign(item=list("ababbazz"), timestamp=[0, 1, 2, 3, 9000, 9500, 9002, 12000])
        first, second = (
            time_based_split(SessionInteractions.from_log(log), boundary=10.0).train for log in (frame, other)
        )
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert first.item_vocabulary == second.item_vocabulary
        assert (first.num_items, first.num_users) == (second.num_items, second.num_users) == (3, 3)

    def test_refusals(self, refuses):
        log = self.make([10, 20, 30])
        for share in (0.0, 1.0, -1, float("nan")):
            refuses(lambda share=share: time_based_split(log, share), f"test_share is {share}", "between 0 and 1")
        refuses(lambda: time_based_split(log, boundary=5.0), "training part", "empty", "another boundary")
        refuses(lambda: time_based_split(log, boundary=30.0), "test part", "empty", "longer log")
        refuses(lambda: time_based_split(self.make([10, 10])), "test part", "empty")


class TestAlignTest:
    def log(self, users, items, times, **others):
        return SessionInteractions.from_log(
            pd.DataFrame({"user": list(users), "item": list(items), "timestamp": times}), **others
        )

    def test_two_logs_by_hand(self):
        train = self.log("vuuv", "abba", [0, 1, 2, 3])
        # w is a new user; z a new item, without which v's second session is too short.
        test = self.log("uuwwvvvvv", "bzababaaz", [50, 51, 52, 53, 54, 55, 56, 9000, 9001])
        before = snapshot(train), snapshot(test)
        split = align_test(train, test)
        assert raw_events(split.test) == [("v", "a", 54.0), ("v", "b", 55.0), ("v", "a", 56.0)]
        np.testing.assert_array_equal(split.test.item_ids, [1, 2, 1])
        np.testing.assert_array_equal(split.test.user_ids, [1, 1, 1])
        assert split.boundary is None
        assert split.dropped_test_events == pytest.approx(6 / 9)
        assert split.dropped_test_sessions == pytest.approx(3 / 4)
        assert_unchanged(train, before[0])
        assert_unchanged(test, before[1])

    def test_users_numbered_anew_are_put_in_order(self):
        train = self.log("vvuu", "abab", [0, 1, 2, 3])
        test = self.log("uuvv", "abba", [50, 51, 52, 53])
        split = align_test(train, test)
        np.testing.assert_array_equal(split.test.user_ids, [1, 1, 2, 2])
        np.testing.assert_array_equal(split.test.timestamps, [52, 53, 50, 51])
        rows = to_session_sequences(split.test, 4, history=split.train)
        np.testing.assert_array_equal(rows.sequences, [[1, 2, 2, 1], [1, 2, 1, 2]])
        np.testing.assert_array_equal(rows.targets, [[0, 0, 0, 1]] * 2)

    def test_without_raw_ids_the_numbers_say_what_is_the_same(self):
        train = SessionInteractions([1, 1, 3], [1, 4, 4], timestamps=[0, 1, 0])
        test = SessionInteractions(
            [1, 1, 1, 2, 2, 9, 9], [4, 2, 1, 1, 4, 1, 4], timestamps=[9000, 9001, 9002, 0, 1, 0, 1]
        )
        split = align_test(train, test)
        np.testing.assert_array_equal(split.test.item_ids, [4, 1])
        np.testing.assert_array_equal(split.test.user_ids, [1, 1])
        assert (split.test.num_items, split.test.num_users) == (5, 4)
        assert (test.num_items, test.num_users) == (5, 10)

    def test_anonymous_sessions_are_nobody_unseen(self):
        train = SessionInteractions([0, 0], [1, 2], timestamps=[0, 1], session_ids=[1, 1])
        test = SessionInteractions([0, 0, 0, 0], [1, 2, 2, 9], timestamps=[5, 6, 5, 6], session_ids=[1, 1, 2, 2])
        split = align_test(train, test)
        np.testing.assert_array_equal(split.test.item_ids, [1, 2])
        assert split.dropped_test_sessions == 0.5

    def test_one_text_id_in_one_part_does_not_hide_the_numbers_of_the_other(self):
        """Regression: a file's column is text if one of its ids is, and then no id matched."""
        numbers, text = [12, 7, 300], ["7", "x", "012", "12"]
        train, test = self.log("uuu", numbers, [0, 1, 2]), self.log("uuuu", text, [50, 51, 52, 53])
        np.testing.assert_array_equal(align_test(train, test).test.item_ids, [2, 1])
        np.testing.assert_array_equal(align_test(test, train).test.item_ids, [4, 1])

    def test_ids_of_several_kinds_in_one_column_are_other_ids(self):
        train, test = self.log("uu", ["1", 2], [0, 1]), self.log("uuu", [1, 2, 2], [50, 51, 52])
        np.testing.assert_array_equal(align_test(train, test).test.item_ids, [2, 2])

    def test_refusals(self, refuses):
        train, numbers = self.log("uu", "ab", [0, 1]), SessionInteractions([1, 1], [1, 2], timestamps=[0, 1])
        for parts in ((train, numbers), (numbers, train)):
            refuses(lambda parts=parts: align_test(*parts), "only one", "items with raw ids", "give both or none")
        unseen = self.log("uu", "xy", [0, 1])
        told = ("no test session of two or more events", "of 2 test events 2 are of unseen items, 0 of unseen users")
        refuses(lambda: align_test(train, unseen), *told)
        empty = train.select(np.zeros(2, dtype=bool))
        refuses(lambda: align_test(train, empty), "no test session")


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


class TestSplitRowsByTime:
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
            assert (part.num_items, part.num_users, part.session_gap) == (
                rows.num_items,
                rows.num_users,
                NO_SESSION_GAP,
            )
            assert part.binning is rows.binning and part.gap_binning is rows.gap_binning
        assert rows.num_targets == 5  # the rows given are as they were

    def test_too_few_sessions_are_refused(self, refuses):
        one = SessionSequences(np.array([[1, 2, 3]]))
        refuses(lambda: split_rows_by_time(one, 0.3), "too few sessions", "longer training part")
        refuses(lambda: split_rows_by_time(SessionSequences(np.array([[1], [2]])), 0.5), "too few sessions")


@pytest.mark.parametrize("windows", [{}, {"max_sequence_length": 6, "step_size": 2}])
@pytest.mark.parametrize("known_times", [True, False])
class TestSplitRowsOfAnyLog:
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


def test_repeats_are_collapsed_within_sessions():
    """a, a, b, a becomes a, b, a; the next session begins with whatever item it has."""
    log = pd.DataFrame({"item": [*"aaba", *"aa"], "session": [1] * 4 + [2] * 2, "timestamp": np.arange(6) * 10.0})
    found = collapse_repeats(SessionInteractions.from_log(log))
    assert found.item_vocabulary.inverse(found.item_ids).tolist() == ["a", "b", "a", "a"]
    assert found.session_ids.tolist() == [0, 0, 0, 1] and found.timestamps.tolist() == [0.0, 20.0, 30.0, 40.0]


class TestWithoutUnseenItems:
    """Rows of user 1: sessions a b c | d a, of user 2: c; item numbers in the order of a, b, c, d."""

    def rows(self):
        log = pd.DataFrame(
            {
                "user": [1, 1, 1, 1, 1, 2, 2],
                "item": [*"abcda", *"cc"],
                "session": [1, 1, 1, 2, 2, 3, 3],
                "timestamp": [0.0, 10, 30, 9000, 9050, 500, 520],
            }
        )
        return to_session_sequences(SessionInteractions.from_log(log))

    def test_what_is_left(self):
        rows = self.rows()
        names = rows.item_vocabulary.raw_ids
        known = rows.rows([0]).with_events(rows.events[[0, 1]], rows.session_ids[[0, 1]], [2])  # a, b
        found = without_unseen_items(rows, known)
        assert len(found) == 1 and names[found.events[:, ITEM] - 1].tolist() == ["a", "b", "a"]
        whole = rows.events[[0, 1, 4]].copy()
        # The second session opens with its second event now, at the gap of its first.
        for channel in (SESSION_START, SESSION_GAP_BIN, TARGET):
            whole[2, channel] = rows.events[3, channel]
        np.testing.assert_array_equal(found.events, whole)
        assert found.session_ids.tolist() == rows.session_ids[[0, 1, 4]].tolist()

    def test_nothing_changes_where_all_are_known(self):
        rows = self.rows()
        found = without_unseen_items(rows, rows)
        np.testing.assert_array_equal(found.events, rows.events)
        np.testing.assert_array_equal(found.offsets, rows.offsets)
