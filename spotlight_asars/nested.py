"""Nested Python data with tensors in it, such as an optimizer's state, as plain data and arrays, and back."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.state import as_plain, name_of

_KINDS = {list: "list", tuple: "tuple"}
_MADE_BY = {name: kind for kind, name in _KINDS.items()}


def plain_and_arrays(nested: object) -> tuple[object, dict[str, np.ndarray]]:
    """
    Take nested data apart.

    Parameters
    ----------
    nested :
        Tensors, arrays, None, bool, int, float, str, and dicts (of str and int), lists and tuples of them.

    Returns
    -------
    (plain, arrays) : data that JSON can hold, and the arrays that it names, each by its SHA-256, so that equal ones are
        there once.

    Raises
    ------
    TypeError
        If there is anything else, or a tensor that numpy has no type for.
    """
    arrays: dict[str, np.ndarray] = {}
    return _plain(nested, arrays), arrays


def _plain(nested: object, arrays: dict[str, np.ndarray]) -> object:
    if isinstance(nested, Tensor | np.ndarray):
        is_tensor = isinstance(nested, Tensor)
        array = np.ascontiguousarray(nested.detach().cpu().numpy()) if is_tensor else np.ascontiguousarray(nested)
        array = array.reshape(nested.shape)  # of one number, it has an axis by now
        name = sha256_of(array)
        arrays[name] = array
        return {"tensor" if is_tensor else "array": name}
    if isinstance(nested, dict):
        for key in nested:
            if type(key) not in (str, int):
                raise TypeError(f"the key {key!r} is no text and no whole number")
        return {"dict": [[key, _plain(value, arrays)] for key, value in nested.items()]}
    if type(nested) in _KINDS:
        return {_KINDS[type(nested)]: [_plain(value, arrays) for value in nested]}
    if isinstance(nested, list | tuple):
        raise TypeError(f"{name_of(nested)} is no plain data")
    return as_plain(nested)


def nested_from(plain: object, arrays: dict[str, np.ndarray]) -> object:
    """What :func:`plain_and_arrays` took apart; each tensor has memory of its own."""
    if not isinstance(plain, dict):
        return plain
    ((kind, value),) = plain.items()
    if kind == "tensor":
        return torch.from_numpy(arrays[value]).clone()
    if kind == "array":
        return arrays[value].copy()
    if kind == "dict":
        return {key: nested_from(one, arrays) for key, one in value}
    return _MADE_BY[kind](nested_from(one, arrays) for one in value)


def sha256_of(*columns: np.ndarray) -> str:
    """SHA-256 of arrays: of their types, shapes and values."""
    found = hashlib.sha256()
    for column in columns:
        found.update(f"{column.dtype.str} {column.shape};".encode())
        found.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8))
    return found.hexdigest()
