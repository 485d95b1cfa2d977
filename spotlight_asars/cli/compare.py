"""The `compare` command: train systems on a log, print the paper's Table 2 for it and write all results."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from spotlight_asars.cli.options import (
    INTERRUPTED,
    LARGEST_SEED,
    SPLIT_LOG,
    add_log_options,
    add_systems_option,
    add_training_options,
    check_cuda,
    count,
    known_settings,
    log_choice,
    say,
    show,
    silence,
)
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.comparison.compare import Protocol, compare
from spotlight_asars.experiments.comparison.runs import RunFolder
from spotlight_asars.experiments.comparison.table import curves_csv, format_table, table_csv
from spotlight_asars.experiments.figures import HOW_TO_GET_FIGURES, write_figures
from spotlight_asars.experiments.logs import prepare_log
from spotlight_asars.experiments.systems import for_catalogue, settings_in
from spotlight_asars.serialization.files import json_text, output_folder, write_whole

EXAMPLES = """examples:
  spotlight-asars compare
      six systems on a simulated log; takes a few minutes
  spotlight-asars compare --data u.data --format movielens --models gru4rec,asars_time_user
  spotlight-asars compare --train train.txt --test test.txt --format recsys15 --models gru4rec,asars_time_att
  spotlight-asars compare clicks.csv
  spotlight-asars compare clicks.csv --columns -,item,time,session
  spotlight-asars compare --models all --seeds 5 --twins --out results
      after Ctrl-C, the same command continues from the finished runs
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `compare` command to the parser."""
    command = commands.add_parser(
        "compare",
        help="train systems on a log and print the paper's Table 2 for it",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_compare)
    add_log_options(command.add_argument_group(*SPLIT_LOG))
    _add_protocol_options(command.add_argument_group("comparison"))


def _add_protocol_options(group: argparse._ArgumentGroup) -> None:
    add_systems_option(group)
    add_training_options(group, epochs=20)
    group.add_argument("--parameters", type=Path, metavar="DIR",
                       help="folder of parameter files SYSTEM.json, as tune writes; systems without one keep their "
                            "built-in settings")  # fmt: skip
    group.add_argument("--seeds", type=count, default=1, metavar="N",
                       help="train each system that draws random numbers N times, with seeds from --seed on "
                            "(default: %(default)s)")  # fmt: skip
    group.add_argument("--twins", action="store_true",
                       help="also train each system that reads dwell times on shuffled ones, as a control, and report "
                            "the gain from the true ones")  # fmt: skip
    group.add_argument("--out", type=Path, default=Path("results"), metavar="DIR",
                       help="folder for results, tables, figures and finished runs (default: %(default)s)")  # fmt: skip


def run_compare(options: argparse.Namespace) -> int:
    """Run the `compare` command and return its exit code: 0, or 130 when interrupted."""
    begin = time.perf_counter()
    systems = {name: known_settings(name) for name in options.models}
    own = {} if options.parameters is None else settings_in(options.parameters, systems)
    choice = log_choice(options)
    check_cuda(options)
    if options.seed + options.seeds - 1 > LARGEST_SEED:
        raise InputError(f"--seed plus --seeds exceeds the largest seed, {LARGEST_SEED}: give a smaller --seed")
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
    report = silence if options.quiet else say
    with output_folder(options.out) as folder:
        runs = RunFolder(folder / "runs")
        try:
            log = prepare_log(choice)
            for note in log.notes:
                report(f"note: {note}")
            built_in = {name: settings for name, settings in systems.items() if name not in own}
            built_in = for_catalogue(built_in, log.split.train.num_items, report)
            results = compare(log, systems | own | built_in, protocol, report, runs)
            for name, model in results["models"].items():
                model["settings_from"] = str(options.parameters / f"{name}.json") if name in own else "built in"
            written = _write(results, folder, report)
        except KeyboardInterrupt:
            if not runs.kept:
                raise
            say(
                f"spotlight-asars: interrupted; finished runs are kept in {runs.path}: the same command continues from "
                "there"
            )
            return INTERRUPTED
    show(format_table(results))
    show(f"written to {folder}: {', '.join(written)}; took {time.perf_counter() - begin:.0f} s")
    return 0


def _write(results: dict, folder: Path, report: Callable[[str], None]) -> list[str]:
    """Write all files of a comparison and return their names."""
    texts = {
        "results.json": json_text(results, indent=2) + "\n",
        "table.csv": table_csv(results),
        "curves.csv": curves_csv(results),
    }
    for name, text in texts.items():
        write_whole(folder / name, text)
    figures = write_figures(results, folder)
    if not figures:
        report(HOW_TO_GET_FIGURES)
    return [*texts, *figures]
