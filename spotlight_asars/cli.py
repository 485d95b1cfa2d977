"""The command line: ``python -m spotlight_asars``, or ``spotlight-asars`` once installed."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from spotlight_asars.datasets import FORMATS, SupportFilters
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.compare import Protocol, compare
from spotlight_asars.experiments.figures import HOW_TO_GET_FIGURES, write_figures
from spotlight_asars.experiments.logs import LogChoice, prepare_log
from spotlight_asars.experiments.runs import RunFolder
from spotlight_asars.experiments.settings import Settings
from spotlight_asars.experiments.systems import DEFAULT_SYSTEMS, settings_in, settings_of, system_names
from spotlight_asars.experiments.table import curves_csv, format_table, table_csv
from spotlight_asars.files import output_folder, write_whole
from spotlight_asars.sequence.net_options import DWELL_RULES
from spotlight_asars.sessions import SESSION_GAP, UNITS_PER_SECOND

BAD_INPUT = 2
INTERRUPTED = 130
LARGEST_SEED = 2**32 - 1
ALL_SYSTEMS = "all"

EXAMPLES = """examples:
  spotlight-asars compare
      the simulator, four systems, a few minutes
  spotlight-asars compare --data u.data --format movielens --models gru4rec,asars_time_user
  spotlight-asars compare --train train.txt --test test.txt --format recsys15 --models gru4rec,asars_time_att
  spotlight-asars compare --data clicks.csv --format csv --columns user,item,time
  spotlight-asars compare --data clicks.csv --format csv --columns -,item,time,session
  spotlight-asars compare --models all --seeds 5 --twins --out results
      stopped with Ctrl-C, the same command goes on from the runs that were finished
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the command line.

    Returns
    -------
    int
        0 when all is well, 2 for wrong input (told in one line on standard error), 130 when interrupted.
    """
    options = _parser().parse_args(_with_columns_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        return options.run(options)
    except InputError as error:
        print(f"spotlight-asars: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("spotlight-asars: interrupted, nothing was written", file=sys.stderr)
        return INTERRUPTED


def _run_compare(options: argparse.Namespace) -> int:
    begin = time.perf_counter()
    systems = {name: _settings(name) for name in options.models}
    own = {} if options.parameters is None else settings_in(options.parameters, systems)
    choice = _log_choice(options)
    if options.use_cuda and not torch.cuda.is_available():
        raise InputError("--use-cuda: this machine, or the torch installed on it, has no GPU: leave it out")
    if options.seed + options.seeds - 1 > LARGEST_SEED:
        raise InputError(f"--seed and --seeds go past the largest seed, {LARGEST_SEED}: give smaller ones")
    protocol = Protocol(
        epochs=options.epochs,
        seed=options.seed,
        dwell=options.dwell,
        max_sequence_length=options.max_sequence_length,
        use_cuda=options.use_cuda,
        verbose=not options.quiet,
        seeds=options.seeds,
        twins=options.twins,
    )
    say = _silence if options.quiet else _say
    with output_folder(options.out) as folder:
        runs = RunFolder(folder / "runs")
        try:
            results = compare(prepare_log(choice), systems | own, protocol, say, runs)
            for name, model in results["models"].items():
                model["settings_from"] = str(options.parameters / f"{name}.json") if name in own else "built in"
            written = _write(results, folder, say)
        except KeyboardInterrupt:
            if not runs.kept:
                raise
            print(
                f"spotlight-asars: interrupted; the finished runs are kept in {runs.path}: the same command goes on "
                "from there",
                file=sys.stderr,
            )
            return INTERRUPTED
    print(format_table(results))
    print(f"written to {folder}: {', '.join(written)}; after {time.perf_counter() - begin:.0f} s")
    return 0


def _write(results: dict, folder: Path, say: Callable[[str], None]) -> list[str]:
    """All files of a comparison; returns their names."""
    texts = {
        "results.json": json.dumps(results, indent=2, allow_nan=False) + "\n",
        "table.csv": table_csv(results),
        "curves.csv": curves_csv(results),
    }
    for name, text in texts.items():
        write_whole(folder / name, text)
    figures = write_figures(results, folder)
    if not figures:
        say(HOW_TO_GET_FIGURES)
    return [*texts, *figures]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silence(line: str) -> None:
    """For --quiet."""


def _settings(name: str) -> Settings:
    try:
        return settings_of(name)
    except ValueError:
        raise InputError(
            f"--models: no system is called {name!r}: there are {', '.join(system_names())}, and the word {ALL_SYSTEMS}"
        ) from None


def _log_choice(options: argparse.Namespace) -> LogChoice:
    read_options = {
        name: value
        for name in ("columns", "timestamp_unit", "separator")
        if (value := getattr(options, name)) is not None
    }
    if options.log_format in FORMATS:
        for name in read_options:
            if name not in FORMATS[options.log_format].options:
                option = "--" + name.replace("_", "-")
                raise InputError(f"{option} does not go with --format {options.log_format}, whose layout is fixed")
    if options.log_format == "csv" and "columns" not in read_options:
        raise InputError("--format csv needs --columns USER,ITEM,TIME[,SESSION] (- for USER where there is none)")
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


class _Parser(argparse.ArgumentParser):
    """Tells wrong options in one line, without the whole usage."""

    def error(self, message: str) -> None:
        self.exit(BAD_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def _with_columns_joined(arguments: Sequence[str]) -> list[str]:
    """``--columns -,item,time`` as ``--columns=-,item,time``: argparse would take the value for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--columns":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="spotlight-asars",
        description="Session-aware recommendation with dwell times.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    compare_command = commands.add_parser(
        "compare",
        help="train systems on a log and print the paper's Table 2 for it",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    compare_command.set_defaults(run=_run_compare)
    _add_log_options(compare_command.add_argument_group("the log (the simulator without any)"))
    _add_protocol_options(compare_command.add_argument_group("the comparison"))
    from spotlight_asars.cli_tune import add_command  # here: it takes options from this module

    add_command(commands)
    return parser


