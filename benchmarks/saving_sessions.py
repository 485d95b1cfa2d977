"""
Save the live sessions of many users while they go on, and measure how long an answer waits for it.

One thread adds an event of a random user and asks for recommendations, again and again, first alone, then while the
state file is written in the background, with and without the fsync of every event.

    OMP_NUM_THREADS=1 python benchmarks/saving_sessions.py --users 100000 --out benchmarks/results/saving_sessions.json

Prints a summary as JSON.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from measuring import about_this_run

from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online.durable import SAVER, Durability, DurableUsers
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.serialization.models import save_sessions

NUM_ITEMS = 3_000
JOURNALS = ("flush", "fsync")
ALONE = 1_000  # answers measured without a save


def is_saving() -> bool:
    """Return whether the state file is being written in the background."""
    return any(thread.name == SAVER for thread in threading.enumerate())


def answers(users: DurableUsers, number: int, draw: np.random.RandomState, clock: float, while_saving: bool) -> dict:
    """Answer some requests, or all during a save, and summarise how long they took, in milliseconds."""
    waits = []
    while is_saving() if while_saving else len(waits) < ALONE:
        user, item = int(draw.randint(number)), int(draw.randint(1, NUM_ITEMS))
        begin = time.perf_counter()
        users.observe(("user", user), item, clock + len(waits), user)
        users.recommend(("user", user), 20)
        waits.append(1e3 * (time.perf_counter() - begin))
    middle, high, highest = np.percentile(waits, [50, 99, 100]).round(2)
    return {"answers": len(waits), "median_ms": middle, "99%_ms": high, "longest_ms": highest}


def make_sessions(number: int, path: Path) -> ASARSSequenceModel:
    """Write the state file of this many users, and return their model."""
    rows = SessionSequences(np.random.RandomState(0).randint(1, NUM_ITEMS, size=(200, 20)), num_items=NUM_ITEMS)
    model = ASARSSequenceModel(n_iter=1, random_state=0).fit(rows)
    users = LiveUsers(model, number)
    for user in range(number):
        users.observe(("user", user), user % (NUM_ITEMS - 1) + 1, float(user), user)
    save_sessions(users, path)
    return model


def save_and_answer(model: ASARSSequenceModel, path: Path, number: int, journal: str) -> dict:
    """Return what was measured under one kind of journal."""
    draw, found, begin = np.random.RandomState(0), {"mebibytes": path.stat().st_size >> 20}, time.perf_counter()
    with DurableUsers(model, path, most=number, durability=Durability(journal)) as users:
        found["starting_seconds"] = round(time.perf_counter() - begin, 2)
        clock = 1e8 * (1 + JOURNALS.index(journal))
        found["alone"] = answers(users, number, draw, clock, while_saving=False)
        begin = time.perf_counter()
        users.save_in_background()
        found["during_a_save"] = answers(users, number, draw, clock + ALONE, while_saving=True)
        found["saving_seconds"] = round(time.perf_counter() - begin, 2)
        begin = time.perf_counter()
        users.save()
        found["saving_seconds_alone"] = round(time.perf_counter() - begin, 2)
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000, help="number of users (%(default)s)")
    parser.add_argument("--out", type=Path, help="also write the summary there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {"users": options.users, **about_this_run()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "live.h5"
        model = make_sessions(options.users, path)
        for journal in JOURNALS:
            found[journal] = save_and_answer(model, path, options.users, journal)
    text = json.dumps(found, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
