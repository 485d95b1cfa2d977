"""The command line's `compare`: train systems on a log, print the paper's Table 2 for it, keep all results."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from spotlight_asars.cli.options import (
    INTERRUPTED,
    LARGEST_SEED,
    add_log_options,
    add_systems_option,
    add_training_options,
    check_cuda,
    count,
    known_settings,
    log_choice,
    say,
    silence,
)
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.comparison.compare import Protocol, compare
from spotlight_asars.experiments.comparison.runs import RunFolder
from spotlight_asars.experiments.comparison.table import curves_csv, format_table, table_csv
from spotlight_asars.experiments.figures import HOW_TO_GET_FIGURES, write_figures
from spotlight_asars.experiments.logs import prepare_log
from spotlight_asars.experiments.systems import for_catalogue, settings_in
from spotlight_asars.serialization.files import output_folder, write_whole

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


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `compare` to the sub-commands."""
    command = commands.add_parser(
        "compare",
        help="train systems on a log and print the paper's Table 2 for it",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_compare)
    add_log_options(command.add_argument_group("the log (the simulator without any)"))
    _add_protocol_options(command.add_argument_group("the comparison"))


def _add_protocol_options(group: argparse._ArgumentGroup) -> None:
    add_systems_option(group)
    add_training_options(group, epochs=20)
    group.add_argument("--parameters", type=Path, metavar="DIR",
                       help="folder of parameter files SYSTEM.json, for systems that have one there")  # fmt: skip
    group.add_argument("--seeds", type=count, default=1, metavar="N",
                       help="train each net N times, from --seed on (%(default)s)")  # fmt: skip
    group.add_argument("--twins", action="store_true",
                       help="train nets that read dwell on shuffled dwell too: what they gain by it")  # fmt: skip
    group.add_argument("--out", type=Path, default=Path("results"), metavar="DIR",
                       help="where results, tables, figures and finished runs go (%(default)s)")  # fmt: skip


def run_compare(options: argparse.Namespace) -> int:
    """
    Run the sub-command.

    Returns
    -------
    int
        0, or 130 when interrupted.
    """
    begin = time.perf_counter()
    systems = {name: known_settings(name) for name in options.models}
    own = {} if options.parameters is None else settings_in(options.parameters, systems)
    choice = log_choice(options)
    check_cuda(options)
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
    report = silence if options.quiet else say
    with output_folder(options.out) as folder:
        runs = RunFolder(folder / "runs")
        try:
            log = prepare_log(choice)
            built_in = {name: settings for name, settings in systems.items() if name not in own}
            built_in = for_catalogue(built_in, log.split.train.num_items, report)
            results = compare(log, systems | own | built_in, protocol, report, runs)
            for name, model in results["models"].items():
                model["settings_from"] = str(options.parameters / f"{name}.json") if name in own else "built in"
            written = _write(results, folder, report)
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


def _write(results: dict, folder: Path, report: Callable[[str], None]) -> list[str]:
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
        report(HOW_TO_GET_FIGURES)
    return [*texts, *figures]
