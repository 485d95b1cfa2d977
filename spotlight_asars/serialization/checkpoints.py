"""
Checkpoints of `fit`: a file from which a killed call goes on, to the same bits as if it had never stopped.

A checkpoint belongs to one call of `fit`: to the model as it was when the call began, its settings and its rows. It
holds what the call has in hand between two mini-batches, and none of the rows. `n_iter` is not of what it belongs to,
since no epoch depends on how many follow.
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
from spotlight_asars.serialization.state import nested_from, plain_and_arrays

# The members of the file.
CALL, STATE, ARRAYS = "call", "state", "arrays"


class Processes(Protocol):
    """The processes that share one call of `fit`, as one of them sees them."""

    @property
    def is_first(self) -> bool:
        """Whether this process reads and writes files."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""


@dataclass(frozen=True)
class Checkpoint:
    """
    Where and how often `fit` keeps what a killed run needs to go on.

    Parameters
    ----------
    path : path
        One file; each version of it is written beside it and renamed.
    minutes : float, optional
        Write after the first mini-batch that ends so long after the last version, and at the end. By default, after
        every epoch.
    asked_to_stop : callable, optional
        Asked after each mini-batch; once it says True, a last version is written and `fit` ends with a
        KeyboardInterrupt.
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
        Of its processes, the first alone reads and writes; each has to make the other calls.

    Raises
    ------
    InputError
        If its folder is not there.
    """

    def __init__(self, checkpoint: "Checkpoint | str | Path", group: Processes) -> None:
        checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
        self.path, self._minutes = Path(checkpoint.path), checkpoint.minutes
        self._asked_to_stop = checkpoint.asked_to_stop or (lambda: False)
        self._group = group
        self._call: dict[str, object] = {}
        self._written = perf_counter()
        self._failure_said = False
        if group.is_first and not os.path.isdir(self.path.parent):  # a slip of the pen, told before hours are lost
            raise InputError(f"{self.path.parent}: no such folder: make it, or {CHECKPOINT.give}")

    @property
    def exists(self) -> bool:
        """Whether there is something to go on from, or to refuse."""
        return os.path.lexists(self.path)

    def open(self, call: dict[str, object]) -> dict[str, object] | None:
        """
        Say which call of `fit` this is, and read how far it was.

        Parameters
        ----------
        call : dict
            Plain data, as from :func:`call_of`.

        Returns
        -------
        What :meth:`write` was given, or None where there is no file.

        Raises
        ------
        InputError
            If the file is damaged, of something else, or of another call.
        """
        self._call = call
        remove_leftovers(self.path)
        if not self.exists:
            return None
        with open_sealed(self.path, CHECKPOINT) as file:
            differing = _differing(read_plain(file, CALL), call)
            if differing:
                raise InputError(f"{self.path}: the checkpoint of another call of fit, {differing}: {CHECKPOINT.mend}")
            return nested_from(read_plain(file, STATE), read_arrays(file[ARRAYS]))

    def due(self, epoch_ended: bool = False) -> bool:
        """Whether it is time to write, for any of the processes."""
        timely = epoch_ended if self._minutes is None else perf_counter() - self._written >= 60.0 * self._minutes
        return self._group.any(bool(self._asked_to_stop()) or timely)

    def write(self, state: dict[str, object]) -> None:
        """
        Write what the call has in hand; where that fails, it is said once, and what stood there still stands.

        Raises
        ------
        KeyboardInterrupt
            If it is asked to stop, in any of the processes.
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
            if not self._failure_said:
                warnings.warn(f"fitting goes on, but its checkpoint is not kept: {error} (said once)", stacklevel=3)
            self._failure_said = True


def _fill(file, call: dict, plain: object, arrays: dict) -> None:
    write_plain(file, CALL, call)
    write_plain(file, STATE, plain)
    write_arrays(file.create_group(ARRAYS), arrays)


def _differing(before: dict, now: dict) -> str:
    """How two calls differ, in words; nothing where they do not."""
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
