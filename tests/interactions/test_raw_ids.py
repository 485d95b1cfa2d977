"""Raw ids come back from a vocabulary's state as they were, by value and by type."""

import json
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary, in_order_of_appearance
from spotlight_asars.sequence.non_neural.rules import Popularity
from spotlight_asars.serialization.state import SystemState, as_plain

# Every character there is, single surrogates too, which UTF-8 cannot write.
TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
PLAIN = st.one_of(TEXT, st.integers(), st.floats(allow_nan=False), st.booleans())
RAW_ID = st.one_of(PLAIN, st.tuples(PLAIN, PLAIN), st.tuples(st.tuples(PLAIN)))


def again(vocabulary):
    """By way of JSON, as in a file."""
    state = vocabulary.state()
    assert state.arrays["ids"].dtype.kind in "biuf"
    return Vocabulary.from_state(SystemState(fitted=json.loads(json.dumps(state.fitted)), arrays=state.arrays))


def assert_same(one, other):
    assert one == other and other == one
    first, second = one.raw_ids.tolist(), other.raw_ids.tolist()
    assert first == second and [type(raw) for raw in first] == [type(raw) for raw in second]
    np.testing.assert_array_equal(other.transform(one.raw_ids), np.arange(1, len(one) + 1))
    np.testing.assert_array_equal(one.transform(other.raw_ids), np.arange(1, len(one) + 1))


def distinct(ids):
    """Ids that are apart as keys of a dictionary."""
    return list(dict.fromkeys(ids))


@given(st.lists(TEXT))
@example(["", "\ud800", "\udfff\ud800", "\0", "a\0", "x" * 10_000, "nan", "NULL", "1", " 1"])
def test_text(ids):
    vocabulary = Vocabulary(distinct(ids))
    assert_same(vocabulary, again(vocabulary))


@given(st.lists(RAW_ID))
@example([1, "1", 1.5, (1,), ("1",), ((1, "a"), 2), 2**64, -(2**200), 2**53 + 1, float(2**53)])
@example([True, "True", 0.0, float("inf"), -float("inf")])
@example([(1, 2), (3, 4)])
def test_mixed(ids):
    vocabulary = Vocabulary(distinct(ids))
    assert_same(vocabulary, again(vocabulary))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", "float32", "float64", "bool"])
def test_numbers(dtype):
    ids = np.array([1, 0] if dtype == "bool" else [3, 1, 2, 100], dtype=dtype)
    vocabulary = Vocabulary(ids)
    assert_same(vocabulary, again(vocabulary))
    if dtype == "float64":
        exact = Vocabulary(np.array([0.1, np.nextafter(0.1, 1), -np.inf, 5e-324]))
        assert_same(exact, again(exact))


@pytest.mark.parametrize("dtype", ["Int64", "UInt8", "Float64", "boolean", "string", "str", "object", "category"])
def test_types_of_pandas(dtype):
    values = {"Float64": [0.5, 2.0], "boolean": [True, False]}.get(dtype, [2, 1])
    if dtype in ("string", "str", "object", "category"):
        values = ["b", "a"]
    vocabulary = Vocabulary(pd.Series(values).astype(dtype))
    assert_same(vocabulary, again(vocabulary))


def test_numpys_numbers_among_others():
    """They are the same ids as Python's."""
    ids = [np.int64(5), "a", np.float32(0.1), np.str_("b"), np.bool_(False), (np.int8(3),)]
    loaded = again(Vocabulary(ids))
    assert loaded == Vocabulary(ids)
    np.testing.assert_array_equal(loaded.transform(ids), [1, 2, 3, 4, 5, 6])


