"""Parse the arguments, run the sub-command and turn its errors into exit codes."""

import argparse
import difflib
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from spotlight_asars import __version__
from spotlight_asars.cli import analyse, compare, evaluate, explain, prepare, recommend, train, tune
from spotlight_asars.cli.options import INTERRUPTED, say, writing_output
from spotlight_asars.cli.streams import discard_standard_output, open_closed_streams
from spotlight_asars.errors import InputError, LostProcess, printable

COMMANDS = (compare, tune, analyse, prepare, train, evaluate, recommend, explain)
LOST, BAD_INPUT = 1, 2
MAY_BE_NEGATIVE = ("--items", "--item", "--user", "--times", "--now")
NEGATIVE = re.compile(r"-[\d.]")
BROKEN_PIPE = 141  # the shell's code for a process that SIGPIPE ended
EPILOG = f"""COMMAND --help lists the options of a command.

{compare.EXAMPLES}"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0 on success, 1 when a process of a distributed job is lost, 2 for wrong input, 130 when interrupted, 141 when
        standard output is closed. An error prints one line on standard error.
    """
    open_closed_streams()
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            code = options.run(options)
            with writing_output():  # a closed pipe must raise inside this block
                sys.stdout.flush()
            return code
    except InputError as error:
        say(f"spotlight-asars: {error}")
        return BAD_INPUT
    except LostProcess as error:
        say(f"spotlight-asars: {error}")
        return LOST
    except BrokenPipeError:  # as `... | head` causes
        discard_standard_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        say("spotlight-asars: interrupted, nothing was written")
        return INTERRUPTED


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with one sub-parser per command."""
    parser = _Parser(
        prog="spotlight-asars",
        description="Session-aware recommendation with dwell times.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--import", action=_Import, metavar="MODULE", help="import a Python module that registers your own systems"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add_command(commands)
    for command_parser in commands.choices.values():
        command_parser.set_defaults(parser=command_parser)
    return parser


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    options, unknown = argument_parser().parse_known_args(_with_values_joined(arguments))
    if unknown:
        options.parser.error(f"unknown argument: {' '.join(unknown)}{_hint(unknown[0], options.parser)}")
    return options


def _hint(unknown: str, command: argparse.ArgumentParser) -> str:
    if not unknown.startswith("-"):
        return " (name a file with its option, such as --data FILE)"
    known = set(re.findall(r"--[a-z-]+", command.format_usage()))
    close = difflib.get_close_matches(unknown.partition("=")[0], sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _print_warning(message: Warning, *where: object) -> None:
    """Print a warning as one line, without its place in the code."""
    say(f"spotlight-asars: {message}")


class _Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line instead of the whole usage, and accepts no abbreviated options."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> None:
        self.exit(BAD_INPUT, f"{self.prog}: {printable(message)}; see {self.prog} --help\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.stdout.flush()  # help that nobody reads must raise here, not when Python exits
        super().exit(status, message)


class _Import(argparse.Action):
    """Imports a module at once, so that what it registers is known to the options that follow."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: object, module: str, option: str | None = None):
        sys.path.insert(0, os.getcwd())  # as `python -m` does; an installed command does not
        try:
            import_module(module)
        except Exception as error:  # a module may raise anything
            reason = str(error).partition("\n")[0] or type(error).__name__
            parser.error(f"--import {module}: cannot be imported ({reason})")
        finally:
            sys.path.remove(os.getcwd())


def _with_values_joined(arguments: Sequence[str]) -> list[str]:
    """
    Turn ``--items -3,-4`` into ``--items=-3,-4``, or argparse would read the value as an option.

    Values that begin with a minus are negative numbers, or ``-`` in place of the user's column.
    """
    joined: list[str] = []
    for argument in arguments:
        option = joined[-1] if joined else ""
        if option == "--columns" or (option in MAY_BE_NEGATIVE and NEGATIVE.match(argument)):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
