"""
Measure one click and its answer in a live session, by length of the session, and many sessions stepped as one batch.

    OMP_NUM_THREADS=1 python benchmarks/live_sessions.py --out benchmarks/results/live_sessions.json

Also measures the parts of a click, and the floor: the time to read all item embeddings once. The net is barely trained,
since its cost does not depend on its weights. Prints tables, writes JSON with every repetition. With --systems, it
measures systems by name instead, fitted on a simulated log of 100,000 sessions, their nets for one epoch.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import spotlight_asars
from spotlight_asars.experiments.settings import Training
from spotlight_asars.experiments.systems import settings_of
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online import sessions as online
from spotlight_asars.sequence.online import steps as online_steps
from spotlight_asars.sequence.online.scores import LiveScores
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.online.steps import Steps
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.serialization.files import write_whole

LENGTHS = (1, 10, 100, 1_000, 10_000)
LOG_SESSIONS, DAYS = 100_000, 60  # of the simulated log
ITEMS_OF_A_VISITOR = 200  # between which the measured session of a system without a net moves
TOP = 20
CPU_INFO = Path("/proc/cpuinfo")
PARTS = {
    "update_dwell": "step of the net, dwell of the event before",
    "update_item": "step of the net, item of the newest event",
    "states": "state for the answer",
}


def make_model(representation: str, num_items: int, dim: int) -> ASARSSequenceModel:
    """Return a net over this many items, after one epoch on two short rows."""
    seconds = np.array([0.0, 30.0, 90.0, 0.0, 45.0, 200.0])
    log = SessionInteractions(
        np.repeat([1, 2], 3), np.array([1, 2, 3, 4, 5, num_items - 1]), timestamps=seconds, num_items=num_items
    )
    model = ASARSSequenceModel(
        representation=representation,
        embedding_dim=dim,
        n_iter=1,
        random_state=0,
        representation_options={"hidden_dim": dim, "scope": "session", "recency": True, "dwell_weight": True},
    )
    return model.fit(to_session_sequences(log))


def simulated_log(num_items: int) -> SessionInteractions:
    """Return sessions of five events on average, each around one item; popular items are drawn more often."""
    draw = np.random.RandomState(0)
    lengths = np.maximum(draw.geometric(0.2, size=LOG_SESSIONS), 2)
    session = np.repeat(np.arange(LOG_SESSIONS), lengths)
    popularity = np.arange(1, num_items) ** -0.8
    middle = draw.choice(num_items - 1, size=LOG_SESSIONS, p=popularity / popularity.sum())[session]
    items = (middle + np.rint(3 * draw.standard_cauchy(len(session))).astype(np.int64)) % (num_items - 1) + 1
    begin = 1.6e9 + np.sort(draw.randint(86_400 * DAYS, size=LOG_SESSIONS))[session]
    seconds = begin + 40.0 * (np.arange(len(session)) - np.repeat(np.cumsum(lengths) - lengths, lengths))
    nobody = np.zeros(len(session), dtype=np.int64)
    return SessionInteractions(nobody, items, timestamps=seconds, session_ids=session, num_items=num_items)


def systems_by_name(names: list[str], num_items: int, repetitions: int) -> dict:
    """Time a click and its answer for each system, by length of the session."""
    log, found = simulated_log(num_items), {}
    rows = to_session_sequences(log)
    visited = np.random.RandomState(1).choice(np.unique(log.item_ids), ITEMS_OF_A_VISITOR, replace=False)
    for name in names:
        settings = settings_of(name).for_catalogue(rows.num_items)
        system = settings.new_system(rows, Training(epochs=1)).fit(rows)
        found[name] = [one_session(system, length, repetitions, visited) for length in LENGTHS]
        medians = ", ".join(f"{one['length']}: {one['median']:.3f}" for one in found[name])
        print(f"{name}: median ms by length {medians}", flush=True)
    return found


def one_session(model: Recommender, length: int, repetitions: int, visited: np.ndarray | None = None) -> dict:
    """
    Time `observe` and the top 20 after it, in milliseconds, from when the session has this length.

    The items are drawn from those `visited`, numbers of any shape; from all by default.
    """
    draw = np.random.RandomState(0)
    numbers = draw.choice(np.arange(1, model.num_items) if visited is None else visited, length + repetitions - 1)
    raw = model.raw_items.inverse(numbers).tolist()
    live, now = model.session(), 1.7e9
    for item in raw[: length - 1]:
        now += 30.0
        live.observe(item, now)
    milliseconds = []
    for item in raw[length - 1 :]:
        now += 30.0
        begin = time.perf_counter()
        live.observe(item, now)
        answer = live.recommend(TOP, now=now + 5.0)
        milliseconds.append(1e3 * (time.perf_counter() - begin))
        assert len(answer) == TOP
    return summary(length, milliseconds)


def summary(length: int, milliseconds: list[float]) -> dict:
    """Return the median, the 99th percentile, the minimum and every repetition, in milliseconds."""
    middle, late = np.percentile(milliseconds, [50, 99])
    rounded = {"median": middle, "percentile_99": late, "least": min(milliseconds), "milliseconds": milliseconds}
    return {"length": length, **{name: np.round(value, 4).tolist() for name, value in rounded.items()}}


def parts_of_a_click(model: ASARSSequenceModel, repetitions: int) -> dict:
    """Time each part of a click and its answer, in milliseconds and in place."""
    taken = defaultdict(list)

    def timed(part: str, function: Callable) -> Callable:
        def timing(*arguments: object) -> object:
            begin = time.perf_counter()
            found = function(*arguments)
            taken[part].append(1e3 * (time.perf_counter() - begin))
            return found

        return timing

    def timed_steps(net: nn.Module) -> Steps:
        steps = plain["live_net"](net)
        for name, part in PARTS.items():
            setattr(steps, name, timed(part, getattr(steps, name)))
        return steps

    def timed_scores(*arguments: object) -> LiveScores:
        scores = plain["LiveScores"](*arguments)
        scores.of = timed("product with all items", scores.of)
        return scores

    plain = {**vars(online_steps), "best_items": online.best_items}
    online_steps.live_net, online_steps.LiveScores = timed_steps, timed_scores
    online.best_items = timed("choice of the best", lambda scores, k: list(plain["best_items"](scores, k)))
    try:
        whole = one_session(model, 2, repetitions)["milliseconds"]
    finally:
        online_steps.live_net, online_steps.LiveScores = plain["live_net"], plain["LiveScores"]
        online.best_items = plain["best_items"]
    parts = {part: values[-repetitions:] for part, values in taken.items()}  # without those of the first event
    rest = np.array(whole) - np.array(list(parts.values())).sum(axis=0)  # (repetitions,)
    parts["all else: ids, times, bins, events"] = rest.tolist()
    return {
        part: {"median": round(float(np.median(one)), 4), "least": round(min(one), 4)} for part, one in parts.items()
    }


def reading_once(model: ASARSSequenceModel, repetitions: int) -> dict:
    """Time a sum of all item embeddings: the floor of any answer that reads each of them."""
    weights, milliseconds = model.net.item_embeddings.weight.detach(), []
    for _ in range(repetitions):
        begin = time.perf_counter()
        weights.sum()
        milliseconds.append(1e3 * (time.perf_counter() - begin))
    size, least = weights.nbytes, min(milliseconds)
    found = {"bytes": size, "milliseconds_median": float(np.median(milliseconds)), "milliseconds_least": least}
    return {**found, "gigabytes_a_second": round(size / 1e6 / least, 1)}


def full_replay(model: ASARSSequenceModel, length: int, repetitions: int) -> dict:
    """Time the same answer from `recommend`, which reads the whole session, in milliseconds."""
    draw = np.random.RandomState(0)
    raw = model.raw_items.inverse(draw.randint(1, model.num_items, size=length)).tolist()
    times = (1.7e9 + 30.0 * np.arange(length)).tolist()
    milliseconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        model.recommend(raw, times, k=TOP)
        milliseconds.append(1e3 * (time.perf_counter() - begin))
    return summary(length, milliseconds)


def one_batch(model: ASARSSequenceModel, sessions: int, steps: int) -> dict:
    """Time steps that each take one event of every session, in seconds, without answers."""
    draw = np.random.RandomState(0)
    live, seconds = LiveSessions(model, [None] * sessions), []
    for step in range(steps):
        items = model.raw_items.inverse(draw.randint(1, model.num_items, size=sessions)).tolist()
        begin = time.perf_counter()
        live.observe(items, np.full(sessions, 1.7e9 + 30.0 * step))
        seconds.append(time.perf_counter() - begin)
    return {"sessions": sessions, "seconds": np.round(seconds, 4).tolist()}


def machine() -> dict:
    """Describe the machine and its load before the benchmark."""
    names = [line.split(":")[1].strip() for line in CPU_INFO.read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def print_found(found: dict) -> None:
    """Print the table, the parts of a click, and the floor."""
    print(f"{'length':>8} {'median ms':>10} {'99 % ms':>10} {'least ms':>10} {'full replay, median ms':>24}")
    for live, replay in zip(found["live"], found["replay"], strict=True):
        figures = f"{live['median']:10.3f} {live['percentile_99']:10.3f} {live['least']:10.3f} {replay['median']:24.3f}"
        print(f"{live['length']:8d} {figures}")
    for part, taken in found["parts"].items():
        print(f"{part:>43}: {taken['median']:.3f} ms, least {taken['least']:.3f}")
    floor = found["floor"]
    print(
        f"{'floor, reading the item embeddings once':>43}: {floor['milliseconds_median']:.3f} ms, least "
        f"{floor['milliseconds_least']:.3f} ({floor['bytes'] / 1e6:.1f} MB, {floor['gigabytes_a_second']} GB/s)"
    )
    batch = found["batch"]
    rate = batch["sessions"] / np.median(batch["seconds"])
    print(f"{batch['sessions']} sessions as one batch: {rate:,.0f} events a second")
    print(f"load before {found['machine']['load_before']}, after {found['load_after']}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--representation", default="asars_time_user")
    parser.add_argument("--items", type=int, default=32_000)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--sessions", type=int, default=4_000, help="sessions in the batch (%(default)s)")
    parser.add_argument("--systems", help="measure these systems instead, separated by commas")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "spotlight_asars": spotlight_asars.__version__,
        },
    }
    if options.systems:
        found["sizes"] = {"items": options.items, "sessions": LOG_SESSIONS, "visited": ITEMS_OF_A_VISITOR, "top": TOP}
        found["live"] = systems_by_name(options.systems.split(","), options.items + 1, options.repetitions)
        found["load_after"] = [round(load, 2) for load in os.getloadavg()]
    else:
        found |= of_a_net(options)
    if options.out:
        write_whole(options.out, json.dumps(found) + "\n")
    return 0


def of_a_net(options: argparse.Namespace) -> dict:
    """Measure and print everything about a net."""
    model = make_model(options.representation, options.items, options.dim)
    found = {
        "sizes": {"items": options.items, "dim": options.dim, "representation": options.representation, "top": TOP},
        "live": [one_session(model, length, options.repetitions) for length in LENGTHS],
        "replay": [full_replay(model, length, 5) for length in LENGTHS],
        "batch": one_batch(model, options.sessions, 20),
        "parts": parts_of_a_click(model, options.repetitions),
        "floor": reading_once(model, options.repetitions),
        "load_after": [round(load, 2) for load in os.getloadavg()],
    }
    print_found(found)
    return found


if __name__ == "__main__":
    sys.exit(main())