def test_a_million_is_quick_to_keep():
    vocabulary = Vocabulary([f"item {number}" for number in range(10**5)])
    assert again(vocabulary) == vocabulary


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        ([frozenset("a"), 1], "frozenset"),
        ([b"bytes", "text"], "b'bytes'"),
        ([Fraction(1, 3)], "Fraction"),
        ([("a", float("nan"))], "nan"),
        ([("a", None)], "None"),
        ([1, 1j], "1j"),
        ([10**5000, "a"], "4300 digits"),
        ([np.longdouble(1), "a"], "1.0"),
        (pd.to_datetime(["2020-01-01"]), "datetime64"),
        (pd.to_datetime(["2020-01-01"]).tz_localize("UTC"), "UTC"),
        ([pd.Timestamp("2020-01-01"), 1], "Timestamp"),
        ([np.timedelta64(1, "s"), "a"], "timedelta64"),
        (pd.to_timedelta([1], unit="s"), "timedelta64"),
        (pd.period_range("2020", periods=2), "period"),
        (pd.interval_range(0, 2), "interval"),
        (np.array([1j]), "complex"),
    ],
)
def test_others_are_refused(ids, named, refuses):
    vocabulary = Vocabulary(ids)
    refuses(vocabulary.state, named, "whole numbers or text")


def test_a_type_of_another_program(refuses):
    state = SystemState(fitted={"type": "datetime64[ns]"}, arrays=Vocabulary(["a"]).state().arrays)
    refuses(lambda: Vocabulary.from_state(state), "its vocabulary type is not one of object, str")


@given(st.lists(st.floats(0, 1e9)), st.sampled_from(["linear", "log"]), st.integers(1, 200))
def test_binnings(values, scale, max_bins):
    binning = ScottBinning(max_bins, scale)
    assert ScottBinning.from_state(binning.state()) == binning
    binning.fit(np.array(values))
    plain = as_plain(binning.state().fitted)
    state = SystemState(binning.state().settings, fitted=json.loads(json.dumps(plain)))
    loaded = ScottBinning.from_state(state)
    assert loaded == binning and loaded.fitted
    np.testing.assert_array_equal(loaded.transform(np.array(values)), binning.transform(np.array(values)))


ARROW_TYPES = [
    ("int64", [30, 10, 20, 10]),
    ("uint8", [30, 10, 20, 10]),
    ("double", [0.5, 1.5, 2.5, 1.5]),
    ("bool", [True, False, False, False]),
    ("string", ["a", "b", "\u20ac", "b"]),
    ("large_string", ["a", "b", "c", "b"]),
    ("dictionary(string)", ["a", "b", "c", "b"]),
    ("dictionary(int64)", [30, 10, 20, 10]),
]


class TestArrow:
    @staticmethod
    def column(name, values):
        pyarrow = pytest.importorskip("pyarrow")
        if name.startswith("dictionary"):
            kind = pyarrow.dictionary(pyarrow.int32(), pyarrow.type_for_alias(name[11:-1]))
        else:
            kind = pyarrow.type_for_alias(name)
        return pd.Series(pd.arrays.ArrowExtensionArray(pyarrow.array(values, type=kind)))

    @pytest.mark.parametrize(("name", "values"), ARROW_TYPES)
    def test_ids_of_arrow_can_be_saved(self, name, values):
        vocabulary, numbers = Vocabulary.fit(self.column(name, values))
        plain, expected = Vocabulary.fit(values)
        assert vocabulary.raw_ids.tolist() == plain.raw_ids.tolist() and numbers.tolist() == expected.tolist()
        assert_same(vocabulary, again(vocabulary))
        assert vocabulary.transform(values).tolist() == plain.transform(self.column(name, values)).tolist()

    @pytest.mark.parametrize(("name", "values"), ARROW_TYPES[-2:])
    def test_a_dictionary_numbers_only_the_ids_that_occur(self, name, values):
        """Regression: a part of a log had the whole log's users, and `recommend` answered for all of them."""
        part = self.column(name, values)[1:].reset_index(drop=True)
        codes, distinct = in_order_of_appearance(part)
        assert (codes.tolist(), distinct.tolist()) == ([0, 1, 0], values[1:3])
        log = pd.DataFrame({"user": part, "item": [1, 2, 1], "timestamp": [0.0, 1.0, 2.0]})
        interactions = SessionInteractions.from_log(log)
        assert interactions.num_users == 3
        system = Popularity().fit(to_session_sequences(interactions))
        assert system.recommend(log[:1], k=1)["user"].tolist() == values[1:2]

    @pytest.mark.parametrize(("name", "known"), [("int64", 1), ("string", "a"), ("dictionary(string)", "a")])
    def test_a_missing_id_of_arrow_is_told(self, name, known, refuses):
        refuses(lambda: Vocabulary.fit(self.column(name, [known, None])), "id of event 1 is missing")
