"""Vocabularies against Python's dictionaries, for ids of every kind."""

import copy
import datetime
import uuid
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.interactions.vocabulary import Vocabulary, renumbering

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)  # half of a surrogate pair is no text
simple = st.one_of(
    st.integers(-3, 3),
    st.integers(2**53 - 1, 2**53 + 2),  # floats cannot tell these apart
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    texts,
    st.integers(-3, 3).map(str),
    st.binary(max_size=3),
)
raw_ids = st.one_of(simple, st.tuples(simple), st.tuples(simple, simple), st.frozensets(st.integers(0, 3)))
one_kind = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.integers(0, 5)), st.lists(texts), st.lists(st.floats(0, 2))
)
logs = st.one_of(st.lists(raw_ids, max_size=20), one_kind)


def numbered_by_dictionary(log):
    numbers = {}
    return numbers, [numbers.setdefault(raw_id, len(numbers) + 1) for raw_id in log]


class TestAgainstDictionary:
    @given(logs)
    @settings(max_examples=200, deadline=None)
    def test_fit_numbers_by_first_appearance(self, log):
        expected, expected_numbers = numbered_by_dictionary(log)
        vocabulary, numbers = Vocabulary.fit(log)
        assert numbers.dtype == np.int32
        assert numbers.tolist() == expected_numbers
        assert len(vocabulary) == len(expected)
        assert list(vocabulary.raw_ids) == list(expected)

    @given(logs)
    @settings(max_examples=100, deadline=None)
    def test_round_trip(self, log):
        vocabulary, numbers = Vocabulary.fit(log)
        back = list(vocabulary.inverse(numbers))
        assert back == log
        np.testing.assert_array_equal(vocabulary.transform(log), numbers)
        np.testing.assert_array_equal(vocabulary.transform(back), numbers)
        assert all(raw_id in vocabulary for raw_id in log)

    @given(logs, logs)
    @settings(max_examples=200, deadline=None)
    def test_transform_of_other_ids(self, log, wanted):
        expected, _ = numbered_by_dictionary(log)
        vocabulary, _ = Vocabulary.fit(log)
        numbers = vocabulary.transform(wanted)
        assert numbers.dtype == np.int32
        assert numbers.tolist() == [expected.get(raw_id, 0) for raw_id in wanted]
        assert [raw_id in vocabulary for raw_id in wanted] == [raw_id in expected for raw_id in wanted]

    @given(logs, st.data())
    @settings(max_examples=100, deadline=None)
    def test_keep(self, log, data):
        vocabulary, numbers = Vocabulary.fit(log)
        size = len(vocabulary) + 1
        kept = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
        given = kept.copy()
        smaller, renumber = vocabulary.keep(kept)
        np.testing.assert_array_equal(kept, given)
        assert (renumber.shape, renumber.dtype) == ((size,), np.int32)
        assert renumber[0] == 0
        for raw_id, number in zip(log, numbers, strict=True):
            assert smaller.transform([raw_id])[0] == renumber[number]
            assert (renumber[number] > 0) == kept[number]
        assert list(smaller.raw_ids) == [
            raw_id for raw_id, stays in zip(vocabulary.raw_ids, kept[1:], strict=True) if stays
        ]


