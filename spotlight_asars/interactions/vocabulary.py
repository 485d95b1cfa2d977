"""Raw ids to consecutive numbers and back.

Raw ids as arrays of numbers, for files: numbers as they are, text and mixed ids as JSON.
"""

import json
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.state import PLAIN_NUMBERS, SystemState

# Types of an index whose ids are kept as JSON, which holds every character, single surrogates too.
TEXT_TYPES = (
    *("object", "str", "string", "boolean", "Float32", "Float64"),
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
)
_MEND = "number the log by whole numbers or text first"


def ids_as_array(index: pd.Index) -> tuple[np.ndarray, str | None]:
    """
    Raw ids as an array.

    Parameters
    ----------
    index : pandas Index
        Of numbers, text or bools, of any mixture of them, and of tuples of them.

    Returns
    -------
    (array, type) : the ids themselves, shape (n,), and None; or the bytes of a JSON list and the index's type

    Raises
    ------
    InputError
        If there are ids of another kind.
    """
    if isinstance(index, pd.CategoricalIndex):
        index = index.astype(index.categories.dtype)
    if isinstance(index.dtype, np.dtype) and index.dtype.kind in PLAIN_NUMBERS and index.dtype.itemsize <= 8:
        return index.to_numpy(), None
    if str(index.dtype) not in TEXT_TYPES:
        raise InputError(f"raw ids are of type {index.dtype}, which a model file cannot hold: {_MEND}")
    ids = index.astype(object).tolist()
    if not set(map(type, ids)) <= {str, int, float, bool}:
        ids = [_as_json(raw_id) for raw_id in ids]
    try:
        text = json.dumps(ids, separators=(",", ":"))
    except ValueError as error:  # Python writes no number of more than 4,300 digits
        raise InputError(f"a raw id cannot be written ({error}): {_MEND}") from error
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8), str(index.dtype)


def ids_from_array(array: np.ndarray, type_name: str | None) -> pd.Index:
    """The index that :func:`ids_as_array` took."""
    if type_name is None:
        return pd.Index(array)
    if type_name not in TEXT_TYPES:
        raise ValueError(f"raw ids are of the unknown type {type_name!r}")
    found = json.loads(array.tobytes().decode("ascii"))
    if type(found) is not list:
        raise ValueError("raw ids are no list")
    ids = np.empty(len(found), dtype=object)
    ids[:] = [_from_json(one) if type(one) is list else one for one in found]
    return pd.Index(ids, dtype=type_name, tupleize_cols=False)


def _as_json(raw_id: Hashable) -> object:
    """An id in the types that JSON gives back; a tuple as a list."""
    if isinstance(raw_id, np.generic) and raw_id.dtype.kind in PLAIN_NUMBERS + "U":
        raw_id = raw_id.item()
    if type(raw_id) is tuple:
        return [_as_json(one) for one in raw_id]
    if type(raw_id) not in (str, int, float, bool) or raw_id != raw_id:
        raise InputError(f"{raw_id!r:.100} is a raw id of a kind that a model file cannot hold: {_MEND}")
    return raw_id


def _from_json(found: object) -> Hashable:
    return tuple(_from_json(one) for one in found) if type(found) is list else found


UNKNOWN_ID = 0
_FEW = 256  # ids that are looked up one by one, as those of a live session: a column of a table is not worth its making
_PLAIN_TYPES = {int, str, np.int64, np.str_}  # which are the same as an id of any other type only where Python says so


