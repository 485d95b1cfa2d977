"""What a system is made of, as data: plain settings and values, arrays, and parts that are such things themselves."""

import inspect
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array

from spotlight_asars.errors import InputError

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


class HasParameters:
    """
    ``get_params``, ``set_params`` and ``sklearn.base.clone``, as scikit-learn's estimators have them.

    The system also has `num_items`, which is None until it is fitted.
    """

    def _parameters(self) -> dict[str, object]:
        """Constructor arguments, from which an equal system can be made."""
        return constructor_arguments(self)

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """
        What the system was made with, by the name of the constructor argument.

        Parameters
        ----------
        deep : bool, optional
            For scikit-learn; no argument is an estimator with parameters of its own.
        """
        return self._parameters()

    def set_params(self, **parameters: object) -> "HasParameters":
        """
        Change some constructor arguments of a system that is not fitted.

        Returns
        -------
        The system.

        Raises
        ------
        InputError
            If there is no such argument, or the system is fitted.
        ValueError
            If the constructor refuses a value; the system is then as it was.
        """
        before = self.get_params()
        for name in parameters:
            if name not in before:
                raise InputError(f"{type(self).__name__} has no parameter {name!r}: there are {', '.join(before)}")
        if not parameters:
            return self
        if self.num_items is not None:
            raise InputError(
                f"this {type(self).__name__} is fitted, and fit would go on: set parameters of a new one, or of its "
                "sklearn.base.clone"
            )
        kept = dict(vars(self))
        try:
            self.__init__(**{**before, **parameters})
        except BaseException:
            vars(self).clear()
            vars(self).update(kept)
            raise
        return self

    def __sklearn_clone__(self) -> "HasParameters":
        """A system with equal arguments, not fitted; for ``sklearn.base.clone``."""
        return type(self)(**deepcopy(self.get_params()))


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