class TestKinds:
    def test_number_and_text_are_two_ids(self):
        vocabulary, numbers = Vocabulary.fit([1, "1", (1,), ("1",), b"1", 1])
        np.testing.assert_array_equal(numbers, [1, 2, 3, 4, 5, 1])
        assert list(vocabulary.raw_ids) == [1, "1", (1,), ("1",), b"1"]

    def test_neighbours_that_floats_cannot_tell_apart(self):
        vocabulary, numbers = Vocabulary.fit([2**53, 2**53 + 1, 0.5])
        np.testing.assert_array_equal(numbers, [1, 2, 3])
        np.testing.assert_array_equal(vocabulary.transform([2.0**53, 2**53 + 1]), [1, 2])
        np.testing.assert_array_equal(Vocabulary([2**53 + 1]).transform([2.0**53]), [0])

    def test_tuples_stay_whole(self):
        vocabulary, numbers = Vocabulary.fit([("a", 1), ("a", 2), ("a", 1)])
        np.testing.assert_array_equal(numbers, [1, 2, 1])
        assert vocabulary.raw_ids.shape == (2,)
        assert vocabulary.raw_ids[1] == ("a", 2)

    def test_unicode_is_not_folded(self):
        composed, decomposed = "\u00e9", "e\u0301"
        log = ["ß", "SS", "ss", composed, decomposed, "日本", "🛒", "", " ", "a\0b", "a\0c"]
        vocabulary, numbers = Vocabulary.fit(log)
        np.testing.assert_array_equal(numbers, np.arange(1, len(log) + 1))
        assert list(vocabulary.inverse(numbers)) == log

    @pytest.mark.parametrize(
        "as_given",
        [list, np.array, partial(pd.Series, dtype=object), partial(pd.Series, dtype="string")],
        ids=["list", "array", "objects", "string"],
    )
    def test_text_that_differs_after_a_zero_byte_is_two_ids(self, as_given):
        log = as_given(["a\0b", "a\0c", "a", "a\0b", "a\0c"])
        vocabulary, numbers = Vocabulary.fit(log)
        np.testing.assert_array_equal(numbers, [1, 2, 3, 1, 2])
        np.testing.assert_array_equal(vocabulary.transform(["a\0c", "a\0", "a"]), [2, 0, 3])
        assert list(vocabulary.inverse(numbers)) == list(log)

    @pytest.mark.parametrize(
        "log",
        [
            np.array([7, 3, 7], dtype=np.int32),
            np.array([2**63 + 1, 2**63 + 2, 2**63 + 1], dtype=np.uint64),
            np.array(["b", "a", "b"]),
            pd.Series([7, 3, 7], index=[5, 5, 6]),
            pd.Series([7, 3, 7], dtype="Int64"),
            pd.Series(["b", "a", "b"], dtype="category"),
            pd.Index(["b", "a", "b"]),
            [datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)],
            [uuid.UUID(int=2), uuid.UUID(int=1), uuid.UUID(int=2)],
        ],
        ids=["int32", "uint64", "text", "series", "nullable", "category", "index", "date", "uuid"],
    )
    def test_columns(self, log):
        vocabulary, numbers = Vocabulary.fit(log)
        np.testing.assert_array_equal(numbers, [1, 2, 1])
        np.testing.assert_array_equal(vocabulary.transform(log), numbers)
        np.testing.assert_array_equal(vocabulary.transform(list(log)), numbers)
        assert list(vocabulary.inverse(numbers)) == list(log)

    def test_a_generator_is_read_once(self):
        vocabulary, numbers = Vocabulary.fit(letter for letter in "abca")
        np.testing.assert_array_equal(numbers, [1, 2, 3, 1])
        np.testing.assert_array_equal(vocabulary.transform(letter for letter in "cx"), [3, 0])

    def test_missing_ids_are_unknown(self):
        for known in (["a", "b"], [1, 2], [(1,), "b"]):
            np.testing.assert_array_equal(Vocabulary(known).transform([None, float("nan")]), [0, 0])


class TestShapes:
    def test_nothing(self):
        vocabulary, numbers = Vocabulary.fit([])
        assert (len(vocabulary), numbers.shape) == (0, (0,))
        np.testing.assert_array_equal(vocabulary.transform(["a"]), [0])
        assert vocabulary.inverse([]).shape == (0,)

    def test_inverse_keeps_the_shape(self):
        vocabulary = Vocabulary(["a", "b", "c"])
        np.testing.assert_array_equal(vocabulary.inverse([[3, 1], [2, 2]]), [["c", "a"], ["b", "b"]])
        assert vocabulary.inverse(np.zeros((0, 5), dtype=np.int64)).shape == (0, 5)
        assert vocabulary.inverse([]).shape == (0,)
        np.testing.assert_array_equal(vocabulary.inverse(np.array([3], dtype=np.uint8)), ["c"])

    def test_renumbering(self):
        kept = np.array([True, True, False, True])
        np.testing.assert_array_equal(renumbering(kept), [0, 1, 0, 2])
        assert kept[0]

    def test_the_callers_array_may_change(self):
        for column in (np.array([1, 2, 3]), np.array(["a", "b", 3], dtype=object)):
            vocabulary = Vocabulary(column)
            first = column[0]
            column[0] = 9
            assert vocabulary.raw_ids[0] == first
            assert 9 not in vocabulary
            with pytest.raises(ValueError, match="read-only"):
                vocabulary.raw_ids[0] = 9


