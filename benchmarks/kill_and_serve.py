"""
Kill live servers with SIGKILL at random moments, and look for acknowledged events that the next one has lost.

A server is `recommend --state` in a process of its own, saving all the time. It gets random events, each after the
answer to the last, until it is killed: while it starts, replays, answers, writes its journal or saves. The next one
gets the event in flight once more, and goes on. After every ten kills its answers for all users must equal, to the bit,
those of sessions that never stopped and observed every acknowledged event once.

    OMP_NUM_THREADS=1 python benchmarks/kill_and_serve.py --kills 200 --out benchmarks/results/kill_and_serve.json

Prints a summary as JSON; the exit status is 1 if an answer differed. Needs ``os.fork``.
"""

import argparse
import json
import os
import random
import signal
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
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.serialization.models import load_model, save_model

NUM_USERS, NUM_ITEMS = 40, 50
KILLS_A_CHECK = 10
JOURNALS = ("flush", "fsync")


class Server:
    """A server in a forked process, spoken to over pipes."""

    def __init__(self, model: Path, state: Path, journal: str) -> None:
        (there, self._requests), (self._answers, back) = os.pipe(), os.pipe()
        self.process = os.fork()
        if not self.process:
            os.dup2(there, 0)
            os.dup2(back, 1)
            os.dup2(os.open(state.with_name("errors.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            os.closerange(3, 64)
            sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
            sys.stderr = os.fdopen(2, "w")
            options = ["--model-file", model, "--state", state, "--state-minutes", 0, "--journal", journal]
            try:
                code = cli.main(["recommend", *map(str, options), "--scores", "--quiet", "--keep-journal", "0"])
            finally:
                os._exit(code)
        os.close(there)
        os.close(back)
        self._stream = os.fdopen(self._answers, "rb")

    def ask(self, request: dict) -> dict | None:
        """Return the answer to a request, or None if the server was killed before it gave one."""
        try:
            os.write(self._requests, json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            return None
        line = self._stream.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def kill(self) -> None:
        """Kill the server, wherever it is."""
        os.kill(self.process, signal.SIGKILL)

    def wait(self) -> int:
        """Let standard input end, and return the status of the process once it is gone."""
        os.close(self._requests)
        status = os.waitpid(self.process, 0)[1]
        self._stream.close()
        return status


def make_model(path: Path) -> ASARSSequenceModel:
    """Write a small model, and return it as a server loads it."""
    draw = np.random.RandomState(0)
    rows = SessionSequences(
        draw.randint(1, NUM_ITEMS, size=(NUM_USERS, 8)),
        user_ids=np.arange(1, NUM_USERS + 1),
        item_vocabulary=Vocabulary([f"i{number}" for number in range(1, NUM_ITEMS)]),
        user_vocabulary=Vocabulary(range(NUM_USERS)),
    )
    options = {"hidden_dim": 8, "pointer": True}
    save_model(
        ASARSSequenceModel(embedding_dim=8, n_iter=1, random_state=0, representation_options=options).fit(rows), path
    )
    return load_model(path)


class Client:
    """Sends random events, repeats the one in flight after a kill, and knows what must be there."""

    def __init__(self, model: ASARSSequenceModel, draw: random.Random) -> None:
        self._draw, self._clock, self._event = draw, 1_000.0, None
        self._wanted = LiveUsers(model)
        self.acknowledged = self.found_again = self.users_compared = self.users_that_differ = 0

    def talk(self, server: Server, most: int | None = None) -> int:
        """Send events until the server is gone, or this many are acknowledged; return how many were."""
        before = self.acknowledged
        while most is None or self.acknowledged < before + most:
            self._event = self._event or self._next_event()
            answer = server.ask(self._event)
            if answer is None:
                break
            if "error" in answer:
                raise SystemExit(f"{self._event} was answered by {answer}")
            user, item, seconds = self._event.values()
            self._wanted.observe(("user", user), item, seconds, user)
            self.acknowledged, self._event = self.acknowledged + 1, None
            self.found_again += "duplicate" in answer
        return self.acknowledged - before

    def _next_event(self) -> dict:
        self._clock += self._draw.expovariate(0.01)
        item = f"i{self._draw.randrange(1, NUM_ITEMS)}"
        return {"user": self._draw.randrange(NUM_USERS), "item": item, "timestamp": self._clock}

    def compare(self, server: Server) -> None:
        """Compare the server's answers for all users with those that must be there."""
        for user in range(NUM_USERS):
            answer = server.ask({"user": user})
            found = list(zip(answer.get("items", []), answer.get("scores", []), strict=True))
            known = ("user", user) in self._wanted
            self.users_that_differ += found != (self._wanted.recommend(("user", user), 20) if known else [])
            self.users_compared += 1


def kill_and_serve(kills: int, longest: float, seed: int, folder: Path) -> dict:
    """Kill this many servers, and return what was seen."""
    draw = random.Random(seed)
    client, state = Client(make_model(folder / "model.h5"), draw), folder / "live.h5"
    while_starting = while_saving = 0
    for kill in range(1, kills + 1):
        server = Server(folder / "model.h5", state, JOURNALS[kill % 2])
        killer = threading.Timer(draw.uniform(0.0, longest), server.kill)
        killer.start()
        while_starting += not client.talk(server)
        killer.join()
        if not os.WIFSIGNALED(server.wait()):
            raise SystemExit(f"a server ended by itself: {(folder / 'errors.txt').read_text()}")
        while_saving += any(path.name.startswith(".") for path in folder.iterdir())  # the next start clears these
        if kill % KILLS_A_CHECK == 0 or kill == kills:
            server = Server(folder / "model.h5", state, "flush")
            client.talk(server, most=1)
            client.compare(server)
            server.kill()
            server.wait()
    return {
        "kills": kills,
        "killed_while_starting": while_starting,
        "killed_while_saving": while_saving,
        "torn_records": (folder / "errors.txt").read_text().count("torn last record"),
        "events_acknowledged": client.acknowledged,
        "events_kept_but_not_yet_acknowledged": client.found_again,
        "users_compared": client.users_compared,
        "users_that_differ": client.users_that_differ,
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="number of kills (%(default)s)")
    parser.add_argument("--longest", type=float, default=1.5, help="longest life of a server in seconds (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random state of events and kill times")
    parser.add_argument("--out", type=Path, help="also write the summary there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about, begin = about_this_run(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_and_serve(options.kills, options.longest, options.seed, Path(folder))
    found = {**counts, "seed": options.seed, "seconds": round(time.perf_counter() - begin, 1), **about}
    text = json.dumps(found, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")
    return 1 if counts["users_that_differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
