"""
Objects as data: plain settings and values, arrays, and parts that are such objects themselves.

:class:`SystemState` describes an object from which an equal one can be created. :func:`plain_and_arrays` splits nested
Python data with tensors, such as an optimizer's state, into plain data and arrays.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.schema import Array, Fields, ListOf, Number, Text, Whole

PLAIN_NUMBERS = "biuf"  # kinds of numpy types whose values Python's own types can hold
_KINDS = {list: "list", tuple: "tuple"}
_TYPES = {name: kind for kind, name in _KINDS.items()}


Arrays = dict[str, "np.ndarray | csr_array | Arrays"]  # names to arrays, sparse matrices, and dicts of them
OptimizerFunc = Callable[[Iterable], torch.optim.Optimizer]


@dataclass(frozen=True)
class SystemState:
    """
    A system, a vocabulary or a binning as data, from which an equal object can be created.

    Attributes
    ----------
    settings : dict
        Constructor arguments that are plain data: None, bool, int, float, str, and lists and dicts of them.
    code : dict of str to str
        Names of the constructor arguments that are code, such as a loss function or a net of the user's. They must be
        given again to recreate the object.
    fitted : dict or None
        Fitted values that are plain data; None if the object is not fitted.
    arrays : Arrays
        Fitted values that are numeric arrays.
    parts : dict of str to object
        Objects it consists of, each with `state` and `from_state`. An object that occurs several times stays one.
    """

    settings: dict[str, object] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    fitted: dict[str, object] | None = None
    arrays: Arrays = field(default_factory=dict)
    parts: dict[str, "HasState"] = field(default_factory=dict)


class HasState(Protocol):
    """An object that can be stored in a file."""

    def state(self) -> SystemState:
        """Return all that is needed to create an equal object."""

    @classmethod
    def from_state(cls, state: SystemState) -> "HasState":
        """Create an equal object; here `settings` also holds the objects that `code` names."""


def constructor_arguments(made: object, *left_out: str) -> dict[str, object]:
    """Return an object's constructor arguments, from its attributes of the same name or with a leading underscore."""
    found = vars(made)
    names = [name for name in inspect.signature(type(made)).parameters if name not in left_out]
    return {name: found[name] if name in found else found[f"_{name}"] for name in names}


