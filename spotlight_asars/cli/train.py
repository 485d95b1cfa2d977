"""The `train` command: train one system on a log and write one model file."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from spotlight_asars.cli.interrupts import HeldInterrupt
from spotlight_asars.cli.options import (
    INTERRUPTED,
    add_log_options,
    add_training_options,
    check_cuda,
    known_settings,
    log_choice,
    minutes,
    say,
    share,
    show,
    silence,
)
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.logs import TrainingLog, training_log
from spotlight_asars.experiments.settings import Settings, Training
from spotlight_asars.experiments.systems import for_catalogue, settings_at, system_names
from spotlight_asars.experiments.training import Plan, Trained, train_one
from spotlight_asars.interactions.sessions import LogCounts
from spotlight_asars.sequence.training.distributed import ProcessGroup, data_parallel
from spotlight_asars.serialization.checkpoints import Checkpoint
from spotlight_asars.serialization.files import check_output, output_folder
from spotlight_asars.serialization.models import save_model

DEFAULT_MODEL = "asars_time_user"
EXAMPLES = """examples:
  spotlight-asars train clicks.csv --validation 0.1
      for production: finds the number of epochs on the latest tenth of the sessions, then retrains on all
  spotlight-asars train --data u.data --format movielens --test-share 0.2
      trains on the training part only; evaluate with the same options measures on the rest
  spotlight-asars train --train train.txt --format recsys15 --model asars_two_stage --out shop.h5
  spotlight-asars train --train train.txt --format recsys15 --epochs 20 --checkpoint fit.h5 --checkpoint-minutes 10
      after Ctrl-C or a kill, the same command continues from the checkpoint, to the same weights
  torchrun --nproc-per-node 2 -m spotlight_asars train --data shards --checkpoint fit.h5
      two processes share each mini-batch and reach the weights of one; the first process writes the files

