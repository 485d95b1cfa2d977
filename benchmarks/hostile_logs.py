"""
Feed thousands of generated hostile inputs; each must give a right result or one line that says what is wrong.

    OMP_NUM_THREADS=1 python benchmarks/hostile_logs.py --cases 15000 --out benchmarks/results/hostile_logs.json

Five kinds take turns: randomly damaged text files of each format, checked against Python's csv module; harmless changes
of such files (line ends, quotes, gzip, a byte order mark), after which nothing may differ; tables with columns no log
should have, turned into sessions and rows, and every fifth passed to a fitted system; requests to two fitted systems;
and lines of JSON to live sessions. A violation is any error other than an InputError of one line, a lost or changed
event, or a score that is not a number. It is printed with its seed, and the script then exits with 1.
"""

import argparse
import csv
import gzip
import io
import json
import math
import os
import platform
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from spotlight_asars.cli.requests import Answers
from spotlight_asars.datasets import FORMATS
from spotlight_asars.datasets.prepare import prepare
from spotlight_asars.datasets.prepared import LogOnDisk
from spotlight_asars.datasets.tianchi import FIRST_SECOND, LAST_SECOND
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import rank_targets
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.serialization.files import write_whole

RIGHT, REFUSED = "right", "refused"
INFINITE, NOT_A_NUMBER = float("inf"), float("nan")
STRANGE_NUMBERS = [0, -1, 1e12, 1.5e15, 1.7e308, NOT_A_NUMBER, INFINITE, -INFINITE, 2**31, 2**63, 2**200, -0.0, 0.5]
STRANGE_TEXT = ["", " ", "1", "01", "nan", "NULL", "a;b", "😀", "\0", "\ud800", "é\u2028", "x" * 10_000, '"', "\r\n"]
STRANGE_OBJECTS = [None, True, (1, "a"), b"bytes", [1], {}, 1j, pd.NaT, pd.Timestamp("2020-01-01"), np.int8(3)]
STRANGE = [*STRANGE_NUMBERS, *STRANGE_TEXT, *STRANGE_OBJECTS]
IN_JSON = (
    '"user";"item";"items";"timestamp";"timestamps";"now";"k";"session";1;"a";null;[];[1, 2];{};NaN;1e400;-5;true;"b";'
    "1700000000;[[;\\u0000;é"
)
DAMAGES = b', \t " \n \r \r\n \0 nan - 1e5 \xff \xef\xbb\xbf 0 :: ; inf \xc3\xa9 9999999999999999999999999'.split(b" ")


class Violation(Exception):
    """A result or an error that must not occur."""


def require(condition: bool, what: str) -> None:
    """Raise a Violation unless the condition holds."""
    if not condition:
        raise Violation(what)


# --- Text files ---


def written(draw: random.Random, name: str) -> tuple[list[list[str]], str, str, dict, list[str]]:
    """Return a small valid log: rows of fields with header, separator, file name, reader options, column roles."""
    events = draw.randint(1, 30)
    users, items = ([str(draw.randint(1, 9)) for _ in range(events)] for _ in range(2))
    if draw.random() < 0.3:
        items = [draw.choice(["a", "b c", "é", "007", "+7", "x" * 50, "😀"]) for _ in range(events)]
    times = [
        str(draw.choice([draw.randint(0, 99), 1_500_000_000 + draw.randint(0, 9999), draw.random() * 1e9]))
        for _ in users
    ]
    if name == "csv":
        return [["user", "item", "time"], *map(list, zip(users, items, times, strict=True))], ",", "log.csv", {
            "columns": "user,item,time"}, ["user", "item", "timestamp"]  # fmt: skip
    numbers = [str(draw.randint(1, 99)) for _ in users]
    if name == "movielens":
        rows = [
            [user, number, "5", str(int(float(time)))] for user, number, time in zip(users, numbers, times, strict=True)
        ]
        return rows, "\t", "u.data", {}, ["user", "item", "", "timestamp"]
    if name == "recsys15":
        rows = list(map(list, zip(users, numbers, times, strict=True)))
        return [["SessionId", "ItemId", "Time"], *rows], "\t", "train.txt", {}, ["session", "item", "timestamp"]
    rows = [
        [user, number, "7", "pv", str(FIRST_SECOND + int(float(time)) % (LAST_SECOND - FIRST_SECOND))]
        for user, number, time in zip(users, numbers, times, strict=True)
    ]
    return rows, ",", "UserBehavior.csv", {}, ["user", "item", "", "", "timestamp"]