@register_kind("part")
class Vocabulary:
    """
    Raw ids of any hashable kind, numbered 1..n; 0 is padding and stands for whatever is not known.

    Parameters
    ----------
    raw_ids : iterable of hashable
        Distinct raw ids; the first gets number 1.

    Notes
    -----
    Ids are compared as Python compares dictionary keys: 7 and '7' are two ids, in one column too, and so are 'a' and
    'a '; 7, 7.0 and ``numpy.int64(7)`` are one. Give a mixed column one type first where it means one thing twice.
    """

    def __init__(self, raw_ids: Iterable[Hashable]) -> None:
        self._index = raw_ids if isinstance(raw_ids, pd.Index) else to_index(raw_ids)
        if self._index.hasnans:
            raise InputError("an id is missing (NaN or None): give every event an id, or leave it out")
        with _hashing():
            is_unique = self._index.is_unique
        if not is_unique:
            twice = self._index[self._index.duplicated()][0]
            raise InputError(f"id {twice!r} stands twice in a vocabulary: give every id once")

    @classmethod
    def fit(cls, raw_ids: Iterable[Hashable]) -> tuple["Vocabulary", np.ndarray]:
        """
        Number the ids of a log in order of first appearance.

        Returns
        -------
        (vocabulary, numbers) : the vocabulary, and an int32 array of shape (n,), each between 1 and the
            number of distinct ids.
        """
        codes, unique = in_order_of_appearance(raw_ids)
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            raise InputError(f"the id of event {row} is missing (NaN or None): give it one, or leave it out")
        return cls(unique), (codes + 1).astype(np.int32)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, raw_id: Hashable) -> bool:
        with _hashing():
            return raw_id in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._index.equals(other._index)

    __hash__ = None

    def __repr__(self) -> str:
        return f"<Vocabulary of {len(self)} ids>"

    @cached_property
    def _as_objects(self) -> pd.Index:
        return self._index.astype(object)

    @cached_property
    def _number_of(self) -> dict[Hashable, int]:
        return dict(zip(self._as_objects, range(1, len(self) + 1), strict=True))

    @cached_property
    def raw_ids(self) -> np.ndarray:
        """The raw ids, shape (n,): the one at position k has number k + 1."""
        kind = self._index.dtype
        # numpy makes whole numbers of its own nanoseconds, and these are no ids; text is made anew at every asking
        as_objects = kind.kind in "mM" or isinstance(kind, pd.StringDtype)
        ids = (self._as_objects if as_objects else self._index).to_numpy().view()
        ids.setflags(write=False)  # as pandas 3 hands them out; before it, a caller could change the index by them
        return ids

    def transform(self, raw_ids: Iterable[Hashable]) -> np.ndarray:
        """Numbers of raw ids as int32, shape (n,); 0 for ids that are not known."""
        if isinstance(raw_ids, list) and len(raw_ids) <= _FEW and set(map(type, raw_ids)) <= _PLAIN_TYPES:
            return np.array([self._number_of.get(raw_id, UNKNOWN_ID) for raw_id in raw_ids], dtype=np.int32)
        known, wanted = self._index, to_index(raw_ids)
        if known.dtype != wanted.dtype:  # a common type could make two ids one: 2**53 + 1 is no float
            known, wanted = self._as_objects, wanted.astype(object)
        with _hashing():
            return (known.get_indexer(wanted) + 1).astype(np.int32)

    def inverse(self, numbers: np.ndarray) -> np.ndarray:
        """
        Raw ids of numbers, same shape.

        Raises
        ------
        InputError
            If a number is 0 (unknown has no raw id) or past the last one.
        """
        numbers = np.asarray(numbers)
        if not numbers.size:
            numbers = numbers.astype(np.int32)  # an empty list has no type of its own
        elif numbers.dtype.kind not in "iu":
            raise InputError(f"the numbers are of type {numbers.dtype}: give integers, as transform does")
        elif numbers.min() < 1 or numbers.max() > len(self):
            raise InputError(f"a number lies outside 1..{len(self)} and has no raw id")
        return self.raw_ids[numbers - 1]

    def keep(self, kept: np.ndarray) -> tuple["Vocabulary", np.ndarray]:
        """
        Keep only some numbers and close the gaps.

        Parameters
        ----------
        kept : bool array of shape (n + 1,)
            Which numbers stay; entry 0 is ignored.

        Returns
        -------
        (vocabulary, renumbering) : the smaller vocabulary, and an int32 array of shape (n + 1,) that maps old
            numbers to new ones, 0 for those dropped.
        """
        return Vocabulary(self._index[kept[1:]]), renumbering(kept)

    def state(self) -> SystemState:
        """
        The vocabulary as data, see ``SystemState``.

        Raises
        ------
        InputError
            If there are ids that are neither numbers nor text, nor tuples of these.
        """
        ids, type_name = ids_as_array(self._index)
        return SystemState(fitted={"type": type_name}, arrays={"ids": ids})

    @classmethod
    def from_state(cls, state: SystemState) -> "Vocabulary":
        """An equal vocabulary."""
        return cls(ids_from_array(state.arrays["ids"], state.fitted["type"]))


def renumbering(kept: np.ndarray) -> np.ndarray:
    """Map old numbers to consecutive new ones; entry 0 and whatever is not kept become 0. Shape (n + 1,)."""
    kept = kept.copy()
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)


