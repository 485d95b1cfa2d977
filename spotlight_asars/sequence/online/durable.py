"""Live sessions of many users that outlive their process: a state file, and a journal of what it lacks."""

import json
import os
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from spotlight_asars.errors import InputError, check_choice
from spotlight_asars.sequence.online.file_lock import FileLock
from spotlight_asars.sequence.online.journal import Journal, MissingRecords, sync_folder
from spotlight_asars.sequence.online.protocols import LiveModel
from spotlight_asars.sequence.online.sessions import StaleSessions
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.sequence.recommender.allowed import AllowedItems
from spotlight_asars.serialization.files import remove_leftovers
from spotlight_asars.serialization.models import load_sessions, save_sessions

JOURNALS = ("off", "flush", "fsync")
NEW_MODELS = ("refuse", "replay", "fresh")
CHANGES_A_SAVE = 100_000  # after so many changes the state file is written, so that a start replays few
CHANGES_BEFORE_RETRY = 1_000  # after a save that failed
SAVER = "saving live sessions"  # name of the thread that writes the state file
_EVENT, _END, _FORGET = "event", "end", "forget"  # kinds of records


@dataclass(frozen=True)
class Durability:
    """
    What survives what.

    Attributes
    ----------
    journal : {'flush', 'fsync', 'off'}
        'flush' keeps every acknowledged change through any end of the process, SIGKILL included; 'fsync' through a
        power failure too; 'off' keeps those that the last save holds.
    keep_bytes : int
        How much of the journal to keep after saves have made it unnecessary, for a model that is trained anew.
    new_model : {'refuse', 'replay', 'fresh'}
        What to do when the saved sessions belong to another model: raise an InputError, rebuild them from the
        journal, or begin anew.
    """

    journal: str = "flush"
    keep_bytes: int = 2**28
    new_model: str = "refuse"

    def __post_init__(self) -> None:
        check_choice("journal", self.journal, JOURNALS)
        check_choice("new_model", self.new_model, NEW_MODELS)


