"""The one error that means: the input is wrong, and this line says how to mend it."""


class InputError(ValueError):
    """
    Wrong input from the user: a file, a column, a value or an option.

    The message is one line that names what is wrong and how to mend it; the command line prints it and
    ends with exit code 2.
    """
