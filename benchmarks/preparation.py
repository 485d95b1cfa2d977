"""
Time the making of sequences, beside Spotlight's, and the preparation of logs of growing size.

    OMP_NUM_THREADS=1 python benchmarks/preparation.py --spotlight CHECKOUT --out benchmarks/results/preparation.json

Sequences: ``to_session_sequences`` (which finds sessions, bins dwell, and keeps users and times) and Spotlight's
``Interactions.to_sequence`` (items alone) on the same events, ordered by time, as logs are written, or by user.
Preparation: a text file like Tianchi's (100 events per user, one item for 25 events) is written and then prepared by
``python -m spotlight_asars prepare`` in its own process, whose time and peak memory count. The script prints a table
and writes JSON.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import version_of

FIRST_SECOND, SECONDS = 1_511_539_200, 9 * 86_400
EVENTS_A_USER, EVENTS_AN_ITEM = 100, 25
EVENTS_AT_ONCE = 1_000_000

SEQUENCES = """
import json, sys, time
import numpy as np
draw, events, how, of_user = np.random.RandomState(0), int(sys.argv[1]), sys.argv[2], int(sys.argv[4])
users = draw.randint(1, events // of_user + 2, size=events).astype(np.int32)
items = draw.randint(1, events // 25 + 2, size=events).astype(np.int32)
times = np.sort(draw.randint(9 * 86_400, size=events)) + 1_511_539_200
if sys.argv[5] == "user":
    order = np.lexsort((times, users))
    users, items, times = users[order], items[order], times[order]
if how == "spotlight":
    sys.path.insert(0, sys.argv[3])
    from spotlight.interactions import Interactions
    log = Interactions(users, items, timestamps=times)
    begin = time.perf_counter()
    log.to_sequence(max_sequence_length=200, step_size=200)
else:
    sys.path.insert(0, sys.argv[3])
    from spotlight_asars import SessionInteractions, to_session_sequences
    from spotlight_asars.host import Interactions
    log = Interactions(users, items, timestamps=times)
    begin = time.perf_counter()
    to_session_sequences(log, max_sequence_length=200)
print(json.dumps(time.perf_counter() - begin))
"""


def seconds_to_rows(events: int, how: str, path: Path, events_a_user: int, order: str) -> float:
    """Return the seconds of one conversion in its own process."""
    call = [sys.executable, "-c", SEQUENCES, str(events), how, str(path), str(events_a_user), order]
    return json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)


def floor_seconds(events: int) -> float:
    """Return the seconds to read our sequences' input and write their output once, at the speed of a copy."""
    source = np.ones(1 << 25, np.int8)
    target, seconds = np.empty_like(source), []
    for _ in range(9):
        begin = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - begin)
    # in: user, item, time; out: six channels of 4 bytes and a session number; a copy reads and writes each byte
    return events * (4 + 4 + 8 + 6 * 4 + 8) / (2 * source.nbytes) * min(seconds)


def sequences_in_turn(options: argparse.Namespace, root: Path, events_a_user: int, order: str) -> dict:
    """Return the seconds of our sequences and Spotlight's, in turn, and the floor of ours."""
    found = {"events": options.events, "events_a_user": events_a_user, "order": order, "ours": [], "spotlight": []}
    for _ in range(options.repetitions):
        for how, path in (("ours", root), ("spotlight", options.spotlight)):
            found[how].append(seconds_to_rows(options.events, how, path, events_a_user, order))
    found["floor"] = floor_seconds(options.events)
    ours, theirs = (float(np.median(found[name])) for name in ("ours", "spotlight"))
    print(f"{options.events:,} events to rows, {events_a_user} a user, in order of {order}: {ours:.2f} s, in Spotlight "
          f"{theirs:.2f} s: {theirs / ours:.1f} times; the floor is {found['floor']:.2f} s", flush=True)  # fmt: skip
    return found


def write_log(path: Path, events: int) -> None:
    """Write a text file like Tianchi's, in order of time."""
    draw = np.random.RandomState(0)
    with path.open("w") as file:
        for begin in range(0, events, EVENTS_AT_ONCE):
            count = min(EVENTS_AT_ONCE, events - begin)
            ends = [FIRST_SECOND + SECONDS * place // events for place in (begin, begin + count)]
            block = {
                "user": draw.randint(1, events // EVENTS_A_USER + 2, size=count),
                # Squared draws: few items have many events.
                "item": (draw.uniform(size=count) ** 2 * (events // EVENTS_AN_ITEM + 1)).astype(np.int64) + 1,
                "category": 1,
                "behaviour": "pv",
                "time": np.sort(draw.randint(ends[0], max(ends[1], ends[0] + 1), size=count)),
            }
            pd.DataFrame(block).to_csv(file, index=False, header=False)


def prepare(events: int, folder: Path) -> dict:
    """Return seconds, peak memory and file sizes of one preparation."""
    log, out = folder / "UserBehavior.csv", folder / "log.h5"
    write_log(log, events)
    call = [
        sys.executable,
        "-m",
        "spotlight_asars",
        "prepare",
        "--data",
        log,
        "--format",
        "tianchi",
        "--out",
        out,
        "--quiet",
    ]
    begin = time.perf_counter()
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"prepare ended with {status}")
    found = {"events": events, "seconds": seconds, "microseconds_an_event": 1e6 * seconds / events,
             "peak_memory_mib": used.ru_maxrss / 1024, "text_mib": log.stat().st_size / 2**20,
             "prepared_mib": out.stat().st_size / 2**20}  # fmt: skip
    log.unlink()
    out.unlink()
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spotlight", type=Path, help="a checkout of Spotlight; without it only preparation is timed")
    parser.add_argument("--events", type=int, default=10_000_000, help="events for the sequences")
    parser.add_argument("--events-a-user", type=int, nargs="+", default=[5, 20, 100], help="for the sequences")
    parser.add_argument("--orders", nargs="+", choices=("time", "user"), default=["time", "user"], help="of the log")
    parser.add_argument("--repetitions", type=int, default=3, help="repetitions of the sequences")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="*",
        default=[1_000_000, 10_000_000, 100_000_000],
        help="to prepare",
    )
    parser.add_argument("--folder", type=Path, help="folder for the temporary logs")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    load_before = os.getloadavg()[0]
    cases = [(of_user, order) for of_user in options.events_a_user for order in options.orders]
    sequences = [sequences_in_turn(options, root, *case) for case in cases if options.spotlight]
    prepared = []
    print(f"{'events':>12} {'seconds':>9} {'us an event':>12} {'peak MiB':>9}")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for events in options.sizes:
            found = prepare(events, Path(folder))
            prepared.append(found)
            print(f"{events:12,d} {found['seconds']:9.1f} {found['microseconds_an_event']:12.3f} "
                  f"{found['peak_memory_mib']:9.0f}", flush=True)  # fmt: skip
    if options.out:
        names = ("numpy", "pandas", "h5py", "spotlight-asars")
        about = {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count(),
                 "threads": os.environ.get("OMP_NUM_THREADS", ""), "load_before": load_before,
                 "versions": {name: version_of(name) for name in names},
                 "memory_of_this_process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}  # fmt: skip
        options.out.write_text(json.dumps({**about, "sequences": sequences, "prepared": prepared}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
