"""The command line's `tune`: search the settings of systems on the training part of a log."""

import argparse
import sys
import time
from pathlib import Path

from spotlight_asars.cli.options import (
    INTERRUPTED,
    add_log_options,
    add_systems_option,
    add_training_options,
    check_cuda,
    count,
    known_settings,
    log_choice,
    positive,
    say,
    silence,
)
from spotlight_asars.experiments.logs import TuningLog, training_part
from spotlight_asars.experiments.systems import settings_in
from spotlight_asars.experiments.tuning.search import TABLE, Found, Search, require_optuna, tune
from spotlight_asars.serialization.files import output_folder

EXAMPLES = """examples:
  spotlight-asars tune --train train.txt --format recsys15 --models gru4rec,vstan --out parameters
  spotlight-asars tune --data u.data --format movielens --models asars_time_user --trials 100 --timeout 36000
      stopped with Ctrl-C, the same command goes on from the trials that were finished
  spotlight-asars compare --data u.data --format movielens --parameters parameters
      the comparison with what was found

The settings are chosen by MRR@20 on the latest tenth of the training part's sessions. The test part is not looked at:
--data is split as compare splits it, and with --train no --test is needed.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `tune` to the sub-commands."""
    command = commands.add_parser(
        "tune",
        help="search the settings of systems on the training part of a log",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_tune)
    add_log_options(command.add_argument_group("the log (the simulator without any)"))
    _add_search_options(command.add_argument_group("the search"))


def _add_search_options(group: argparse._ArgumentGroup) -> None:
    defaults = Search()
    add_systems_option(group)
    add_training_options(group, epochs=defaults.epochs)
    group.add_argument("--trials", type=count, default=defaults.trials,
                       help="trials of each system, those of a stopped search included (%(default)s)")  # fmt: skip
    group.add_argument("--parameters", type=Path, metavar="DIR",
                       help="folder of SYSTEM.json to begin with, for systems that have one there")  # fmt: skip
    group.add_argument("--timeout", type=positive, metavar="SECONDS",
                       help="begin no new trial of a system so long after its first")  # fmt: skip
    group.add_argument("--out", type=Path, default=Path("parameters"), metavar="DIR",
                       help="where SYSTEM.json and trials.csv go (%(default)s)")  # fmt: skip


def run_tune(options: argparse.Namespace) -> int:
    """
    Run the sub-command.

    Returns
    -------
    int
        0, or 130 when interrupted.
    """
    begin = time.perf_counter()
    require_optuna()
    for name in options.models:
        known_settings(name)
    begun = {} if options.parameters is None else settings_in(options.parameters, options.models)
    choice = log_choice(options)
    check_cuda(options)
    search = Search(
        trials=options.trials,
        epochs=options.epochs,
        seed=options.seed,
        dwell=options.dwell,
        max_sequence_length=options.max_sequence_length,
        use_cuda=options.use_cuda,
        timeout=options.timeout,
    )
    report = silence if options.quiet else say
    with output_folder(options.out) as folder:
        log = TuningLog.of(*training_part(choice), search.max_sequence_length)
        found = {}
        try:
            for name in options.models:
                found[name] = tune(log, name, search, folder, begun.get(name), report=report)
        except KeyboardInterrupt:
            if not (folder / TABLE).exists():
                raise
            print(
                f"spotlight-asars: interrupted; the finished trials are kept in {folder / TABLE}, the best settings so "
                "far beside it: the same command goes on from there",
                file=sys.stderr,
            )
            return INTERRUPTED
    print(_format(found))
    print(f"written to {folder}: SYSTEM.json, {TABLE}; after {time.perf_counter() - begin:.0f} s")
    print(f"compare takes them with --parameters {folder}")
    return 0


def _format(found: dict[str, Found]) -> str:
    """Validation MRR@20 of the settings that the search began with and of those found, a line a system."""
    lines = [("system", "at first", "found", "trials")]
    for name, one in found.items():
        first = "diverged" if one.first_mrr is None else f"{one.first_mrr:.4f}"
        lines.append((name, first, f"{one.mrr:.4f}", str(one.trials)))
    width = max(len(line[0]) for line in lines)
    title = "MRR@20 on the validation part of the training part"
    return "\n".join([title, *(f"{a:<{width}}  {b:>8}  {c:>6}  {d:>6}" for a, b, c, d in lines)])
