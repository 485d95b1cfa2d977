"""What the sub-commands of the command line share: options, their types, and how they are checked."""

import argparse
import sys
from pathlib import Path

import torch

from spotlight_asars.cross_validation import SupportFilters
from spotlight_asars.datasets import FORMATS, presets
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.logs import LogChoice
from spotlight_asars.experiments.settings import Settings
from spotlight_asars.experiments.systems import DEFAULT_SYSTEMS, settings_of, system_names
from spotlight_asars.interactions.channels import DWELL_RULES
from spotlight_asars.interactions.sessionization import SESSION_GAP
from spotlight_asars.interactions.times import ISO, UNITS_PER_SECOND
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.serialization.models import load_model

INTERRUPTED = 130
LARGEST_SEED = 2**32 - 1
ALL_SYSTEMS = "all"


def say(line: str) -> None:
    """A line of progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def silence(line: str) -> None:
    """For --quiet."""


def known_settings(name: str, option: str = "--models") -> Settings:
    """Settings of a system by its name; an InputError that lists the names if there is none."""
    try:
        return settings_of(name)
    except ValueError:
        more = f", and the word {ALL_SYSTEMS}" if option == "--models" else ""
        raise InputError(
            f"{option}: no system is called {name!r}: there are {', '.join(system_names())}{more}"
        ) from None


def read_options_of(options: argparse.Namespace) -> dict:
    """Keywords of the reader, from `add_format_options`; an InputError where they do not go with the format."""
    read_options = {
        name: value
        for name in ("columns", "timestamp_unit", "separator", "behaviours")
        if (value := getattr(options, name)) is not None
    }
    if options.log_format in FORMATS:
        for name in read_options:
            if name not in FORMATS[options.log_format].options:
                option = "--" + name.replace("_", "-")
                raise InputError(f"{option} does not go with --format {options.log_format}, whose layout is fixed")
    if options.log_format == "csv" and "columns" not in read_options:
        raise InputError("--format csv needs --columns USER,ITEM,TIME[,SESSION] (- for USER where there is none)")
    return read_options


def log_choice(options: argparse.Namespace) -> LogChoice:
    """The log that the options of `add_log_options` name; an InputError where they contradict one another."""
    read_options = read_options_of(options)
    if options.data is not None and (options.train is not None or options.test is not None):
        raise InputError("--data goes without --train and --test: give one whole log, or its two parts")
    files = [path for path in (options.data, options.train, options.test) if path is not None]
    if files and options.dataset is not None:
        raise InputError("--dataset goes without files: give either")
    if not files and options.log_format is not None:
        raise InputError("--format is given, but no file: give --data FILE, or --train FILE and --test FILE")
    if options.data is None and files and (options.filters is not None or options.test_share is not None):
        raise InputError("--filters and --test-share do not go with --train and --test, which are taken as they are")
    return LogChoice(
        data=options.data,
        train=options.train,
        test=options.test,
        log_format=options.log_format,
        read_options=read_options,
        filters=options.filters,
        test_share=LogChoice.test_share if options.test_share is None else options.test_share,
        session_gap=options.session_gap,
        seed=options.seed,
    )


def add_log_options(group: argparse._ArgumentGroup, in_parts: bool = True) -> None:
    """Options that say which log to read, and how; its two parts are not told of where only a whole one is taken."""
    group.add_argument("--data", type=Path, metavar="FILE",
                       help="a whole log, or what prepare made of it: filtered, then split by time")  # fmt: skip
    for name, told in (("--train", "training part, with --test: taken as split"), ("--test", "test part")):
        group.add_argument(name, type=Path, metavar="FILE", help=told if in_parts else argparse.SUPPRESS)
    group.add_argument("--dataset", choices=["synthetic"], help="a log made here")
    add_format_options(group)
    group.add_argument("--filters", type=filters, metavar="ITEM,SESSION,USER",
                       help="fewest events an item, events a session, sessions a user, for --data; or a name: "
                            f"{', '.join(presets.NAMED)}")  # fmt: skip
    group.add_argument("--test-share", type=share, metavar="SHARE",
                       help=f"test share of the sessions, for --data ({LogChoice.test_share:g})")  # fmt: skip


def add_format_options(group: argparse._ArgumentGroup) -> None:
    """Options that say how a file of events is read."""
    group.add_argument("--format", dest="log_format", choices=sorted(FORMATS), help="format of the files")
    group.add_argument("--columns", metavar="USER,ITEM,TIME[,SESSION]", help="columns of a csv; - for no USER")
    group.add_argument("--separator", metavar="CHAR", help="separator of a csv, else by the file's ending")
    group.add_argument("--timestamp-unit", choices=[*UNITS_PER_SECOND, ISO],
                       help="unit of the times of a csv; iso for text such as 2014-04-07T10:51:09Z")  # fmt: skip
    group.add_argument("--behaviours", metavar="PV,BUY,CART,FAV", help="which of tianchi's are events, else all")
    group.add_argument("--session-gap", type=positive, default=SESSION_GAP, metavar="SECONDS",
                       help="pause that ends a session where the log has none (%(default)g)")  # fmt: skip


def add_training_options(group: argparse._ArgumentGroup, epochs: int) -> None:
    """Options of every command that fits nets."""
    group.add_argument("--epochs", type=count, default=epochs, help="the most epochs (%(default)s)")
    group.add_argument("--seed", type=seed, default=0, help="of all that is drawn (%(default)s)")
    group.add_argument("--dwell", choices=DWELL_RULES, default="known",
                       help="whether the newest event's dwell counts (%(default)s)")  # fmt: skip
    group.add_argument("--max-sequence-length", type=length, default=200, help="events a row (%(default)s)")
    group.add_argument("--use-cuda", action="store_true", help="train on the GPU")
    group.add_argument("--quiet", action="store_true", help="no progress on standard error")


def add_systems_option(group: argparse._ArgumentGroup) -> None:
    """Option that names the systems a command works on."""
    group.add_argument("--models", type=system_list, default=DEFAULT_SYSTEMS, metavar="A,B",
                       help=f"systems, of {', '.join(system_names())}; or {ALL_SYSTEMS}")  # fmt: skip


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Options of every command that uses a model file."""
    group.add_argument("--model-file", type=Path, default=Path("model.h5"), metavar="FILE",
                       help="what train has written (%(default)s)")  # fmt: skip
    group.add_argument("--use-cuda", action="store_true", help="let the model run on the GPU")


