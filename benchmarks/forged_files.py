"""
Forge files of every kind, with a right checksum: each must be read, or refused by an InputError of one line.

    OMP_NUM_THREADS=1 python benchmarks/forged_files.py --files 1000 --out benchmarks/results/forged_files.json

Models, checkpoints, live sessions and prepared logs are forged in turn. A forgery changes one to three things in a file
that the package wrote: values, types, shapes or storage of its arrays, its links, attributes, JSON and bytes. A file
that is read is also used: the model recommends, the checkpoint is fitted to its end, the sessions go on, the log is
read through.

A violation is any other error, a message of several lines, a process that dies or takes longer than LONGEST seconds,
more memory than MOST_TIMES the size of the file beyond FREE_MIB, or a file that is read although it leads to another
file, is compressed, or is linked in a circle. It is printed with its seed, and the exit status is 1.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import h5py
import numpy as np
import pandas as pd
import torch
from measuring import about_this_run, peak_mib, take_back_peak

from spotlight_asars.datasets.prepare import prepare
from spotlight_asars.datasets.prepared import LogOnDisk
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.files import write_whole
from spotlight_asars.serialization.hdf5 import (
    CHECKPOINT,
    LIVE_SESSIONS,
    MODEL_FILE,
    PREPARED_LOG,
    SEAL_BYTES,
    FileKind,
    write_seal,
    write_sealed,
)
from spotlight_asars.serialization.models import load_model, load_sessions, save_model, save_sessions

READ, REFUSED, VIOLATION = "read", "refused", "violation"
LONGEST = 30  # seconds of work
LONGEST_WAIT = 300  # seconds on a busy machine
FREE_MIB = 64
MOST_TIMES = 50
MOST_ADDRESSES = 8 << 30  # bytes a process may reserve, so that a bomb harms nothing else
FILES_A_PROCESS = 50
MEMORY = Path("/dev/shm")
HUGE = 2**40
STRANGE_NUMBERS = [0, -1, 1, 7, 255, 20_000, 200_000_000, 2**31 - 1, 2**31, -(2**31), 2**62, -(2**63), 1e30, -0.5]
STRANGE_FLOATS = [*STRANGE_NUMBERS, float("nan"), float("inf"), -float("inf")]
STRANGE_JSON = [*STRANGE_FLOATS, None, True, "", "x", "x" * 10_000, [], {}, [1], {"a": 1}, 2**70, "MT19937", "\x1b[31m"]
TYPES = ["i1", "i2", "i4", "i8", "u1", "u8", "f2", "f4", "f8", ">i4", ">f8", "?"]


class Inapplicable(Exception):
    """A change that this file has no place for."""


# --- What is forged ---


def small_rows() -> SessionSequences:
    """Return rows of 12 users and 14 items."""
    return to_session_sequences(SessionInteractions.from_log(small_log()), max_sequence_length=20)


def small_log() -> pd.DataFrame:
    """Return a log of 200 events."""
    draw = np.random.RandomState(0)
    return pd.DataFrame(
        {
            "user": draw.randint(100, 112, size=200),
            "item": np.array([f"item {number}" for number in range(14)], dtype=object)[draw.randint(14, size=200)],
            "timestamp": np.sort(draw.randint(0, 200_000, size=200)).astype(float),
        }
    )


def small_model(representation: str = "asars_time_user", **settings: object) -> ASARSSequenceModel:
    """Return an unfitted model."""
    options = {"hidden_dim": 6, "pointer": True, "context": ("hour",)}
    if representation == "gru4rec":
        options = {"hidden_dim": 6}
    defaults = {"embedding_dim": 6, "n_iter": 2, "batch_size": 4, "random_state": 3, "representation_options": options}
    return ASARSSequenceModel(representation=representation, **{**defaults, **settings})


class Originals:
    """Files that the package wrote, by kind, and what a reader of each does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rows = folder, small_rows()
        self.model = small_model().fit(self.rows)
        self.readers: dict[FileKind, Callable[[Path], None]] = {
            MODEL_FILE: self.use_model,
            CHECKPOINT: self.use_checkpoint,
            LIVE_SESSIONS: self.use_sessions,
            PREPARED_LOG: self.use_log,
        }
        self.files = {
            MODEL_FILE: self.models(),
            CHECKPOINT: self.checkpoints(),
            LIVE_SESSIONS: self.sessions(),
            PREPARED_LOG: self.logs(),
        }

    def models(self) -> list[Path]:
        """Write a model of every sort."""
        members = [Member(lambda epochs: small_model("gru4rec", n_iter=epochs), 1), Member(lambda epochs: VSTAN(k=5))]
        systems = [
            self.model,
            small_model("gru4rec", loss="bpr_max", sampling="shared", optimizer_func=torch.optim.Adagrad).fit(
                self.rows
            ),
            small_model("lstm", representation_options=None).fit(self.rows),
            small_model("wavenet_cnn", representation_options=None).fit(self.rows),
            small_model(),
            Popularity().fit(self.rows),
            SequentialRules().fit(self.rows),
            VSTAN(k=5).fit(self.rows),
            SessionMemory(rounds=1, steps=4).fit(self.rows),
            TwoStageRanker(members, candidates=5, ranking=RankingNets(nets=1, epochs=1)).fit(self.rows),
        ]
        paths = [self.folder / f"model {place}.h5" for place in range(len(systems))]
        for system, path in zip(systems, paths, strict=True):
            save_model(system, path)
        return paths

    def use_model(self, path: Path) -> None:
        """Load a model and recommend."""
        model = load_model(path)
        if model.is_fitted:
            known = list(model.raw_items.raw_ids[:2])
            model.recommend(known, [1e6, 1e6 + 30], user=105, k=3)
            model.predict([1], item_ids=[1])

    def checkpoints(self) -> list[Path]:
        """Write checkpoints of one epoch of two."""
        paths = [self.folder / f"checkpoint {place}.h5" for place in range(2)]
        small_model(n_iter=1).fit(self.rows, checkpoint=paths[0])
        small_model("gru4rec", n_iter=1, sparse=True).fit(self.rows, validation=self.rows, checkpoint=paths[1])
        return paths

    def use_checkpoint(self, path: Path) -> None:
        """Resume from a checkpoint of either call."""
        try:
            small_model().fit(self.rows, checkpoint=path)
        except InputError as error:
            if "another call" not in str(error):
                raise
            small_model("gru4rec", sparse=True).fit(self.rows, validation=self.rows, checkpoint=path)

    def sessions(self) -> list[Path]:
        """Write live sessions of both sorts."""
        both, users = LiveSessions(self.model, [None, 105]), LiveUsers(self.model, most=70)
        for step in range(8):
            items = [f"item {step}", f"item {(step * 5) % 14}"]
            both.observe(items, [1e6 + 500.0 * step, 1e6 + 900.0 * step])
            users.observe(f"key {step % 3}", items[0], 1e6 + 500.0 * step)
        paths = [self.folder / "sessions.h5", self.folder / "users.h5"]
        for sessions, path in zip((both, users), paths, strict=True):
            save_sessions(sessions, path)
        return paths

    def use_sessions(self, path: Path) -> None:
        """Load live sessions and go on with them."""
        sessions = load_sessions(path, self.model)
        if isinstance(sessions, LiveUsers):
            for key in ("key 0", "key 2", "new"):
                sessions.observe(key, "item 3", 3e9)
                sessions.recommend(key, k=3, now=3e9 + 60, exclude_seen=True)
        else:
            sessions.observe(["item 3"] * len(sessions), [3e9] * len(sessions))
            sessions.recommend(k=3, now=3e9 + 60, exclude_seen=True)

    def logs(self) -> list[Path]:
        """Write a prepared log with users and one without."""
        log = small_log()
        paths = [self.folder / "log.h5", self.folder / "anonymous.h5"]
        prepare([log], paths[0])
        prepare([log.rename(columns={"user": "session"})], paths[1])
        return paths

    def use_log(self, path: Path) -> None:
        """Read a log through."""
        log = LogOnDisk(path)
        rows = log.rows(max_sequence_length=8)
        rows.events_of(np.arange(len(rows)))
        to_session_sequences(log.interactions())


