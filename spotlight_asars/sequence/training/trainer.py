"""The trainer: epochs through the host's own `fit`, with validation, callbacks and checkpoints."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System
from spotlight_asars.host import ImplicitSequenceModel
from spotlight_asars.interactions.channels import TARGET
from spotlight_asars.interactions.rows import (
    bounded_batches,
    chronological_batches,
    length_bucketed_batches,
    shuffled_batches,
)
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.representations.options import options_of
from spotlight_asars.sequence.representations.scoring import TargetStates, gives_finite_scores, states_at_targets
from spotlight_asars.sequence.training.callbacks import Callback
from spotlight_asars.sequence.training.distributed import ProcessGroup
from spotlight_asars.sequence.training.initial_embeddings import INITIAL_EMBEDDINGS
from spotlight_asars.sequence.training.negatives import Negatives
from spotlight_asars.sequence.training.objective import Objective
from spotlight_asars.sequence.training.popularity_drift import popularity_drift
from spotlight_asars.sequence.training.resuming import EpochRecord, FitProgress, random_numbers_kept
from spotlight_asars.serialization.checkpoints import CheckpointFile
from spotlight_asars.serialization.weights import check_optimizer_state, check_weights, with_added_later


@dataclass(frozen=True)
class TrainingOptions:
    """
    How a net is trained.

    Attributes
    ----------
    early_stopping : int
        Epochs without a smaller validation loss after which `fit` stops; needs validation rows.
    mix_lengths : bool
        Let a mini-batch hold rows of any length. By default rows of like length train together (length bucketing),
        which computes little padding and takes about half the time on sessions of unequal length. But a step on short
        sessions has few targets, one on long sessions has many, and both move the net equally far: with mixed lengths
        all targets count alike.
    initial_embeddings : {'random', 'cooccurrence', 'catalogue'}
        Where item embeddings start: at random; from a factorisation of which items occur together in sessions (see
        ``initial_embeddings.py``), which takes a second and helps most where items have few events; or with neighbours
        in the order of the raw ids close together as well (see ``catalogue.py``).
    time_order : bool
        Take the mini-batches of an epoch in order of time, with rows of any length, each row at the time of one of
        its events, drawn at random: short rows stay in order, and rows that cover the whole log are shuffled. The last
        steps of an epoch are then on the latest events, which matters where items come and go.
    popularity_drift : float
        Share of the change in popularity, from the whole training part to its latest events, that is added to the
        scores of a trained net: see ``popularity_drift.py``. 0 adds none; 1 assumes that the net has learned the mean
        popularity, while one that is trained in order of time knows part of the change.
    """

    early_stopping: int = 10
    mix_lengths: bool = False
    initial_embeddings: str = "random"
    time_order: bool = False
    popularity_drift: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.popularity_drift <= 1.0:
            raise InputError(f"popularity_drift is {self.popularity_drift}: give a share from 0 to 1")
        if self.initial_embeddings not in INITIAL_EMBEDDINGS:
            raise InputError(
                f"initial_embeddings is {self.initial_embeddings!r}: choose one of {', '.join(INITIAL_EMBEDDINGS)}"
            )

    @classmethod
    def of(cls, given: "TrainingOptions | dict | None") -> "TrainingOptions":
        """Return options given as such, as a dict of attributes, or as None for the defaults."""
        return options_of(cls, "training", given)

    def check_net(self, net: nn.Module) -> None:
        """Raise an InputError if the options ask for what the net does not have."""
        if self.popularity_drift and not hasattr(net, "item_offsets"):
            raise InputError(
                f"popularity_drift adds to a net's item_offsets, which {type(net).__name__} does not have: leave it out"
            )

    def as_of_release_0_1_0(self) -> dict[str, object]:
        """Return the options, without later ones that are at their defaults, so that checkpoints of 0.1.0 resume."""
        later, unused = ("time_order", "popularity_drift"), TrainingOptions()
        return {
            name: value for name, value in asdict(self).items() if name not in later or value != getattr(unused, name)
        }


class TrainableModel(System, Protocol):
    """A model as its trainer and its callbacks see it."""

    net: nn.Module


class Trainer:
    """
    Trains a net; it keeps the optimizer and the records of all epochs from one call of :meth:`fit` to the next.

    Parameters
    ----------
    net : module
    optimizer : torch optimizer
        Of the net's parameters.
    objective : Objective
    options : TrainingOptions
    batch_size : int
        Rows in a mini-batch.
    num_items, num_users : int
        Numbers of ids that the net knows, 0 included.
    random_state : numpy RandomState
        Draws the mini-batches; torch's global random numbers do the rest.
    use_cuda : bool, optional

    Attributes
    ----------
    epoch_records : list of EpochRecord
        One for each epoch, over all calls of :meth:`fit`.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        options: TrainingOptions,
        *,
        batch_size: int,
        num_items: int,
        num_users: int,
        random_state: np.random.RandomState,
        use_cuda: bool = False,
    ) -> None:
        self.net, self.optimizer, self.objective, self.options = net, optimizer, objective, options
        self.batch_size, self.num_items, self.num_users = batch_size, num_items, num_users
        self.random_state, self.use_cuda = random_state, use_cuda
        self.epoch_records: list[EpochRecord] = []

    @property
    def device(self) -> torch.device:
        """Where the net is."""
        return next(self.net.parameters()).device

    def begin(self, file: CheckpointFile | None = None, saved: dict[str, object] | None = None) -> FitProgress:
        """
        Begin a call of :meth:`fit`, or resume one.

        Parameters
        ----------
        file : CheckpointFile, optional
        saved : dict, optional
            The :meth:`snapshot` to resume from. In a job, all processes resume from the first one's.

        Raises
        ------
        InputError
            If the snapshot does not fit the net and the optimizer, which are then as before.
        """
        group = ProcessGroup.current()
        run = FitProgress(self._state()) if saved is None else self._resumed(file, saved)
        begins = group.broadcast(saved is None)
        snapshot = group.broadcast_state(self.snapshot(run))
        if not group.is_first:
            run = self._take_up(snapshot)
        if begins and file is not None:  # at once, so that an unwritable place is reported at once
            file.write(self.snapshot(run))
        return run

    def fit(
        self,
        model: TrainableModel,
        sequences: SessionSequences,
        n_iter: int,
        progress: FitProgress | None = None,
        validation: SessionSequences | None = None,
        callbacks: Sequence[Callback] = (),
        file: CheckpointFile | None = None,
    ) -> None:
        """
        Train up to `n_iter` epochs.

        Parameters
        ----------
        model : TrainableModel
            What callbacks are called with.
        sequences : SessionSequences
        n_iter : int
        progress : FitProgress, optional
            As from :meth:`begin`; by default the call begins.
        validation : SessionSequences, optional
            With it, training stops early, and the weights with the smallest validation loss are kept.
        callbacks : sequence of Callback, optional
        file : CheckpointFile, optional

        Raises
        ------
        InputError
            If a loss or score is not finite. The net is then as it was when its weights were last kept.
        """
        group = ProcessGroup.current()
        run = self.begin() if progress is None else progress
        negatives = self.objective.negatives(sequences, self.num_items, self.num_users, self.device)
        self._follow_popularity(sequences)
        checkpoint = CheckpointWriter(file, lambda: self.snapshot(run))
        epochs = range(run.epoch, run.epoch if run.ended else n_iter)
        with random_numbers_kept(self.use_cuda):  # the host seeds torch for the whole process
            loop = HostLoop(self.optimizer, self.use_cuda)
        for callback in callbacks:
            callback.on_fit_begin(model, epochs)
        try:
            for epoch in epochs:
                record = self._fit_epoch(loop, sequences, negatives, run, [checkpoint, *callbacks], model)
                record = self._validated(record, validation, negatives, run)
                self._check_scores(sequences, run)
                self.epoch_records.append(record)
                if validation is None or record.validation_loss < run.kept_loss:
                    run.keep(self._state(), record.validation_loss)
                asked_to_stop = [callback.on_epoch_end(model, record) is True for callback in callbacks]
                run.end_epoch()
                out_of_patience = epoch - run.kept_epoch >= self.options.early_stopping
                run.ended = any(group.broadcast(asked_to_stop)) or out_of_patience
                checkpoint.write_epoch(is_last=run.ended or run.epoch == n_iter)
                if run.ended:
                    break
        finally:
            for callback in callbacks:
                callback.on_fit_end(model)
        self._restore(run.kept_state)

    def _follow_popularity(self, sequences: SessionSequences) -> None:
        """Set how much the popularity of each item has changed by the end of the rows."""
        if self.options.popularity_drift:
            offsets = self.net.item_offsets
            drift = torch.from_numpy(popularity_drift(sequences)).to(offsets)  # (num_items,)
            offsets.zero_()[: len(drift)] = self.options.popularity_drift * drift

    def mean_loss(self, sequences: SessionSequences, negatives: Negatives | None = None) -> float:
        """
        Return the mean loss per target of some rows, without dropout; the negatives drawn are the same in each call.

        Parameters
        ----------
        sequences : SessionSequences
        negatives : Negatives, optional
            Made from the rows by default.
        """
        if negatives is None:
            negatives = self.objective.negatives(sequences, self.num_items, self.num_users, self.device)
        self.net.eval()
        step = TrainingStep(self.net, self.objective, negatives, ProcessGroup())
        total = 0.0
        with torch.no_grad(), random_numbers_kept(self.use_cuda):
            torch.manual_seed(0)
            for rows in bounded_batches(sequences.lengths, self.batch_size):
                events = torch.from_numpy(sequences.padded_events(rows)).to(self.device)  # (batch, time, channel)
                targets = step.states_of(events)
                if len(targets.items):
                    loss = step.mean_loss(step(targets, events), step.negative_scores(targets))
                    total += float(loss) * len(targets.items)
        return total / sequences.num_targets

    def snapshot(self, run: FitProgress) -> dict[str, object]:
        """Return everything that the rest of a call of :meth:`fit` depends on."""
        devices = [torch.cuda.get_rng_state(device) for device in self._cuda_devices]
        return {
            "run": vars(run),
            "state": (dict(self.net.state_dict()), self.optimizer.state_dict()),
            "random_state": self.random_state.get_state(legacy=False),
            "torch_random_states": [torch.random.get_rng_state(), *devices],
            "epoch_records": [asdict(record) for record in self.epoch_records],
        }

    def _resumed(self, file: CheckpointFile, saved: dict[str, object]) -> FitProgress:
        before = self._state()
        try:
            for weights, optimizer in (saved["state"], saved["run"]["kept_state"]):
                check_weights(self.net, weights)
                check_optimizer_state(self.net, self.optimizer, optimizer)
            return self._take_up(saved)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            self._restore(before)
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{file.path}: the checkpoint does not fit this net and optimizer ({reason}): create both as before, "
                "or remove it to start over"
            ) from error

    def _take_up(self, snapshot: dict[str, object]) -> FitProgress:
        """Resume from a snapshot; if its weights do not fit, only they have changed."""
        records = [EpochRecord(**record) for record in snapshot["epoch_records"]]
        progress = FitProgress(**snapshot["run"])
        self._restore(snapshot["state"])
        main_memory, *devices = snapshot["torch_random_states"]
        torch.random.set_rng_state(main_memory)
        for device, state in zip(self._cuda_devices, devices, strict=True):
            torch.cuda.set_rng_state(state, device)
        self.random_state.set_state(snapshot["random_state"])
        self.epoch_records = records
        return progress

    def _state(self) -> tuple[dict, dict]:
        """Copy the weights and the optimizer's state, which belong together."""
        return deepcopy(self.net.state_dict()), deepcopy(self.optimizer.state_dict())

    def _restore(self, state: tuple[dict, dict]) -> None:
        weights, optimizer = state
        self.net.load_state_dict(with_added_later(self.net, weights))
        self.optimizer.load_state_dict(optimizer)

    @property
    def _cuda_devices(self) -> list[int]:
        return [torch.cuda.current_device()] if self.use_cuda else []

    def _fit_epoch(
        self,
        loop: "HostLoop",
        sequences: SessionSequences,
        negatives: Negatives | None,
        run: FitProgress,
        callbacks: Sequence[Callback],
        model: TrainableModel,
    ) -> EpochRecord:
        """Take the steps of an epoch that are left, through the host's `fit`; the record has no validation loss yet."""
        self.net.train()  # the host leaves it in evaluation mode after predict
        rows = np.flatnonzero(sequences.targets_a_row)
        batches = self._batches(sequences, rows, run)[run.batch :]
        begin = perf_counter()

        def on_step(loss: float, targets: int) -> None:
            nonlocal begin
            run.loss += loss * targets
            run.batch += 1
            run.seconds += perf_counter() - begin
            if not np.isfinite(loss):
                raise _LossNotFinite
            for callback in callbacks:
                callback.on_batch_end(model)
            begin = perf_counter()

        def events_of_batches() -> Iterator[np.ndarray]:
            for batch in batches:
                order = np.arange(len(batch))
                self.random_state.shuffle(order)  # as the host shuffles rows; seeds give the results of release 0.1.0
                yield sequences.padded_events(rows[batch[order]])

        group = ProcessGroup.current()
        step = TrainingStep(self.net, self.objective, negatives, group, events_of_batches(), on_step)
        try:
            loop.run(step, len(batches))
        except _LossNotFinite:
            run.loss = float("nan")
        run.seconds += perf_counter() - begin
        number, loss = len(self.epoch_records), run.loss / sequences.num_targets
        return EpochRecord(number, loss, None, run.seconds, int(sequences.lengths[rows].sum()))

    def _validated(
        self,
        record: EpochRecord,
        validation: SessionSequences | None,
        negatives: Negatives | None,
        run: FitProgress,
    ) -> EpochRecord:
        """Add the validation loss to a record; raise an InputError if a loss is not finite."""
        if validation is not None and np.isfinite(record.loss):
            loss = ProcessGroup.current().broadcast(self.mean_loss(validation, negatives))
            record = EpochRecord(**{**asdict(record), "validation_loss": loss})
        if not np.isfinite([record.loss, record.validation_loss or 0.0]).all():
            self._restore(run.kept_state)
            raise InputError(
                f"the loss is no longer finite in epoch {record.epoch}: fit a new model with a lower "
                "learning_rate; this one is back at its last kept weights"
            )
        return record

    def _check_scores(self, sequences: SessionSequences, run: FitProgress) -> None:
        """Raise an InputError if the last step made the scores overflow, which no later loss would show."""
        first = sequences.padded_events(np.flatnonzero(sequences.targets_a_row)[:1])  # (1, time, channel)
        if not gives_finite_scores(self.net, torch.from_numpy(first).to(self.device), self.num_items):
            self._restore(run.kept_state)
            raise InputError(
                f"weights or scores are no longer finite after epoch {len(self.epoch_records)}: fit a new model with a "
                "lower learning_rate; this one is back at its last kept weights"
            )

    def _batches(self, sequences: SessionSequences, rows: np.ndarray, run: FitProgress) -> list[np.ndarray]:
        """Draw the mini-batches of an epoch, as places in `rows`; those of an epoch that had begun are as before."""
        random_state = self.random_state
        if run.drawn_with is None:
            run.drawn_with = random_state.get_state(legacy=False)
        else:
            random_state = deepcopy(random_state)
            random_state.set_state(run.drawn_with)
        lengths = sequences.lengths[rows]
        if self.options.time_order:
            times = sequences.times_in(rows, random_state.uniform(size=len(rows)))
            return chronological_batches(times, self.batch_size, random_state)
        if self.options.mix_lengths:
            return shuffled_batches(len(rows), self.batch_size, random_state)
        return length_bucketed_batches(lengths, self.batch_size, random_state)


