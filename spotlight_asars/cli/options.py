"""Options that several commands share, their types and their checks."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from spotlight_asars.cli.streams import discard_standard_output
from spotlight_asars.cross_validation import SupportFilters
from spotlight_asars.datasets import FORMATS, presets
from spotlight_asars.datasets.guessing import guess_format
from spotlight_asars.datasets.prepared import shard_files
from spotlight_asars.errors import InputError, printable
from spotlight_asars.experiments.logs import LogChoice
from spotlight_asars.experiments.settings import Settings
from spotlight_asars.experiments.systems import DEFAULT_SYSTEMS, settings_of, system_names
from spotlight_asars.interactions.channels import DWELL_RULES
from spotlight_asars.interactions.sessionization import SESSION_GAP
from spotlight_asars.interactions.times import ISO, UNITS_PER_SECOND, duration_in_seconds
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.serialization.models import load_model

INTERRUPTED = 130
LARGEST_SEED = 2**32 - 1
ALL_SYSTEMS = "all"
READ_OPTIONS = ("columns", "timestamp_unit", "separator", "behaviours", "event_column", "events")
GUESSED = ("csv", "jsonl")  # formats whose columns are the user's


def say(line: str) -> None:
    """Print a line of progress on standard error, if there still is one."""
    with suppress(OSError, ValueError):  # nobody can be told that it is closed or full
        print(printable(line), file=sys.stderr, flush=True)


def show(text: str) -> None:
    """Print a result of one or more lines on standard output; see :func:`writing_output` for errors."""
    with writing_output():
        print(printable(text, keep="\n"), flush=True)


@contextmanager
def writing_output() -> Iterator[None]:
    """
    Context manager for code that writes to standard output.

    Raises
    ------
    BrokenPipeError
        If standard output is closed.
    InputError
        If it cannot be written for another reason, such as a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_standard_output()
        raise InputError(f"standard output cannot be written ({error.strerror}): free some space") from error


def silence(line: str) -> None:
    """Print nothing; takes the place of :func:`say` under --quiet."""


def known_settings(name: str, option: str = "--models") -> Settings:
    """Return the built-in settings of a system; raise an InputError that lists the names if it is unknown."""
    try:
        return settings_of(name)
    except ValueError:
        more = f", or {ALL_SYSTEMS}" if option == "--models" else ""
        raise InputError(
            f"{option}: there is no system {name!r}: choose from {', '.join(system_names())}{more}"
        ) from None


def read_options_of(options: argparse.Namespace, path: Path | None = None) -> tuple[str | None, dict]:
    """
    Return the format and the reader's keywords from `add_format_options`, and from the file where they are not given.

    Parameters
    ----------
    options : Namespace
    path : Path, optional
        The log, or its first file; a prepared log has no format.

    Raises
    ------
    InputError
        If the format does not take an option, or the file cannot be read.
    """
    log_format = options.log_format
    given = {name: value for name in READ_OPTIONS if (value := getattr(options, name)) is not None}
    if log_format in FORMATS:
        for name in given:
            if name not in FORMATS[log_format].options:
                option = "--" + name.replace("_", "-")
                raise InputError(f"{option} does not apply to --format {log_format}, whose layout is fixed")
    if path is None or not path.exists() or shard_files(path) or log_format not in (None, *GUESSED):
        return log_format, given
    guess = guess_format(path, log_format, given.get("columns"), given.get("separator"))
    found = {name: value for name in READ_OPTIONS if (value := getattr(guess, name, None)) is not None}
    unknown = {name: value for name, value in found.items() if name not in given}
    if (log_format is None or unknown) and not getattr(options, "quiet", False):
        say(f"{path.name} is read with {guess}; give other options where this is wrong")
    return guess.log_format, {**unknown, **given}


