"""The half of fitting that goes on from a checkpoint, and from the weights that were kept.

How far a call of `fit` is, and what each of its epochs did.

torch's global random numbers, which fitting and loading draw from and leave as they were.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass

import torch

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.training.distributed import Team
from spotlight_asars.serialization.checkpoints import CheckpointFile
from spotlight_asars.serialization.state import plain_and_arrays, sha256_of


def call_of(
    settings: dict[str, object],
    start: dict[str, object],
    sequences: SessionSequences,
    validation: SessionSequences | None,
) -> dict[str, object]:
    """
    What tells one call of `fit` from others, as plain data.

    Parameters
    ----------
    settings : dict
        The model's; of those that are code, what they are called.
    start : dict
        As from :func:`start_of`.
    sequences, validation : SessionSequences
    """
    found = {
        "settings": settings,
        "start": start,
        "rows": rows_fingerprint(sequences),
        "validation": None if validation is None else rows_fingerprint(validation),
    }
    return json.loads(json.dumps(found))  # as it is read back


def start_of(epochs: int, state: dict[str, object] | None) -> dict[str, object]:
    """
    A model as a call of `fit` finds it.

    Parameters
    ----------
    epochs : int
        Those of earlier calls.
    state : dict or None
        All that decides what the call comes to; None where it is left to chance.
    """
    if state is None:
        return {"epochs": epochs, "state": None}
    plain, _ = plain_and_arrays(state)  # arrays stand there by their SHA-256
    return {"epochs": epochs, "state": hashlib.sha256(json.dumps(plain).encode()).hexdigest()}


def rows_fingerprint(rows: SessionSequences) -> str:
    """SHA-256 of all of some rows that fitting looks at; raw ids are not."""
    binnings = [{**vars(binning)} for binning in (rows.binning, rows.gap_binning)]
    sizes = json.dumps([int(rows.num_items), int(rows.num_users), float(rows.session_gap), binnings])
    columns = sha256_of(rows.events, rows.offsets, rows.session_ids, rows.user_ids)
    return hashlib.sha256(f"{sizes} {columns}".encode()).hexdigest()


@dataclass(frozen=True)
class EpochRecord:
    """
    What one epoch of `fit` did.

    Attributes
    ----------
    epoch : int
        Counted from 0 over all calls of `fit`.
    loss : float
        Mean training loss a target.
    validation_loss : float or None
    seconds : float
        Training only, without validation.
    events : int
        Real events that went through the net.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    seconds: float
    events: int


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
        Whole epochs of this call.
    ended : bool
        Whether early stopping or a callback has ended it.
    batch, loss, seconds : int, float, float
        Of the epoch that has begun: its mini-batches so far, the sum of the loss over their targets, and the time.
    drawn_with : dict or None
        The random state with which that epoch's mini-batches were drawn.
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
        """Keep the weights of the epoch that was just fitted."""
        self.kept_state, self.kept_epoch, self.kept_loss = state, self.epoch, loss

    def end_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch += 1
        self.batch, self.loss, self.seconds, self.drawn_with = 0, 0.0, 0.0, None


@contextmanager
def random_numbers_kept(use_cuda: bool = False) -> Iterator[None]:
    """
    While it is open, torch may be seeded and drawn from; behind it, its random numbers go on as before it.

    Parameters
    ----------
    use_cuda : bool, optional
        Whether what is inside draws on a GPU.

    Notes
    -----
    ``torch.manual_seed`` seeds all GPUs too, whatever is drawn on. So theirs are kept as well, unless this process has
    none in use: to ask an idle GPU would start it.
    """
    number = torch.cuda.device_count() if use_cuda or torch.cuda.is_initialized() else 0
    with torch.random.fork_rng(devices=range(number), device_type="cuda"):
        yield


