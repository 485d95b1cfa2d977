"""What a system is made of, as data: plain settings and values, arrays, and parts that are such things themselves.

Nested Python data with tensors in it, such as an optimizer's state, as plain data and arrays, and back.
"""

import hashlib
import inspect
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

PLAIN_NUMBERS = "biuf"  # kinds of numpy types whose values Python's own types hold


@dataclass(frozen=True)
class SystemState:
    """
    A system, a vocabulary or a binning as data, from which an equal one can be made.

    Attributes
    ----------
    settings : dict
        Constructor arguments that are plain data: None, bool, int, float, str, and lists and dicts of them.
    code : dict of str to str
        Constructor arguments that are not, such as a loss function or a net of the user's, and what they are called:
        whoever makes the system again has to give them.
    fitted : dict or None
        What fitting has left, as plain data; None for a system that is not fitted.
    arrays : dict of str to array, csr_array, or such a dict
        What fitting has left, as arrays of numbers.
    parts : dict of str to object
        What else belongs to it; objects with `state` and `from_state`. One that stands in several places is one.
    """

    settings: dict[str, object] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    fitted: dict[str, object] | None = None
    arrays: dict[str, "np.ndarray | csr_array | dict"] = field(default_factory=dict)
    parts: dict[str, "HasState"] = field(default_factory=dict)


class HasState(Protocol):
    """What can be kept in a file: a class whose objects tell their state, and that makes objects from it."""

    def state(self) -> SystemState:
        """All that an equal object needs."""

    @classmethod
    def from_state(cls, state: SystemState) -> "HasState":
        """An equal object; `settings` also holds what `code` names, as it was given anew."""


def constructor_arguments(made: object, *left_out: str) -> dict[str, object]:
    """What an object was made with, by the name of the argument, from attributes of that name or ``_name``."""
    found = vars(made)
    names = [name for name in inspect.signature(type(made)).parameters if name not in left_out]
    return {name: found[name] if name in found else found[f"_{name}"] for name in names}


def plain_and_code(arguments: dict[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """Arguments that are plain data, tuples as lists; and of the others what they are called."""
    settings, code = {}, {}
    for name, value in arguments.items():
        try:
            settings[name] = as_plain(value)
        except TypeError:
            code[name] = name_of(value)
    return settings, code


def as_plain(value: object) -> object:
    """
    A value as plain data: numbers of numpy as Python's, tuples as lists.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if isinstance(value, np.generic) and value.dtype.kind in PLAIN_NUMBERS + "U":
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [as_plain(one) for one in value]
    if type(value) is dict and all(type(name) is str for name in value):
        return {name: as_plain(one) for name, one in value.items()}
    raise TypeError(f"{name_of(value)} is no plain data")


def name_of(value: object) -> str:
    """Where a function or class is defined, or the class of anything else."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


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