class TestEquality:
    def test_same_ids_in_the_same_order(self):
        assert Vocabulary(["a", "b"]) == Vocabulary(np.array(["a", "b"], dtype=object))
        assert Vocabulary([1, 2]) == Vocabulary(np.array([1, 2], dtype=np.int32))
        assert Vocabulary(["a", "b"]) != Vocabulary(["b", "a"])
        assert Vocabulary(["a", "b"]) != Vocabulary(["a", "b", "c"])
        assert Vocabulary([1]) != Vocabulary(["1"])
        assert Vocabulary([1]) != [1]

    def test_a_copy_is_equal_and_works(self):
        vocabulary = Vocabulary([1, "1", (1, 2)])
        twin = copy.deepcopy(vocabulary)
        assert twin == vocabulary
        np.testing.assert_array_equal(twin.transform([(1, 2), "1", 5]), [3, 2, 0])

    def test_no_hash(self):
        with pytest.raises(TypeError):
            hash(Vocabulary([1]))

    def test_text(self):
        assert repr(Vocabulary("abc")) == "<Vocabulary of 3 ids>"


class TestRefusals:
    @pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT], ids=str)
    def test_missing(self, refuses, missing):
        refuses(lambda: Vocabulary.fit(["a", "b", missing, missing]), "id of event 2 is missing", "give it one")
        refuses(lambda: Vocabulary.fit(pd.Series([1, 2, missing], dtype=object)), "id of event 2 is missing")
        refuses(lambda: Vocabulary(["a", missing]), "an id is missing", "give every event an id")

    def test_twice(self, refuses):
        refuses(lambda: Vocabulary(["a", "b", "a"]), "id 'a' appears twice", "give every id once")
        refuses(lambda: Vocabulary([1, "1", 1.0]), "appears twice")

    def test_numbers_without_raw_id(self, refuses):
        vocabulary = Vocabulary(["a", "b"])
        for number in (0, -1, 3):
            refuses(lambda number=number: vocabulary.inverse([1, number]), "outside 1..2", "no raw id")
        refuses(lambda: vocabulary.inverse([1.5]), "float64", "give integers")
        refuses(lambda: vocabulary.inverse([True]), "bool", "give integers")


@pytest.mark.parametrize(
    "known", [[7, 8, 2**53], [7.0, 0.5, 2.0**53], ["7", "a", "a "], [7, "7", (7, "a")], [True, False]]
)
def test_few_ids_one_by_one_are_numbered_as_many(known):
    wanted = [7, "7", "a", "a ", 2**53, 2**53 + 1, np.int64(7), np.str_("a"), 1, 0, -1, 2**70]
    vocabulary = Vocabulary(known)
    many = vocabulary.transform(np.array(wanted * 100, dtype=object))
    one_by_one = [vocabulary.transform([one])[0] for one in wanted]
    np.testing.assert_array_equal(one_by_one * 100, many)
    np.testing.assert_array_equal(vocabulary.transform(wanted), one_by_one)


class TestMatch:
    NUMBERS, TEXT = [7, 12, -3, 0], ["012", "-3", "12", "x", "7 ", "0"]

    def test_whole_numbers_and_their_text(self):
        numbers, text = Vocabulary(self.NUMBERS), Vocabulary(self.TEXT)
        assert numbers.match(self.TEXT).tolist() == [0, 3, 2, 0, 0, 4]
        assert text.match(self.NUMBERS).tolist() == [0, 3, 2, 6]
        assert text.match(np.array([2**64 - 1, 12], dtype=np.uint64)).tolist() == [0, 3]
        assert numbers.match(pd.Series(self.TEXT, dtype="string")).tolist() == [0, 3, 2, 0, 0, 4]

    @pytest.mark.parametrize("ids", [["7", 12], [7.0, 12.0], [("7",), "12"], [True, "12"], []])
    def test_anything_else_as_transform_does(self, ids):
        for vocabulary in (Vocabulary(self.NUMBERS), Vocabulary(self.TEXT)):
            assert vocabulary.match(ids).tolist() == vocabulary.transform(ids).tolist()
