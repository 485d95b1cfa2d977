"""The `evaluate` command: measure a model file on a test log, with confidence intervals."""

import argparse
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
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
    show,
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
from spotlight_asars.serialization.files import check_output, json_text, output_folder, write_whole

EXAMPLES = """examples:
  spotlight-asars evaluate --model-file model.h5 --train train.txt --test test.txt --format recsys15
      --train gives the test users their history; without it they have none
  spotlight-asars train    clicks.csv --test-share 0.2
  spotlight-asars evaluate clicks.csv --test-share 0.2 --out metrics.json
      measures on the sessions that train held back

Every target is ranked among all items that the model knows, as in compare. Intervals are bootstrapped by session.

exit codes: 0, done; 2, wrong input; 130, stopped with Ctrl-C.
"""


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add the `evaluate` command to the parser."""
    command = commands.add_parser(
        "evaluate",
        help="measure a model file on a test log",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_evaluate)
    add_log_options(
        command.add_argument_group(
            "log", "Give --test, with --train as the users' history, or --data with the --test-share of train."
        ),
        default_test_share="none, needed with --data",
    )
    group = command.add_argument_group("evaluation")
    add_model_options(group)
    group.add_argument("--max-sequence-length", type=length, default=200, metavar="N",
                       help="most events per row; a longer history takes several rows "
                            "(default: %(default)s)")  # fmt: skip
    group.add_argument("--seed", type=seed, default=0, metavar="N",
                       help="seed of the bootstrap and of the simulated log (default: %(default)s)")  # fmt: skip
    group.add_argument("--quiet", action="store_true", help="print no progress")
    group.add_argument("--out", type=Path, metavar="FILE", help="also write the results to FILE, as JSON")


def run_evaluate(options: argparse.Namespace) -> int:
    """Run the `evaluate` command and return its exit code, 0."""
    begin = time.perf_counter()
    choice = log_choice(options)
    if choice.test is None and choice.train is None and options.test_share is None:
        raise InputError("there is no test log: give --test FILE, or --data FILE with the --test-share that train had")
    if options.out is not None:
        check_output(options.out, (options.data, options.train, options.test, options.model_file))
    check_cuda(options)
    model = model_of(options)
    if options.session_gap is None:
        choice = replace(choice, session_gap=model.session_gap)
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
            write_whole(options.out, json_text(about, indent=2) + "\n")
    show(_format(about, name_of_model(model)))
    if options.out is not None:
        show(f"written to {options.out}; took {time.perf_counter() - begin:.0f} s")
    return 0


def _rows(
    model: Recommender, test: NumberedLog, history: SessionInteractions | None, max_sequence_length: int
) -> SessionSequences:
    """Return the rows of the test part, in the model's ids and bins."""
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
    """Return all metrics, with their intervals under 'ci95'."""
    found, intervals = metrics(ranks), {}
    for name in found:
        cutoff = None if name.endswith("@all") else int(name.partition("@")[2])
        values = ranks.reciprocal(cutoff) if name.startswith("mrr") else ranks.hits(cutoff)
        intervals[name] = confidence_interval(values, ranks.session_ids, seed=seed)
    return {**found, "targets": len(ranks), "ci95": intervals}


def _format(about: dict, name: str) -> str:
    """Describe the model and the log, then give one line per cutoff."""
    dataset, protocol, found = about["dataset"], about["protocol"], about["models"][name]
    rule = "" if protocol["dwell"] is None else f", dwell {protocol['dwell']}"
    past = "" if protocol["history"] or not dataset["users"] else "; users have no history (give it with --train)"
    whose = f"{dataset['users']:,} users" if dataset["users"] else "anonymous visitors"
    lines = [
        f"{name} of {protocol['model_file']}{rule}, on {dataset['name']}: {dataset['targets']:,} targets in "
        f"{dataset['sessions']:,} sessions of {whose}{past}",
        f"unknown to the model: items of {protocol['events_of_unknown_items']:,} events, users of "
        f"{protocol['events_of_unknown_users']:,}; {protocol['dropped_test_events']:.1%} of the test events dropped",
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
