"""The one error that means: the input is wrong, and this line says how to mend it."""

from collections.abc import Iterable

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
