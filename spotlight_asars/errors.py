"""The one error that means: the input is wrong, and this line says how to mend it."""

from collections.abc import Iterable

import numpy as np

LONGEST_LIST = 200


class InputError(ValueError):
    """
    Wrong input from the user: a file, a column, a value or an option.

    The message is one line that names what is wrong and how to mend it; the command line prints it and
    ends with exit code 2.
    """


class LostProcess(RuntimeError):
    """A process of a data-parallel job has ended or does not answer; one line."""


def listed(names: Iterable) -> str:
    """Names for a message, on one line whatever is in them, cut where they are many."""
    found = ", ".join(name if name.isprintable() else repr(name) for name in map(str, names))
    return found if len(found) <= LONGEST_LIST else found[:LONGEST_LIST] + " ..."


def check_whole(name: str, value: int) -> None:
    """Refuse what is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} is {value!r}: give a whole number of at least 1")


def check_choice(name: str, value: str, choices: dict | tuple) -> None:
    """Refuse what is not one of the names."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}: choose one of {', '.join(choices)}")


def check_decay(name: str, value: float | None) -> None:
    """Refuse a decay that is no positive number."""
    if value is not None and not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value!r}: give a number above 0, or None to leave it out")


def check_not_negative(name: str, value: float) -> None:
    """Refuse what is below 0 or no number."""
    if not (np.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value!r}: give a number of at least 0")