# --- How it is forged ---


def objects(file: h5py.File) -> tuple[list[str], list[str], list[str]]:
    """Return the names of all groups, of arrays, and of JSON."""
    groups, arrays, texts = [], [], []

    def visit(name: str, found: h5py.Group | h5py.Dataset) -> None:
        if isinstance(found, h5py.Group):
            groups.append(name)
        else:
            (texts if found.dtype.kind == "S" else arrays).append(name)

    file.visititems(visit)
    return groups, arrays, texts


def everything(file: h5py.File) -> list[str]:
    """Return the names of all objects."""
    groups, arrays, texts = objects(file)
    return groups + arrays + texts


def an_array(draw: random.Random, file: h5py.File) -> str:
    """Return the name of an array."""
    return draw.choice(objects(file)[1])


def replace(file: h5py.File, name: str, **dataset: object) -> None:
    """Put another dataset in the place of one."""
    del file[name]
    file.create_dataset(name, **dataset)


def change_values(draw: random.Random, file: h5py.File) -> None:
    name = an_array(draw, file)
    values = file[name][()]
    if not np.size(values):
        raise Inapplicable
    values = np.array(values)
    for _ in range(draw.choice([1, 1, 3])):
        strange = draw.choice(STRANGE_FLOATS)
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            values.reshape(-1)[draw.randrange(values.size)] = np.array([strange]).astype(values.dtype)[0]
    if draw.random() < 0.2:
        values[...] = values.reshape(-1)[0]
    replace(file, name, data=values)


