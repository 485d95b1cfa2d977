"""The `analyse` command: the paper's Figure 1 for any log, as CSV, PNG and one HTML page."""

import argparse
from pathlib import Path

from spotlight_asars.cli.options import add_log_options, log_choice, say, seed, show
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.analysis.report import summary_lines, write_analysis
from spotlight_asars.experiments.analysis.statistics import analyse, as_json
from spotlight_asars.experiments.figures import HOW_TO_GET_FIGURES, Figure
from spotlight_asars.experiments.logs import log_to_analyse
from spotlight_asars.serialization.files import json_text, output_folder, write_whole

EXAMPLES = """examples:
  spotlight-asars analyse --data UserBehavior.csv.gz --format tianchi --categories --out analysis
  spotlight-asars analyse clicks.csv
  spotlight-asars analyse --data log.h5
      a prepared log

The log is not filtered unless --filters is given. DIR/report.html shows all results on one page.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `analyse` command to the parser."""
    command = commands.add_parser(
        "analyse",
        help="describe a log: sessions, repeated items, dwell times",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_analyse)
    log = command.add_argument_group("log (default: a simulated one)")
    add_log_options(log, in_parts=False, default_filters="none")
    log.add_argument("--categories", action="store_true",
                     help="also read item categories, where the file has them")  # fmt: skip
    log.add_argument("--seed", type=seed, default=0, metavar="N",
                     help="seed of the simulated log (default: %(default)s)")  # fmt: skip
    out = command.add_argument_group("report")
    out.add_argument("--out", type=Path, default=Path("analysis"), metavar="DIR",
                     help="folder for report.html, the tables and the figures (default: %(default)s)")  # fmt: skip


def run_analyse(options: argparse.Namespace) -> int:
    """Run the `analyse` command and return its exit code, 0."""
    if options.train is not None or options.test is not None:
        raise InputError("analyse reads one whole log: give --data FILE")
    choice = log_choice(options)
    if options.categories and options.data is not None and choice.log_format in ("csv", "jsonl"):
        raise InputError("--categories needs a format with categories: tianchi, or recsys15 as published")
    name, events, categories = log_to_analyse(choice, options.categories)
    analysis = analyse(events, categories, choice.test_share)
    with output_folder(options.out) as folder:
        files = write_analysis(analysis, name, folder)
        write_whole(folder / "analysis.json", json_text(as_json(analysis), indent=2) + "\n")
    show("\n".join(summary_lines(analysis)))
    if Figure is None:
        say(HOW_TO_GET_FIGURES)
    show(f"written to {options.out}: {', '.join([*files, 'analysis.json'])}")
    return 0