class Resumes:
    """What ``SessionFitting`` takes out of a model for its checkpoint, and puts back."""

    def _state(self) -> tuple[dict, dict]:
        """Weights and the optimizer's state, which belong together when fitting goes on."""
        return deepcopy(self._net.state_dict()), deepcopy(self._optimizer.state_dict())

    def _restore(self, state: tuple[dict, dict]) -> None:
        weights, optimizer = state
        self._net.load_state_dict(weights)
        self._optimizer.load_state_dict(optimizer)

    def _saved(
        self, file: CheckpointFile | None, sequences: SessionSequences, validation: SessionSequences | None
    ) -> dict[str, object] | None:
        """What the checkpoint of this call holds, or None where it is only beginning."""
        if file is None:
            self._unfinished_start = None
            return None
        settings, code = self._settings()
        settings = {name: value for name, value in {**settings, **code}.items() if name != "n_iter"}
        # A model whose call was stopped, by Ctrl-C say, is no longer as the call found it: it goes on all the same.
        start = self._unfinished_start if file.exists and self._unfinished_start else self._start()
        saved = file.open(call_of(settings, start, sequences, validation))
        if saved is not None:
            begun = saved["run"]["epoch"] + bool(saved["run"]["batch"])
            if begun > self._n_iter:
                raise InputError(
                    f"{file.path}: the checkpoint is in epoch {begun} and n_iter is {self._n_iter}: give at least as "
                    "many, or checkpoint= another path"
                )
        self._unfinished_start = start
        return saved

    def _start(self) -> dict[str, object]:
        """What a call of `fit` begins with."""
        state = {"random_state": self._random_state.get_state(legacy=False)} if self._seeded else None
        if self._initialized:
            state = {**(state or {}), "net": self._net.state_dict(), "optimizer": self._optimizer.state_dict()}
        return start_of(len(self.epoch_records), state)

    def _in_hand(self, run: FitProgress) -> dict[str, object]:
        """All that the rest of a call of `fit` depends on, for its checkpoint."""
        devices = [torch.cuda.get_rng_state(device) for device in self._cuda_devices]
        return {
            "run": vars(run),
            "state": (dict(self._net.state_dict()), self._optimizer.state_dict()),
            "random_state": self._random_state.get_state(legacy=False),
            "torch_random_states": [torch.random.get_rng_state(), *devices],
            "epoch_records": [asdict(record) for record in self.epoch_records],
        }

    def _call_in_short(
        self, sequences: SessionSequences, validation: SessionSequences | None, file: CheckpointFile | None
    ) -> dict[str, object]:
        """What has to be the same in every process of a job, by name; only what is cheap to tell."""
        settings, code = self._settings()
        rows = [
            None if one is None else (one.num_items, one.num_users, sha256_of(one.offsets, one.user_ids))
            for one in (sequences, validation)
        ]
        return {
            "settings": {**settings, **code},
            "rows": rows[0],
            "validation rows": rows[1],
            "epochs behind it": len(self.epoch_records),
            "checkpoint": file is not None,
        }

    def _begin_or_go_on(self, file: CheckpointFile | None, saved: dict[str, object] | None) -> FitProgress:
        """How far this call is: at its begin, or where its checkpoint says; in a job, where the first process is."""
        team = Team.of_process()
        run = FitProgress(self._state()) if saved is None else self._go_on(file, saved)
        begins = team.agreed(saved is None)
        in_hand = team.state_of_first(self._in_hand(run))
        if not team.is_first:
            run = self._take_up(in_hand)
        if begins and file is not None:  # at once, so that a place where nothing can be written is told at once
            file.write(self._in_hand(run))
        return run

    def _go_on(self, file: CheckpointFile, saved: dict[str, object]) -> FitProgress:
        """Take up what a checkpoint holds."""
        before = self._state()
        try:
            return self._take_up(saved)
        except (RuntimeError, ValueError, KeyError) as error:
            self._restore(before)
            if not self.epoch_records:
                self._net = None  # as before the call
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{file.path}: the checkpoint does not fit this net and optimizer ({reason}): make them as they were, "
                "or remove it to begin anew"
            ) from error

    def _take_up(self, saved: dict[str, object]) -> FitProgress:
        """Go on from what :meth:`_in_hand` gave; where its weights do not fit, the model is as it was but for them."""
        self._restore(saved["state"])
        self._random_state.set_state(saved["random_state"])
        main_memory, *devices = saved["torch_random_states"]
        torch.random.set_rng_state(main_memory)
        for device, state in zip(self._cuda_devices, devices, strict=True):
            torch.cuda.set_rng_state(state, device)
        self.epoch_records = [EpochRecord(**record) for record in saved["epoch_records"]]
        return FitProgress(**saved["run"])
