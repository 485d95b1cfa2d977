"""
Prepared logs: events of one file or several shards, read from disk on demand.

A prepared log is a sealed HDF5 file (``spotlight_asars.serialization.hdf5``). It holds `items` and `timestamps`, one
entry for each event, sorted by user, session and time; `session_offsets`, the index of each session's first event,
followed by the number of events; `session_users`; the vocabularies; and settings. Each file has its own numbering of
users and items.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from spotlight_asars.datasets._table import in_one_type
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import TARGET, event_channels, whole_seconds
from spotlight_asars.interactions.ordering import blocks
from spotlight_asars.interactions.rows import check_windows, flat_positions, history_windows
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import ANONYMOUS_USER, changes
from spotlight_asars.interactions.sessions import LogCounts, SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary, in_order_of_appearance, to_index
from spotlight_asars.serialization.hdf5 import PREPARED_LOG, is_of_kind, open_sealed, read_arrays, read_plain
from spotlight_asars.serialization.schema import LARGEST, Array, Fields, Number
from spotlight_asars.serialization.state import SystemState

BLOCK_EVENTS = 1 << 20


def shard_files(path: str | os.PathLike) -> list[Path]:
    """Return the prepared files of a path: the file itself, or those in a folder, sorted by name."""
    path = Path(path)
    if path.is_dir():
        return [file for file in sorted(path.glob("*.h5")) if is_of_kind(file, PREPARED_LOG)]
    return [path] if is_of_kind(path, PREPARED_LOG) else []


class _Shard:
    """One file: its memory-mapped arrays, and how its numbers map to those of the whole log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_sealed(path, PREPARED_LOG) as file:
            self.items = _mapped(path, file["items"], np.int32)
            self.timestamps = _mapped(path, file["timestamps"], np.float64)
            self.session_offsets = file["session_offsets"][:]
            self.session_users = file["session_users"][:]
            self.item_vocabulary = _read_vocabulary(file["item_vocabulary"])
            self.user_vocabulary = _read_vocabulary(file["user_vocabulary"]) if "user_vocabulary" in file else None
            about = read_plain(file, "about")
            Fields({"session_gap": Number(0.0, np.inf)}).check("log", about)
            self.session_gap = float(about["session_gap"])
            self._check()
        self.item_numbers: np.ndarray | None = None  # None if they equal its own

    def _check(self) -> None:
        """Raise an InputError unless every number stands for something, and every event is in one session."""
        events, sessions = len(self.items), len(self.session_users)
        users = 0 if self.user_vocabulary is None else len(self.user_vocabulary)
        Array("i", (events,)).check("items", self.items)
        Array("f", (events,)).check("timestamps", self.timestamps)
        for block in blocks(events):
            Array("i", (None,), 1, len(self.item_vocabulary)).check("items", self.items[block])
            Array("f", (None,), -LARGEST, LARGEST).check("timestamps", self.timestamps[block])
        Array("i", (sessions + 1,), 0, events).check("session_offsets", self.session_offsets)
        Array("i", (sessions,), min(users, 1), users).check("session_users", self.session_users)
        offsets = self.session_offsets
        if offsets[0] != 0 or offsets[-1] != events or not (offsets[1:] > offsets[:-1]).all():
            raise InputError("its sessions do not share its events out among them")

    def items_at(self, events: np.ndarray | slice) -> np.ndarray:
        """Return the items of some events, in the numbers of the whole log."""
        items = self.items[events]
        return items if self.item_numbers is None else self.item_numbers[items]


def _mapped(path: Path, dataset: h5py.Dataset, dtype: type) -> np.ndarray:
    """Memory-map an array of a file."""
    if dataset.dtype != dtype or dataset.ndim != 1 or not dataset.size or dataset.id.get_offset() is None:
        raise InputError(f"{dataset.name} is not an array of {dtype.__name__}")
    return np.memmap(path, dtype=dtype, mode="r", offset=dataset.id.get_offset(), shape=dataset.shape)


def _read_vocabulary(group: h5py.Group) -> Vocabulary:
    return Vocabulary.from_state(SystemState(fitted=read_plain(group, "fitted"), arrays=read_arrays(group["arrays"])))


