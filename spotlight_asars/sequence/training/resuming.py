"""How far a call of `fit` is, what identifies it, and what resuming it from a checkpoint needs."""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.sessionization import NO_SESSION_GAP, SESSION_GAP
from spotlight_asars.serialization.checkpoints import CheckpointFile
from spotlight_asars.serialization.schema import Fields, Flag, ListOf, Maybe, Number, Part, Whole
from spotlight_asars.serialization.state import RandomStateData, as_plain, plain_and_arrays, sha256_of


@dataclass(frozen=True)
class EpochRecord:
    """
    What one epoch of `fit` did.

    Attributes
    ----------
    epoch : int
        Counted from 0 over all calls of `fit`.
    loss : float
        Mean training loss per target.
    validation_loss : float or None
    seconds : float
        Time spent on training steps, without validation and callbacks; NaN in a model from a file, which holds no
        times, so that the same seed gives the same bytes.
    events : int
        Real events that went through the net.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    seconds: float
    events: int

    def as_data(self) -> dict[str, object]:
        """Return what a model file holds of the record."""
        return as_plain({name: value for name, value in asdict(self).items() if name != "seconds"})

    @classmethod
    def from_data(cls, data: dict[str, object]) -> "EpochRecord":
        """
        Return the record of a model file.

        Raises
        ------
        InputError
            If it has no such values.
        """
        EPOCH_RECORD.check("epoch record", data)
        return cls(data["epoch"], data["loss"], data["validation_loss"], math.nan, data["events"])


_ANY_NUMBER = Number(-math.inf, math.inf)
EPOCH_RECORD = Fields({"epoch": Whole(), "loss": _ANY_NUMBER, "validation_loss": Maybe(_ANY_NUMBER), "events": Whole()})


@dataclass
class FitProgress:
    """
    How far a call of `fit` is.

    Attributes
    ----------
    kept_state : (dict, dict)
        The best weights so far, with the optimizer's state at that moment.
    kept_epoch, kept_loss : int, float
        The epoch of this call after which they were kept, and its validation loss.
    epoch : int
        Completed epochs of this call.
    ended : bool
        Whether early stopping or a callback has ended the call.
    batch, loss, seconds : int, float, float
        The current epoch's completed mini-batches, their loss summed over targets, and their time.
    drawn_with : dict or None
        The random state that the current epoch's mini-batches were drawn with.
    """

    kept_state: tuple[dict, dict]
    kept_epoch: int = 0
    kept_loss: float | None = math.inf
    epoch: int = 0
    ended: bool = False
    batch: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    drawn_with: dict | None = None

    def keep(self, state: tuple[dict, dict], loss: float | None) -> None:
        """Keep the weights of the epoch that was just completed."""
        self.kept_state, self.kept_epoch, self.kept_loss = state, self.epoch, loss

    def end_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.batch, self.loss, self.seconds, self.drawn_with = 0, 0.0, 0.0, None


_WEIGHTS_AND_OPTIMIZER = ListOf(Fields({}), 2)
_SNAPSHOT = Fields(
    {
        "run": Fields(
            {
                "kept_state": _WEIGHTS_AND_OPTIMIZER,
                "kept_epoch": Whole(),
                "kept_loss": Maybe(_ANY_NUMBER),
                "epoch": Whole(),
                "ended": Flag(),
                "batch": Whole(),
                "loss": _ANY_NUMBER,
                "seconds": _ANY_NUMBER,
                "drawn_with": Maybe(RandomStateData()),
            }
        ),
        "state": _WEIGHTS_AND_OPTIMIZER,
        "random_state": RandomStateData(),
        "torch_random_states": ListOf(Part(Tensor)),
        "epoch_records": ListOf(EPOCH_RECORD),
    }
)


@contextmanager
def random_numbers_kept(use_cuda: bool = False) -> Iterator[None]:
    """
    Restore torch's global random state when the context closes, so that code inside may seed and draw.

    Parameters
    ----------
    use_cuda : bool, optional
        Whether the code inside draws on a GPU.

    Notes
    -----
    ``torch.manual_seed`` seeds all GPUs too. Their states are therefore kept as well, unless this process uses none:
    asking an idle GPU for its state would initialise it.
    """
    number = torch.cuda.device_count() if use_cuda or torch.cuda.is_initialized() else 0
    with torch.random.fork_rng(devices=range(number), device_type="cuda"):
        yield


def saved_progress(file: CheckpointFile, call: dict[str, object], n_iter: int) -> dict[str, object] | None:
    """
    Read the checkpoint of a call of `fit`.

    Parameters
    ----------
    file : CheckpointFile
    call : dict
        As from :func:`call_of`.
    n_iter : int
        Epochs that the call shall reach.

    Returns
    -------
    What the trainer's `snapshot` was, or None if the call has no checkpoint yet

    Raises
    ------
    InputError
        If the checkpoint is damaged, belongs to another call, or is past `n_iter`.
    """
    saved = file.open(call, _SNAPSHOT)
    if saved is not None:
        run = saved["run"]
        if call["validation"] is not None and run["kept_loss"] is None:
            raise InputError(f"{file.path}: the checkpoint has no validation loss: remove it to start over")
        begun = run["epoch"] + bool(run["batch"])
        if begun > n_iter:
            raise InputError(
                f"{file.path}: the checkpoint is in epoch {begun} and n_iter is {n_iter}: give at least as many, or "
                "checkpoint= another path"
            )
    return saved


def call_of(
    settings: dict[str, object],
    start: dict[str, object],
    sequences: SessionSequences,
    validation: SessionSequences | None,
) -> dict[str, object]:
    """
    Return what identifies a call of `fit`, as plain data.

    Parameters
    ----------
    settings : dict
        The model's; the names of those that are code. `n_iter` is left out, since no epoch depends on how many follow.
    start : dict
        As from :func:`start_of`.
    sequences, validation : SessionSequences
    """
    found = {
        "settings": {name: value for name, value in settings.items() if name != "n_iter"},
        "start": start,
        "rows": rows_fingerprint(sequences),
        "validation": None if validation is None else rows_fingerprint(validation),
    }
    return json.loads(json.dumps(found))  # as it is read back


def start_of(epochs: int, state: dict[str, object] | None) -> dict[str, object]:
    """
    Return the state in which a call of `fit` finds a model, as plain data.

    Parameters
    ----------
    epochs : int
        Epochs of earlier calls.
    state : dict or None
        Everything that decides the result of the call; None if that is left to chance.
    """
    if state is None:
        return {"epochs": epochs, "state": None}
    plain, _ = plain_and_arrays(state)  # arrays are replaced by their SHA-256
    return {"epochs": epochs, "state": hashlib.sha256(json.dumps(plain).encode()).hexdigest()}


def shared_call(
    settings: dict[str, object],
    sequences: SessionSequences,
    validation: SessionSequences | None,
    epochs: int,
    has_checkpoint: bool,
) -> dict[str, object]:
    """Return what must be the same in every process of a data-parallel job, by name; only what is cheap to compare."""
    rows, validation_rows = (
        None if one is None else (one.num_items, one.num_users, sha256_of(one.offsets, one.user_ids))
        for one in (sequences, validation)
    )
    return {
        "settings": settings,
        "rows": rows,
        "validation rows": validation_rows,
        "epochs behind it": epochs,
        "checkpoint": has_checkpoint,
    }


def rows_fingerprint(rows: SessionSequences) -> str:
    """Return the SHA-256 of everything in some rows that fitting depends on; raw ids are not part of it."""
    binnings = [{**vars(binning)} for binning in (rows.binning, rows.gap_binning)]
    # Releases before 0.2.0 gave the default gap to a log with its own sessions; their checkpoints resume.
    gap = SESSION_GAP if rows.session_gap == NO_SESSION_GAP else float(rows.session_gap)
    sizes = json.dumps([int(rows.num_items), int(rows.num_users), gap, binnings])
    columns = sha256_of(rows.events, rows.offsets, rows.session_ids, rows.user_ids)
    return hashlib.sha256(f"{sizes} {columns}".encode()).hexdigest()