def as_text(rows: list[list[str]], separator: str) -> bytes:
    """Return the content of a file with these rows."""
    return "".join(separator.join(row) + "\n" for row in rows).encode()


def expected_events(content: bytes, separator: str, roles: list[str], header: bool) -> list[tuple]:
    """Return the events as Python's csv module reads them: fields as text, times as numbers."""
    rows = csv.reader(
        io.StringIO(content.decode(), newline="\n"), delimiter=separator, skipinitialspace=separator != " ", strict=True
    )
    rows = [row for row in rows if row][1 if header else 0 :]
    kept = [name for name in roles if name]
    found = [dict(zip(roles, row, strict=True)) for row in rows]
    return [tuple(float(row[name]) if name == "timestamp" else row[name] for name in kept) for row in found]


def check_read(log: pd.DataFrame, expected: list[tuple], roles: list[str]) -> None:
    """Require that the reader's table holds the expected events in order."""
    kept = [name for name in roles if name]
    require(len(log) == len(expected), f"{len(expected)} events became {len(log)}")
    for name, values in zip(kept, zip(*expected, strict=True), strict=True):
        column = log[name].tolist()
        if name == "timestamp":
            require(np.allclose(column, values, rtol=1e-15, atol=0.0), "a time changed")
        else:
            # As in pandas, white space around a whole number is not part of it; around text it is.
            same = (
                str(one) == (value.strip() if isinstance(one, int) else value)
                for one, value in zip(column, values, strict=True)
            )
            require(all(same), f"an id of {name} changed")


def damaged_file(draw: random.Random, folder: Path) -> str:
    """Alter some bytes of a file: it is refused, or read as the csv module reads it."""
    name = draw.choice(list(FORMATS))
    rows, separator, file_name, options, roles = written(draw, name)
    content = bytearray(as_text(rows, separator))
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(content) + 1)
        damage = draw.randrange(4)
        if damage == 0:
            content[place:place] = draw.choice(DAMAGES)
        elif damage == 1:
            del content[place : place + draw.randint(1, 5)]
        elif damage == 2:
            del content[place:]
        elif place < len(content):
            content[place] = draw.randrange(256)
        if not content:
            break
    content = bytes(content)
    path = folder / file_name
    path.write_bytes(content)
    log = FORMATS[name].read(path, **options)
    plain = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        expected = expected_events(plain, separator, roles, header=name in ("csv", "recsys15"))
    except (ValueError, csv.Error, UnicodeDecodeError) as error:
        raise Violation(f"read, but the csv module finds no log: {error}") from error
    if name == "tianchi":  # it reports how many it leaves out
        expected = [event for event in expected if FIRST_SECOND <= event[-1] <= LAST_SECOND]
    check_read(log, expected, roles)
    return RIGHT


def harmless_change(draw: random.Random, folder: Path) -> str:
    """Write the same events differently; every fourth file is prepared too."""
    name = draw.choice(list(FORMATS))
    rows, separator, file_name, options, roles = written(draw, name)
    expected = expected_events(as_text(rows, separator), separator, roles, header=name in ("csv", "recsys15"))
    if draw.random() < 0.4:
        rows = [[f'"{field}"' if draw.random() < 0.5 else field for field in row] for row in rows]
    content = as_text(rows, separator)
    if draw.random() < 0.4:
        content = content.replace(b"\n", draw.choice([b"\r\n", b"\r", b"\n\n"]))
    if draw.random() < 0.3:
        content = content.rstrip(b"\r\n")
    if draw.random() < 0.3:
        content = b"\xef\xbb\xbf" + content
    if draw.random() < 0.3:
        content, file_name = gzip.compress(content), file_name + ".gz"
    path = folder / file_name
    path.write_bytes(content)
    check_read(FORMATS[name].read(path, **options), expected, roles)
    if draw.random() < 0.25:
        (folder / "log.h5").unlink(missing_ok=True)
        prepare(FORMATS[name].blocks(path, **options), folder / "log.h5")
        events = LogOnDisk(folder / "log.h5").interactions()
        require(len(events) == len(expected), "an event was lost while the log was prepared")
        items = Counter(str(item) for item in events.to_log()["item"])
        require(
            items == Counter(str(one[roles_kept(roles).index("item")]) for one in expected), "prepared items differ"
        )
    return RIGHT


def roles_kept(roles: list[str]) -> list[str]:
    """Return the roles of the columns that are read."""
    return [name for name in roles if name]


# --- Tables ---


