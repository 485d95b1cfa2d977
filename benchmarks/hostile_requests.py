"""
Send hostile lines to `recommend`, and let many threads share live sessions.

Lines: valid requests with values of any kind, cut short, with bytes changed, nested hundreds of levels deep, or too
long. Each must get one answer that is strict JSON, and the sessions afterwards must be those of the events that were
answered. Threads: eight of them share one `LiveUsers` or one `LiveSessions`, and each must get the answers that it gets
alone.

    OMP_NUM_THREADS=1 python benchmarks/hostile_requests.py --out benchmarks/results/hostile_requests.json

Prints a summary as JSON; the exit status is 1 if anything was wrong.
"""

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from measuring import about_this_run

from spotlight_asars import cli
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.serialization.models import save_model

NUM_USERS, NUM_ITEMS, THREADS, EVENTS = 20, 50, 8, 40
LONGEST = 2**12  # of a line, for this test


def make_model() -> ASARSSequenceModel:
    """Return a small model with a pointer, whose users are numbers and whose items are text."""
    draw = np.random.RandomState(0)
    rows = SessionSequences(
        draw.randint(1, NUM_ITEMS, size=(NUM_USERS, 8)),
        user_ids=np.arange(1, NUM_USERS + 1),
        item_vocabulary=Vocabulary([f"i{number}" for number in range(1, NUM_ITEMS)]),
        user_vocabulary=Vocabulary(range(NUM_USERS)),
    )
    options = {"hidden_dim": 8, "pointer": True}
    return ASARSSequenceModel(embedding_dim=8, n_iter=1, random_state=0, representation_options=options).fit(rows)


def nested(levels: int, kind: type) -> object:
    """Return lists or dicts in this many levels."""
    found: object = 1
    for _ in range(levels):
        found = [found] if kind is list else {"a": found}
    return found


def hostile_value(draw: random.Random) -> object:
    """Return a value of a kind that a request may not expect."""
    return draw.choice([
        None, True, False, "", "x" * draw.randrange(600), "\ud800", "\x00\x1b[31m", 0, -1, 10**30, 10**400, 1e308, -0.5,
        float("inf"), float("nan"), [], {}, [[]], ["i1", 2], {"user": 1}, [1.5, [2, ["x"]]],
        nested(draw.choice([3, 9, 60, 500, 900]), draw.choice([list, dict])), "1970-01-01", "i1", 3, 1e13,
    ])  # fmt: skip


def hostile_line(draw: random.Random, clock: float) -> bytes:
    """Return one line: a good request, or what may become of one."""
    request = draw.choice([
        {"user": draw.randrange(NUM_USERS), "item": f"i{draw.randrange(1, NUM_ITEMS)}", "timestamp": clock},
        {"session": f"s{draw.randrange(9)}", "item": f"i{draw.randrange(1, NUM_ITEMS)}", "timestamp": clock},
        {"user": draw.randrange(NUM_USERS), "now": clock},
        {"items": ["i1", "i2"], "timestamps": [0, 5], "user": 3},
        {"user": draw.randrange(NUM_USERS), draw.choice(["end", "reset"]): True},
    ])  # fmt: skip
    for _ in range(draw.choice([0, 0, 1, 1, 2])):
        name = draw.choice([*request, "k", "now", "user", "session", "end", "items", "what"])
        request = {**request, name: hostile_value(draw)}
    line = bytearray(json.dumps(request).encode("ascii"))
    for _ in range(draw.choice([0, 0, 0, 1, 4])):
        line[draw.randrange(len(line))] = draw.choice([0, 10, 34, 44, 91, 123, 255, draw.randrange(256)])
    if draw.random() < 0.1:
        line = line[: draw.randrange(len(line))]
    if draw.random() < 0.01:
        line *= 1 + 2 * LONGEST // max(1, len(line))
    return bytes(line) + b"\n"


