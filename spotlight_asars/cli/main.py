"""The command line: ``python -m spotlight_asars``, or ``spotlight-asars`` once installed."""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from spotlight_asars import __version__
from spotlight_asars.cli import analyse as cli_analyse
from spotlight_asars.cli import compare as cli_compare
from spotlight_asars.cli import evaluate as cli_evaluate
from spotlight_asars.cli import explain as cli_explain
from spotlight_asars.cli import prepare as cli_prepare
from spotlight_asars.cli import recommend as cli_recommend
from spotlight_asars.cli import train as cli_train
from spotlight_asars.cli import tune as cli_tune
from spotlight_asars.cli.options import INTERRUPTED
from spotlight_asars.errors import InputError, LostProcess

LOST, BAD_INPUT = 1, 2
NOBODY_READS = 141  # as of a process that SIGPIPE has ended
COMMANDS = (cli_compare, cli_tune, cli_analyse, cli_prepare, cli_train, cli_evaluate, cli_recommend, cli_explain)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Returns
    -------
    int
        0 when all is well, 2 for wrong input and 1 for a lost process of a job (both told in one line on standard
        error), 130 when interrupted, 141 when nobody reads what it prints any longer.
    """
    options = _options(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = options.run(options)
            sys.stdout.flush()  # here, where it is seen that nobody reads
            return code
    except InputError as error:
        print(f"spotlight-asars: {error}", file=sys.stderr)
        return BAD_INPUT
    except LostProcess as error:
        print(f"spotlight-asars: {error}", file=sys.stderr)
        return LOST
    except BrokenPipeError:  # `... | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except KeyboardInterrupt:
        print("spotlight-asars: interrupted, nothing was written", file=sys.stderr)
        return INTERRUPTED


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argument_parser()
    options, unknown = parser.parse_known_args(_with_columns_joined(arguments))
    if unknown:
        called = f"{parser.prog} {options.command}"
        file = "" if unknown[0].startswith("-") else " (a file goes with its option)"
        parser.exit(BAD_INPUT, f"{called}: not known: {' '.join(unknown)}{file}; see {called} --help\n")
    return options


def _show_warning(message: Warning, *where: object) -> None:
    """A warning as a line, without the place in the code."""
    print(f"spotlight-asars: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Tells wrong options in one line, without the whole usage, and takes none for the beginning of another."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> None:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


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


def _with_columns_joined(arguments: Sequence[str]) -> list[str]:
    """``--columns -,item,time`` as ``--columns=-,item,time``: argparse would take the value for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--columns":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def argument_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="spotlight-asars",
        description="Session-aware recommendation with dwell times.",
        epilog=cli_compare.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--import",
        action=_Import,
        metavar="MODULE",
        help="import a Python module that registers your own systems",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in COMMANDS:
        command.add_command(commands)
    return parser