def _add_log_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", type=Path, metavar="FILE", help="a whole log: filtered, then split by time")
    group.add_argument("--train", type=Path, metavar="FILE", help="training part, with --test: taken as split")
    group.add_argument("--test", type=Path, metavar="FILE", help="test part")
    group.add_argument("--dataset", choices=["synthetic"], help="a log made here")
    group.add_argument("--format", dest="log_format", choices=sorted(FORMATS), help="format of the files")
    group.add_argument("--columns", metavar="USER,ITEM,TIME[,SESSION]", help="columns of a csv; - for no USER")
    group.add_argument("--separator", metavar="CHAR", help="separator of a csv, else by the file's ending")
    group.add_argument("--timestamp-unit", choices=list(UNITS_PER_SECOND), help="unit of the times of a csv")
    group.add_argument("--session-gap", type=_positive, default=SESSION_GAP, metavar="SECONDS",
                       help="pause that ends a session where the log has none (%(default)g)")  # fmt: skip
    group.add_argument("--filters", type=_filters, metavar="ITEM,SESSION,USER",
                       help="fewest events an item, events a session, sessions a user, for --data")  # fmt: skip
    group.add_argument("--test-share", type=_share, metavar="SHARE",
                       help=f"test share of the sessions, for --data ({LogChoice.test_share:g})")  # fmt: skip


def _add_protocol_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--models", type=_names, default=DEFAULT_SYSTEMS, metavar="A,B",
                       help=f"systems, of {', '.join(system_names())}; or {ALL_SYSTEMS}")  # fmt: skip
    group.add_argument("--parameters", type=Path, metavar="DIR",
                       help="folder of parameter files SYSTEM.json, for systems that have one there")  # fmt: skip
    group.add_argument("--epochs", type=_count, default=20, help="the most epochs (%(default)s)")
    group.add_argument("--seed", type=_seed, default=0, help="of all that is drawn (%(default)s)")
    group.add_argument("--seeds", type=_count, default=1, metavar="N",
                       help="train each net N times, from --seed on (%(default)s)")  # fmt: skip
    group.add_argument("--twins", action="store_true",
                       help="train nets that read dwell on shuffled dwell too: what they gain by it")  # fmt: skip
    group.add_argument("--dwell", choices=DWELL_RULES, default="known",
                       help="whether the newest event's dwell counts (%(default)s)")  # fmt: skip
    group.add_argument("--max-sequence-length", type=_length, default=200, help="events a row (%(default)s)")
    group.add_argument("--out", type=Path, default=Path("results"), metavar="DIR",
                       help="where results, tables, figures and finished runs go (%(default)s)")  # fmt: skip
    group.add_argument("--use-cuda", action="store_true", help="train on the GPU")
    group.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _names(text: str) -> tuple[str, ...]:
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


def _count(text: str) -> int:
    return _number(text, int, 1, 10**9, "a whole number of at least 1")


def _length(text: str) -> int:
    return _number(text, int, 2, 10**9, "a whole number of at least 2")


def _seed(text: str) -> int:
    return _number(text, int, 0, LARGEST_SEED, f"a whole number from 0 to {LARGEST_SEED}")


def _positive(text: str) -> float:
    return _number(text, float, 1e-9, 1e12, "a positive number of seconds")


def _share(text: str) -> float:
    return _number(text, float, 1e-6, 1 - 1e-6, "a share between 0 and 1")


def _filters(text: str) -> SupportFilters:
    parts = text.split(",")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not three numbers ITEM,SESSION,USER")
    return SupportFilters(*(_count(part) for part in parts))
