"""Errors of the package, and the checks of arguments that raise them."""

from collections.abc import Iterable

import numpy as np

LONGEST_LIST = 200


class InputError(ValueError):
    """
    Invalid user input: a file, a column, a value or an option.

    The message is one line that says what is wrong and how to fix it. The command line prints it and exits with
    code 2.
    """


class LostProcess(RuntimeError):
    """A process of a data-parallel job has died or stopped responding; the message is one line."""


def listed(names: Iterable) -> str:
    """Return names as one line for a message, unprintable ones escaped and a long list truncated."""
    found = ", ".join(name if name.isprintable() else repr(name) for name in map(str, names))
    return found if len(found) <= LONGEST_LIST else found[:LONGEST_LIST] + " ..."


def printable(text: str, keep: str = "") -> str:
    """
    Return text with unprintable characters escaped, so that ids and file names cannot control a terminal.

    Parameters
    ----------
    text : str
    keep : str, optional
        Characters to leave as they are, such as the newlines of a table.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode("ascii") for one in text
    )


def check_whole(name: str, value: int, least: int = 1) -> None:
    """Raise an InputError unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is {value!r}: give a whole number of at least {least}")


def check_choice(name: str, value: str, choices: dict | tuple) -> None:
    """Raise an InputError unless the value is one of the choices."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}: choose one of {', '.join(choices)}")


def check_share(name: str, value: float) -> None:
    """Raise an InputError unless the value lies strictly between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise InputError(f"{name} is {value!r}: give a share between 0 and 1")


def check_not_negative(name: str, value: float) -> None:
    """Raise an InputError unless the value is a finite number of at least 0."""
    if not (np.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value!r}: give a number of at least 0")


def check_decay(name: str, value: float | None) -> None:
    """Raise an InputError unless the value is None or a positive finite number."""
    if value is not None and not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value!r}: give a number above 0, or None to leave it out")