def column_of(draw: random.Random, events: int, what: str) -> list:
    """Return values of a column: all of one kind, or with strange ones among them."""
    if what == "time":
        begin, step = draw.choice(
            [(0, 1), (1.5e9, 60), (1.5e12, 1000), (-1e9, 1), (1.5e9, 0), (1.5e9, -5), (1.6e15, 1e6)]
        )
        values = [begin + step * draw.randint(0, 50) for _ in range(events)]
    else:
        pool = draw.choice(
            [
                range(1, 6),
                "abcd",
                [1, "1"],
                [0, -1, 7],
                [1.5, 2.5],
                [(1, 2), (1, 3)],
                ["x" * 10_000, "é", "😀"],
                [True, False],
            ]
        )
        values = [draw.choice(list(pool)) for _ in range(events)]
    if draw.random() < 0.35:
        for _ in range(draw.randint(1, 3)):
            if values:
                values[draw.randrange(events)] = draw.choice(STRANGE)
    return values


def strange_table(draw: random.Random, folder: Path) -> str:
    """Turn a DataFrame into sessions, rows and sometimes a system: nothing is lost, every score is a number."""
    events = draw.choice([0, 1, 2, 5, 20, 60])
    columns = {"item": column_of(draw, events, "id"), "timestamp": column_of(draw, events, "time")}
    for name in ("user", "session"):
        if draw.random() < 0.7:
            columns[name] = column_of(draw, events, "id")
    try:
        log = pd.DataFrame(
            {name: pd.Series(values, dtype=draw.choice([object, None])) for name, values in columns.items()}
        )
    except (UnicodeEncodeError, OverflowError):  # pandas itself cannot make a typed column of these
        log = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    if draw.random() < 0.05:
        log = log.rename(columns={"item": "Item"})
    sessions = SessionInteractions.from_log(
        log, **({"timestamp_unit": draw.choice(["s", "ms", "us"])} if draw.random() < 0.3 else {})
    )
    require(len(sessions) == events, f"{events} events became {len(sessions)}")
    back = sessions.to_log()
    # Raw ids are equal if they are equal as dictionary keys.
    require(Counter(map(key_of, back["item"])) == Counter(map(key_of, log["item"])), "items changed")
    require(bool(np.isfinite(back["timestamp"]).all()), "a time is not a number")
    rows = to_session_sequences(sessions)
    require(int(rows.lengths.sum()) == events, "rows hold another number of events")
    require(rows.num_targets == events - sessions.num_sessions, "targets are not the events after a first")
    if draw.random() < 0.2:
        systems: list = [SequentialRules()]
        if draw.random() < 0.3:
            systems.append(
                ASARSSequenceModel(n_iter=1, embedding_dim=4, random_state=0, representation="asars_time_user")
            )
        for system in systems:
            system.fit(rows)
            ranks = rank_targets(system, rows).ranks
            require(bool(((ranks >= 1) & (ranks < max(2, rows.num_items))).all()), "a rank is out of range")
            answer = system.recommend(back["item"].tolist()[:3], k=3, return_scores=True)
            require(all(math.isfinite(score) for _, score in answer), "a score is not a number")
    return RIGHT


def key_of(value: object) -> object:
    """Return the Python value of an id, so that numpy's numbers compare as keys."""
    return value.item() if isinstance(value, np.generic) else value


# --- Requests ---


def fitted_systems() -> list:
    """Return a net and a non-neural system, fitted on a few sessions of the items a, b, c, d and 5."""
    log = pd.DataFrame(
        {
            "user": [1, 1, 1, "u", "u", "u"] * 4,
            "item": ["a", "b", "c", "d", 5, "a"] * 4,
            "timestamp": np.arange(24.0) * 40,
        }
    )
    rows = to_session_sequences(SessionInteractions.from_log(log))
    net = ASARSSequenceModel(n_iter=1, embedding_dim=4, random_state=0, representation="asars_time_user")
    return [net.fit(rows), SequentialRules().fit(rows)]


