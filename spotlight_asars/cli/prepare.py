"""The command line's `prepare`: a log of any size to one file, or to shards by user."""

import argparse
import time
from pathlib import Path

from spotlight_asars.cli.options import add_format_options, read_options_of, say, silence
from spotlight_asars.datasets import FORMATS
from spotlight_asars.datasets.prepare import prepare, read_blocks
from spotlight_asars.errors import InputError
from spotlight_asars.serialization.files import output_folder

EXAMPLES = """examples:
  spotlight-asars prepare --data UserBehavior.csv --format tianchi --out tianchi.h5
  spotlight-asars compare --data tianchi.h5 --models gru4rec,asars_time_user --out results
      a prepared log goes where a log goes, and needs no --format
  spotlight-asars prepare --data day1.csv.gz day2.csv.gz --format csv --columns user,item,time --out log.h5
      several files of one log
  spotlight-asars prepare --data UserBehavior.csv --format tianchi --shard 2/4 --out shards/2.h5
      the second of four parts; each may be prepared by a process or machine of its own, and the folder is then
      the log: compare --data shards

The file is there when it is whole: a command that was stopped is given again.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `prepare` to the sub-commands."""
    command = commands.add_parser(
        "prepare",
        help="make one file of a log of any size, to train on without loading it whole",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_prepare)
    log = command.add_argument_group("the log")
    log.add_argument("--data", type=Path, nargs="+", required=True, metavar="FILE", help="files of one log, in order")
    add_format_options(log)
    out = command.add_argument_group("the file")
    out.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to be")
    out.add_argument("--shard", type=shard, default=(1, 1), metavar="K/N",
                     help="keep the users of the K-th of N parts only")  # fmt: skip
    out.add_argument("--quiet", action="store_true", help="no progress on standard error")


def shard(text: str) -> tuple[int, int]:
    """K/N as two whole numbers."""
    parts = text.split("/")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N, such as 2/4")
    number, of = map(int, parts)
    if not 1 <= number <= of:
        raise argparse.ArgumentTypeError(f"{text!r}: K goes from 1 to N")
    return number, of


def run_prepare(options: argparse.Namespace) -> int:
    """
    Run the sub-command.

    Returns
    -------
    int
        0
    """
    begin = time.perf_counter()
    read_options = read_options_of(options)
    if options.log_format is None:
        raise InputError(f"the format of the log is not said: give --format {'|'.join(FORMATS)}")
    read = FORMATS[options.log_format].blocks
    blocks = read_blocks(options.data, lambda path: read(path, **read_options))
    report = silence if options.quiet else say
    with output_folder(options.out.parent):
        counts = prepare(blocks, options.out, options.session_gap, options.shard, report)
    print(counts)
    print(f"written to {options.out} after {time.perf_counter() - begin:.0f} s")
    return 0