class LogOnDisk:
    """
    A log written by ``prepare``, in one file or in shards; its events stay on disk.

    Parameters
    ----------
    paths : path, or iterable of paths
        One file, a folder of shards, or the shards. Each file is read once to verify its checksum.

    Attributes
    ----------
    item_vocabulary, user_vocabulary : Vocabulary
        The vocabularies of all shards; `user_vocabulary` is None if the log has no users.
    session_gap : float
        The gap that the log was prepared with; infinite if the log has its own sessions.
    session_offsets : int64 array of shape (sessions + 1,)
        Session s holds events ``session_offsets[s]:session_offsets[s + 1]``.
    session_users : int32 array of shape (sessions,)
        0 is anonymous.

    Raises
    ------
    InputError
        If a file is missing or damaged, or the shards do not belong together.
    """

    def __init__(self, paths: str | os.PathLike | Iterable[str | os.PathLike]) -> None:
        if isinstance(paths, str | os.PathLike):
            paths = shard_files(paths) or [paths]
        self._shards = [_Shard(Path(path)) for path in paths]
        if not self._shards:
            raise InputError("no prepared file is given: give files that prepare wrote")
        first = self._shards[0]
        self.session_gap = first.session_gap
        for shard in self._shards:
            if shard.session_gap != first.session_gap or (shard.user_vocabulary is None) != (
                first.user_vocabulary is None
            ):
                raise InputError(
                    f"{shard.path}: prepared with other settings than {first.path}: prepare all shards alike"
                )
        self.item_vocabulary, numbers = _united([shard.item_vocabulary for shard in self._shards])
        for shard, own in zip(self._shards, numbers, strict=True):
            shard.item_numbers = own if len(self._shards) > 1 else None
        self._number_users()
        sizes = [len(shard.items) for shard in self._shards]
        self._begins = np.concatenate([[0], np.cumsum(sizes)])  # (shards + 1,), in events
        offsets = [shard.session_offsets[:-1] + begin for shard, begin in zip(self._shards, self._begins, strict=False)]
        self.session_offsets = np.concatenate([*offsets, self._begins[-1:]])

    def _number_users(self) -> None:
        users = [shard.session_users for shard in self._shards]
        self.user_vocabulary = self._shards[0].user_vocabulary
        if self.user_vocabulary is not None and len(self._shards) > 1:
            self.user_vocabulary, numbers = _united([shard.user_vocabulary for shard in self._shards])
            if len(self.user_vocabulary) < sum(len(own) - 1 for own in numbers):
                names = ", ".join(str(shard.path) for shard in self._shards)[:300]
                raise InputError(f"a user is in two of {names}: give shards of one log, each once")
            users = [own[numbers_here] for own, numbers_here in zip(numbers, users, strict=True)]
        self.session_users = np.concatenate(users)

    def __len__(self) -> int:
        return int(self._begins[-1])

    @property
    def num_items(self) -> int:
        """The number of item ids, including the padding."""
        return len(self.item_vocabulary) + 1

    @property
    def num_users(self) -> int:
        """The number of user ids, including the anonymous one."""
        return 1 if self.user_vocabulary is None else len(self.user_vocabulary) + 1

    @property
    def counts(self) -> LogCounts:
        """The log's row of the paper's Table 1."""
        return LogCounts(len(self), self.num_users - 1, len(self.item_vocabulary), len(self.session_users))

    def events_at(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the items and times of some events, int32 and float64 of shape (events,)."""
        if len(self._shards) == 1:
            return self._shards[0].items[events], self._shards[0].timestamps[events]
        items, times = np.empty(len(events), np.int32), np.empty(len(events))
        shard_of = np.searchsorted(self._begins, events, side="right") - 1  # (events,)
        for number in np.unique(shard_of):
            here = shard_of == number
            own = events[here] - self._begins[number]
            items[here], times[here] = self._shards[number].items_at(own), self._shards[number].timestamps[own]
        return items, times

    def sessions_of(self, events: np.ndarray) -> np.ndarray:
        """Return the session, from 0, of some events; shape (events,)."""
        return np.searchsorted(self.session_offsets, events, side="right") - 1

    def blocks(self) -> Iterator[SessionInteractions]:
        """Yield the log in order, about a million events of whole users at a time."""
        starts = np.flatnonzero(changes(self.session_users) | (self.session_users == ANONYMOUS_USER))
        begins = self.session_offsets[starts]  # (owners,), in events
        cuts = starts[np.flatnonzero(changes(begins // BLOCK_EVENTS))]
        for begin, end in zip(cuts, [*cuts[1:], len(self.session_users)], strict=True):
            yield self._interactions(int(begin), int(end))

    def interactions(self) -> SessionInteractions:
        """Return the whole log in memory, 24 bytes for each event."""
        return self._interactions(0, len(self.session_users))

    def _interactions(self, begin: int, end: int) -> SessionInteractions:
        """Return the events of sessions ``begin:end``."""
        offsets = self.session_offsets[begin : end + 1]
        items, times = self.events_at(np.arange(offsets[0], offsets[-1]))
        lengths = np.diff(offsets)
        return SessionInteractions.of_ordered(
            np.repeat(self.session_users[begin:end], lengths),
            items,
            times,
            np.repeat(np.arange(end - begin), lengths),
            self.session_gap,
            self.item_vocabulary,
            self.user_vocabulary,
        )

    def rows(
        self,
        max_sequence_length: int = 200,
        step_size: int | None = None,
        binning: ScottBinning | None = None,
        gap_binning: ScottBinning | None = None,
    ) -> "RowsOnDisk":
        """
        Return training rows equal to those of ``to_session_sequences``, but read from disk on demand.

        Parameters
        ----------
        max_sequence_length, step_size, binning, gap_binning :
            As for ``to_session_sequences``; bins are fitted on the log, one block at a time.

        Returns
        -------
        RowsOnDisk
        """
        binning = binning or ScottBinning()
        gap_binning = gap_binning or ScottBinning(scale="log")
        if not binning.fitted:
            binning = ScottBinning(binning.max_bins, binning.scale).fit_blocks(
                block.dwell_times for block in self.blocks()
            )
        if not gap_binning.fitted:
            gap_binning = ScottBinning(gap_binning.max_bins, gap_binning.scale).fit_blocks(
                block.session_gap_times for block in self.blocks()
            )
        return RowsOnDisk(self, *check_windows(max_sequence_length, step_size), binning, gap_binning)


def _united(vocabularies: list[Vocabulary]) -> tuple[Vocabulary, list[np.ndarray]]:
    """Merge vocabularies, in order; also return, for each, its numbers in the merged one, (ids + 1,)."""
    if len(vocabularies) == 1:
        return vocabularies[0], [np.arange(len(vocabularies[0]) + 1, dtype=np.int32)]
    parts = in_one_type([to_index(vocabulary.raw_ids) for vocabulary in vocabularies])
    joined = parts[0].append(parts[1:])
    united = Vocabulary(in_order_of_appearance(joined)[1])
    return united, [np.concatenate([[0], united.transform(part)]).astype(np.int32) for part in parts]


class RowsOnDisk(SessionSequences):
    """
    Rows of a prepared log: memory holds only their positions, events are read when a mini-batch needs them.

    Whatever needs all events at once (`events`, local negatives, the padded matrices) reads all of them.
    """

    def __init__(
        self,
        log: LogOnDisk,
        max_sequence_length: int,
        step_size: int,
        binning: ScottBinning,
        gap_binning: ScottBinning,
    ) -> None:
        self._log = log
        owners = changes(log.session_users) | (log.session_users == ANONYMOUS_USER)  # (sessions,)
        groups = np.append(log.session_offsets[:-1][owners], len(log))
        self._begin, self._target_begin, stop = history_windows(groups, max_sequence_length, step_size)
        self.offsets = np.concatenate([[0], np.cumsum(stop - self._begin)])
        self.user_ids = log.session_users[log.sessions_of(self._begin)]
        self.max_sequence_length = max_sequence_length
        self.binning, self.gap_binning, self.session_gap = binning, gap_binning, log.session_gap
        self.num_items, self.num_users = log.num_items, log.num_users
        self.item_vocabulary, self.user_vocabulary = log.item_vocabulary, log.user_vocabulary

    @cached_property
    def events(self) -> np.ndarray:
        """All events, in memory; int32, (events, channel)."""
        return self.events_of(np.arange(len(self)))

    @cached_property
    def session_ids(self) -> np.ndarray:
        """The session of each event, shape (events,)."""
        return self.session_ids_of(np.arange(len(self)))

    @property
    def targets_a_row(self) -> np.ndarray:
        """The number of targets in each row, shape (rows,)."""
        stop = self._begin + self.lengths
        # All events but the first of each session are targets.
        starts = np.searchsorted(self._log.session_offsets, [self._target_begin, stop])
        return stop - self._target_begin - (starts[1] - starts[0])

    @property
    def num_targets(self) -> int:
        """The number of targets."""
        return int(self.targets_a_row.sum())

    @property
    def target_counts(self) -> np.ndarray:
        """How often each item is a target, shape (num_items,)."""
        counts = np.zeros(self.num_items, dtype=np.int64)
        for block in self._log.blocks():
            counts += np.bincount(block.item_ids[~changes(block.session_ids)], minlength=self.num_items)
        return counts

    def times_in(self, rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return the time of one event of each of some rows: int32, (rows,); see ``SessionSequences.times_in``."""
        return whole_seconds(self._log.events_at(self._begin[rows] + (shares * self.lengths[rows]).astype(np.int64))[1])

    def session_ids_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the session of each event of some rows, shape (events,)."""
        return self._log.sessions_of(flat_positions(self._begin[rows], self.lengths[rows])[0])

    def events_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the events of some rows, one row after the other: int32, (events, channel)."""
        log = self._log
        # One more event at each end, so that every dwell and gap is a difference of two neighbours.
        begin = np.maximum(self._begin[rows] - 1, 0)
        lengths = np.minimum(self._begin[rows] + self.lengths[rows] + 1, len(log)) - begin
        event, row, _ = flat_positions(begin, lengths)
        items, times = log.events_at(event)
        session = log.sessions_of(event)
        users = log.session_users[session]
        # Give each row its own users and sessions, so that no dwell or gap crosses rows.
        owner = users + row * np.int64(self.num_users)
        owner[users == ANONYMOUS_USER] = ANONYMOUS_USER
        found = event_channels(
            owner, items, times, session + row * len(log.session_users), self.binning, self.gap_binning
        )
        found[event < self._target_begin[rows][row], TARGET] = 0
        inside = (event >= self._begin[rows][row]) & (event < (self._begin + self.lengths)[rows][row])
        return found[inside]