def log_choice(options: argparse.Namespace) -> LogChoice:
    """Return the log that the options of `add_log_options` name; raise an InputError if they contradict one another."""
    if options.file is not None:
        if options.data is not None:
            raise InputError("FILE and --data both name a whole log: give one of them")
        options.data = options.file
    if options.data is not None and (options.train is not None or options.test is not None):
        raise InputError("--data excludes --train and --test: give one whole log or its two parts")
    files = [path for path in (options.data, options.train, options.test) if path is not None]
    if files and options.dataset is not None:
        raise InputError("--dataset excludes files: give one or the other")
    if not files and options.log_format is not None:
        raise InputError("--format is given but no file: give --data FILE, or --train FILE and --test FILE")
    if options.data is None and files and (options.filters is not None or options.test_share is not None):
        raise InputError("--filters and --test-share apply to --data only: --train and --test are used as they are")
    log_format, read_options = read_options_of(options, files[0] if files else None)
    return LogChoice(
        data=options.data,
        train=options.train,
        test=options.test,
        log_format=log_format,
        read_options=read_options,
        filters=options.filters,
        test_share=LogChoice.test_share if options.test_share is None else options.test_share,
        session_gap=options.session_gap or SESSION_GAP,
        collapse_repeats=options.collapse_repeats,
        seed=options.seed,
    )


SPLIT_LOG = (  # title and text of the group, for commands that split a log
    "log (default: a simulated one)",
    "--data is filtered, then split by time; --train and --test are used as they are.",
)


def add_log_options(
    group: argparse._ArgumentGroup,
    in_parts: bool = True,
    default_filters: str = "that of the format",
    default_test_share: str = f"{LogChoice.test_share:g}",
) -> None:
    """
    Add the options that choose a log.

    Parameters
    ----------
    group : argument group
    in_parts : bool, optional
        Show --train and --test in the help, for commands that take a log in two parts.
    default_filters, default_test_share : str, optional
        What the help names as defaults.
    """
    group.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a whole log, as --data FILE")
    group.add_argument("--data", type=Path, metavar="FILE",
                       help="a whole log: a file, a folder of Parquet files, or what prepare wrote")  # fmt: skip
    for name, text in (("--train", "training part of a log that is already split"), ("--test", "its test part")):
        group.add_argument(name, type=Path, metavar="FILE", help=text if in_parts else argparse.SUPPRESS)
    group.add_argument("--dataset", choices=["synthetic"], help="simulate a log")
    add_format_options(group)
    group.add_argument("--filters", type=filters, metavar="ITEM,SESSION,USER",
                       help="minimum events per item, events per session and sessions per user, for --data, "
                            f"such as 5,2,2; or a preset: {', '.join(presets.NAMED)} "
                            f"(default: {default_filters})")  # fmt: skip
    group.add_argument("--collapse-repeats", action="store_true",
                       help="take events of one item that follow each other in a session as one, the first, as "
                            "GRU4Rec's preprocessing does")  # fmt: skip
    group.add_argument("--test-share", type=share, metavar="SHARE",
                       help="share of the sessions of --data, the latest ones, to test on "
                            f"(default: {default_test_share})")  # fmt: skip


def add_format_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how to read a file of events."""
    group.add_argument("--format", dest="log_format", choices=sorted(FORMATS),
                       help="file format; csv is any table with a header, Parquet included "
                            "(default: guessed from the file)")  # fmt: skip
    group.add_argument("--columns", metavar="USER,ITEM,TIME[,SESSION]",
                       help="column names of a csv or jsonl file; - for USER where the log has none "
                            "(default: guessed from usual names)")  # fmt: skip
    group.add_argument("--separator", metavar="CHAR", help="separator of a csv file (default: guessed from the file)")
    group.add_argument("--timestamp-unit", choices=[*UNITS_PER_SECOND, ISO],
                       help="unit of times in a csv or jsonl file; iso for text such as 2014-04-07T10:51:09Z "
                            "(default: guessed from the first lines)")  # fmt: skip
    group.add_argument("--behaviours", metavar="PV,BUY,CART,FAV",
                       help="behaviours of a tianchi log to keep (default: all)")  # fmt: skip
    group.add_argument("--event-column", metavar="COLUMN", help="column of event types, of a csv or jsonl file")
    group.add_argument("--events", metavar="VIEW,PURCHASE", help="types of events to keep, with --event-column")
    group.add_argument("--session-gap", type=duration, metavar="SECONDS",
                       help="inactivity that ends a session, for a log without session ids; seconds, or a duration "
                            "such as 30min (default: that of the model, if there is one; else "
                            f"{SESSION_GAP:g})")  # fmt: skip


def add_training_options(group: argparse._ArgumentGroup, epochs: int) -> None:
    """Add the options of every command that trains."""
    group.add_argument("--epochs", type=count, default=epochs, metavar="N",
                       help="maximum epochs (default: %(default)s)")  # fmt: skip
    group.add_argument("--seed", type=seed, default=0, metavar="N",
                       help="random seed; it gives the same weights only with the same number of threads "
                            "(OMP_NUM_THREADS) and the same versions (default: %(default)s)")  # fmt: skip
    group.add_argument("--dwell", choices=DWELL_RULES, default="known",
                       help="known: the last event's dwell is unknown, as at click time; observed: it is known, as in "
                            "the paper (default: %(default)s)")  # fmt: skip
    group.add_argument("--max-sequence-length", type=length, default=200, metavar="N",
                       help="most events per row; a longer history takes several rows "
                            "(default: %(default)s)")  # fmt: skip
    group.add_argument("--use-cuda", action="store_true", help="train on the GPU")
    group.add_argument("--quiet", action="store_true", help="print no progress")


def add_systems_option(group: argparse._ArgumentGroup) -> None:
    """Add the option that names the systems to work on."""
    group.add_argument("--models", type=system_list, default=DEFAULT_SYSTEMS, metavar="A,B",
                       help=f"systems, from {', '.join(system_names())}; or {ALL_SYSTEMS} "
                            f"(default: {','.join(DEFAULT_SYSTEMS)})")  # fmt: skip


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of every command that reads a model file."""
    group.add_argument("--model-file", type=Path, default=Path("model.h5"), metavar="FILE",
                       help="model file that train wrote (default: %(default)s)")  # fmt: skip
    group.add_argument("--use-cuda", action="store_true", help="run the model on the GPU")


