"""
Measure the time and memory of training, evaluation and preparation by number of events, items, users and row length.

    OMP_NUM_THREADS=1 python benchmarks/cost_curves.py --out benchmarks/results/cost_curves

One size varies at a time while the others keep a middle value. Each size is measured in its own process: seconds of
``to_session_sequences``, of an epoch of ``fit`` after the first (time attention, sampled cross-entropy with 100 shared
negatives) and of ``rank_targets`` over all items, and the peak memory above the start of the process. Seconds are
processor time of one thread, which other work on the machine hardly affects. The script prints a table with the
exponent a of ``size ** a`` over each curve's three largest sizes, and writes OUT.json with every figure and OUT.png.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from measuring import about_this_run, growth, peak_mib, take_back_peak

from spotlight_asars.evaluation import rank_targets
from spotlight_asars.host import Interactions
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.serialization.files import write_whole

MIDDLE = {"events": 20_000, "items": 1_000, "users": 30, "length": 40}
SMALL = {"events": 500, "items": 100, "users": 5, "length": 10}
SIZES = {
    "events": [2_000, 6_000, 20_000, 60_000, 200_000],
    "items": [100, 1_000, 10_000, 100_000],
    "users": [3, 30, 300, 3_000],
    "length": [10, 40, 160, 640],
}
COSTS = {
    "preparation": "seconds to make rows",
    "training": "seconds an epoch",
    "evaluation": "seconds to rank 2,000 targets",
    "memory": "peak MiB above the start",
}
RANKED = 2_000
DIM = 32


def make_log(sizes: dict[str, int]) -> Interactions:
    """Return random clicks in order of time, a minute apart on average within a user."""
    draw = np.random.RandomState(0)
    users = draw.randint(1, sizes["users"] + 1, size=sizes["events"]).astype(np.int32)
    items = draw.randint(1, sizes["items"] + 1, size=sizes["events"]).astype(np.int32)
    # Pauses of 60 s on average keep all of a user's events in one session, so that rows reach their full length.
    seconds = np.sort(draw.uniform(60.0 * sizes["events"] / sizes["users"], size=sizes["events"])) + 1.5e9
    return Interactions(users, items, timestamps=seconds, num_users=sizes["users"] + 1, num_items=sizes["items"] + 1)


def measure(sizes: dict[str, int]) -> dict:
    """Return the seconds and MiB of each step."""
    log = make_log(sizes)
    before = take_back_peak()
    begin = time.process_time()
    rows = to_session_sequences(log, max_sequence_length=sizes["length"])
    preparation = [time.process_time() - begin]
    for _ in range(2):
        begin = time.process_time()
        to_session_sequences(log, max_sequence_length=sizes["length"])
        preparation.append(time.process_time() - begin)
    model = ASARSSequenceModel(
        loss="sampled_cross_entropy", representation="asars_time_att", embedding_dim=DIM, batch_size=32, random_state=0,
        sampling="shared", num_negative_samples=100, n_iter=1, representation_options={"hidden_dim": DIM},
    )  # fmt: skip
    model.fit(rows.rows(np.arange(min(len(rows), 32))))
    begin = time.process_time()
    model.fit(rows)
    training = [time.process_time() - begin]
    shuffled = np.random.RandomState(0).permutation(len(rows))
    enough = int(np.searchsorted(np.cumsum(rows.targets_a_row[shuffled]), RANKED)) + 1
    some = rows.rows(shuffled[:enough])
    evaluation = []
    for _ in range(2):
        begin = time.process_time()
        ranks = rank_targets(model, some)
        evaluation.append((time.process_time() - begin) * RANKED / len(ranks))
    return {"preparation": preparation, "training": training, "evaluation": evaluation, "memory": [peak_mib() - before],
            "rows": len(rows), "ranked": len(ranks)}  # fmt: skip


def in_a_process(sizes: dict[str, int]) -> dict:
    """Call :func:`measure` in a new process."""
    run = subprocess.run([sys.executable, __file__, "--sizes", json.dumps(sizes)], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{sizes} ended with {run.returncode}: {run.stderr.strip()[-400:]}")
    return {"sizes": sizes, **json.loads(run.stdout)}


def exponents(found: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    """Return how each cost grows with each size, over the three largest sizes."""
    result: dict[str, dict[str, float]] = {}
    for varied, curve in found.items():
        upper = curve[-3:]
        sizes = [one["sizes"][varied] for one in upper]
        result[varied] = {cost: growth(sizes, [min(one[cost]) for one in upper]) for cost in COSTS}
    return result


def draw_curves(found: dict[str, list[dict]], growing: dict[str, dict[str, float]]) -> Figure:
    """Draw one row per cost and one column per size, on logarithmic scales shared along a row."""
    figure = Figure(figsize=(13, 11), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(COSTS), len(SIZES), sharey="row", sharex="col")
    for line, (cost, label) in enumerate(COSTS.items()):
        for column, (varied, curve) in enumerate(found.items()):
            plot, sizes = axes[line, column], [one["sizes"][varied] for one in curve]
            plot.loglog(sizes, [min(one[cost]) for one in curve], "o-", color="#1f5fa8")
            plot.axvline(MIDDLE[varied], color="#999999", linewidth=0.8, linestyle=":")
            plot.grid(True, which="major", color="#dddddd")
            plot.set_title(f"{cost}: size ** {growing[varied][cost]:.2f}", fontsize=10)
            if column == 0:
                plot.set_ylabel(label)
            if line == len(COSTS) - 1:
                plot.set_xlabel("longest row (events)" if varied == "length" else f"number of {varied}")
    middle = ", ".join(f"{number:,} {name}" for name, number in MIDDLE.items() if name != "length")
    figure.suptitle(f"One size varied, the others fixed at {middle}, rows of {MIDDLE['length']} (dotted); one core")
    return figure


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=json.loads, help="measure only these sizes, in this process")
    parser.add_argument("--out", type=Path, help="path of the files, without suffix")
    options = parser.parse_args()
    if options.sizes:
        measure(SMALL)  # first calls load modules, which must not count
        print(json.dumps(measure(options.sizes)))
        return 0
    about, found = about_this_run(), {}
    for varied, sizes in SIZES.items():
        print(f"{varied:>9} {'rows':>8} " + " ".join(f"{cost:>12}" for cost in COSTS))
        found[varied] = []
        for size in sizes:
            one = in_a_process({**MIDDLE, varied: size})
            found[varied].append(one)
            print(f"{size:9,d} {one['rows']:8,d} " + " ".join(f"{min(one[cost]):12.4f}" for cost in COSTS), flush=True)
        growing = exponents(found)
        print(f"{'exponent':>18} " + " ".join(f"{growing[varied][cost]:12.2f}" for cost in COSTS))
    if options.out:
        draw_curves(found, growing).savefig(options.out.with_suffix(".png"), dpi=110)
        report = {**about, "middle": MIDDLE, "ranked": RANKED, "dim": DIM, "exponents": growing, "found": found}
        write_whole(options.out.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
