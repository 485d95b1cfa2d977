"""Vocabulary: raw ids as consecutive numbers and back, and raw ids as arrays that files can hold."""

import json
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Fields, Maybe, Text
from spotlight_asars.serialization.state import PLAIN_NUMBERS, SystemState

UNKNOWN_ID = 0
# Index types whose ids are stored as JSON, which can hold any character, even lone surrogates.
TEXT_TYPES = (
    *("object", "str", "string", "boolean", "Float32", "Float64"),
    *(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)),
)
_GOOD_IDS = "whole numbers, text, or tuples of these"
_MEND = "use whole numbers or text as ids"
_SHORT_LIST = 256  # up to this many ids, a dict beats building an Index
_DICT_TYPES = {int, str, np.int64, np.str_}  # types whose ids a dict and an Index find alike
_PANDAS_UNITS = ("W", "D", "h", "m", "s", "ms", "us", "ns")  # pandas rounds finer units, which could merge ids


def ids_as_array(index: pd.Index) -> tuple[np.ndarray, str | None]:
    """
    Encode raw ids as an array for a file.

    Parameters
    ----------
    index : pandas Index
        Numbers, text, bools, tuples of these, or any mixture.

    Returns
    -------
    array : array
        The ids, shape (n,), if they are plain numbers; else the bytes of a JSON list.
    type_name : str or None
        None for plain numbers; else the type of the index.

    Raises
    ------
    InputError
        If an id is of another type.
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
    except ValueError as error:  # Python refuses numbers of more than 4,300 digits
        raise InputError(f"a raw id cannot be written ({error}): {_MEND}") from error
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8), str(index.dtype)


def ids_from_array(array: np.ndarray, type_name: str | None) -> pd.Index:
    """Decode the result of :func:`ids_as_array`."""
    if type_name is None:
        return pd.Index(array)
    found = json.loads(array.tobytes().decode("ascii"))
    if type(found) is not list:
        raise ValueError("raw ids are no list")
    ids = np.empty(len(found), dtype=object)
    ids[:] = [_from_json(one) if type(one) is list else one for one in found]
    return pd.Index(ids, dtype=type_name, tupleize_cols=False)


def _as_json(raw_id: Hashable) -> object:
    """Return an id in a type that survives JSON; tuples become lists."""
    if isinstance(raw_id, np.generic) and raw_id.dtype.kind in PLAIN_NUMBERS + "U":
        raw_id = raw_id.item()
    if type(raw_id) is tuple:
        return [_as_json(one) for one in raw_id]
    if type(raw_id) not in (str, int, float, bool) or raw_id != raw_id:
        raise InputError(f"{raw_id!r:.100} is a raw id of a kind that a model file cannot hold: {_MEND}")
    return raw_id


def _from_json(found: object) -> Hashable:
    return tuple(_from_json(one) for one in found) if type(found) is list else found


@register_kind("part")
class Vocabulary:
    """
    Raw ids of any hashable type, numbered 1..n; 0 is padding and unknown ids.

    Parameters
    ----------
    raw_ids : iterable of hashable
        Distinct raw ids; the first gets number 1.

    Raises
    ------
    InputError
        If an id is missing, not hashable, or appears twice.

    Notes
    -----
    Ids are compared like dictionary keys: 7 and '7' differ, even in one column, and so do 'a' and 'a '; 7, 7.0 and
    ``numpy.int64(7)`` are equal. If a column holds one id in several types, convert it to one type first.
    """

    def __init__(self, raw_ids: Iterable[Hashable]) -> None:
        self._index = raw_ids if isinstance(raw_ids, pd.Index) else to_index(raw_ids)
        if self._index.hasnans:
            raise InputError("an id is missing (NaN or None): give every event an id, or leave it out")
        with _hashing():
            is_unique = self._index.is_unique
        if not is_unique:
            twice = self._index[self._index.duplicated()][0]
            raise InputError(f"id {twice!r} appears twice in a vocabulary: give every id once")

    @classmethod
    def fit(cls, raw_ids: Iterable[Hashable]) -> tuple["Vocabulary", np.ndarray]:
        """
        Number the ids of a log in order of first appearance.

        Parameters
        ----------
        raw_ids : iterable of hashable
            One for each event.

        Returns
        -------
        vocabulary : Vocabulary
        numbers : int32 array of shape (events,)
            From 1 to the number of distinct ids.

        Raises
        ------
        InputError
            If an id is missing or not hashable.
        """
        codes, unique = in_order_of_appearance(raw_ids)
        if (codes < 0).any():
            row = int(np.argmax(codes < 0))
            raise InputError(f"the id of event {row} is missing (NaN or None): give it one, or leave the event out")
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
        index = self._index.astype(object)
        index.is_unique  # noqa: B018 - builds the hash table before another thread can see half of it
        return index

    @cached_property
    def _number_of(self) -> dict[Hashable, int]:
        return dict(zip(self._as_objects, range(1, len(self) + 1), strict=True))

    @cached_property
    def raw_ids(self) -> np.ndarray:
        """Raw ids, shape (n,); the one at position k has number k + 1."""
        kind = self._index.dtype
        # numpy turns nanoseconds into integers, which are other ids; pandas converts text again on every access.
        as_objects = kind.kind in "mM" or isinstance(kind, pd.StringDtype)
        ids = (self._as_objects if as_objects else self._index).to_numpy().view()
        ids.setflags(write=False)  # as pandas 3 hands them out; before it, a caller could change the index by them
        return ids

    def transform(self, raw_ids: Iterable[Hashable]) -> np.ndarray:
        """Return the numbers of raw ids, 0 for unknown ids; int32, shape (n,)."""
        if isinstance(raw_ids, list) and len(raw_ids) <= _SHORT_LIST and set(map(type, raw_ids)) <= _DICT_TYPES:
            return np.array([self._number_of.get(raw_id, UNKNOWN_ID) for raw_id in raw_ids], dtype=np.int32)
        known, wanted = self._index, to_index(raw_ids)
        if known.dtype != wanted.dtype:  # a common type could merge ids: 2**53 + 1 is not a float
            known, wanted = self._as_objects, wanted.astype(object)
        with _hashing():
            return (known.get_indexer(wanted) + 1).astype(np.int32)

    def match(self, raw_ids: Iterable[Hashable]) -> np.ndarray:
        """
        Return the numbers of raw ids as :meth:`transform` does, but let whole numbers match their text.

        A file's ids are whole numbers if all of a column are, else text, so a single odd id makes one part of a log
        differ from the other. Where one side has only whole numbers and the other only text, 12 matches '12', and
        '012' matches nothing.

        Parameters
        ----------
        raw_ids : iterable of hashable

        Returns
        -------
        int32 array of shape (n,)
            0 for unknown ids.
        """
        known, wanted = self._index, to_index(raw_ids)
        if sorted((_only_kind(known), _only_kind(wanted))) != ["number", "text"]:
            return self.transform(wanted)
        known, wanted = (ids.astype(str).astype(object) for ids in (known, wanted))
        return (known.get_indexer(wanted) + 1).astype(np.int32)

    def inverse(self, numbers: np.ndarray) -> np.ndarray:
        """
        Return the raw ids of numbers.

        Parameters
        ----------
        numbers : int array of any shape

        Returns
        -------
        array of the same shape

        Raises
        ------
        InputError
            If a number is 0 (unknown) or greater than n, or a number is not an integer.
        """
        numbers = np.asarray(numbers)
        if not numbers.size:
            numbers = numbers.astype(np.int32)  # an empty list becomes a float array
        elif numbers.dtype.kind not in "iu":
            raise InputError(f"the numbers are of type {numbers.dtype}: give integers, as transform does")
        elif numbers.min() < 1 or numbers.max() > len(self):
            raise InputError(f"a number lies outside 1..{len(self)} and has no raw id")
        return self.raw_ids[numbers - 1]

    def keep(self, kept: np.ndarray) -> tuple["Vocabulary", np.ndarray]:
        """
        Keep some ids and renumber them consecutively.

        Parameters
        ----------
        kept : bool array of shape (n + 1,)
            Which numbers to keep; entry 0 is ignored.

        Returns
        -------
        vocabulary : Vocabulary
            Of the kept ids.
        renumbering : int32 array of shape (n + 1,)
            New number of each old one, 0 for dropped ids.
        """
        return Vocabulary(self._index[kept[1:]]), renumbering(kept)

    def state(self) -> SystemState:
        """
        Return the vocabulary as data; see ``SystemState``.

        Raises
        ------
        InputError
            If an id is neither a number nor text, nor a tuple of these.
        """
        ids, type_name = ids_as_array(self._index)
        return SystemState(fitted={"type": type_name}, arrays={"ids": ids})

    @classmethod
    def from_state(cls, state: SystemState) -> "Vocabulary":
        """
        Return the vocabulary of a state.

        Raises
        ------
        InputError
            If the state is not one of a vocabulary.
        """
        Fields({"type": Maybe(Text(TEXT_TYPES))}).check("vocabulary", state.fitted)
        ids = Array(PLAIN_NUMBERS if state.fitted["type"] is None else "u", (None,))
        Fields({"ids": ids}).check("vocabulary", state.arrays)
        return cls(ids_from_array(state.arrays["ids"], state.fitted["type"]))


def _only_kind(ids: pd.Index) -> str:
    """Return 'number' if all ids are whole numbers, 'text' if all are text, else ''."""
    if ids.dtype.kind in "iu":
        return "number"
    return "text" if pd.api.types.infer_dtype(ids, skipna=False) == "string" else ""


def renumbering(kept: np.ndarray) -> np.ndarray:
    """Map kept numbers to consecutive new ones, and 0 and dropped numbers to 0; int32, shape (n + 1,)."""
    kept = kept.copy()
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)


def in_order_of_appearance(raw_ids: Iterable[Hashable]) -> tuple[np.ndarray, pd.Index]:
    """Return numbers 0, 1, ... of raw ids, -1 for missing ones, and the distinct ids in order of first appearance."""
    index = to_index(raw_ids)
    with _hashing():
        if PANDAS_KEEPS_ZERO_BYTES or not (index.dtype == object or isinstance(index.dtype, pd.StringDtype)):
            return pd.factorize(index)
        ids = np.empty(len(index) + 1, dtype=object)
        ids[0], ids[1:] = object(), index.astype(object)  # next to a non-text value, text is compared as a whole
        codes, unique = pd.factorize(pd.Index(ids, dtype=object, tupleize_cols=False))
        return np.maximum(codes[1:] - 1, -1), unique[1:].astype(index.dtype)


# Before pandas 3, pandas.factorize compares texts only up to a zero byte.
PANDAS_KEEPS_ZERO_BYTES = len(pd.factorize(np.array(["\0", "\0\0"], dtype=object))[1]) == 2


@contextmanager
def _hashing() -> Iterator[None]:
    """Raise an InputError for ids that are not hashable, such as lists."""
    try:
        with np.errstate(over="ignore"):  # pandas tries whether large floats fit smaller types
            yield
    except TypeError as error:
        raise InputError(f"an id cannot be numbered ({error}): give {_GOOD_IDS}") from error


def to_index(raw_ids: Iterable[Hashable]) -> pd.Index:
    """
    Return raw ids as an index that distinguishes ids as a dict does.

    Raises
    ------
    InputError
        If the ids are not one-dimensional, or of a type that pandas cannot index.
    """
    if isinstance(raw_ids, pd.Series):
        raw_ids = raw_ids.array
    if isinstance(getattr(raw_ids, "dtype", None), pd.ArrowDtype):
        raw_ids = _without_arrow(raw_ids)
    if isinstance(raw_ids, pd.arrays.NumpyExtensionArray):
        raw_ids = raw_ids.to_numpy()
    elif not isinstance(raw_ids, np.ndarray | pd.Index | pd.api.extensions.ExtensionArray):
        if not isinstance(raw_ids, Iterable) or isinstance(raw_ids, pd.DataFrame):  # would iterate over column names
            raise InputError(f"the ids are one {type(raw_ids).__name__}: give a list of {_GOOD_IDS}")
        values = list(raw_ids)
        raw_ids = np.empty(len(values), dtype=object)  # keeps 1 and '1' distinct, and tuples intact
        raw_ids[:] = values
        raw_ids = pd.Index(raw_ids, dtype=object, tupleize_cols=False)
        types = set(map(type, values))
        # Integers among floats would be rounded, and Arrow does not take all text.
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
    except (ValueError, OverflowError) as error:  # datetimes outside the range of pandas
        raise InputError(f"an id cannot be stored ({error}): give {_GOOD_IDS}") from error


def _without_arrow(raw_ids: pd.Index | pd.api.extensions.ExtensionArray) -> np.ndarray | list:
    """Return Arrow's ids as numpy's numbers, or as a list; a dictionary type also has values that do not occur."""
    kind = raw_ids.dtype.pyarrow_dtype
    if str(kind).startswith("dictionary"):
        raw_ids = raw_ids.astype(pd.ArrowDtype(kind.value_type))
    if raw_ids.dtype.kind in PLAIN_NUMBERS and not raw_ids.isna().any():
        return raw_ids.to_numpy(dtype=raw_ids.dtype.numpy_dtype)
    return raw_ids.to_numpy(dtype=object, na_value=None).tolist()


def as_column(raw_ids: np.ndarray | list) -> pd.Series:
    """Return raw ids as a Series of the type that pandas infers; text that Arrow refuses stays as objects."""
    try:
        return pd.Series(raw_ids)
    except UnicodeEncodeError:
        return pd.Series(raw_ids, dtype=object)


def _plain(raw_ids: np.ndarray) -> np.ndarray:
    """Return an array that pandas can index: one-dimensional, in native byte order, of a type that pandas has."""
    kind, size = raw_ids.dtype.kind, raw_ids.dtype.itemsize
    odd_size = size not in (4, 8) if kind == "f" else kind == "c" and size > 16
    rounded = kind in "mM" and np.datetime_data(raw_ids.dtype)[0] not in _PANDAS_UNITS
    if raw_ids.ndim != 1 or odd_size or rounded or kind == "V":
        raise InputError(f"the ids have shape {raw_ids.shape} and type {raw_ids.dtype}: give a list of {_GOOD_IDS}")
    return raw_ids if raw_ids.dtype.isnative else raw_ids.astype(raw_ids.dtype.newbyteorder("="))
