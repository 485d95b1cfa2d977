"""How the session-aware model fits: epoch by epoch through the host's own `fit`, with validation and best weights.

What the host's fitting loop sees while our model fits: a step on the target events of a mini-batch.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from spotlight_asars.errors import InputError
from spotlight_asars.host import ImplicitSequenceModel, SequenceInteractions
from spotlight_asars.interactions.channels import ITEM, TARGET
from spotlight_asars.interactions.rows import length_bucketed_batches, shuffled_batches
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.losses import LOSSES, log_sum_exp
from spotlight_asars.sampling import SeenItems
from spotlight_asars.sequence.representations.scoring import (
    TargetStates,
    score_all_items,
    score_items,
    scores_by_dot_product,
    states_at_targets,
)
from spotlight_asars.sequence.training.distributed import Team
from spotlight_asars.sequence.training.initial_embeddings import start_from_cooccurrence
from spotlight_asars.sequence.training.negatives import LocalNegatives, Negatives, SharedNegatives
from spotlight_asars.sequence.training.resuming import EpochRecord, FitProgress, Resumes, random_numbers_kept
from spotlight_asars.serialization.checkpoints import Checkpoint, CheckpointFile


@dataclass(frozen=True)
class EventRows:
    """The little of SequenceInteractions that the host's `fit` reads: one mini-batch of events."""

    sequences: np.ndarray  # (batch, time, channel)
    num_items: int