exit codes: 0, model written; 1, a process of the torchrun job was lost; 2, wrong input; 130, stopped with Ctrl-C.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `train` command to the parser."""
    command = commands.add_parser(
        "train",
        help="train one system on a log and write its model file",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_train)
    add_log_options(
        command.add_argument_group(
            "log (default: a simulated one)",
            "--data is filtered, then used whole, unless --test-share holds back the latest sessions.\n"
            "--train is used as it is; --test is never read.",
        ),
        default_test_share="none held back",
    )
    _add_options(command.add_argument_group("training"))


def _add_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", default=DEFAULT_MODEL, metavar="NAME",
                       help=f"system to train, one of {', '.join(system_names())} (default: %(default)s)")  # fmt: skip
    add_training_options(group, epochs=10)
    group.add_argument("--parameters", type=Path, metavar="PATH",
                       help="parameter file of the system, or the folder where tune wrote it")  # fmt: skip
    group.add_argument("--validation", type=share, metavar="SHARE",
                       help="first train without the latest SHARE of the sessions to find the number of epochs, at "
                            "most --epochs, with the best MRR@20 on them; then retrain on all")  # fmt: skip
    group.add_argument("--checkpoint", type=Path, metavar="FILE",
                       help="save the state of training to FILE after every epoch and at Ctrl-C; removed once the "
                            "model is written (nets only)")  # fmt: skip
    group.add_argument("--checkpoint-minutes", type=minutes, metavar="N",
                       help="save the checkpoint every N minutes instead of every epoch")  # fmt: skip
    group.add_argument("--out", type=Path, default=Path("model.h5"), metavar="FILE",
                       help="model file; replaces an old one once it is complete (default: %(default)s)")  # fmt: skip


def run_train(options: argparse.Namespace) -> int:
    """Run the `train` command and return its exit code: 0, or 130 when interrupted."""
    check_cuda(options)
    with data_parallel(options.use_cuda) as group:
        return _run(options, group)


def _run(options: argparse.Namespace, group: ProcessGroup) -> int:
    begin = time.perf_counter()
    settings = known_settings(options.model, "--model")
    if options.parameters is not None:
        settings = settings_at(options.parameters, options.model)
    choice = log_choice(options)
    _check_files(options, settings)
    plan = Plan(
        settings,
        Training(options.epochs, options.seed, options.dwell, options.use_cuda),
        options.max_sequence_length,
        options.validation,
        None if options.checkpoint is None else Checkpoint(options.checkpoint, options.checkpoint_minutes),
        group.is_first and not options.quiet,
    )
    report = say if plan.verbose else silence
    with output_folder(options.out.parent) if group.is_first else nullcontext():
        log = training_log(choice, whole=options.test_share is None)
        report(_about(log, options.model))
        for note in log.notes:
            report(f"note: {note}")
        if options.parameters is None:
            fitting = for_catalogue({options.model: settings}, log.events.num_items, report)
            plan = replace(plan, settings=fitting[options.model])
        try:
            trained = _train(log, plan, report)
        except KeyboardInterrupt:
            if not group.is_first:
                return INTERRUPTED
            kept = [str(path) for path in plan.files if path.exists()]
            if not kept:
                raise
            say(
                f"spotlight-asars: interrupted; the checkpoint is kept in {kept[-1]}: the same command continues from "
                "there"
            )
            return INTERRUPTED
        if not group.is_first:
            return 0
        save_model(trained.system, options.out)
    for path in plan.files:  # the next run of this command starts afresh
        path.unlink(missing_ok=True)
    if not (plan.verbose and sys.stdout.isatty() and sys.stderr.isatty()):  # a terminal shows it already
        show(_about(log, options.model))
    show("\n".join(_summary(trained, plan)))
    show(f"written to {options.out} ({_size(options.out)}); took {time.perf_counter() - begin:.0f} s")
    return 0


def _check_files(options: argparse.Namespace, settings: Settings) -> None:
    if options.out.is_dir():
        raise InputError(f"--out: {options.out} is a folder: give a file, such as {options.out}/model.h5")
    inputs = (options.data, options.train, options.test, options.parameters)
    for path, option in ((options.out, "--out"), (options.checkpoint, "--checkpoint")):
        if path is not None:
            check_output(path, inputs, option)
    if options.checkpoint is None:
        if options.checkpoint_minutes is not None:
            raise InputError("--checkpoint-minutes needs --checkpoint FILE")
    elif not settings.trained_by_epochs:
        raise InputError(f"--checkpoint is for nets, and {options.model} is not trained by epochs: leave it out")
    elif os.path.realpath(options.checkpoint) == os.path.realpath(options.out):
        raise InputError("--checkpoint and --out name the same file: give two")


def _train(log: TrainingLog, plan: Plan, report: Callable[[str], None]) -> Trained:
    """Train; with a checkpoint, Ctrl-C waits for the current mini-batch and for its checkpoint."""
    if plan.checkpoint is None:
        return train_one(log.events, plan, report)
    with HeldInterrupt() as interrupt:
        kept = replace(plan.checkpoint, asked_to_stop=lambda: interrupt.asked)
        return train_one(log.events, replace(plan, checkpoint=kept), report)


def _about(log: TrainingLog, model: str) -> str:
    counts = LogCounts.of(log.events).in_words()
    return f"{model} on {log.name}: {counts}, of {log.events_read:,} events read ({log.how})"


def _summary(trained: Trained, plan: Plan) -> list[str]:
    speed = f"{trained.events / max(trained.seconds, 1e-9):,.0f} events/s"
    lines = [f"fitted, {speed}"]
    if trained.epochs is not None:
        lines = [f"{trained.epochs} epochs, {speed}, training loss {trained.loss:.4f}"]
    if trained.validation is not None:
        found = trained.validation
        lines.append(
            f"validation on the latest {plan.validation:g} of the sessions, {found['targets']:,} targets: MRR@20 "
            f"{found['mrr@20']:.4f}, Recall@20 {found['recall@20']:.4f}"
        )
    return lines


def _size(path: Path) -> str:
    mebibytes = path.stat().st_size / 2**20
    return f"{mebibytes:.1f} MiB" if mebibytes >= 1 else f"{mebibytes * 1024:.0f} KiB"
