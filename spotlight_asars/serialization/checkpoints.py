"""
Checkpoints of `fit`: a file from which an interrupted call resumes, with bit-identical results.

A checkpoint belongs to one call of `fit`, identified by the settings, the initial state of the model and the rows. It
holds the state of the call between two mini-batches, but not the rows. `n_iter` may differ when resuming, because no
epoch depends on the number of epochs that follow.
"""

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.files import remove_leftovers
from spotlight_asars.serialization.hdf5 import (
    CHECKPOINT,
    open_sealed,
    read_arrays,
    read_plain,
    write_arrays,
    write_plain,
    write_sealed,
)
from spotlight_asars.serialization.schema import Fields, Maybe, Schema, Text, Whole
from spotlight_asars.serialization.state import nested_from, plain_and_arrays

# Members of the file.
CALL, STATE, ARRAYS = "call", "state", "arrays"
MOST_COPIES = 16  # of the file's size: an array of zeros may be in the file once, and in memory for many weights
_CALL = Fields(
    {
        "settings": Fields({}),
        "start": Fields({"epochs": Whole(), "state": Maybe(Text())}),
        "rows": Text(),
        "validation": Maybe(Text()),
    }
)


class Processes(Protocol):
    """The process group that shares one call of `fit`."""

    @property
    def is_first(self) -> bool:
        """Whether this process reads and writes the files."""

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""


@dataclass(frozen=True)
class Checkpoint:
    """
    Where and how often `fit` writes its checkpoint.

    Parameters
    ----------
    path : path
        The file, which is replaced atomically.
    minutes : float, optional
        Write at the end, and after the first mini-batch that ends this long after the last write. By default, write
        after every epoch.
    asked_to_stop : callable, optional
        Called after each mini-batch. Once it returns True, `fit` writes a last checkpoint and raises a
        KeyboardInterrupt.

    Raises
    ------
    InputError
        If `minutes` is negative or not finite.
    """

    path: str | Path
    minutes: float | None = None
    asked_to_stop: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0.0 <= self.minutes < math.inf:
            raise InputError(f"minutes is {self.minutes}: give a number of at least 0, or None for every epoch")


class CheckpointFile:
    """
    The checkpoint of one call of `fit`.

    Parameters
    ----------
    checkpoint : Checkpoint or path
    group : Processes
        Only the first process reads and writes the file, but every process must make the same calls.

    Raises
    ------
    InputError
        If the folder of the file does not exist.
    """

    def __init__(self, checkpoint: "Checkpoint | str | Path", group: Processes) -> None:
        checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
        self.path, self._minutes = Path(checkpoint.path), checkpoint.minutes
        self._asked_to_stop = checkpoint.asked_to_stop or (lambda: False)
        self._group = group
        self._call: dict[str, object] = {}
        self._written = perf_counter()
        self._failure_reported = False
        if group.is_first and not os.path.isdir(self.path.parent):  # a typo is reported before hours are lost
            raise InputError(f"{self.path.parent}: no such folder: create it, or {CHECKPOINT.give}")

    @property
    def exists(self) -> bool:
        """Whether the file exists."""
        return os.path.lexists(self.path)

    def open(self, call: dict[str, object], schema: Schema) -> dict[str, object] | None:
        """
        Identify the call of `fit`, and read the state of its last checkpoint.

        Parameters
        ----------
        call : dict
            Plain data that identifies the call.
        schema : Schema
            What the state must be.

        Returns
        -------
        dict or None
            The state that :meth:`write` was last given; None if there is no file.

        Raises
        ------
        InputError
            If the file is damaged, of another kind, or belongs to another call.
        """
        self._call = call
        remove_leftovers(self.path)
        if not self.exists:
            return None
        with open_sealed(self.path, CHECKPOINT) as file:
            before = read_plain(file, CALL)
            _CALL.check(CALL, before)
            differing = _differing(before, call)
            if differing:
                raise InputError(f"{self.path}: the checkpoint of another call of fit, {differing}: {CHECKPOINT.mend}")
            # Weights and optimizer's state are there twice: as they are, and as they were at their best.
            most_bytes = MOST_COPIES * self.path.stat().st_size
            saved = nested_from(read_plain(file, STATE), read_arrays(file[ARRAYS]), most_bytes)
            schema.check("state", saved)
            return saved

    def due(self, epoch_ended: bool = False) -> bool:
        """Return whether it is time to write, in any of the processes."""
        timely = epoch_ended if self._minutes is None else perf_counter() - self._written >= 60.0 * self._minutes
        return self._group.any(bool(self._asked_to_stop()) or timely)

    def write(self, state: dict[str, object]) -> None:
        """
        Write the state of the call.

        Parameters
        ----------
        state : dict
            Nested data, see :func:`~spotlight_asars.serialization.state.plain_and_arrays`.

        Raises
        ------
        KeyboardInterrupt
            If a stop was requested in any of the processes.

        Warns
        -----
        UserWarning
            Once, if the file cannot be written; the last checkpoint is left as it was.
        """
        if self._group.is_first:
            self._write(state)
        self._written = perf_counter()
        if self._group.any(bool(self._asked_to_stop())):
            raise KeyboardInterrupt

    def _write(self, state: dict[str, object]) -> None:
        try:
            plain, arrays = plain_and_arrays(state)
            write_sealed(self.path, lambda file: _fill(file, self._call, plain, arrays), CHECKPOINT)
        except (InputError, TypeError) as error:
            if not self._failure_reported:
                warnings.warn(f"fitting continues, but its checkpoint is not kept: {error} (said once)", stacklevel=3)
            self._failure_reported = True


def _fill(file, call: dict, plain: object, arrays: dict) -> None:
    write_plain(file, CALL, call)
    write_plain(file, STATE, plain)
    write_arrays(file.create_group(ARRAYS), arrays)


def _differing(before: dict, now: dict) -> str:
    """Return how two calls differ, in words; an empty string if they do not."""
    found = []
    for name in {**before["settings"], **now["settings"]}:
        one, other = (call["settings"].get(name) for call in (before, now))
        if one != other:
            found.append(f"with {name} {one!r} and not {other!r}")
    if before["rows"] != now["rows"]:
        found.append("on other rows")
    if before["validation"] != now["validation"]:
        found.append("with other validation rows")
    if before["start"]["epochs"] != now["start"]["epochs"]:
        found.append(f"begun after {before['start']['epochs']} epochs and not after {now['start']['epochs']}")
    elif before["start"] != now["start"]:
        found.append("begun with other weights" if now["start"]["epochs"] else "begun with another random_state")
    return "; ".join(found)
