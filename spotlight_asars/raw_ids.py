"""Raw ids as arrays of numbers, for files: numbers as they are, text and mixed ids as JSON."""

import json
from collections.abc import Hashable

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError
from spotlight_asars.state import PLAIN_NUMBERS

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
