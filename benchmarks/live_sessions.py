"""
What a click and its answer cost in a live session, by the session's length, and many sessions stepped as one batch.

    OMP_NUM_THREADS=1 python benchmarks/live_sessions.py --out benchmarks/results/live_sessions.json

A table is printed, and JSON with every repetition written. The net is not trained: its cost does not depend on that.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch

import spotlight_asars
from spotlight_asars import ASARSSequenceModel, SessionInteractions, to_session_sequences
from spotlight_asars.files import write_whole
from spotlight_asars.sequence.online import LiveSessions

LENGTHS = (1, 10, 100, 1_000, 10_000)
TOP = 20


def make_model(representation: str, num_items: int, dim: int) -> ASARSSequenceModel:
    """A net over so many items, after one epoch on two short rows."""
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


def one_session(model: ASARSSequenceModel, length: int, repetitions: int) -> dict:
    """Milliseconds of `observe` and of the top 20 after it, in a session that long when it begins to be timed."""
    draw = np.random.RandomState(0)
    raw = model.raw_items.inverse(draw.randint(1, model.num_items, size=length + repetitions)).tolist()
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
    return {"length": length, "milliseconds": milliseconds}


def full_replay(model: ASARSSequenceModel, length: int, repetitions: int) -> dict:
    """Milliseconds of the same answer from `recommend`, which reads the whole session each time."""
    draw = np.random.RandomState(0)
    raw = model.raw_items.inverse(draw.randint(1, model.num_items, size=length)).tolist()
    times = (1.7e9 + 30.0 * np.arange(length)).tolist()
    milliseconds = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        model.recommend(raw, times, k=TOP)
        milliseconds.append(1e3 * (time.perf_counter() - begin))
    return {"length": length, "milliseconds": milliseconds}


def one_batch(model: ASARSSequenceModel, sessions: int, steps: int) -> dict:
    """Seconds of each step that takes in one event of every session, without answers."""
    draw = np.random.RandomState(0)
    live, seconds = LiveSessions(model, [None] * sessions), []
    for step in range(steps):
        items = model.raw_items.inverse(draw.randint(1, model.num_items, size=sessions)).tolist()
        begin = time.perf_counter()
        live.observe(items, np.full(sessions, 1.7e9 + 30.0 * step))
        seconds.append(time.perf_counter() - begin)
    return {"sessions": sessions, "seconds": seconds}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--representation", default="asars_time_user")
    parser.add_argument("--items", type=int, default=32_000)
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=300)
    parser.add_argument("--sessions", type=int, default=4_000, help="in the batch")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = make_model(options.representation, options.items, options.dim)
    found = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "spotlight_asars": spotlight_asars.__version__,
        },
        "sizes": {"items": options.items, "dim": options.dim, "representation": options.representation, "top": TOP},
        "live": [one_session(model, length, options.repetitions) for length in LENGTHS],
        "replay": [full_replay(model, length, 5) for length in LENGTHS],
        "batch": one_batch(model, options.sessions, 20),
    }
    print(f"{'length':>8} {'median ms':>10} {'99 % ms':>10} {'full replay, median ms':>24}")
    for live, replay in zip(found["live"], found["replay"], strict=True):
        middle, late = np.percentile(live["milliseconds"], [50, 99])
        print(f"{live['length']:8d} {middle:10.3f} {late:10.3f} {np.median(replay['milliseconds']):24.3f}")
    rate = options.sessions / np.median(found["batch"]["seconds"])
    print(f"{options.sessions} sessions as one batch: {rate:,.0f} events a second")
    if options.out:
        write_whole(options.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
