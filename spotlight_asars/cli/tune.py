"""The `tune` command: search for the settings of systems on the training part of a log."""

import argparse
import time
from pathlib import Path

from spotlight_asars.cli.options import (
    INTERRUPTED,
    SPLIT_LOG,
    add_log_options,
    add_systems_option,
    add_training_options,
    check_cuda,
    count,
    known_settings,
    log_choice,
    positive,
    say,
    show,
    silence,
)
from spotlight_asars.experiments.logs import TuningLog, training_log
from spotlight_asars.experiments.systems import settings_in
from spotlight_asars.experiments.tuning.search import TABLE, Found, Search, require_optuna, tune
from spotlight_asars.serialization.files import output_folder

EXAMPLES = """examples:
  spotlight-asars tune --train train.txt --format recsys15 --models gru4rec,vstan --out parameters
  spotlight-asars tune --data u.data --format movielens --models asars_time_user --trials 100 --timeout 36000
      after Ctrl-C, the same command continues from the finished trials
  spotlight-asars compare --data u.data --format movielens --parameters parameters
      compares systems with the settings found

Settings are chosen by MRR@20 on the latest tenth of the training sessions. The test part is never read: --data is split
as in compare, and --train needs no --test.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `tune` command to the parser."""
    command = commands.add_parser(
        "tune",
        help="search for the settings of systems on the training part of a log",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_tune)
    add_log_options(command.add_argument_group(*SPLIT_LOG))
    _add_search_options(command.add_argument_group("search"))


def _add_search_options(group: argparse._ArgumentGroup) -> None:
    defaults = Search()
    add_systems_option(group)
    add_training_options(group, epochs=defaults.epochs)
    group.add_argument("--trials", type=count, default=defaults.trials, metavar="N",
                       help="trials per system, with those of a stopped search (default: %(default)s)")  # fmt: skip
    group.add_argument("--parameters", type=Path, metavar="DIR",
                       help="folder of parameter files SYSTEM.json to start from; systems without one start from "
                            "their built-in settings")  # fmt: skip
    group.add_argument("--timeout", type=positive, metavar="SECONDS",
                       help="start no new trial of a system after SECONDS")  # fmt: skip
    group.add_argument("--out", type=Path, default=Path("parameters"), metavar="DIR",
                       help="folder for SYSTEM.json and trials.csv (default: %(default)s)")  # fmt: skip


def run_tune(options: argparse.Namespace) -> int:
    """Run the `tune` command and return its exit code: 0, or 130 when interrupted."""
    begin = time.perf_counter()
    require_optuna()
    for name in options.models:
        known_settings(name)
    initial = {} if options.parameters is None else settings_in(options.parameters, options.models)
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
        train = training_log(choice, whole=False)
        log = TuningLog.of(train.name, train.events, search.max_sequence_length)
        found = {}
        try:
            for name in options.models:
                found[name] = tune(log, name, search, folder, initial.get(name), report=report)
        except KeyboardInterrupt:
            if not (folder / TABLE).exists():
                raise
            say(
                f"spotlight-asars: interrupted; finished trials are kept in {folder / TABLE}, with the best settings "
                "beside it: the same command continues from there"
            )
            return INTERRUPTED
    show(_format(found))
    show(f"written to {folder}: SYSTEM.json, {TABLE}; took {time.perf_counter() - begin:.0f} s")
    show(f"to use these settings: compare --parameters {folder}")
    return 0


def _format(found: dict[str, Found]) -> str:
    """Return one line per system: validation MRR@20 of its initial settings and of the best ones found."""
    lines = [("system", "initial", "best", "trials")]
    for name, one in found.items():
        first = "diverged" if one.first_mrr is None else f"{one.first_mrr:.4f}"
        lines.append((name, first, f"{one.mrr:.4f}", str(one.trials)))
    width = max(len(line[0]) for line in lines)
    title = "MRR@20 on the validation sessions (the latest of the training part)"
    return "\n".join([title, *(f"{a:<{width}}  {b:>8}  {c:>6}  {d:>6}" for a, b, c, d in lines)])