class HostStep(nn.Module):
    """
    Stands in for the net inside the host's loop, which hands its results from call to call without looking.

    The host would score every position of every row, padding too; here only targets are scored, and the events stay
    beside their states, since negatives depend on the whole mini-batch. Of a team, each process takes its part of the
    rows.

    Attributes
    ----------
    measured, loss : float or None
        The mini-batch's mean loss, once the host has measured it: this process's part, and all of it.
    """

    def __init__(
        self,
        net: nn.Module,
        negatives: object | None,
        loss_func: Callable[[Tensor, Tensor], Tensor],
        team: Team,
    ) -> None:
        super().__init__()
        self.net = net
        self.negatives = negatives
        self._loss_func = loss_func
        self._team = team
        self._share = 1.0
        self._measured: Tensor | None = None
        self._loss: float | None = None

    def user_representation(self, events: Tensor) -> tuple[TargetStates, None]:
        """Called first by the host."""
        part = self._team.part(len(events))
        stands_in = part.start == part.stop
        if stands_in:  # a step is taken all the same, with a weight of 0
            part = slice(0, 1)
        with self._team.draws_of_whole(self.net, events, part):
            states, items = states_at_targets(self.net, events[part])
        before, number = (int((events[rows, :, TARGET] != 0).sum()) for rows in (slice(part.start), slice(None)))
        self._share = 0.0 if stands_in else len(items) / max(number, 1)
        return TargetStates(events, states, items, slice(before, before + len(items))), None

    def forward(self, targets: TargetStates, events: Tensor) -> Tensor:
        """Called second: scores of the target items, (targets,)."""
        return score_items(self.net, targets.states, targets.items)

    def measure(self, positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
        """Called last; the host's mask is not needed, as only targets are here."""
        loss = self._loss_func(positive, negative)
        if self._team.size > 1:  # all targets weigh alike, however they lie in the parts
            loss = loss * self._share
        self._measured = loss.detach()
        return loss

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Called by the optimizer before its step, where there is a team."""
        self._loss = self._team.sum_gradients(parameters, self._measured)

    @property
    def measured(self) -> float | None:
        """See the class."""
        return None if self._measured is None else float(self._measured)

    @property
    def loss(self) -> float | None:
        """See the class."""
        return self.measured if self._loss is None else self._loss


ALL_ITEMS_LOSS = "cross_entropy"
SAMPLED_LOSS = "sampled_cross_entropy"
Callback = Callable[["SessionFitting", EpochRecord], object]


class SessionFitting(Resumes, ImplicitSequenceModel):
    """
    The fitting half of ``ASARSSequenceModel``: what the host's loop asks of a subclass, and the epochs around it.

    A mini-batch of rows goes through the host's `fit` at a time, so that rows of like length can train together.
    """

    def _get_negative_prediction(self, shape: torch.Size, user_representation: TargetStates) -> Tensor:
        """Scores of the negatives, (negatives, targets); for the loss over all items those of all, (targets, items)."""
        targets, net = user_representation, self._net.net
        if self._loss == ALL_ITEMS_LOSS:
            return score_all_items(net, targets.states, self._num_items)
        return self._net.negatives.score(net, targets, corrected=self._loss == SAMPLED_LOSS)

    def _get_multiple_negative_predictions(
        self, shape: torch.Size, user_representation: TargetStates, n: int = 5
    ) -> Tensor:
        """What the host calls for adaptive hinge; the number of negatives is the model's for every loss here."""
        return self._get_negative_prediction(shape, user_representation)

    def _mean_loss(self, positive: Tensor, negative: Tensor, mask: Tensor | None = None) -> Tensor:
        if self._loss == ALL_ITEMS_LOSS:
            return (log_sum_exp(negative, dim=1) - positive).mean()
        function = self._loss if callable(self._loss) else LOSSES[self._loss]
        return function(positive, negative, **self._loss_options)

    def fit(
        self,
        interactions: SequenceInteractions,
        verbose: bool = False,
        validation: SequenceInteractions | None = None,
        callbacks: Iterable[Callback] = (),
        checkpoint: Checkpoint | str | Path | None = None,
    ) -> "SessionFitting":
        """
        Fit the model; called again, it goes on from where it was.

        In a job of several processes, see ``spotlight_asars.sequence.distributed``, each makes the same call, and all
        come to the same weights.

        Parameters
        ----------
        interactions : SessionSequences, or the host's SequenceInteractions or Interactions with timestamps
            Rows to learn from. Of SequenceInteractions dwell is unknown; Interactions are cut into sessions.
        verbose : bool, optional
            Show progress, a step an epoch.
        validation : SessionSequences, SequenceInteractions or Interactions, optional
            Rows whose loss is measured after each epoch. With it, fitting stops early, and the weights of the epoch
            with the smallest validation loss are kept.
        callbacks : iterable of callables, optional
            Each is called with the model and the epoch's :class:`EpochRecord`; one that returns True ends fitting. In a
            job, every process calls its own, and the first decides.
        checkpoint : path or Checkpoint, optional
            A file in which the call keeps how far it is, after every epoch or as ``Checkpoint(path, minutes=10)`` says.
            Killed and made again, with the same settings, rows and file, the call goes on from there and ends with the
            same weights, to the bit on a CPU; callbacks are told of the epochs that were still to come. A finished
            call made again returns at once; with a larger `n_iter` it goes on. Each call has a file of its own.

        Returns
        -------
        The model.

        Raises
        ------
        InputError
            If no row has an event to predict, if ids lie outside what the model was first fitted on, or if the
            loss is no longer finite; the model is then as it was after the last epoch that was kept. Also if the
            checkpoint is damaged or of another call; the model is then as it was.

        Warns
        -----
        UserWarning
            Once, if a checkpoint cannot be written; fitting goes on.
        """
        team = self._team
        sequences = self._as_rows(interactions, like=self)
        validation = None if validation is None else self._as_rows(validation, like=sequences)
        file = None if checkpoint is None else CheckpointFile(checkpoint, team)
        if team.size > 1:
            team.check_same(self._call_in_short(sequences, validation, file))
        saved = self._saved(file, sequences, validation) if team.is_first else None
        # torch asks users of sparse gradients to say whether it shall check them; the embeddings' are sound.
        unchecked = torch.sparse.check_sparse_tensor_invariants(False)
        with random_numbers_kept(self._use_cuda), unchecked:
            torch.manual_seed(int(self._random_state.randint(2**31 - 1)))
            if not self._initialized:
                self._begin(sequences)
            self._check_ids(sequences)
            if validation is not None:
                self._check_ids(validation)
            run = self._begin_or_go_on(file, saved)
            self._fit_epochs(sequences, validation, verbose, tuple(callbacks), run, file)
        self._net.train(False)
        self._unfinished_start = None
        return self

    def _begin(self, sequences: SessionSequences) -> None:
        self._initialize(sequences)
        if self._initial_embeddings == "random":
            return
        try:
            start_from_cooccurrence(self._net, sequences, self._initial_embeddings == "catalogue")
        except InputError:
            self._net = None  # as before the call
            raise

    def _as_rows(
        self, interactions: SequenceInteractions, like: "SessionFitting | SessionSequences"
    ) -> SessionSequences:
        sequences = as_session_sequences(interactions, like)
        if not sequences.num_targets:
            raise InputError("no row has an event to predict: sessions need at least two events")
        return sequences

    def _check_ids(self, sequences: SessionSequences) -> None:
        for kind in ("items", "users"):
            there, known = getattr(sequences, f"num_{kind}"), getattr(self, f"_num_{kind}")
            if there > known:
                raise InputError(
                    f"the rows have {there} ids of {kind} and the model was made for {known}: "
                    f"number them alike, with the vocabularies of the rows it was first fitted on"
                )
        for name in ("item_vocabulary", "user_vocabulary"):
            theirs, ours = getattr(sequences, name), getattr(self, name)
            if theirs is not ours and theirs is not None and ours is not None and theirs != ours:
                raise InputError(
                    f"the rows have another {name} than the model, so their numbers mean other ids: split one log "
                    "with time_based_split, or align the other part with align_test"
                )
        if sequences.binning.fitted and sequences.binning != self.binning:
            raise InputError(
                "the rows have other dwell bins than the model, so the same bin means another time: make them with "
                "binning=model.binning, or with history= the training part"
            )

    def _fit_epochs(
        self,
        sequences: SessionSequences,
        validation: SessionSequences | None,
        verbose: bool,
        callbacks: tuple[Callback, ...],
        run: FitProgress,
        file: CheckpointFile | None,
    ) -> None:
        negatives = self._negatives_of(sequences)
        epochs = range(run.epoch, run.epoch if run.ended else self._n_iter)
        bar = tqdm(epochs, "epochs", leave=False, disable=not verbose)
        for epoch in bar:
            record = self._fit_epoch(sequences, validation, negatives, run, file)
            if not np.isfinite([record.loss, record.validation_loss or 0.0]).all():
                self._restore(run.kept_state)
                raise InputError(
                    f"the loss is no longer finite in epoch {record.epoch}: fit a new model with a lower "
                    "learning_rate; this one is as it was when last kept"
                )
            self.epoch_records.append(record)
            losses = {"loss": record.loss, "validation_loss": record.validation_loss}
            bar.set_postfix({name: loss for name, loss in losses.items() if loss is not None})
            if validation is None or record.validation_loss < run.kept_loss:
                run.keep(self._state(), record.validation_loss)
            asked_to_stop = self._team.agreed([callback(self, record) is True for callback in callbacks])
            run.end_epoch()
            run.ended = any(asked_to_stop) or epoch - run.kept_epoch >= self._early_stopping
            if file is not None and (file.due(epoch_ended=True) or run.ended or run.epoch == self._n_iter):
                file.write(self._in_hand(run))
            if run.ended:
                break
        self._restore(run.kept_state)

    def _fit_epoch(
        self,
        sequences: SessionSequences,
        validation: SessionSequences | None,
        negatives: Negatives | None,
        run: FitProgress,
        file: CheckpointFile | None,
    ) -> EpochRecord:
        """One pass over the rows, or what is left of it, through the host's `fit`, a mini-batch a call."""
        self._net.train()  # the host leaves it in evaluation mode after predict
        rows = np.flatnonzero(sequences.targets_a_row)
        batches = self._batches(sequences.lengths[rows], run)
        begin = perf_counter()
        for batch in batches[run.batch :]:
            events = sequences.padded_events(rows[batch])  # (batch, time, channel)
            with self._host_loop(negatives, self._team) as step:
                loss = self._fit_batch(step, events)
            run.loss += loss * int(events[:, :, TARGET].sum())
            run.batch += 1
            if not np.isfinite(loss):
                break
            if file is not None and file.due():
                run.seconds += perf_counter() - begin
                file.write(self._in_hand(run))
                begin = perf_counter()
        run.seconds += perf_counter() - begin
        finite = np.isfinite(run.loss)
        return EpochRecord(
            len(self.epoch_records),
            run.loss / sequences.num_targets,
            None if validation is None or not finite else self._team.agreed(self._mean_loss_of(validation, negatives)),
            run.seconds,
            int(sequences.lengths[rows].sum()),
        )

    def _batches(self, lengths: np.ndarray, run: FitProgress) -> list[np.ndarray]:
        """The mini-batches of an epoch; those of one that had begun are drawn as they were."""
        random_state = self._random_state
        if run.drawn_with is None:
            run.drawn_with = random_state.get_state(legacy=False)
        else:
            random_state = deepcopy(random_state)
            random_state.set_state(run.drawn_with)
        if self._mix_lengths:
            return shuffled_batches(len(lengths), self._batch_size, random_state)
        return length_bucketed_batches(lengths, self._batch_size, random_state)

    def _fit_batch(self, step: HostStep, events: np.ndarray) -> float:
        try:
            super().fit(EventRows(events, self._num_items))
        except ValueError:
            # The host stops at a loss of 0, which in a single mini-batch is no fault, and at NaN, which `fit` tells.
            if step.measured is None or (np.isfinite(step.measured) and step.measured != 0.0):
                raise
        return step.loss

    @contextmanager
    def _host_loop(self, negatives: Negatives | None, team: Team) -> Iterator[HostStep]:
        """While it is open, the host's `fit` takes one step on the target events of what it is given."""
        net, n_iter, loss_func = self._net, self._n_iter, self._loss_func
        step = HostStep(net, negatives, loss_func, team)
        self._net, self._n_iter, self._loss_func = step, 1, step.measure
        handle = None
        if team.size > 1:
            parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            handle = self._optimizer.register_step_pre_hook(lambda *step_of: step.sum_gradients(parameters))
        try:
            yield step
        finally:
            if handle is not None:
                handle.remove()
            self._net, self._n_iter, self._loss_func = net, n_iter, loss_func

    def _mean_loss_of(self, sequences: SessionSequences, negatives: Negatives | None) -> float:
        """Mean loss a target, without dropout; the negatives, where any are drawn, are the same at each call."""
        self._net.eval()
        total = 0.0
        with (
            torch.no_grad(),
            random_numbers_kept(self._use_cuda),
            self._host_loop(negatives, Team()) as step,
        ):
            torch.manual_seed(0)
            for rows in length_bucketed_batches(sequences.lengths, self._batch_size):
                events = self._tensor(sequences.padded_events(rows))  # (batch, time, channel)
                targets, _ = step.user_representation(events)
                if len(targets.items):
                    negative = self._get_negative_prediction(events.shape, targets)
                    total += float(step.measure(step(targets, events), negative)) * len(targets.items)
        return total / sequences.num_targets

    def _negatives_of(self, sequences: SessionSequences) -> Negatives | None:
        if self._loss == ALL_ITEMS_LOSS:
            return None
        if self._sampling == "shared":
            if not scores_by_dot_product(self._net):
                raise ValueError(
                    f"sampling='shared' scores the same items for all targets at once, which "
                    f"{type(self._net).__name__} cannot: choose 'local'"
                )
            # Rows may overlap, but an event is a target only once.
            counts = np.zeros(self._num_items, dtype=np.int64)
            counts[: sequences.num_items] = sequences.target_counts
            popularity = torch.from_numpy(counts).to(self._device)
            return SharedNegatives(popularity, self._num_negative_samples, **self._sampling_options)
        event_users = np.repeat(sequences.user_ids, sequences.lengths)
        seen = SeenItems(event_users, sequences.events[:, ITEM], self._num_users, self._num_items, self._device)
        return LocalNegatives(seen, self._num_negative_samples)

    @property
    def _team(self) -> Team:
        return Team.of_process()

    @property
    def _device(self) -> torch.device:
        return next(self._net.parameters()).device

    @property
    def _cuda_devices(self) -> list[int]:
        return [torch.cuda.current_device()] if self._use_cuda else []

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)