def strange_request(draw: random.Random, systems: list) -> str:
    """Call `recommend` with an odd history: the answer has known items and finite scores, at most k, best first."""
    system, length = draw.choice(systems), draw.choice([0, 1, 3, 10])
    items = [
        draw.choice([*"abcd", 5, 5.0, "5"]) if draw.random() < 0.9 else draw.choice(STRANGE) for _ in range(length)
    ]
    times: object = sorted(draw.randint(0, 500) for _ in range(length))
    if draw.random() < 0.4:
        times = [one if draw.random() < 0.8 else draw.choice(STRANGE) for one in times]
    if draw.random() < 0.1:
        times = times[:-1]
    arguments = {
        "timestamps": draw.choice([times, None]),
        "user": draw.choice([1, "u", "nobody", None, draw.choice(STRANGE)]),
    }
    arguments["k"] = draw.choice([1, 3, 99, draw.choice([0, -1, 1.5, "3", None, True])])
    if draw.random() < 0.2:
        arguments["now"] = draw.choice([1000, 0, draw.choice(STRANGE)])
    if draw.random() < 0.05:
        items = draw.choice(["abc", 5, None, [["a"], "b"], np.array(3)])
    answer = system.recommend(items, return_scores=True, **arguments)
    scores = [score for _, score in answer]
    require(
        all(math.isfinite(score) for score in scores) and scores == sorted(scores, reverse=True), "scores out of order"
    )
    require(
        len(answer) <= arguments["k"] and {item for item, _ in answer} <= {*"abcd", 5},
        "other answers than items",
    )
    return RIGHT


def strange_line(draw: random.Random, answers: Answers, moment: float) -> str:
    """Send a line that is or resembles JSON to live sessions; `moment` increases from line to line."""
    pieces = IN_JSON.split(";")
    if draw.random() < 0.5:
        request = {
            "user": draw.choice([1, "u", "x", None]),
            "item": draw.choice(["a", 5, "zz", None]),
            "timestamp": moment,
        }
        for _ in range(draw.randint(0, 2)):
            request[draw.choice(["user", "item", "timestamp", "now", "k", "session", "items", "what"])] = draw.choice(
                [None, True, "a", -1, 1e300, [], {}, [1, [2]], "é" * 1000, 2**100, 0.5]
            )
        line = json.dumps(request).encode()
    else:
        line = (
            "{" + ", ".join(f"{draw.choice(pieces)}: {draw.choice(pieces)}" for _ in range(draw.randint(0, 4))) + "}"
        ).encode()
    if draw.random() < 0.2:
        line = line[: draw.randrange(len(line) + 1)] + bytes([draw.randrange(256)])
    answer = answers.of_line(line)
    require(all(math.isfinite(score) for score in answer["scores"]), "a score is not a number")
    json.dumps(answer)
    return RIGHT


def one_case(run: Callable[[], str]) -> tuple[str, str]:
    """Return the outcome and, for a violation, its description."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)  # about unknown items
            return run(), ""
    except InputError as error:
        message = str(error)
        return (REFUSED, "") if len(message.splitlines()) == 1 else ("violation", f"not one line: {message!r:.200}")
    except Violation as error:
        return "violation", str(error)
    except Exception:
        return "violation", traceback.format_exc(limit=-3)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first case; each next case adds 1")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    systems, begin = fitted_systems(), time.perf_counter()
    answers, outcomes, violations = Answers(systems[0], 5, with_scores=True), Counter(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds: dict[str, Callable[[random.Random], str]] = {
            "damaged file": lambda draw: damaged_file(draw, folder),
            "harmless change": lambda draw: harmless_change(draw, folder),
            "strange table": lambda draw: strange_table(draw, folder),
            "strange request": lambda draw: strange_request(draw, systems),
            "strange line": lambda draw: strange_line(draw, answers, 10.0 * sum(outcomes.values())),
        }
        for case in range(options.cases):
            kind, run = list(kinds.items())[case % len(kinds)]
            seed = options.seed + case
            outcome, what = one_case(lambda run=run, seed=seed: run(random.Random(seed)))
            outcomes[kind, outcome] += 1
            if outcome == "violation":
                violations.append({"kind": kind, "seed": seed, "what": what})
                print(f"{kind}, seed {seed}: {what}", file=sys.stderr)
    seconds = time.perf_counter() - begin
    table = {kind: {outcome: outcomes[kind, outcome] for outcome in (RIGHT, REFUSED, "violation")} for kind in kinds}
    print(f"{'kind':<16} {RIGHT:>8} {REFUSED:>8} {'violation':>10}")
    for kind, found in table.items():
        print(f"{kind:<16} {found[RIGHT]:8d} {found[REFUSED]:8d} {found['violation']:10d}")
    print(f"{options.cases} cases in {seconds:.0f} s")
    if options.out:
        about = {"cases": options.cases, "seed": options.seed, "seconds": seconds, "python": platform.python_version(),
                 "processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__,
                 "pandas": pd.__version__}  # fmt: skip
        write_whole(options.out, json.dumps({**about, "outcomes": table, "violations": violations}, indent=1) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