def model_of(options: argparse.Namespace) -> Recommender:
    """The fitted model of a model file, on the device that is asked for."""
    model = load_model(options.model_file, use_cuda=options.use_cuda)
    if not model.is_fitted:
        raise InputError(f"{options.model_file}: the model is not fitted: fit it, or make one with train")
    return model


def check_cuda(options: argparse.Namespace) -> None:
    """Raise an InputError where a GPU is asked for that is not there."""
    if options.use_cuda and not torch.cuda.is_available():
        raise InputError("--use-cuda: this machine, or the torch installed on it, has no GPU: leave it out")


def system_list(text: str) -> tuple[str, ...]:
    """Names of systems, split by commas; `all` stands for all of them."""
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
    """A whole number of at least 1."""
    return _number(text, int, 1, 10**9, "a whole number of at least 1")


def length(text: str) -> int:
    """Events a row."""
    return _number(text, int, 2, 10**9, "a whole number of at least 2")


def seed(text: str) -> int:
    """A seed that numpy takes."""
    return _number(text, int, 0, LARGEST_SEED, f"a whole number from 0 to {LARGEST_SEED}")


def positive(text: str) -> float:
    """Seconds above 0."""
    return _number(text, float, 1e-9, 1e12, "a positive number of seconds")


def minutes(text: str) -> float:
    """Minutes, 0 for as often as can be."""
    return _number(text, float, 0, 1e9, "a number of minutes of at least 0")


def share(text: str) -> float:
    """A share between 0 and 1."""
    return _number(text, float, 1e-6, 1 - 1e-6, "a share between 0 and 1")


def filters(text: str) -> SupportFilters:
    """Three numbers, split by commas, or the name of a preset."""
    if text in presets.NAMED:
        return presets.NAMED[text]
    parts = text.split(",")
    if len(parts) != 3:
        names = ", ".join(presets.NAMED)
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers ITEM,SESSION,USER, nor one of {names}")
    return SupportFilters(*(count(part) for part in parts))
