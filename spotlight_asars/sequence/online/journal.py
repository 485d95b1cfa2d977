"""
An append-only journal of numbered records, which survives the end of its process at any moment.

A record is one line: a CRC-32 in hexadecimal, the record's number, and JSON. Records lie in parts, files of some
megabytes that are named after the number of their first record, so that old ones can be removed.
"""

import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from spotlight_asars.errors import InputError

PART_BYTES = 2**24  # a part that has grown to this size is followed by another
MOST_WAITING = 100_000  # records that wait in memory for room on the disk
RETRY_SECONDS = 1.0  # before a disk that refused is tried again
LOST = "lost"  # [LOST, first]: the records from `first` up to this one never reached the disk
_LINE = re.compile(rb"([0-9a-f]{8}) ((\d{1,18}) (.*))\n", re.DOTALL)


class MissingRecords(InputError):
    """A journal begins after the state that it should continue."""


@dataclass(frozen=True)
class Part:
    """One file of a journal, and the number of its first record."""

    first: int
    path: Path


class Journal:
    """
    The journal of one state file.

    A record belongs to the operating system once :meth:`append` returns, and survives the end of the process by any
    signal; after :meth:`sync` it survives a power failure too. While the disk refuses, records wait in memory. Call
    :meth:`read` before the first :meth:`append`. Only :meth:`sync` may be called while another thread uses the journal.

    Parameters
    ----------
    path : path
        Of the state file; the parts lie beside it.
    report : callable
        Takes a line when the disk begins to refuse, and when it accepts again.
    """

    def __init__(self, path: Path, report: Callable[[str], None]) -> None:
        self._path, self._report = path, report
        self._name = re.compile(re.escape(path.name) + r"\.journal-(\d{18})")
        self._last: Part | None = None  # where appending goes on, unless it is full
        self._file: int | None = None  # descriptor of the part that is written
        self._size = 0  # bytes of good records in it
        self._is_torn = False  # whether something else follows them
        self._waiting: list[tuple[int, int, bytes]] = []  # first and last number that a line stands for, and the line
        self._retry_at = -float("inf")
        self._is_refused = False
        self._written = self._synced = 0  # number of the last record written, and of the last one forced to disk
        self._sync_lock = Lock()  # guards the descriptor and what was forced to disk

    @property
    def waiting(self) -> int:
        """How many records are not written yet."""
        return len(self._waiting)

    def parts(self) -> list[Part]:
        """Return the parts that exist, oldest first."""
        found = ((self._name.fullmatch(path.name), path) for path in self._path.parent.iterdir())
        return sorted((Part(int(name[1]), path) for name, path in found if name), key=lambda part: part.first)

    def last_number(self) -> int:
        """Return the number of the last record, 0 if there is none."""
        for _ in self.read(after=10**18):
            pass
        return self._written

    def read(self, after: int, with_gaps: bool = False) -> Iterator[tuple[int, list]]:
        """
        Yield the records after a number; a torn last record is dropped.

        Parameters
        ----------
        after : int
            Number of the last record that is known already.
        with_gaps : bool, optional
            Report missing records and go on.

        Yields
        ------
        (number, record) : int and list

        Raises
        ------
        MissingRecords
            If the first record that exists is not the next one.
        InputError
            If a part is damaged in its middle, or cannot be read.
        """
        parts = self.parts()
        for place, part in enumerate(parts):
            is_last = part is parts[-1]
            if not is_last and parts[place + 1].first <= after + 1:
                continue
            for number, record in self._records_of(part, is_last):
                if number <= after:
                    continue
                first = record[1] if record[0] == LOST else number
                if first > after + 1:
                    missing = f"its changes {after + 1} to {first - 1} are missing from the journal"
                    if not with_gaps:
                        raise MissingRecords(f"{self._path}: {missing}")
                    self._report(f"{self._path}: {missing}")
                after = number
                if record[0] == LOST:
                    self._report(f"{self._path}: changes {first} to {number} never reached the full disk")
                else:
                    yield number, record

    def _records_of(self, part: Part, is_last: bool) -> Iterator[tuple[int, list]]:
        """Yield the records of a part; prepare to append to the last one."""
        size, torn = 0, False
        try:
            with part.path.open("rb") as file:
                for line in file:
                    found = _LINE.fullmatch(line)
                    is_good = found is not None and int(found[1], 16) == zlib.crc32(found[2])
                    if is_good and torn:
                        raise InputError(
                            f"{part.path}: damaged at byte {size}, with good records behind: `truncate -s {size} "
                            f"{part.path}` drops these, or take another copy"
                        )
                    torn = not is_good
                    if is_good:
                        size += len(line)
                        self._written = int(found[3])
                        yield self._written, json.loads(found[4])
        except OSError as error:
            raise InputError(f"{part.path}: cannot be read ({error.strerror}): mend that first") from error
        if torn:
            self._report(f"{part.path}: a torn last record was dropped; it was never acknowledged")
        if is_last:
            self._last, self._size, self._is_torn = part, size, torn

    def append(self, number: int, record: str) -> None:
        """Append a record in JSON; numbers ascend by one."""
        self._waiting.append((number, number, _line(number, record)))
        if len(self._waiting) > MOST_WAITING:
            first = self._waiting[0][0]
            self._waiting = [(first, number, _line(number, json.dumps([LOST, first])))]
        if time.monotonic() >= self._retry_at:
            self.write_waiting()

    def write_waiting(self) -> None:
        """Write the records that wait for room on the disk."""
        if not self._waiting:
            return
        lines = b"".join(line for _, _, line in self._waiting)
        try:
            self._open_part()
            if self._is_torn:
                os.ftruncate(self._file, self._size)
            _write_all(self._file, lines)
        except OSError as error:
            self._is_torn = True
            self._retry_at = time.monotonic() + RETRY_SECONDS
            with suppress(OSError):
                if self._file is not None:
                    os.ftruncate(self._file, self._size)
            if not self._is_refused:
                self._report(
                    f"{self._path}: the journal cannot be written ({error.strerror}): new events are answered and wait "
                    "in memory until it can"
                )
            self._is_refused = True
            return
        self._size += len(lines)
        self._written, self._waiting, self._is_torn = self._waiting[-1][1], [], False
        self._retry_at = -float("inf")
        if self._is_refused:
            self._is_refused = False
            self._report(f"{self._path}: the journal is written again, and nothing is missing")

    def _open_part(self) -> None:
        """Open the part that is to be written: the last one that was read, or a new one after a full one."""
        if self._file is not None and self._size < PART_BYTES:
            return
        with self._sync_lock:
            if self._file is None and self._last is not None and self._size < PART_BYTES:
                self._file = os.open(self._last.path, os.O_WRONLY | os.O_APPEND)
                return
            name = f"{self._path.name}.journal-{self._waiting[0][0]:018d}"
            opened = os.open(self._path.with_name(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
            if self._file is not None:
                os.fsync(self._file)
                os.close(self._file)
            self._file, self._size, self._is_torn = opened, 0, False
            sync_folder(self._path.parent)

    def sync(self, number: int) -> bool:
        """
        Force the records up to a number to disk, together with what other threads have written since.

        Returns
        -------
        bool
            Whether they are there.
        """
        with self._sync_lock:
            if self._file is not None and self._synced < number <= self._written:
                written = self._written
                try:
                    os.fsync(self._file)
                except OSError as error:
                    self._report(f"{self._path}: the journal cannot be forced to disk ({error.strerror})")
                    return False
                self._synced = written
            return number <= self._synced

    def remove_old(self, folded: int, keep_bytes: int) -> None:
        """
        Remove parts that the state file has folded in.

        Parameters
        ----------
        folded : int
            Number of the last record that the state file holds.
        keep_bytes : int
            How much to keep all the same, newest parts first.
        """
        parts = self.parts()
        if not parts:
            return
        ends = [part.first - 1 for part in parts[1:]]  # number of each part's last record
        ends.append(max(self._written, parts[-1].first))
        kept = 0
        for part, end in zip(reversed(parts), reversed(ends), strict=True):
            with suppress(OSError):
                kept += part.path.stat().st_size
                if end <= folded and kept > keep_bytes and (self._file is None or part is not parts[-1]):
                    part.path.unlink()
                    if part == self._last:
                        self._last, self._size, self._is_torn = None, 0, False

    def close(self) -> None:
        """Write what waits, if the disk lets it, and close the file."""
        self.write_waiting()
        with self._sync_lock:
            if self._file is not None:
                with suppress(OSError):
                    os.fsync(self._file)
                os.close(self._file)
                self._file = None


def sync_folder(folder: Path) -> None:
    """Force the names of a folder's files to disk, where the operating system can."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _line(number: int, record: str) -> bytes:
    content = f"{number} {record}".encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
