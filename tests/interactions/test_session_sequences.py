"""SessionSequences themselves: padded and flat are the same, types and shapes, choosing rows, wrong matrices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.host import Interactions, SequenceInteractions
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    NUM_CHANNELS,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    UNKNOWN_TIME,
    USER,
)
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary

MATRICES = ("sequences", "dwell", "targets", "session_starts", "session_gaps")


@pytest.fixture
def rows():
    """Three rows of lengths 3, 1 and 4 of two users and an anonymous session."""
    log = SessionInteractions(
        [1, 1, 1, 2, 0, 0, 0, 0],
        [1, 2, 3, 4, 5, 6, 7, 8],
        timestamps=[0, 2, 9000, 0, 3, 9, 12, 40],
        session_ids=[1, 1, 2, 3, 4, 4, 4, 4],
        item_vocabulary=Vocabulary("abcdefgh"),
    )
    return to_session_sequences(log, max_sequence_length=5)


def padded_again(rows):
    """The same rows, built from their padded matrices."""
    return SessionSequences(
        rows.sequences,
        user_ids=rows.user_ids,
        num_items=rows.num_items,
        num_users=rows.num_users,
        binning=rows.binning,
        gap_binning=rows.gap_binning,
        timestamps=rows.timestamps,
        **{name: getattr(rows, name) for name in MATRICES[1:]},
    )


class TestPaddedAndFlat:
    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_same_events(self, draw_log, data):
        log = SessionInteractions(**draw_log(data, users=(0, 1, 2), sessions=4))
        # Longer than any history: no row begins inside a session, which padded rows cannot tell from its start.
        rows = to_session_sequences(log, max_sequence_length=30)
        again = padded_again(rows)
        np.testing.assert_array_equal(again.events, rows.events)
        np.testing.assert_array_equal(again.offsets, rows.offsets)
        np.testing.assert_array_equal(again.session_ids, rows.session_ids)
        for name in (*MATRICES, "user_ids", "lengths", "targets_a_row"):
            np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
        for name in ("num_items", "num_users", "num_targets", "max_sequence_length", "binning", "gap_binning"):
            assert getattr(again, name) == getattr(rows, name)

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_a_row_from_inside_a_session_keeps_all_but_its_start(self, draw_log, data):
        log = SessionInteractions(**draw_log(data, users=(0, 1, 2), sessions=4))
        rows = to_session_sequences(log, max_sequence_length=3)
        again = padded_again(rows)
        for name in ("sequences", "dwell", "targets", "session_gaps", "user_ids"):
            np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
        assert (again.session_starts >= rows.session_starts).all()

    def test_defaults(self):
        rows = SessionSequences(np.array([[0, 4, 2], [0, 0, 0], [1, 2, 3]]))
        np.testing.assert_array_equal(rows.dwell, [[0, 1, 1], [0, 0, 0], [1, 1, 1]])
        np.testing.assert_array_equal(rows.session_starts, [[0, 1, 0], [0, 0, 0], [1, 0, 0]])
        np.testing.assert_array_equal(rows.session_gaps, [[0, 1, 0], [0, 0, 0], [1, 0, 0]])
        np.testing.assert_array_equal(rows.targets, [[0, 0, 1], [0, 0, 0], [0, 1, 1]])
        np.testing.assert_array_equal(rows.user_ids, [0, 0, 0])
        np.testing.assert_array_equal(rows.session_ids, [0, 0, 1, 1, 1])
        np.testing.assert_array_equal(rows.lengths, [2, 0, 3])
        assert (rows.num_items, rows.num_users, rows.num_targets, len(rows)) == (5, 1, 3, 3)

    def test_padding_on_the_right_or_between_moves_to_the_left(self):
        rows = SessionSequences(np.array([[3, 4, 0], [1, 0, 2]]), targets=np.array([[0, 1, 1], [1, 1, 0]]))
        np.testing.assert_array_equal(rows.sequences, [[0, 3, 4], [0, 1, 2]])
        np.testing.assert_array_equal(rows.targets, [[0, 0, 1], [0, 1, 0]])

    @pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
    def test_nothing(self, shape):
        rows = SessionSequences(np.zeros(shape, dtype=np.int32))
        assert (len(rows), rows.num_targets) == (shape[0], 0)
        for name in MATRICES:
            assert getattr(rows, name).shape == shape
        assert rows.padded_events(np.arange(shape[0])).shape == (shape[0], 0, NUM_CHANNELS)

    def test_the_matrices_given_stay(self):
        given_matrices = {
            "sequences": np.array([[0, 4, 2]]),
            "dwell": np.array([[0, 1, 2]]),
            "session_starts": np.array([[False, True, True]]),
            "session_gaps": np.array([[0, 1, 2]]),
            "targets": np.array([[False, False, True]]),
        }
        copies = {name: matrix.copy() for name, matrix in given_matrices.items()}
        rows = SessionSequences(**given_matrices)
        for name, matrix in copies.items():
            np.testing.assert_array_equal(given_matrices[name], matrix)
            np.testing.assert_array_equal(getattr(rows, name), matrix)
            getattr(rows, name)[:] = 0
            np.testing.assert_array_equal(given_matrices[name], matrix)


class TestMatrices:
    def test_types_and_shapes(self, rows):
        for name, kind in zip(MATRICES, (np.int32, np.int32, bool, bool, np.int32), strict=True):
            assert (getattr(rows, name).dtype, getattr(rows, name).shape) == (kind, (3, 5))
        assert (rows.user_ids.dtype, rows.user_ids.shape) == (np.int32, (3,))

    def test_left_padded(self, rows):
        np.testing.assert_array_equal(rows.sequences, [[0, 5, 6, 7, 8], [0, 0, 1, 2, 3], [0, 0, 0, 0, 4]])
        for name in MATRICES:
            assert not getattr(rows, name)[rows.sequences == 0].any()
        assert (rows.dwell[rows.sequences > 0] >= 1).all()

    def test_made_once_and_only_when_asked_for(self, rows):
        assert not set(MATRICES) & set(vars(rows))
        assert rows.dwell is rows.dwell
        assert set(MATRICES) & set(vars(rows)) == {"dwell"}


class TestPaddedEvents:
    def test_channels(self, rows):
        events = rows.padded_events(np.arange(3), 5)
        assert (events.shape, events.dtype) == ((3, 5, NUM_CHANNELS), np.int64)
        for name, channel in zip(MATRICES, (ITEM, DWELL, TARGET, SESSION_START, SESSION_GAP_BIN), strict=True):
            np.testing.assert_array_equal(events[..., channel], getattr(rows, name))
        np.testing.assert_array_equal(events[..., USER], np.where(rows.sequences > 0, rows.user_ids[:, None], 0))

    def test_width_is_the_longest_chosen_row(self, rows):
        assert rows.padded_events(np.array([2, 1]))[..., ITEM].tolist() == [[0, 0, 4], [1, 2, 3]]
        assert rows.padded_events(np.array([2, 2]))[..., ITEM].tolist() == [[4], [4]]
        assert rows.padded_events(np.array([], dtype=int)).shape == (0, 0, NUM_CHANNELS)

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_any_choice_is_a_part_of_the_whole(self, draw_log, data):
        rows = to_session_sequences(SessionInteractions(**draw_log(data)), max_sequence_length=4)
        whole = rows.padded_events(np.arange(len(rows)), 4)
        chosen = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)), dtype=int)
        narrow = rows.padded_events(chosen)
        np.testing.assert_array_equal(narrow, whole[chosen][:, 4 - narrow.shape[1] :])
        assert not whole[chosen][:, : 4 - narrow.shape[1]].any()

    def test_refuses_a_width_that_would_lose_events(self, rows, refuses):
        refuses(lambda: rows.padded_events(np.arange(3), 3), "4 events", "width is 3", "at least 4")


class TestRows:
    def test_order_and_all_that_belongs_to_them(self, rows):
        for chosen in (np.array([2, 0, 0]), [2, 0, 0], np.array([-1, 0, -3])):
            part = rows.rows(chosen)
            for name in (*MATRICES, "user_ids", "lengths"):
                np.testing.assert_array_equal(getattr(part, name), getattr(rows, name)[np.asarray(chosen)])
            sessions = [rows.session_ids[rows.offsets[r] : rows.offsets[r + 1]] for r in np.asarray(chosen) % 3]
            np.testing.assert_array_equal(part.session_ids, np.concatenate(sessions))
            assert (part.binning, part.gap_binning) == (rows.binning, rows.gap_binning)
            assert (part.num_items, part.num_users, part.max_sequence_length) == (9, 3, 5)
            assert part.item_vocabulary is rows.item_vocabulary

    def test_by_mask(self, rows):
        np.testing.assert_array_equal(rows.rows(np.array([True, False, True])).sequences, rows.sequences[[0, 2]])

    @pytest.mark.parametrize("nothing", [[], np.zeros(3, dtype=bool), slice(0)])
    def test_none(self, rows, nothing):
        part = rows.rows(nothing)
        assert (len(part), part.num_targets, part.sequences.shape) == (0, 0, (0, 5))

    def test_the_whole_stays(self, rows):
        before = rows.events.copy()
        part = rows.rows([0])
        part.events[:] = 0
        np.testing.assert_array_equal(rows.events, before)


class TestRefusals:
    sequences = np.array([[0, 1, 2], [3, 4, 5]])

    def refuse(self, refuses, *parts, sequences=sequences, **others):
        refuses(lambda: SessionSequences(sequences, **others), *parts)

    def test_shapes(self, refuses):
        self.refuse(refuses, "shape (3,)", "(rows, time)", sequences=np.array([1, 2, 3]))
        for name in MATRICES[1:]:
            self.refuse(refuses, f"{name} has shape (3,)", "(2, 3)", **{name: np.array([1, 1, 1])})
            self.refuse(refuses, f"{name} has shape (2, 1)", "(2, 3)", **{name: np.ones((2, 1), dtype=int)})
        # Fewer users than rows once lost the rows past them.
        self.refuse(refuses, "2 rows and 1 user ids", "every row one", user_ids=np.array([1]))

    def test_ids(self, refuses):
        self.refuse(refuses, "item ids run from 1 to 5", "1..3", "num_items", num_items=4)
        self.refuse(refuses, "item ids run from -1 to 2", "number them from 1", sequences=np.array([[-1, 2]]))
        self.refuse(refuses, "item ids are of type float64", "integers", sequences=np.array([[0.0, 1.5]]))
        self.refuse(refuses, "user ids run from 1 to 7", "0..4", user_ids=np.array([1, 7]), num_users=5)

    def test_bins(self, refuses):
        binning = ScottBinning().fit(np.arange(1000))
        dwell = np.array([[0, 5, 1], [2, 11, 1]])
        self.refuse(refuses, "dwell bins run from 1 to 11", "1..2", "give their binning", dwell=dwell)
        np.testing.assert_array_equal(SessionSequences(self.sequences, dwell=dwell, binning=binning).dwell, dwell)
        # The padding's bin 0 is no dwell of an event: unknown is 1.
        self.refuse(refuses, "from 0 to 11", "1 where dwell is unknown", dwell=dwell * [1, 1, 0], binning=binning)
        self.refuse(refuses, "dwell bins are of type float64", "integers", dwell=dwell + 0.5, binning=binning)
        self.refuse(refuses, "session gap bins run from 1 to 11", "0..2", "gap_binning", session_gaps=dwell)


def test_binning_that_is_not_fitted_is_fitted_on_the_training_part():
    users, items = np.repeat([1, 2], 4), np.tile([1, 2, 3, 4], 2)
    log = SessionInteractions(users, items, timestamps=np.tile([0.0, 3.0, 60.0, 900.0], 2))
    asked = ScottBinning(max_bins=5, scale="log")
    rows = to_session_sequences(log, binning=asked)
    assert rows.binning.fitted and rows.binning.scale == "log" and rows.binning.max_bins == 5
    assert rows.binning.width == ScottBinning(5, "log").fit(log.dwell_times).width
    assert not asked.fitted, "what was given stays as it was"


class TestTheHostsSequencesAsRows:
    """``as_session_sequences``: users that are not known to the model are nobody."""

    def sequences(self, users):
        return SequenceInteractions(np.array([[0, 1], [2, 3], [3, 1]]), user_ids=users, num_items=7)

    def test_users_beyond_those_known_are_anonymous(self):
        class Known:
            num_users = 8

        found = as_session_sequences(self.sequences(np.array([7, 8, 3])), like=Known)
        assert found.user_ids.tolist() == [7, 0, 3] and found.num_users == 8 and found.num_items == 7
        found = as_session_sequences(self.sequences(np.array([4, 5, 3])), like=Known)
        assert found.user_ids.tolist() == [4, 5, 3] and found.num_users == 8

    def test_without_a_model_all_are_kept(self):
        found = as_session_sequences(self.sequences(np.array([4, 5, 9])))
        assert found.user_ids.tolist() == [4, 5, 9] and found.num_users == 10

    def test_without_users_all_are_anonymous(self):
        assert as_session_sequences(self.sequences(None)).user_ids.tolist() == [0, 0, 0]

    def test_interactions_take_bins_and_session_gap_of_the_model(self):
        clicks = Interactions(np.ones(4, int), np.arange(1, 5), timestamps=np.array([0.0, 10.0, 30.0, 70.0]))
        like = to_session_sequences(SessionInteractions(np.ones(3, int), [1, 2, 3], timestamps=[0.0, 7.0, 9.0]))
        like.session_gap = 25.0
        found = as_session_sequences(clicks, like=like)
        assert found.events[:, SESSION_START].tolist() == [1, 0, 0, 1]
        assert found.binning == like.binning and found.gap_binning == like.gap_binning
        alone = as_session_sequences(clicks)
        assert alone.events[:, SESSION_START].tolist() == [1, 0, 0, 0] and alone.binning != like.binning

    def test_what_holds_no_sequences_is_refused(self, refuses):
        refuses(lambda: as_session_sequences([1, 2]), "list holds no sequences", "to_session_sequences")


def test_ids_as_large_as_their_number_are_refused(refuses):
    rows = np.array([[0, 1], [2, 3]])
    refuses(lambda: SessionSequences(rows, num_items=3), "item ids run from 1 to 3, not inside 1..2")
    users = np.array([1, 2])
    refuses(lambda: SessionSequences(rows, user_ids=users, num_users=2), "user ids run from 1 to 2", "0 to below")
    assert SessionSequences(rows, user_ids=users, num_users=3, num_items=4).num_users == 3


def test_the_history_is_in_the_unit_of_the_rest():
    whole = Interactions(np.ones(5, int), np.arange(1, 6), timestamps=np.arange(5) * 60_000 + 1_500_000_000_000)
    past = Interactions(np.ones(3, int), np.arange(1, 4), timestamps=whole.timestamps[:3], num_items=6)
    later = Interactions(np.ones(2, int), np.arange(4, 6), timestamps=whole.timestamps[3:], num_items=6)
    rows = to_session_sequences(later, history=past, timestamp_unit="ms")
    assert rows.lengths.tolist() == [5] and rows.events[:, ITEM].tolist() == [1, 2, 3, 4, 5]


def test_rows_have_200_events_by_default():
    long = SessionInteractions(np.ones(250, int), np.arange(1, 251), timestamps=np.arange(250.0))
    assert to_session_sequences(long).lengths.max() == 200


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


def test_weights_that_no_system_uses_are_said():
    columns = {"user_ids": np.array([1, 1]), "item_ids": np.array([1, 2]), "timestamps": np.array([0.0, 1.0])}
    for kind in (Interactions, SessionInteractions):
        with pytest.warns(UserWarning, match="weights of the interactions are not used: every event counts alike"):
            to_session_sequences(kind(**columns, weights=np.array([1.0, 2.0])))
        to_session_sequences(kind(**columns))