class DurableUsers:
    """
    :class:`LiveUsers` that continue those of an earlier process, from a state file and its journal.

    Each change is written to the journal before its method returns. The state file is written now and then, in the
    background, and at the end; the journal is then read from there on. A disk that refuses costs a line and is tried
    again. Several threads may share the object, but not several processes: neither a second one with the same file,
    nor one that was forked.

    Parameters
    ----------
    model : ASARSSequenceModel
        A fitted model; see :class:`LiveSessions`.
    path : path
        The state file. Its journal and its lock lie beside it.
    most, most_items : int, optional
        See :class:`LiveUsers`.
    durability : Durability, optional
    report : callable, optional
        Takes a line about a disk that refuses, or about what a start has found. A warning by default.

    Raises
    ------
    InputError
        If another process has the file, if it cannot be read, or if it belongs to another model and
        ``durability.new_model`` is 'refuse'.
    """

    def __init__(
        self,
        model: LiveModel,
        path: str | Path,
        most: int = 100_000,
        most_items: int | None = 2_000,
        durability: Durability | None = None,
        report: Callable[[str], None] = warnings.warn,
    ) -> None:
        self._path = Path(os.path.realpath(path))
        self._durability = durability or Durability()
        self._report = report
        self._new = partial(LiveUsers, model, most, most_items)
        self._is_forced = True  # whether the disk took the last record under 'fsync'
        self._process, self._is_closed = os.getpid(), False
        self._lock = threading.Lock()  # a change and its record are one
        self._saving = threading.Lock()  # one save at a time
        self._saver: threading.Thread | None = None
        self._journal = Journal(self._path, report)
        self._file_lock = FileLock(self._path)
        remove_leftovers(self._path)  # of killed processes: nobody else may be writing the file now
        try:
            self._users = self._begin()
            self._saved = self._users.changes
        except BaseException:
            self._file_lock.release()
            raise

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._users

    def __enter__(self) -> "DurableUsers":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def is_kept(self) -> bool:
        """Whether the journal has all changes; False while the disk refuses it. Always True without a journal."""
        return self._is_forced and not self._journal.waiting

    def observe(
        self, key: Hashable, item: Hashable, timestamp: float, user: Hashable = None, session_id: Hashable = None
    ) -> bool:
        """Add one event, and return False for a duplicate; see :meth:`LiveUsers.observe`."""
        event = (key, item, timestamp, user) if session_id is None else (key, item, timestamp, user, session_id)
        return self._change(self._record(_EVENT, *event), lambda: self._users.observe(*event))

    def end(self, key: Hashable) -> bool:
        """End a key's session; see :meth:`LiveUsers.end`."""
        return self._change(self._record(_END, key), lambda: self._users.end(key))

    def forget(self, key: Hashable) -> bool:
        """Forget all events of a key; see :meth:`LiveUsers.forget`."""
        return self._change(self._record(_FORGET, key), lambda: self._users.forget(key))

    def recommend(
        self,
        key: Hashable,
        k: int = 20,
        now: float | None = None,
        exclude_seen: bool = False,
        candidates: AllowedItems | Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] = (),
    ) -> list:
        """Return the k best next items of a session as (raw id, score); see :meth:`LiveUsers.recommend`."""
        return self._users.recommend(key, k, now, exclude_seen, candidates, exclude)

    def latest(self, key: Hashable) -> float | None:
        """Return the time of a key's latest event in seconds, or None if it has no events."""
        return self._users.latest(key)

    def _record(self, *record: object) -> str | None:
        return None if self._durability.journal == "off" else json.dumps([_as_json(one) for one in record])

    def _change(self, record: str | None, change: Callable[[], bool]) -> bool:
        if os.getpid() != self._process:
            raise InputError("these sessions belong to the process that opened them: open another file in a fork of it")
        with self._lock:
            if not change():
                return False
            number = self._users.changes
            if record is not None:
                self._journal.append(number, record)
            is_due = number - self._saved >= CHANGES_A_SAVE
            if is_due:
                self._saved = number
        if self._durability.journal == "fsync":
            self._is_forced = self._journal.sync(number)
        if is_due:
            self.save_in_background()
        return True

    def save(self) -> None:
        """
        Write the state file; changes go on meanwhile.

        Raises
        ------
        InputError
            If it cannot be written; the old one and the journal stay as they were.
        """
        with self._saving:
            with self._lock:
                self._journal.write_waiting()
                frozen = self._users.snapshot()
                self._saved = frozen.changes
            save_sessions(frozen, self._path)
            sync_folder(self._path.parent)
            with self._lock:
                self._journal.remove_old(frozen.changes, self._durability.keep_bytes)

    def save_in_background(self) -> None:
        """Write the state file in a thread, unless one is at it; a failure is reported."""
        if self._saver is None or not self._saver.is_alive():
            self._saver = threading.Thread(target=self._save_or_report, name=SAVER)
            self._saver.start()

    def _save_or_report(self) -> None:
        try:
            self.save()
        except (InputError, MemoryError) as error:
            with self._lock:
                self._saved = self._users.changes - CHANGES_A_SAVE + CHANGES_BEFORE_RETRY
            kept = "" if self._durability.journal == "off" else "; the journal has them"
            self._report(f"the live sessions were not saved, and are tried again later: {error}{kept}")

    def close(self) -> None:
        """
        Save and give up the state file.

        Raises
        ------
        InputError
            If the state file cannot be written and the journal does not have all changes.
        """
        if self._is_closed or os.getpid() != self._process:
            return
        self._is_closed = True
        if self._saver is not None:
            self._saver.join()
        try:
            self.save()
        except InputError as error:
            if self._durability.journal == "off":
                raise
            if self._journal.waiting:
                raise InputError(f"{error}; the latest {self._journal.waiting:,} changes are lost") from error
            self._report(f"{error}; the journal has all sessions, and the next start reads them from there")
        else:
            self._journal.close()
            self._journal.remove_old(self._users.changes, self._durability.keep_bytes)
        finally:
            self._journal.close()
            self._file_lock.release()

    def _begin(self) -> LiveUsers:
        """Return the sessions of the state file and its journal, folded into the file."""
        try:
            users = self._of_file()
            saved = users.changes
            self._replay(users)
        except (StaleSessions, MissingRecords) as error:
            return self._begin_without_file(error)
        if users.changes > saved:
            self._fold(users)
        return users

    def _of_file(self) -> LiveUsers:
        empty = self._new()
        if not os.path.lexists(self._path):
            return empty
        users = load_sessions(self._path, empty.model)
        if not isinstance(users, LiveUsers):
            raise InputError(
                f"{self._path}: these live sessions were not written by recommend --state: give another file"
            )
        users.limit(empty.most, empty.most_items)
        return users

    def _replay(self, users: LiveUsers, with_gaps: bool = False) -> None:
        """Apply what the journal has and the sessions lack."""
        refused = 0
        for number, record in self._journal.read(users.changes, with_gaps):
            try:
                _apply(users, *(_from_json(one) for one in record))
            except InputError:  # under other limits, a user who had been dropped may be there, with later events
                refused += 1
            users.changes = number
        if refused:
            self._report(f"{self._path}: {refused} events of the journal do not fit under the limits given now")

    def _begin_without_file(self, error: InputError) -> LiveUsers:
        """Begin from the journal alone or from nothing, and put the state file aside before anything else happens."""
        choice = self._durability.new_model
        if choice == "refuse":
            raise InputError(
                f"{error}; or set new_model (--new-model) to replay, to rebuild the sessions from the journal, or to "
                "fresh, to begin anew"
            ) from error
        users = self._new()
        if choice == "fresh":
            users.changes = self._journal.last_number()  # numbers go on, so that no old record passes for a new one
        else:
            self._replay(users, with_gaps=True)
        old = self._path.with_name(f"{self._path.name}.old")
        with suppress(FileNotFoundError):
            os.replace(self._path, old)
        save_sessions(users, self._path)
        if choice == "fresh":
            self._journal.remove_old(users.changes, keep_bytes=0)
        begun = "begun anew" if choice == "fresh" else f"{len(users):,} sessions rebuilt from the journal"
        self._report(f"{self._path}: {begun}; the file before is {old}")
        return users

    def _fold(self, users: LiveUsers) -> None:
        try:
            save_sessions(users, self._path)
        except InputError as error:
            self._report(f"{error}; the journal has all sessions all the same")
            return
        self._journal.remove_old(users.changes, self._durability.keep_bytes)


def _apply(users: LiveUsers, kind: str, key: Hashable, *event: object) -> None:
    """Apply one record."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # about items that the model does not know
        if kind == _EVENT:
            users.observe(key, *event)
        elif kind == _END:
            users.end(key)
        else:
            users.forget(key)


def _as_json(found: object) -> object:
    """Return an id or a time in a type that survives JSON; tuples become lists."""
    if isinstance(found, np.generic):
        found = found.item()
    if isinstance(found, tuple):
        return [_as_json(one) for one in found]
    if found is not None and type(found) not in (str, int, float, bool):
        raise InputError(
            f"{found!r:.60} cannot be written to the journal: give whole numbers, text, or tuples of these"
        )
    return found


def _from_json(found: object) -> Hashable:
    return tuple(_from_json(one) for one in found) if isinstance(found, list) else found