def plain_and_code(arguments: dict[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """Split arguments into those that are plain data, with tuples as lists, and the names of the others."""
    settings, code = {}, {}
    for name, value in arguments.items():
        try:
            settings[name] = as_plain(value)
        except TypeError:
            code[name] = name_of(value)
    return settings, code


def as_plain(value: object) -> object:
    """
    Convert a value to plain data: numpy's numbers to Python's, and tuples to lists.

    Raises
    ------
    TypeError
        If the value is anything else.
    """
    if isinstance(value, np.generic) and value.dtype.kind in PLAIN_NUMBERS + "U":
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [as_plain(one) for one in value]
    if type(value) is dict and all(type(name) is str for name in value):
        return {name: as_plain(one) for name, one in value.items()}
    raise TypeError(f"{name_of(value)} is not plain data")


def name_of(value: object) -> str:
    """Return the qualified name of a function or class, or of the class of any other object."""
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def plain_and_arrays(nested: object) -> tuple[object, dict[str, np.ndarray]]:
    """
    Split nested data into plain data and arrays.

    Parameters
    ----------
    nested :
        Tensors, arrays, None, bool, int, float, str, and dicts (of str and int), lists and tuples of them.

    Returns
    -------
    (plain, arrays) : JSON data, and the arrays it refers to by their SHA-256, so that equal arrays are stored once

    Raises
    ------
    TypeError
        If there is anything else, or a tensor of a type that numpy lacks.
    """
    arrays: dict[str, np.ndarray] = {}
    return _plain(nested, arrays), arrays


def _plain(nested: object, arrays: dict[str, np.ndarray]) -> object:
    if isinstance(nested, Tensor | np.ndarray):
        is_tensor = isinstance(nested, Tensor)
        array = np.ascontiguousarray(nested.detach().cpu().numpy()) if is_tensor else np.ascontiguousarray(nested)
        array = array.reshape(nested.shape)  # ascontiguousarray gives a scalar an axis
        name = sha256_of(array)
        arrays[name] = array
        return {"tensor" if is_tensor else "array": name}
    if isinstance(nested, dict):
        for key in nested:
            if type(key) not in (str, int):
                raise TypeError(f"the key {key!r} is neither text nor a whole number")
        return {"dict": [[key, _plain(value, arrays)] for key, value in nested.items()]}
    if type(nested) in _KINDS:
        return {_KINDS[type(nested)]: [_plain(value, arrays) for value in nested]}
    if isinstance(nested, list | tuple):
        raise TypeError(f"{name_of(nested)} is not plain data")
    return as_plain(nested)


def nested_from(plain: object, arrays: dict[str, np.ndarray], most_bytes: int | None = None) -> object:
    """
    Rebuild the data that :func:`plain_and_arrays` split; each tensor has memory of its own.

    Parameters
    ----------
    plain : JSON data
    arrays : dict of str to array
    most_bytes : int, optional
        The most that all arrays may take: each reference to an array costs memory of its own.

    Raises
    ------
    InputError
        If the plain data have another form, refer to an array that is not there, or would take more memory.
    """
    return _Nested(arrays, most_bytes).rebuild(plain)


class _Nested:
    def __init__(self, arrays: dict[str, np.ndarray], most_bytes: int | None) -> None:
        self._arrays, self._left = arrays, np.inf if most_bytes is None else most_bytes

    def rebuild(self, plain: object) -> object:
        if not isinstance(plain, dict | list):
            return plain
        kind, value = next(iter(plain.items())) if isinstance(plain, dict) and len(plain) == 1 else (None, None)
        if kind in ("tensor", "array") and isinstance(value, str):
            array = self._array(value)
            return torch.from_numpy(array) if kind == "tensor" else array
        if kind == "dict" and type(value) is list:
            return dict(self._entry(entry) for entry in value)
        if kind in _TYPES and type(value) is list:
            return _TYPES[kind](self.rebuild(one) for one in value)
        raise InputError("its nested data are of an unknown form")

    def _entry(self, entry: object) -> tuple[str | int, object]:
        if type(entry) is not list or len(entry) != 2 or type(entry[0]) not in (str, int):
            raise InputError("its nested data have an entry without a name")
        return entry[0], self.rebuild(entry[1])

    def _array(self, name: str) -> np.ndarray:
        array = self._arrays.get(name)
        if not isinstance(array, np.ndarray):
            raise InputError(f"it has no array {name!r:.80}")
        self._left -= array.nbytes
        if self._left < 0:
            raise InputError("its nested data refer to the same arrays too often")
        return array.copy()


def sha256_of(*columns: np.ndarray) -> str:
    """Return the SHA-256 of the types, shapes and values of arrays."""
    found = hashlib.sha256()
    for column in columns:
        found.update(f"{column.dtype.str} {column.shape};".encode())
        found.update(np.ascontiguousarray(column).reshape(-1).view(np.uint8))
    return found.hexdigest()


def random_state_as_data(random_state: np.random.RandomState) -> dict[str, object]:
    """
    Return a random state as plain data, for ``numpy.random.RandomState.set_state``.

    Raises
    ------
    InputError
        If its bit generator is not numpy's default.
    """
    found = random_state.get_state(legacy=False)
    if found["bit_generator"] != "MT19937":
        raise InputError(
            f"the random_state runs on {found['bit_generator']}, which no model file can hold: "
            "give an int or numpy.random.RandomState(seed)"
        )
    return {**found, "state": {"key": found["state"]["key"].tolist(), "pos": int(found["state"]["pos"])}}


_STATE_LENGTH = 624  # of the Mersenne twister
_RANDOM_STATE = Fields(
    {
        "bit_generator": Text(("MT19937",)),
        "state": Fields({"pos": Whole(0, _STATE_LENGTH)}),
        "has_gauss": Whole(0, 1),
        "gauss": Number(),
    }
)


class RandomStateData:
    """Schema of data that :func:`random_state_from` takes."""

    def check(self, name: str, value: object) -> None:
        random_state_from(value)


def random_state_from(data: dict[str, object]) -> np.random.RandomState:
    """
    Return the random state that :func:`random_state_as_data`, or ``RandomState.get_state(legacy=False)``, gave.

    Raises
    ------
    InputError
        If it is not the state of such a generator, which numpy does not check: a position past the end of the key is
        read all the same.
    """
    _RANDOM_STATE.check("random state", data)
    key = data["state"].get("key")
    if type(key) is list:
        ListOf(Whole(0, 2**32 - 1), _STATE_LENGTH).check("random state key", key)
        key = np.array(key, dtype=np.uint32)
    Array("u", (_STATE_LENGTH,)).check("random state key", key)
    found = np.random.RandomState()
    found.set_state({**data, "state": {"key": key, "pos": data["state"]["pos"]}})
    return found


def optimizer_as_data(optimizer_func: OptimizerFunc | None) -> object:
    """Return a class of torch.optim, or a partial of one with plain keywords, as data; anything else unchanged."""
    made_by, keywords = optimizer_func, {}
    if isinstance(optimizer_func, partial) and not optimizer_func.args:
        made_by, keywords = optimizer_func.func, optimizer_func.keywords
    name = getattr(made_by, "__name__", None)
    if name is None or _optimizer_class(name) is not made_by:
        return optimizer_func
    try:
        return {"optimizer": name, "keywords": as_plain(keywords)}
    except TypeError:
        return optimizer_func


_OPTIMIZER = Fields({"optimizer": Text(), "keywords": Fields({})})


def optimizer_from(data: object) -> OptimizerFunc | None:
    """
    Return the optimizer function that :func:`optimizer_as_data` took.

    Raises
    ------
    InputError
        If this version of torch has no such optimizer.
    """
    if not isinstance(data, dict):
        return data
    _OPTIMIZER.check("optimizer_func", data)
    made_by = _optimizer_class(data["optimizer"])
    if made_by is None:
        raise InputError(f"there is no optimizer {data['optimizer']!r} here: update torch or spotlight_asars")
    keywords = {name: tuple(one) if isinstance(one, list) else one for name, one in data["keywords"].items()}
    return partial(made_by, **keywords)


def _optimizer_class(name: str) -> type[torch.optim.Optimizer] | None:
    found = getattr(torch.optim, name, None)
    return found if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) else None
