"""
Schemas of what files hold: names, types, shapes and bounds, checked before anything is built from it.

A file whose checksum is right may still be forged. Each class that is read from a file therefore checks its state with
the schemas of this module first; whatever does not fit raises an InputError that names it.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from types import NoneType, UnionType
from typing import Literal, Protocol, Union, get_args, get_origin, get_type_hints

import numpy as np
from scipy.sparse import issparse

from spotlight_asars.errors import InputError

LARGEST = 2**63 - 1  # of whole numbers, and of lengths
_PLAIN = (NoneType, bool, int, float, str)


class Schema(Protocol):
    """What a value must be."""

    def check(self, name: str, value: object) -> None:
        """Raise an InputError that names the value unless it fits."""


def refuse(name: str, wanted: str) -> None:
    """Raise an InputError for a value that does not fit; a value of a file is not shown, as it may be of any length."""
    raise InputError(f"its {name} is not {wanted}")


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int = 0
    most: int = LARGEST

    def check(self, name: str, value: object) -> None:
        if type(value) is not int or not self.least <= value <= self.most:
            refuse(name, f"a whole number from {self.least} to {self.most}")


@dataclass(frozen=True)
class Number:
    """A number from `least` to `most`, by default any finite one; never NaN."""

    least: float = -np.finfo(np.float64).max
    most: float = np.finfo(np.float64).max

    def check(self, name: str, value: object) -> None:
        if type(value) not in (int, float) or not self.least <= value <= self.most:
            refuse(name, f"a number from {self.least:g} to {self.most:g}")


@dataclass(frozen=True)
class Text:
    """Text; with `choices`, one of them."""

    choices: tuple[str, ...] | None = None

    def check(self, name: str, value: object) -> None:
        if type(value) is not str or (self.choices is not None and value not in self.choices):
            refuse(name, "text" if self.choices is None else f"one of {', '.join(self.choices)}")


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def check(self, name: str, value: object) -> None:
        if type(value) is not bool:
            refuse(name, "true or false")


@dataclass(frozen=True)
class Maybe:
    """None, or what another schema describes."""

    schema: Schema

    def check(self, name: str, value: object) -> None:
        if value is not None:
            self.schema.check(name, value)


@dataclass(frozen=True)
class ListOf:
    """A list or tuple whose entries all fit one schema; with `length`, of that many."""

    schema: Schema
    length: int | None = None

    def check(self, name: str, value: object) -> None:
        if type(value) not in (list, tuple) or self.length not in (None, len(value)):
            refuse(name, "a list" if self.length is None else f"a list of {self.length}")
        for place, entry in enumerate(value):
            self.schema.check(f"{name}[{place}]", entry)


@dataclass(frozen=True)
class Fields:
    """
    A dict with these entries. Further entries do no harm: whoever reads it asks for these.

    Attributes
    ----------
    schemas : dict of str to Schema
    optional : tuple of str
        Entries that may be missing.
    """

    schemas: Mapping[str, Schema]
    optional: tuple[str, ...] = ()

    def check(self, name: str, value: object) -> None:
        if not isinstance(value, dict):
            refuse(name, "a dict")
        for entry, schema in self.schemas.items():
            if entry in value:
                schema.check(f"{name} {entry}", value[entry])
            elif entry not in self.optional:
                raise InputError(f"its {name} has no {entry}")


@dataclass(frozen=True)
class Array:
    """
    A numpy array.

    Attributes
    ----------
    kinds : str
        Kinds of numpy types: 'b', 'i', 'u', 'f'.
    shape : tuple of int or None
        None is any length.
    least, most : float, optional
        Bounds of its values, which exclude NaN and infinities; without them all values are allowed.
    """

    kinds: str
    shape: tuple[int | None, ...]
    least: float | None = None
    most: float | None = None

    def check(self, name: str, value: object) -> None:
        is_array = isinstance(value, np.ndarray) and value.dtype.kind in self.kinds and value.ndim == len(self.shape)
        if not is_array or any(
            wanted not in (None, length) for wanted, length in zip(self.shape, value.shape, strict=True)
        ):
            lengths = ", ".join("any" if length is None else str(length) for length in self.shape)
            refuse(name, f"an array of kind {self.kinds} and shape ({lengths})")
        if not value.size:
            return
        low, high = value.min(), value.max()
        if (self.least is not None and not low >= self.least) or (self.most is not None and not high <= self.most):
            refuse(name, f"within {self.least} and {self.most}")
        if self.least is not None and not np.isfinite(high):
            refuse(name, "finite")


@dataclass(frozen=True)
class Matrix:
    """A sparse matrix of finite float64 of this shape."""

    shape: tuple[int, int]

    def check(self, name: str, value: object) -> None:
        if not issparse(value) or value.shape != self.shape or value.dtype != np.float64:
            refuse(name, f"a sparse float64 matrix of shape {self.shape}")
        if not np.isfinite(value.data).all():
            refuse(name, "finite")


@dataclass(frozen=True)
class Part:
    """An object of a class."""

    kind: type

    def check(self, name: str, value: object) -> None:
        if not isinstance(value, self.kind):
            refuse(name, f"a {self.kind.__name__}")


def check_settings(made_by: Callable, settings: dict[str, object], given: Iterable[str] = ()) -> None:
    """
    Check settings that a file holds against the annotations of the constructor that they are for.

    Parameters
    ----------
    made_by : class or function
    settings : dict
    given : iterable of str
        Settings that come from the caller instead, and may be anything.

    Raises
    ------
    InputError
        If the constructor has no such argument, or a value is not of one of its plain types.
    """
    made_by = made_by.__init__ if inspect.isclass(made_by) else made_by
    known = inspect.signature(made_by).parameters
    try:
        hints = get_type_hints(made_by)
    except NameError:  # a class of the user's, with annotations that cannot be looked up from here
        hints = {}
    for name in settings.keys() - set(given):
        if name not in known or name == "self":
            raise InputError(f"it has an unknown setting {name!r:.80}")
        if not _is_of_type(settings[name], hints.get(name, object)):
            raise InputError(f"its setting {name} is of another type than {_in_words(hints[name])}")


def _is_of_type(value: object, hint: object) -> bool:
    """Whether plain data fits a type, or one of the types of a union; code and objects are not plain data."""
    if get_origin(hint) in (Union, UnionType):
        return any(_is_of_type(value, one) for one in get_args(hint))
    if hint is float:
        return type(value) is float or (type(value) is int and abs(value) <= LARGEST)
    if hint is int:
        return type(value) is int and abs(value) <= LARGEST
    if hint is bool:  # 0 and 1 do as well
        return type(value) in (bool, int) and value in (0, 1)
    if hint in _PLAIN:
        return type(value) is hint
    kind = get_origin(hint) or hint
    if kind is Literal:
        return value in get_args(hint)
    if is_dataclass(kind) or (isinstance(kind, type) and issubclass(kind, Mapping)):
        return type(value) is dict  # options; their own class checks them
    if isinstance(kind, type) and issubclass(kind, Iterable) and kind not in (np.ndarray,):
        return type(value) is list
    return not isinstance(kind, type) or kind is object


def _in_words(hint: object) -> str:
    return getattr(hint, "__name__", str(hint)).replace("NoneType", "None")
