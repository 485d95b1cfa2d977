"""
Kill training processes with SIGKILL at random moments, let them resume from their checkpoint, and compare the weights.

A round trains one model: a process starts and is killed after a random time, the next one makes the same call, and so
on until one finishes. Its weights must equal those of a process that was never stopped, bit for bit. Checkpoints are
written after every mini-batch, so that kills hit both training and writing.

    OMP_NUM_THREADS=1 python benchmarks/kill_and_resume.py --kills 1000

The script prints what it saw as JSON, and exits with 1 if a round differed. It needs ``os.fork``.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.serialization.checkpoints import Checkpoint

CASES = {
    "cross_entropy": {"loss": "cross_entropy", "optimizer_func": partial(torch.optim.Adagrad, lr=0.05)},
    "local negatives, adam, mixed lengths": {"loss": "bpr", "mix_lengths": True},
    "shared negatives": {"loss": "bpr_max", "sampling": "shared", "num_negative_samples": 20},
    "sparse": {"loss": "sampled_cross_entropy", "sparse": True},
    "validation": {"loss": "cross_entropy", "early_stopping": 2},
}


def train(case: str, checkpoint: Path | None, result: Path) -> None:
    """Train in one process; the file of weights appears only when it has finished."""
    draw = np.random.RandomState(0)
    items = draw.randint(1, 40, size=(60, 9))
    items[np.arange(9) < draw.randint(0, 7, size=(60, 1))] = 0  # rows of 3 to 9 events
    model = ASARSSequenceModel(n_iter=6, batch_size=5, embedding_dim=8, random_state=1, **CASES[case])
    validation = SessionSequences(items[40:], num_items=40) if case == "validation" else None
    keep = None if checkpoint is None else Checkpoint(checkpoint, minutes=0)
    model.fit(SessionSequences(items[:40], num_items=40), validation=validation, checkpoint=keep)
    found = {name: weight.numpy() for name, weight in model.net.state_dict().items()}
    beside = result.with_suffix(".beside.npz")
    np.savez(beside, **found, losses=[record.loss for record in model.epoch_records])
    os.replace(beside, result)


def in_a_process(*arguments: object) -> int:
    """Start :func:`train` in a new process and return its id."""
    process = os.fork()
    if process:
        return process
    try:
        train(*arguments)
    except BaseException as error:
        print(f"{arguments[0]}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def same(one: Path, other: Path) -> bool:
    """Return whether two processes reached the same weights and losses, to the bit."""
    with np.load(one) as first, np.load(other) as second:
        return set(first) == set(second) and all(first[name].tobytes() == second[name].tobytes() for name in first)


def kill_and_resume(kills: int, longest: float, seed: int, folder: Path) -> dict:
    """Run whole rounds until there were at least this many kills and every case had a round."""
    moments, seen = random.Random(seed), {"kills": 0, "while_writing": 0, "rounds": 0, "most_lives": 0, "differed": []}
    train("sparse", None, folder / "first.npz")  # import everything before forking
    for case in CASES:
        status = os.waitpid(in_a_process(case, None, folder / f"{case}.npz"), 0)[1]
        assert status == 0, f"the uninterrupted process ended with {status}"
    while seen["kills"] < kills or seen["rounds"] < len(CASES):
        case = list(CASES)[seen["rounds"] % len(CASES)]
        place = Path(tempfile.mkdtemp(dir=folder))
        lives, status = 0, None
        while status != 0:
            process = in_a_process(case, place / "checkpoint.h5", place / "weights.npz")
            time.sleep(moments.uniform(0.0, longest))
            os.kill(process, signal.SIGKILL)  # the id stays valid until waitpid, even if it has ended
            status = os.waitpid(process, 0)[1]
            lives += 1
            assert not os.WIFEXITED(status) or status == 0, f"a process of {case} failed"
            seen["kills"] += status != 0
            seen["while_writing"] += any(path.name.startswith(".") for path in place.iterdir())
        seen["rounds"] += 1
        seen["most_lives"] = max(seen["most_lives"], lives)
        if not same(place / "weights.npz", folder / f"{case}.npz"):
            seen["differed"].append(case)
    return seen


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--longest", type=float, default=0.3, help="most seconds a process lives")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random times")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        seen = kill_and_resume(options.kills, options.longest, options.seed, Path(folder))
    print(json.dumps({**seen, "seconds": round(time.perf_counter() - begin, 1)}))
    return 1 if seen["differed"] else 0


if __name__ == "__main__":
    sys.exit(main())
