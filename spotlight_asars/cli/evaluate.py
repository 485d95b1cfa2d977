"""The command line's `evaluate`: a model file on a test part, with intervals."""

import argparse
import json
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from spotlight_asars.cli.options import (
    add_log_options,
    add_model_options,
    check_cuda,
    length,
    log_choice,
    model_of,
    say,
    seed,
    silence,
)
from spotlight_asars.cross_validation import NumberedLog, number_like
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import CUTOFFS, Ranks, confidence_interval, metrics, rank_targets
from spotlight_asars.experiments.logs import test_log
from spotlight_asars.experiments.systems import name_of_model
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.serialization.files import output_folder, write_whole

EXAMPLES = """examples:
  spotlight-asars evaluate --model-file model.h5 --train train.txt --test test.txt --format recsys15
      the users of the test part have their events of --train before them; without it they have none
  spotlight-asars train    --data clicks.csv --format csv --columns user,item,time --test-share 0.2
  spotlight-asars evaluate --data clicks.csv --format csv --columns user,item,time --test-share 0.2 --out metrics.json
      on what train has held back

Every target is ranked among all items that the model knows, as compare does it; intervals are bootstrapped by session.
exit codes: 0, measured; 2, wrong input; 130, stopped with Ctrl-C.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add `evaluate` to the sub-commands."""
    command = commands.add_parser(
        "evaluate",
        help="measure a model file on a test part",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_evaluate)
    add_log_options(
        command.add_argument_group("the log", "--test, with --train as the users' past; or --data with --test-share")
    )
    group = command.add_argument_group("the evaluation")
    add_model_options(group)
    group.add_argument("--max-sequence-length", type=length, default=200, help="events a row (%(default)s)")
    group.add_argument("--seed", type=seed, default=0, help="of the bootstrap, and of the simulator (%(default)s)")
    group.add_argument("--quiet", action="store_true", help="no progress on standard error")
    group.add_argument("--out", type=Path, metavar="FILE", help="write the figures here too, as JSON")


def run_evaluate(options: argparse.Namespace) -> int:
    """
    Run the sub-command.

    Returns
    -------
    int
        0
    """
    begin = time.perf_counter()
    choice = log_choice(options)
    if choice.test is None and choice.train is None and options.test_share is None:
        raise InputError(
            "nothing is held back to test on: give --test FILE, or --data FILE with the --test-share that train had"
        )
    check_cuda(options)
    model = model_of(options)
    with nullcontext() if options.out is None else output_folder(options.out.parent):
        name, history, log = test_log(choice)
        test = number_like(model, log)
        rows = _rows(model, test, history, options.max_sequence_length)
        report = silence if options.quiet else say
        report(f"ranking {rows.num_targets:,} targets among {model.num_items - 1:,} items")
        found = _measure(rank_targets(model, rows, verbose=not options.quiet), options.seed)
        about = {
            "dataset": {"name": name, **asdict(LogCounts.of(test.events)), "targets": rows.num_targets},
            "protocol": _protocol(options, model, test, history),
            "models": {name_of_model(model): found},
        }
        if options.out is not None:
            write_whole(options.out, json.dumps(about, indent=2, allow_nan=False) + "\n")
    print(_format(about, name_of_model(model)))
    if options.out is not None:
        print(f"written to {options.out}; after {time.perf_counter() - begin:.0f} s")
    return 0


def _rows(
    model: Recommender, test: NumberedLog, history: SessionInteractions | None, max_sequence_length: int
) -> SessionSequences:
    """The rows of the test part in the model's numbers and bins."""
    past = None if history is None else number_like(model, history, session_length=1).events
    return to_session_sequences(
        test.events, max_sequence_length, history=past, binning=model.binning, gap_binning=model.gap_binning
    )


def _protocol(
    options: argparse.Namespace, model: Recommender, test: NumberedLog, history: SessionInteractions | None
) -> dict:
    return {
        "model_file": str(options.model_file),
        "dwell": model.dwell,
        "history": history is not None,
        "max_sequence_length": options.max_sequence_length,
        "seed": options.seed,
        "ranks": "among all items that the model knows; 1 + higher + equal others / 2",
        "intervals": "95 %, bootstrap by session, 1000 resamples",
        "events_of_unknown_items": test.unknown_items,
        "events_of_unknown_users": test.unknown_users,
        "dropped_test_events": test.dropped_events,
        "dropped_test_sessions": test.dropped_sessions,
    }


def _measure(ranks: Ranks, seed: int) -> dict:
    """All metrics, and their intervals under 'ci95'."""
    found, intervals = metrics(ranks), {}
    for name in found:
        cutoff = None if name.endswith("@all") else int(name.partition("@")[2])
        values = ranks.reciprocal(cutoff) if name.startswith("mrr") else ranks.hits(cutoff)
        intervals[name] = confidence_interval(values, ranks.session_ids, seed=seed)
    return {**found, "targets": len(ranks), "ci95": intervals}


def _format(about: dict, name: str) -> str:
    """What was measured on what, and a line a cutoff."""
    dataset, protocol, found = about["dataset"], about["protocol"], about["models"][name]
    rule = "" if protocol["dwell"] is None else f", dwell {protocol['dwell']}"
    past = "" if protocol["history"] or not dataset["users"] else "; users have no past, --train gives it"
    lines = [
        f"{name} of {protocol['model_file']}{rule}, on {dataset['name']}: {dataset['targets']:,} targets in "
        f"{dataset['sessions']:,} sessions of {dataset['users']:,} users{past}",
        f"{protocol['events_of_unknown_items']:,} events are of items and {protocol['events_of_unknown_users']:,} of "
        f"users that the model does not know; {protocol['dropped_test_events']:.1%} of the test events are left out",
        f"{'K':<5}{'MRR@K (95 %)':<25}{'Recall@K (95 %)'}",
    ]
    for cutoff in CUTOFFS:
        key = "all" if cutoff is None else str(cutoff)
        shown = [
            "{:.4f} ({:.4f}-{:.4f})".format(found[metric], *found["ci95"][metric])
            for metric in (f"mrr@{key}", f"recall@{key}")
            if metric in found
        ]
        lines.append(f"{key:<5}{'   '.join(shown)}")
    return "\n".join(lines)