def model_of(options: argparse.Namespace) -> Recommender:
    """Load the fitted model, on the device that the options name."""
    model = load_model(options.model_file, use_cuda=options.use_cuda)
    if not model.is_fitted:
        raise InputError(f"{options.model_file}: the model is not fitted: fit it, or write one with train")
    return model


def check_cuda(options: argparse.Namespace) -> None:
    """Raise an InputError if --use-cuda is given and there is no GPU."""
    if options.use_cuda and not torch.cuda.is_available():
        raise InputError("--use-cuda: torch has no GPU on this machine: leave the option out")


def system_list(text: str) -> tuple[str, ...]:
    """Parse names of systems, separated by commas; `all` means every system."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("give at least one name")
    return tuple(dict.fromkeys(one for name in names for one in (system_names() if name == ALL_SYSTEMS else [name])))


def _number(text: str, convert: type, least: float, most: float, what: str):
    try:
        value = convert(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    return _number(text, int, 1, 10**9, "a whole number of at least 1")


def length(text: str) -> int:
    """Parse the number of events of a row."""
    return _number(text, int, 2, 10**9, "a whole number of at least 2")


def seed(text: str) -> int:
    """Parse a seed that numpy accepts."""
    return _number(text, int, 0, LARGEST_SEED, f"a whole number from 0 to {LARGEST_SEED}")


def positive(text: str) -> float:
    """Parse a number of seconds above 0."""
    return _number(text, float, 1e-9, 1e12, "a positive number of seconds")


def duration(text: str) -> float:
    """Parse a number of seconds above 0, or a duration such as 30min, as seconds."""
    try:
        return duration_in_seconds("it", text)
    except InputError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a positive number of seconds, nor a duration such as 30min"
        ) from None


def number(text: str) -> float:
    """Parse any finite number."""
    return _number(text, float, -1e300, 1e300, "a number")


def minutes(text: str) -> float:
    """Parse a number of minutes; 0 means as often as possible."""
    return _number(text, float, 0, 1e9, "a number of minutes of at least 0")


def mebibytes(text: str) -> int:
    """Parse a whole number of mebibytes, 0 included."""
    return _number(text, int, 0, 10**9, "a whole number of at least 0")


def ahead(text: str) -> float:
    """Parse a number of seconds of at least 0; inf means any."""
    return _number(text, float, 0, float("inf"), "a number of seconds of at least 0")


def share(text: str) -> float:
    """Parse a share between 0 and 1."""
    return _number(text, float, 1e-6, 1 - 1e-6, "a share between 0 and 1")


def filters(text: str) -> SupportFilters:
    """Parse three numbers, separated by commas, or the name of a preset."""
    if text in presets.NAMED:
        return presets.NAMED[text]
    parts = text.split(",")
    if len(parts) != 3:
        names = ", ".join(presets.NAMED)
        raise argparse.ArgumentTypeError(f"{text!r} is neither three numbers ITEM,SESSION,USER nor one of {names}")
    return SupportFilters(*(count(part) for part in parts))