def change_type(draw: random.Random, file: h5py.File) -> None:
    name = an_array(draw, file)
    with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
        replace(file, name, data=file[name][()].astype(draw.choice(TYPES)))


def change_shape(draw: random.Random, file: h5py.File) -> None:
    name = an_array(draw, file)
    values = np.atleast_1d(file[name][()])
    shapes = [
        lambda: values[:-1],
        lambda: values[:0],
        lambda: np.concatenate([values, values]),
        lambda: np.concatenate([values, values[-1:]]),
        lambda: values[None],
        lambda: values[..., None],
        lambda: values.T,
        lambda: values.reshape(-1),
        lambda: values.reshape(-1)[0],
        lambda: np.zeros((0, 3), values.dtype),
    ]
    try:
        replace(file, name, data=draw.choice(shapes)())
    except IndexError as error:
        raise Inapplicable from error


def change_kind(draw: random.Random, file: h5py.File) -> None:
    name = an_array(draw, file)
    kinds = [
        {"data": np.bytes_("text")},
        {"data": np.array(["a"], dtype=object), "dtype": h5py.string_dtype()},
        {"data": np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])},
        {"data": np.array([1j])},
        {"data": h5py.Empty("f8")},
        {"shape": (HUGE,), "dtype": "f8"},
        {"shape": (2**32, 2**32), "dtype": "f4"},
    ]
    replace(file, name, **draw.choice(kinds))


