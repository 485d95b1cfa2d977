"""The `prepare` command: turn a log of any size into one HDF5 file, or into shards by user."""

import argparse
import time
from pathlib import Path

from spotlight_asars.cli.options import add_format_options, read_options_of, say, show, silence
from spotlight_asars.datasets import FORMATS
from spotlight_asars.datasets.prepare import prepare, read_blocks
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sessionization import SESSION_GAP
from spotlight_asars.serialization.files import check_output, output_folder

EXAMPLES = """examples:
  spotlight-asars prepare --data UserBehavior.csv --format tianchi --out tianchi.h5
  spotlight-asars compare --data tianchi.h5 --models gru4rec,asars_time_user --out results
      every command that reads a log also reads a prepared one, without --format
  spotlight-asars prepare --data day1.csv.gz day2.csv.gz --out log.h5
      one log in several files
  spotlight-asars prepare --data UserBehavior.csv --format tianchi --shard 2/4 --out shards/2.h5
      the second of four shards; each can be prepared by its own process or machine, and the folder is then the
      log: compare --data shards

The file appears only once it is complete; if the command is stopped, run it again.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `prepare` command to the parser."""
    command = commands.add_parser(
        "prepare",
        help="convert a log of any size to a file that need not fit in memory",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_prepare)
    log = command.add_argument_group("log")
    log.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FILE", help="files of one log, oldest first"
    )
    add_format_options(log)
    out = command.add_argument_group("output")
    out.add_argument("--out", type=Path, required=True, metavar="FILE", help="file to write")
    out.add_argument("--shard", type=shard, default=(1, 1), metavar="K/N",
                     help="keep only the users of shard K of N")  # fmt: skip
    out.add_argument("--quiet", action="store_true", help="print no progress")


def shard(text: str) -> tuple[int, int]:
    """Parse K/N into two whole numbers."""
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, such as 2/4")
    number, of = map(int, parts)
    if not 1 <= number <= of:
        raise argparse.ArgumentTypeError(f"{text!r}: K must be from 1 to N")
    return number, of


def run_prepare(options: argparse.Namespace) -> int:
    """Run the `prepare` command and return its exit code, 0."""
    begin = time.perf_counter()
    log_format, read_options = read_options_of(options, options.data[0])
    if log_format is None:
        raise InputError(f"{options.data[0]}: there is no such file, or it is prepared already: give the log's files")
    read = FORMATS[log_format].blocks
    blocks = read_blocks(options.data, lambda path: read(path, **read_options))
    report = silence if options.quiet else say
    check_output(options.out, options.data)
    with output_folder(options.out.parent):
        counts = prepare(blocks, options.out, options.session_gap or SESSION_GAP, options.shard, report)
    show(str(counts))
    show(f"written to {options.out} in {time.perf_counter() - begin:.0f} s")
    return 0