def in_order_of_appearance(raw_ids: Iterable[Hashable]) -> tuple[np.ndarray, pd.Index]:
    """Numbers 0, 1, ... of raw ids, -1 where one is missing, and the ids in the order of these numbers."""
    index = to_index(raw_ids)
    with _hashing():
        if PANDAS_KEEPS_ZERO_BYTES or not (index.dtype == object or isinstance(index.dtype, pd.StringDtype)):
            return pd.factorize(index)
        ids = np.empty(len(index) + 1, dtype=object)
        ids[0], ids[1:] = object(), index.astype(object)  # beside what is no text, text is compared as a whole
        codes, unique = pd.factorize(pd.Index(ids, dtype=object, tupleize_cols=False))
        return np.maximum(codes[1:] - 1, -1), unique[1:].astype(index.dtype)


# Before pandas 3, pandas.factorize compares texts only up to a zero byte.
PANDAS_KEEPS_ZERO_BYTES = len(pd.factorize(np.array(["\0", "\0\0"], dtype=object))[1]) == 2


@contextmanager
def _hashing() -> Iterator[None]:
    """Tell ids that cannot be told apart, such as lists, in the words of an InputError."""
    try:
        with np.errstate(over="ignore"):  # pandas tries whether large floats fit smaller types
            yield
    except TypeError as error:
        raise InputError(f"an id is of a kind that cannot be numbered ({error}): give {_GOOD_IDS}") from error


_GOOD_IDS = "whole numbers, text, or tuples of these"


def to_index(raw_ids: Iterable[Hashable]) -> pd.Index:
    """
    Raw ids as an index in which ids are the same only where Python's dictionaries say so.

    Raises
    ------
    InputError
        If they are not one axis of ids, or of a type that has no order or no hash.
    """
    if isinstance(raw_ids, pd.Series):
        raw_ids = raw_ids.array
    if isinstance(raw_ids, pd.arrays.NumpyExtensionArray):
        raw_ids = raw_ids.to_numpy()
    elif not isinstance(raw_ids, np.ndarray | pd.Index | pd.api.extensions.ExtensionArray):
        if not isinstance(raw_ids, Iterable) or isinstance(raw_ids, pd.DataFrame):  # that of its columns' names
            raise InputError(f"the ids are one {type(raw_ids).__name__}: give a list of {_GOOD_IDS}")
        values = list(raw_ids)
        raw_ids = np.empty(len(values), dtype=object)  # keeps 1 and '1' apart, and tuples whole
        raw_ids[:] = values
        raw_ids = pd.Index(raw_ids, dtype=object, tupleize_cols=False)
        types = set(map(type, values))
        # Integers among floats would be rounded; and text stays as it is, since not all is such as Arrow takes.
        return raw_ids.infer_objects() if len(types) == 1 and str not in types else raw_ids
    if isinstance(raw_ids, np.ndarray):
        raw_ids = _plain(raw_ids)
    try:
        return pd.Index(  # a copy, since the caller's array may change
            raw_ids,
            dtype=object if raw_ids.dtype == object else None,
            copy=not isinstance(raw_ids, pd.Index),
            tupleize_cols=False,
        )
    except (ValueError, OverflowError) as error:  # moments and durations of more years than pandas counts
        raise InputError(f"an id cannot be kept ({error}): give {_GOOD_IDS}") from error


def as_column(raw_ids: np.ndarray | list) -> pd.Series:
    """Raw ids as a column of a table, of the type that pandas gives them; what Arrow does not take stays objects."""
    try:
        return pd.Series(raw_ids)
    except UnicodeEncodeError:
        return pd.Series(raw_ids, dtype=object)


def _plain(raw_ids: np.ndarray) -> np.ndarray:
    """An array of ids that pandas can work on: one axis, the machine's byte order, no type that only numpy has."""
    kind, size = raw_ids.dtype.kind, raw_ids.dtype.itemsize
    odd_size = size not in (4, 8) if kind == "f" else kind == "c" and size > 16
    rounded = kind in "mM" and np.datetime_data(raw_ids.dtype)[0] not in _UNITS_OF_PANDAS
    if raw_ids.ndim != 1 or odd_size or rounded or kind == "V":
        raise InputError(f"the ids have shape {raw_ids.shape} and type {raw_ids.dtype}: give a list of {_GOOD_IDS}")
    return raw_ids if raw_ids.dtype.isnative else raw_ids.astype(raw_ids.dtype.newbyteorder("="))


_UNITS_OF_PANDAS = ("W", "D", "h", "m", "s", "ms", "us", "ns")  # it would round finer ones and make two ids one