class CheckpointWriter(Callback):
    """
    Write snapshots of a call of `fit` to its checkpoint, when they are due.

    Parameters
    ----------
    file : CheckpointFile or None
        None writes nothing.
    snapshot : callable
    """

    def __init__(self, file: CheckpointFile | None, snapshot: Callable[[], dict[str, object]]) -> None:
        self._file, self._snapshot = file, snapshot

    def on_batch_end(self, model: TrainableModel) -> None:
        """Write if it is time to."""
        if self._file is not None and self._file.due():
            self._file.write(self._snapshot())

    def write_epoch(self, is_last: bool) -> None:
        """Write after an epoch, once its callbacks have been called."""
        if self._file is not None and (self._file.due(epoch_ended=True) or is_last):
            self._file.write(self._snapshot())


class _LossNotFinite(ArithmeticError):
    """Ends the host's loop within an epoch."""


class TrainingStep(nn.Module):
    """
    A training step on the targets of a mini-batch, with the interface of the net that the host's loop drives.

    The host scores every position of every row, padding included. Here it hands on the states of the targets alone,
    with the events beside them, since negatives depend on the whole mini-batch. In a data-parallel job each process
    takes its share of the rows.

    Parameters
    ----------
    net : module
    objective : Objective
    negatives : Negatives or None
    group : ProcessGroup
    batches : iterable of int64 arrays of shape (batch, time, channel), optional
        The events of the mini-batches, in the order in which they are taken.
    on_step : callable, optional
        Called after each step with the mini-batch's mean loss and its number of targets.
    """

    def __init__(
        self,
        net: nn.Module,
        objective: Objective,
        negatives: Negatives | None,
        group: ProcessGroup,
        batches: Iterable[np.ndarray] = (),
        on_step: Callable[[float, int], None] = lambda loss, targets: None,
    ) -> None:
        super().__init__()
        self.net = net
        self._objective, self._negatives, self._group = objective, negatives, group
        self._batches: Iterator[np.ndarray] = iter(batches)
        self._on_step = on_step
        self._share, self._targets = 1.0, 0
        self._loss: Tensor | None = None  # of the mini-batch whose step is being taken
        self._total: float | None = None  # the same over all processes

    def user_representation(self, numbers: Tensor) -> tuple[TargetStates, None]:
        """Take the next mini-batch; the host calls this first, with its number."""
        self.finish()
        events = next(self._batches)  # (batch, time, channel)
        self._targets = int(events[:, :, TARGET].sum())
        return self.states_of(torch.from_numpy(events).to(numbers.device)), None

    def states_of(self, events: Tensor) -> TargetStates:
        """Return the states of this process's targets of a mini-batch, (batch, time, channel)."""
        part = self._group.part(len(events))
        has_none = part.start == part.stop
        if has_none:  # the process takes a step all the same, with a weight of 0
            part = slice(0, 1)
        with self._group.dropout_of_whole_batch(self.net, events, part):
            states, items = states_at_targets(self.net, events[part])
        before, number = (int((events[rows, :, TARGET] != 0).sum()) for rows in (slice(part.start), slice(None)))
        self._share = 0.0 if has_none else len(items) / max(number, 1)
        return TargetStates(events, states, items, slice(before, before + len(items)))

    def forward(self, targets: TargetStates, numbers: Tensor) -> Tensor:
        """Return what the loss takes for the targets, (targets,), see ``Objective``; the host calls this second."""
        return self._objective.positives(self.net, targets)

    def negative_scores(self, targets: TargetStates) -> Tensor:
        """Return the scores that the targets are compared with; the host asks for them third."""
        return self._objective.negative_scores(self.net, targets, self._negatives)

    def mean_loss(self, positive: Tensor, negative: Tensor) -> Tensor:
        """Return the mean loss; in a job, this process's share of it, so that all targets weigh alike."""
        loss = self._objective.mean(positive, negative)
        return loss * self._share if self._group.size > 1 else loss

    def measure(self, positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> "StepLoss":
        """Return the loss as the host's loop uses it; its mask is not needed, as only targets are here."""
        loss = self.mean_loss(positive, negative)
        self._loss, self._total = loss.detach(), None
        return StepLoss(loss)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over the processes of a job; the optimizer calls this before its step."""
        self._total = self._group.sum_gradients(parameters, self._loss)

    def finish(self) -> None:
        """Report the last step; called before the next one, and after the last."""
        if self._loss is not None:
            loss = float(self._loss) if self._total is None else self._total
            self._loss = None
            self._on_step(loss, self._targets)


@dataclass(frozen=True)
class StepLoss:
    """What the host's loop asks of a loss."""

    loss: Tensor

    def backward(self) -> None:
        """Compute the gradients."""
        self.loss.backward()

    def item(self) -> float:
        """Return a constant: the trainer sums the losses itself, and the host rejects an epoch with a loss of 0."""
        return 1.0


@dataclass(frozen=True)
class _BatchNumbers:
    """What the host's `fit` reads of its SequenceInteractions: a row for each mini-batch."""

    sequences: np.ndarray  # (batches, 1)
    num_items: int = 0


@dataclass
class _InOrder:
    """A random state whose shuffle keeps the order."""

    seeds: np.random.RandomState = field(default_factory=lambda: np.random.RandomState(0))

    def randint(self, *bounds: int) -> int:
        """Draw the seed that the host gives torch."""
        return self.seeds.randint(*bounds)

    def shuffle(self, rows: np.ndarray) -> None:
        """Leave the rows as they are."""


class HostLoop(ImplicitSequenceModel):
    """
    Spotlight's own fitting loop, driven once an epoch over the numbers of the mini-batches.

    The loop takes each number for a sequence and asks its net, a :class:`TrainingStep`, for the mini-batch of that
    number; loss, backward pass and optimizer step are the host's.

    Parameters
    ----------
    optimizer : torch optimizer
    use_cuda : bool
    """

    def __init__(self, optimizer: torch.optim.Optimizer, use_cuda: bool) -> None:
        super().__init__(n_iter=1, batch_size=1, use_cuda=use_cuda, random_state=_InOrder())
        self._optimizer = optimizer

    def run(self, step: TrainingStep, batches: int) -> None:
        """Take a step for each mini-batch."""
        if not batches:
            return
        self._net, self._loss_func = step, step.measure
        handle = None
        if ProcessGroup.current().size > 1:
            parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            handle = self._optimizer.register_step_pre_hook(lambda *step_of: step.sum_gradients(parameters))
        try:
            self.fit(_BatchNumbers(np.arange(batches)[:, None]))
        finally:
            if handle is not None:
                handle.remove()
        step.finish()

    def _check_input(self, item_ids: np.ndarray) -> None:
        """Accept the numbers of mini-batches, which are not item ids."""

    def _get_negative_prediction(self, shape: torch.Size, user_representation: TargetStates) -> Tensor:
        return self._net.negative_scores(user_representation)