def send_lines(number: int, seed: int, folder: Path) -> dict:
    """Send this many lines to a server, and return what was wrong."""
    draw, model = random.Random(seed), make_model()
    save_model(model, folder / "model.h5")
    sent = b"".join(hostile_line(draw, 10.0 * clock) for clock in range(number))
    lines = [line for line in sent.split(b"\n") if line.strip()]
    sys.stdin, out = io.TextIOWrapper(io.BytesIO(sent)), io.StringIO()
    options = ["--model-file", folder / "model.h5", "--state", folder / "live.h5", "--longest-line", LONGEST]
    with contextlib.redirect_stdout(out):
        code = cli.main(["recommend", *map(str, options), "--quiet", "--scores"])
    answers = [json.loads(line, parse_constant=_refuse) for line in out.getvalue().splitlines()]

    wanted = LiveUsers(model)
    for line, answer in zip(lines, answers, strict=True):
        if "error" not in answer:
            repeat(json.loads(line), wanted)
    found, differ = {}, 0
    for name, whose in [("user", user) for user in range(NUM_USERS)] + [("session", f"s{one}") for one in range(9)]:
        found[name, whose] = json.dumps({name: whose})
    sys.stdin, out = io.TextIOWrapper(io.BytesIO("\n".join(found.values()).encode())), io.StringIO()
    with contextlib.redirect_stdout(out):
        cli.main(["recommend", *map(str, options), "--quiet", "--scores"])
    for key, line in zip(found, out.getvalue().splitlines(), strict=True):
        answer = json.loads(line)
        best = wanted.recommend(key, 20) if key in wanted else []
        differ += list(zip(answer.get("items", []), answer.get("scores", []), strict=True)) != best
    errors = [answer["error"] for answer in answers if "error" in answer]
    return {
        "lines": len(lines),
        "answered": len(answers) - len(errors),
        "refused": len(errors),
        "without_a_message_of_their_own": sorted({error for error in errors if error.startswith("cannot be answered")}),
        "exit_code": code,
        "sessions_that_differ": differ,
    }


def repeat(request: dict, users: LiveUsers) -> None:
    """Make the change of a request that was answered."""
    if "items" in request or "timestamps" in request:
        return
    name = "user" if request.get("user") is not None else "session"
    user = request.get("user")
    if isinstance(user, str) and user.isdecimal() and str(int(user)) == user and int(user) < NUM_USERS:
        user = int(user)  # the other spelling of an id
    key = (name, as_id(user if name == "user" else request["session"]))
    if "end" in request:
        users.end(key)
    elif "reset" in request:
        users.forget(key)
    elif request.get("item") is not None:
        users.observe(key, as_id(request["item"]), float(request["timestamp"]), as_id(user))


def as_id(found: object) -> object:
    """Return an id as the server takes it."""
    return tuple(map(as_id, found)) if isinstance(found, list) else found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def events_of(thread: int) -> list[tuple[object, str, float]]:
    """Return the events of a thread's own keys."""
    draw = np.random.RandomState(thread)
    pairs = zip(draw.randint(EVENTS, size=EVENTS).tolist(), draw.randint(1, NUM_ITEMS, size=EVENTS), strict=True)
    return [((thread, key), f"i{item}", 40.0 * step) for step, (key, item) in enumerate(pairs)]


def run_threads(runs: int) -> dict:
    """Let eight threads share sessions this many times, and return in how many runs an answer was wrong."""
    model, seen = make_model(), {"threads": THREADS, "runs": runs, "answers": 0, "wrong_runs": 0}
    alone = [events_alone(model, thread) for thread in range(THREADS)]
    sys.setswitchinterval(1e-6)
    for run in range(runs):
        wrong: list[object] = []
        users = LiveUsers(model) if run % 2 else LiveSessions(model, [None] * THREADS * EVENTS)

        def work(thread: int, users: LiveUsers | LiveSessions = users, wrong: list[object] = wrong) -> None:
            try:
                for (key, item, seconds), wanted in zip(events_of(thread), alone[thread], strict=True):
                    if isinstance(users, LiveUsers):
                        users.observe(key, item, seconds)
                        found = users.recommend(key, 5)
                    else:
                        row = thread * EVENTS + key[1]
                        users.observe([item], [seconds], [row])
                        found = users.recommend(5, return_scores=True, sessions=[row])[0]
                    if found != wanted:
                        wrong.append(found)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(THREADS)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        seen["answers"] += THREADS * EVENTS
        seen["wrong_runs"] += bool(wrong)
    return seen


def events_alone(model: ASARSSequenceModel, thread: int) -> list[list]:
    """Return the answers of a thread that shares nothing."""
    users, answers = LiveUsers(model), []
    for key, item, seconds in events_of(thread):
        users.observe(key, item, seconds)
        answers.append(users.recommend(key, 5))
    return answers


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000, help="number of lines (%(default)s)")
    parser.add_argument("--runs", type=int, default=200, help="number of runs with threads (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random state of the lines")
    parser.add_argument("--out", type=Path, help="also write the summary there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about, begin = about_this_run(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        lines = send_lines(options.lines, options.seed, Path(folder))
    threads = run_threads(options.runs)
    found = {"lines": lines, "threads": threads, "seconds": round(time.perf_counter() - begin, 1), **about}
    text = json.dumps(found, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 1 if lines["sessions_that_differ"] or threads["wrong_runs"] else 0


if __name__ == "__main__":
    sys.exit(main())
