"""
Prepare a log of any size: write it as one file of flat arrays, in memory that does not grow with its events.

The log is read once, in blocks. Its events are distributed over temporary files by user, then sorted one group of users
at a time. Memory holds a block of events, the raw ids, the session boundaries and one group of users.
``spotlight_asars.datasets.prepared`` describes and reads the file.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from spotlight_asars.datasets._table import in_one_type
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sessionization import (
    ANONYMOUS_USER,
    NO_SESSION_GAP,
    SESSION_GAP,
    cut_sessions,
    session_starts,
)
from spotlight_asars.interactions.sessions import LogCounts
from spotlight_asars.interactions.times import duration_in_seconds
from spotlight_asars.interactions.vocabulary import Vocabulary, in_order_of_appearance
from spotlight_asars.serialization.files import folder_beside
from spotlight_asars.serialization.hdf5 import PREPARED_LOG, write_arrays, write_plain, write_sealed_on_disk

# An event in a temporary file. Events of one owner stay together: the owner is the user, or the session without users.
EVENT = np.dtype([("owner", "<i4"), ("item", "<i4"), ("time", "<f8")])
EVENT_WITH_SESSION = np.dtype([*EVENT.descr, ("session", "<i4")])
OWNERS_PER_FILE = 1 << 12  # of the temporary files
GROUP_EVENTS = 1 << 22  # sorted in memory at a time
FEWEST_NEW = 1 << 16  # ids that a growing vocabulary keeps apart before it rebuilds its index
WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)


def prepare(
    blocks: Iterable[pd.DataFrame],
    path: str | os.PathLike,
    session_gap: float = SESSION_GAP,
    shard: tuple[int, int] = (1, 1),
    report: Callable[[str], None] = lambda line: None,
) -> LogCounts:
    """
    Write a log as one HDF5 file of flat arrays, in memory that does not grow with its events.

    Parameters
    ----------
    blocks : iterable of DataFrame
        The log in pieces, as the ``blocks`` of ``FORMATS`` yield it: `item`, `timestamp`, and `user` or `session` or
        both.
    path : path
        The file to write. It appears only when it is complete, and the same log gives the same bytes. Temporary files
        beside it take up to twice its size.
    session_gap : float, str or timedelta, optional
        Inactivity that ends a session, if the log has no sessions of its own: seconds, or a duration such as '1h'.
    shard : (int, int), optional
        (k, n) keeps the users (the sessions, if there are no users) of the k-th of n shards, with k from 1. A user is
        in the same shard in every process and on every machine. ``LogOnDisk`` reads the shards together.
    report : callable, optional
        Called with lines of progress.

    Returns
    -------
    LogCounts

    Raises
    ------
    InputError
        If the log is invalid or empty, or the file cannot be written.

    Notes
    -----
    Events are sorted as by ``SessionInteractions.from_log``, users by first appearance; the sessions of a log without
    users are sorted by first appearance.
    """
    path = Path(path)
    session_gap = duration_in_seconds("session_gap", session_gap)
    with folder_beside(path) as folder:
        scan = _Scan(folder, shard)
        for block in blocks:
            scan.add(block)
        if not scan.events:
            raise InputError(f"{path}: no event is left to prepare: check the log and the shard")
        report(f"{scan.events:,} events of {len(scan.owners):,} {scan.kind}s read; ordering them")
        writer = _Writer(scan, NO_SESSION_GAP if scan.has_sessions else session_gap)
        with _write_errors(path):
            write_sealed_on_disk(path, writer.fill, PREPARED_LOG)
    has_users = scan.kind == "user"
    return LogCounts(scan.events, len(scan.owners) if has_users else 0, len(scan.items), writer.sessions)


def read_blocks(
    paths: Iterable[str | os.PathLike], blocks_of: Callable[[str | os.PathLike], Iterator[pd.DataFrame]]
) -> Iterator[pd.DataFrame]:
    """Yield the blocks of several files of one log, one file after the other."""
    for path in paths:
        yield from blocks_of(path)


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn HDF5's errors, such as of a full disk, into an InputError."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be written ({reason}): free some space, or choose another place") from error


class _Scan:
    """Number the ids of a log and distribute its events over temporary files by owner."""

    def __init__(self, folder: Path, shard: tuple[int, int]) -> None:
        self._folder, self._shard = folder, shard
        self.items, self.owners, self._sessions = GrowingVocabulary(), GrowingVocabulary(), GrowingVocabulary()
        self.events, self.kind, self._columns = 0, None, None
        self.events_in: dict[int, int] = {}  # number of events by file

    @property
    def has_sessions(self) -> bool:
        """Whether the log has its own sessions."""
        return self._columns is not None and "session" in self._columns

    def add(self, block: pd.DataFrame) -> None:
        columns = [name for name in ("user", "session") if name in block]
        if self._columns is None:
            if not columns:
                raise InputError("the log has neither a column 'user' nor 'session': give at least one")
            self._columns, self.kind = columns, columns[0]
        elif columns != self._columns:
            raise InputError(f"a block of the log has {columns}, but the first had {self._columns}: prepare them apart")
        if self._shard[1] > 1:
            block = block[shard_of(block[self.kind], self._shard[1]) == self._shard[0] - 1]
        if not len(block):
            return
        has_sessions = len(columns) == 2
        events = np.empty(len(block), dtype=EVENT_WITH_SESSION if has_sessions else EVENT)
        events["owner"] = self.owners.number(block[self.kind])
        events["item"] = self.items.number(block["item"])
        events["time"] = block["timestamp"]
        if has_sessions:
            events["session"] = self._sessions.number(block["session"])
        self.events += len(events)
        self._append_to_files(events)

    def _append_to_files(self, events: np.ndarray) -> None:
        file = events["owner"] // OWNERS_PER_FILE  # (events,)
        lowest, number = int(file.min()), int(file.max() - file.min()) + 1
        # 16-bit integers get a radix sort, which is fast and stable.
        order = np.argsort((file - lowest).astype(np.uint16 if number <= 1 << 16 else np.int32), kind="stable")
        ends = np.cumsum(np.bincount(file - lowest, minlength=number))
        events = events[order]
        for file_number, end in enumerate(ends):
            begin = ends[file_number - 1] if file_number else 0
            if end > begin:
                name = lowest + file_number
                with (self._folder / str(name)).open("ab") as out:
                    events[begin:end].tofile(out)
                self.events_in[name] = self.events_in.get(name, 0) + int(end - begin)

    def groups(self) -> Iterator[np.ndarray]:
        """Yield the events, some files at a time and owners in order; delete each file once it is read."""
        dtype = EVENT_WITH_SESSION if len(self._columns) == 2 else EVENT
        parts, size = [], 0
        for name in sorted(self.events_in):
            if parts and size + self.events_in[name] > GROUP_EVENTS:
                yield np.concatenate(parts)
                parts, size = [], 0
            file = self._folder / str(name)
            parts.append(np.fromfile(file, dtype=dtype))
            size += self.events_in[name]
            file.unlink()
        yield np.concatenate(parts)


def shard_of(raw_ids: pd.Series, shards: int) -> np.ndarray:
    """Return the shard, from 0, of each raw id, the same for an integer and its text; shape (events,)."""
    codes, distinct = in_order_of_appearance(raw_ids)
    if np.asarray(distinct).dtype.kind in "iu":
        hashes = pd.util.hash_array(np.asarray(distinct).astype(np.int64))
    else:
        texts = np.asarray(distinct, dtype=object)
        hashes = pd.util.hash_array(texts, categorize=False)
        whole = np.array([WHOLE_NUMBER.fullmatch(text) is not None for text in texts], dtype=bool)
        hashes[whole] = pd.util.hash_array(texts[whole].astype(np.int64))
    return (hashes % np.uint64(shards)).astype(np.int64)[codes]


class GrowingVocabulary:
    """
    A vocabulary that grows with the log: it numbers raw ids 1, 2, ... by first appearance, one block at a time.

    The result equals ``Vocabulary.fit`` on all blocks at once. New ids are kept apart until they outnumber a quarter of
    the known ones; only then is the large index rebuilt, so the cost per id does not grow with their number.
    """

    def __init__(self) -> None:
        self._known: pd.Index | None = None
        self._new: pd.Index | None = None

    def __len__(self) -> int:
        return 0 if self._known is None else len(self._known) + len(self._new)

    def number(self, raw_ids: pd.Series) -> np.ndarray:
        """Return the numbers of a block's raw ids, which are integers or text; int32, shape (events,)."""
        codes, distinct = in_order_of_appearance(raw_ids)
        if self._known is None:
            self._known = self._new = distinct[:0]
        self._known, self._new, distinct = in_one_type([self._known, self._new, distinct])
        numbers = self._known.get_indexer(distinct) + 1  # (distinct,)
        missing = np.flatnonzero(numbers == 0)
        found = self._new.get_indexer(distinct[missing])
        numbers[missing] = np.where(found >= 0, len(self._known) + 1 + found, 0)
        unseen = missing[found < 0]
        numbers[unseen] = len(self) + 1 + np.arange(len(unseen))
        self._new = self._new.append(distinct[unseen])
        if len(self._new) > len(self._known) // 4 + FEWEST_NEW:
            self._known, self._new = self._known.append(self._new), self._new[:0]
        return numbers.astype(np.int32)[codes]

    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary of all ids so far."""
        ids = self._known.append(self._new)
        return Vocabulary(ids.to_numpy())


class _Writer:
    """Write the sorted events of a scan as the arrays of a prepared log."""

    def __init__(self, scan: _Scan, session_gap: float) -> None:
        self._scan, self._session_gap = scan, session_gap
        self.sessions = 0

    def fill(self, file: h5py.File) -> None:
        scan, has_users = self._scan, self._scan.kind == "user"
        items = file.create_dataset("items", (scan.events,), np.int32)
        timestamps = file.create_dataset("timestamps", (scan.events,), np.float64)
        begin, session_begins, session_users = 0, [], []
        for events in scan.groups():
            owners, times = events["owner"], events["time"]
            # Without users the owner is the session, so each owner has just one session.
            sessions = events["session"] if "session" in events.dtype.names else None
            order, session = cut_sessions(
                owners, times, sessions if has_users else np.zeros(len(events), np.int8), self._session_gap
            )
            end = begin + len(events)
            items[begin:end], timestamps[begin:end] = events["item"][order], times[order]
            first = np.flatnonzero(session_starts(session))
            session_begins.append(begin + first)
            users = owners[order[first]]
            session_users.append(users if has_users else np.full_like(users, ANONYMOUS_USER))
            self.sessions += len(first)
            begin = end
        file["session_offsets"] = np.concatenate([*session_begins, [scan.events]])
        file["session_users"] = np.concatenate(session_users)
        write_vocabulary(file, "item_vocabulary", scan.items.vocabulary())
        if has_users:
            write_vocabulary(file, "user_vocabulary", scan.owners.vocabulary())
        write_plain(file, "about", {"session_gap": float(self._session_gap)})


def write_vocabulary(file: h5py.File, name: str, vocabulary: Vocabulary) -> None:
    """Write a vocabulary as a group."""
    state = vocabulary.state()
    group = file.create_group(name)
    write_plain(group, "fitted", state.fitted)
    write_arrays(group.create_group("arrays"), state.arrays)
