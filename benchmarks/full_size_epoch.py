"""
Train one epoch on as many events as the whole RecSys 2015 log has, on a CPU or a GPU.

    python benchmarks/full_size_epoch.py --use-cuda --out benchmarks/results/full_size_epoch.json

The log is simulated in that log's shape: sessions of two or more events, four on average, and few items with many
events. Timed are the rows, the part of ``fit`` before its first step (initial embeddings, copies and counts) and one
epoch; memory is the peak of the process in ``fit``, or of the GPU. Then some sessions are ranked over all items. The
script prints a table and writes JSON.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import about_this_run

from spotlight_asars.evaluation import rank_targets
from spotlight_asars.experiments.settings import NetSettings, Training
from spotlight_asars.experiments.systems import settings_of
from spotlight_asars.experiments.training import PeakMemory
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.serialization.files import write_whole

EVENTS, ITEMS = 17_900_000, 37_483
MEAN_LENGTH, MAX_LENGTH = 4, 200
RANKED = 5_000  # sessions
SYSTEMS = ("asars_time_user", "gru4rec_bpr_max")
ALL_ITEMS = "asars_time_user over all items"  # scored at each step; for comparison, on fewer events


def simulated(events: int, num_items: int) -> SessionInteractions:
    """Return sessions of geometric lengths, with clicks a minute apart on average."""
    draw = np.random.RandomState(0)
    lengths = 1 + draw.geometric(1 / (MEAN_LENGTH - 1), size=events // MEAN_LENGTH)  # (sessions,), from 2
    sessions = np.repeat(np.arange(len(lengths)), lengths)  # (events,)
    items = (draw.uniform(size=len(sessions)) ** 3 * num_items).astype(np.int32) + 1
    seconds = draw.exponential(60.0, size=len(sessions)).cumsum()
    users = np.zeros(len(sessions), dtype=np.int32)
    return SessionInteractions(users, items, timestamps=seconds, session_ids=sessions, num_items=num_items + 1)


def systems(negatives: int, rows: int) -> dict[str, NetSettings]:
    """Return the settings that `compare` uses on a catalogue of this size."""
    sizes = {"num_negative_samples": negatives, "batch_size": rows, "batch_events": 0}
    found = {name: replace(settings_of(name).for_catalogue(ITEMS), **sizes) for name in SYSTEMS}
    return found | {ALL_ITEMS: replace(settings_of("asars_time_user"), batch_size=rows, batch_events=0)}


def epoch_of(settings: NetSettings, options: argparse.Namespace) -> dict:
    """Return the seconds and memory of one system."""
    log = simulated(options.events, options.items)
    begin = time.perf_counter()
    rows = to_session_sequences(log, MAX_LENGTH)
    made = time.perf_counter() - begin
    training = Training(epochs=1, use_cuda=options.use_cuda)
    few = rows.rows(np.arange(min(2 * options.rows, len(rows))))
    settings.new_system(few, training).fit(few)  # the first step allocates and loads, which must not count
    model = settings.new_system(rows, training)
    with PeakMemory(options.use_cuda) as memory:
        begin = time.perf_counter()
        model.fit(rows)
        fitted = time.perf_counter() - begin
    epoch = model.epoch_records[-1].seconds
    some = rows.rows(np.arange(min(RANKED, len(rows))))
    begin = time.perf_counter()
    rank_targets(model, some)
    ranked = time.perf_counter() - begin
    return {
        "events": len(rows.events),
        "sessions": len(rows),
        "seconds_of_rows": made,
        "seconds_before": fitted - epoch,
        "seconds_an_epoch": epoch,
        "events_a_second": len(rows.events) / epoch,
        "peak_mib": memory.mib,
        "targets_a_second": some.num_targets / ranked,
        "loss": model.epoch_records[-1].loss,
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--negatives", type=int, default=2048, help="shared by the targets of a mini-batch")
    parser.add_argument("--rows", type=int, default=256, help="sessions in a mini-batch")
    parser.add_argument("--systems", nargs="+", choices=list(systems(1, 1)), default=list(SYSTEMS))
    parser.add_argument("--use-cuda", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if options.use_cuda else "CPU"
    sizes = {name: getattr(options, name) for name in ("events", "items", "negatives", "rows")}
    found = {**about_this_run(), "device": device, "sizes": sizes, "systems": {}}
    for name in options.systems:
        one = found["systems"][name] = epoch_of(systems(options.negatives, options.rows)[name], options)
        print(
            f"{name:<30} {one['events']:,} events: rows {one['seconds_of_rows']:.1f} s, before the first step "
            f"{one['seconds_before']:.1f} s, an epoch {one['seconds_an_epoch']:,.0f} s, "
            f"{one['events_a_second']:,.0f} events/s, {one['peak_mib']:,.0f} MiB; ranks "
            f"{one['targets_a_second']:,.0f} targets/s",
            flush=True,
        )
    if options.out:
        write_whole(options.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