def change_json(draw: random.Random, file: h5py.File) -> None:
    name = draw.choice(objects(file)[2])
    text = file[name][()].decode()
    if draw.random() < 0.1:
        text = draw.choice(["{", "[]", "3", "null", "[" * 200_000, '{"a":' * 5_000, "\x00", text[: len(text) // 2]])
        replace(file, name, data=np.bytes_(text))
        return
    found = json.loads(text)
    holder = found
    for _ in range(draw.randint(0, 6)):
        inside = [one for one in (holder.values() if isinstance(holder, dict) else holder) if one]
        inside = [one for one in inside if isinstance(one, dict | list)]
        if not inside:
            break
        holder = draw.choice(inside)
    places = list(holder) if isinstance(holder, dict) else range(len(holder))
    place, how = draw.choice(list(places)), draw.random()
    if how < 0.7:
        holder[place] = draw.choice(STRANGE_JSON)
    elif how < 0.85:
        del holder[place]
    elif isinstance(holder, dict):
        holder[draw.choice(["strange", "__class__", "model", "fitted", ""])] = holder[place]
    else:
        holder.extend(holder * draw.choice([1, 1000]))
    replace(file, name, data=np.bytes_(json.dumps(found)))


def drop(draw: random.Random, file: h5py.File) -> None:
    del file[draw.choice(everything(file))]


def swap(draw: random.Random, file: h5py.File) -> None:
    """Put one object in the place of another."""
    names = everything(file)
    one, other = draw.sample(names, 2)
    if one.startswith(other) or other.startswith(one):
        raise Inapplicable
    del file[one]
    file.copy(other, file[one.rpartition("/")[0] or "/"], one.rpartition("/")[2])


def link_again(draw: random.Random, file: h5py.File) -> None:
    """Link one object a second time, in the place of another."""
    groups, arrays, texts = objects(file)
    one, other = draw.sample(draw.choice([groups, arrays + texts]), 2)
    if one.startswith(other) or other.startswith(one):
        raise Inapplicable
    found = file[other]
    del file[one]
    file[one] = found


def change_matrix(draw: random.Random, file: h5py.File) -> None:
    groups = [name for name in objects(file)[0] if len(file[name].attrs)]
    if not groups:
        raise Inapplicable
    attributes = file[draw.choice(groups)].attrs
    shapes = [(HUGE, 15), (15, HUGE), (-1, 15), (14, 15), (15,)]
    attributes["csr_matrix"] = draw.choice([*map(np.array, shapes), "text", 1.5])


def external(draw: random.Random, file: h5py.File) -> None:
    name = an_array(draw, file)
    kind, shape = file[name].dtype, file[name].shape
    replace(file, name, shape=shape or (1,), dtype=kind, external=[(__file__, 0, h5py.h5f.UNLIMITED)])


def virtual(draw: random.Random, file: h5py.File) -> None:
    name = an_array(draw, file)
    shape = file[name].shape or (1,)
    layout = h5py.VirtualLayout(shape=shape, dtype=file[name].dtype)
    if not np.prod(shape):
        raise Inapplicable
    layout[:] = h5py.VirtualSource("other.h5", "secret", shape=shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def compressed(draw: random.Random, file: h5py.File) -> None:
    name = an_array(draw, file)
    replace(file, name, shape=(2**31,), dtype=file[name].dtype, chunks=(2**20,), compression="gzip")


def linked_elsewhere(draw: random.Random, file: h5py.File) -> None:
    name, other = draw.choice(everything(file)), draw.choice(everything(file))
    del file[name]
    file[name] = draw.choice([h5py.SoftLink(f"/{other}"), h5py.ExternalLink("other.h5", "secret")])


def diamond(draw: random.Random, file: h5py.File) -> None:
    """25 groups, each linked twice from the one above: 2**25 ways down."""
    group = file[draw.choice([name for name in objects(file)[0] if not name.endswith("parts")])]
    for _ in range(25):
        below = group.create_group("left")
        group["right"] = below
        group = below


def circle(draw: random.Random, file: h5py.File) -> None:
    groups = objects(file)[0]
    group = file[draw.choice(groups)]
    group["again"] = file["/"] if draw.random() < 0.5 else group


CHANGES = [change_values, change_values, change_type, change_shape, change_kind, change_json, change_json]
CHANGES += [drop, swap, link_again, change_matrix]
NEVER_READ = [external, virtual, compressed, linked_elsewhere, diamond, circle]


def forge(draw: random.Random, original: Path, path: Path, kind: FileKind) -> list[str]:
    """Write a changed copy of a file, with a right checksum; return the names of the changes."""
    while True:
        chosen = [draw.choice(CHANGES) for _ in range(draw.choice([1, 1, 2, 3]))]
        if draw.random() < 0.25:
            chosen.append(draw.choice(NEVER_READ))

        def fill(file: h5py.File, chosen: list = chosen) -> None:
            with h5py.File(original) as source:
                for name in source:
                    source.copy(name, file)
            for change in chosen:
                change(draw, file)

        try:
            write_sealed(path, fill, kind)
        except (Inapplicable, KeyError, IndexError, ValueError, TypeError, OSError, RuntimeError, MemoryError):
            continue  # nothing of the sort is in what the earlier changes have left
        if draw.random() < 0.1:
            change_bytes(draw, path, kind)
            chosen.append(change_bytes)
        return [change.__name__ for change in chosen]


def change_bytes(draw: random.Random, path: Path, kind: FileKind) -> None:
    """Change a few bytes anywhere in a file, and renew its checksum."""
    with path.open("r+b") as file:
        for _ in range(draw.choice([1, 2, 5])):
            file.seek(draw.randrange(SEAL_BYTES, path.stat().st_size))
            file.write(bytes([draw.randrange(256)]))
        write_seal(file, kind)


# --- What comes of it ---


def outcome_of(use: Callable[[Path], None], path: Path, changes: list[str]) -> dict[str, object]:
    """Return the outcome for one file, what was wrong in case of a violation, and the memory it took in MiB."""
    size = path.stat().st_size
    before = take_back_peak()
    begin = time.perf_counter()
    outcome, what = READ, ""
    try:
        with warnings.catch_warnings(action="ignore"):
            use(path)
        if "change_bytes" in changes:  # which may have undone the others
            changes = []
        if never := {change.__name__ for change in NEVER_READ} & set(changes):
            outcome, what = VIOLATION, f"it was read, with {never}"
    except InputError as error:
        outcome = REFUSED
        if len(str(error).splitlines()) != 1 or not str(error).isprintable() or len(str(error)) > 1000:
            outcome, what = VIOLATION, f"the message is not a line of text: {str(error)!r:.200}"
        if isinstance(error.__cause__, MemoryError):
            outcome, what = VIOLATION, "it took more memory than there is"
    except BaseException:
        outcome, what = VIOLATION, traceback.format_exc(limit=-4)
    taken = peak_mib() - before
    if taken > FREE_MIB + MOST_TIMES * size / 2**20:
        outcome, what = VIOLATION, f"it took {taken:.0f} MiB"
    return {"outcome": outcome, "what": what, "mib": taken, "seconds": time.perf_counter() - begin}


def forge_all(originals: Originals, kind: FileKind, seeds: range, out: TextIO) -> None:
    """Forge and use the files of some seeds; write two lines of JSON for each, before and after it is used."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    for seed in seeds:
        original = originals.files[kind][seed % len(originals.files[kind])]
        path = originals.folder / "forged.h5"
        changes = forge(random.Random(seed), original, path, kind)
        about = {"kind": kind.name, "seed": seed, "original": original.name, "changes": changes}
        print(json.dumps(about), file=out, flush=True)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)  # ends the process, as the alarm does
        signal.alarm(LONGEST_WAIT)
        found = outcome_of(originals.readers[kind], path, changes)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        print(json.dumps(found), file=out, flush=True)


def in_a_process(originals: Originals, kind: FileKind, seeds: range) -> list[dict[str, object]]:
    """Forge and use the files of some seeds in a process of their own, which may die."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            with os.fdopen(writing, "w") as out:
                forge_all(originals, kind, seeds, out)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)  # not up through the caller, whose folder it would remove
    os.close(writing)
    with os.fdopen(reading) as lines:
        told = [json.loads(line) for line in lines]
    status = os.waitpid(child, 0)[1]
    if len(told) % 2:
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"status {status}"
        told.append({"outcome": VIOLATION, "what": f"the process ended with {name}", "mib": 0.0, "seconds": 0.0})
    return [{**about, **found} for about, found in zip(told[::2], told[1::2], strict=True)]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000, help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first file, then counted up (%(default)s)")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    about, begin, found = about_this_run(), time.perf_counter(), []
    folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))  # a disk would be waited for
    try:
        originals = Originals(folder)
        with h5py.File(folder / "other.h5", "w") as other:
            other["secret"] = np.arange(1000.0)
        for kind, use in originals.readers.items():
            for original in originals.files[kind]:
                use(Path(shutil.copy(original, folder / "whole.h5")))  # unchanged, each is read
            seed, end = options.seed, options.seed + options.files
            while seed < end:
                told = in_a_process(originals, kind, range(seed, min(seed + FILES_A_PROCESS, end)))
                found += told
                seed = told[-1]["seed"] + 1
    finally:
        shutil.rmtree(folder)
    return report(found, {**about, "files": options.files, "seconds": time.perf_counter() - begin}, options.out)


def report(found: list[dict[str, object]], about: dict[str, object], out: Path | None) -> int:
    """Print the figures and write them; return the exit status."""
    kinds = list(dict.fromkeys(one["kind"] for one in found))
    table, violations = {}, [one for one in found if one["outcome"] == VIOLATION]
    print(f"{'kind':<16} {READ:>8} {REFUSED:>8} {VIOLATION:>10} {'most MiB':>9} {'longest s':>10}")
    for kind in kinds:
        own = [one for one in found if one["kind"] == kind]
        counts = Counter(one["outcome"] for one in own)
        most, longest = max(one["mib"] for one in own), max(one["seconds"] for one in own)
        table[kind] = {name: counts[name] for name in (READ, REFUSED, VIOLATION)} | {"mib": most, "seconds": longest}
        line = f"{counts[READ]:8d} {counts[REFUSED]:8d} {counts[VIOLATION]:10d} {most:9.1f} {longest:10.2f}"
        print(f"{kind:<16} {line}")
    for one in violations:
        print(f"{one['kind']}, seed {one['seed']}, {one['changes']}: {one['what']}", file=sys.stderr)
    if out:
        write_whole(out, json.dumps({**about, "outcomes": table, "violations": violations}, indent=1) + "\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
