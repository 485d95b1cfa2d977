"""The session-aware sequence model: Spotlight's ImplicitSequenceModel with users, sessions and dwell."""

from collections.abc import Callable, Hashable, Iterable
from copy import copy
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from spotlight_asars import host
from spotlight_asars.errors import InputError, check_choice
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import ImplicitSequenceModel, SequenceInteractions
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import DWELL_RULES, ITEM
from spotlight_asars.interactions.rows import bounded_batches, flat_positions
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.sessions import LiveSession
from spotlight_asars.sequence.online.steps import NetLiveSteps
from spotlight_asars.sequence.recommender.base import PADDING_SCORE, Recommender
from spotlight_asars.sequence.recommender.embeddings import embeddings_table
from spotlight_asars.sequence.recommender.explaining import no_attention
from spotlight_asars.sequence.recommender.fitted import Numbering, check_same_numbering
from spotlight_asars.sequence.representations.options import NetOptions
from spotlight_asars.sequence.representations.registry import (
    BUILT_IN,
    HOST_REPRESENTATIONS,
    representation_factory,
)
from spotlight_asars.sequence.representations.scoring import (
    gives_finite_scores,
    score_all_items,
    score_items,
    states_after,
    target_states,
)
from spotlight_asars.sequence.training.callbacks import Callback, Progress, as_callback
from spotlight_asars.sequence.training.distributed import ProcessGroup
from spotlight_asars.sequence.training.former_keywords import regrouped, with_former_keywords
from spotlight_asars.sequence.training.initial_embeddings import start_from_cooccurrence
from spotlight_asars.sequence.training.negatives import MOST_TARGETS, SamplingOptions
from spotlight_asars.sequence.training.objective import ALL_ITEMS_LOSS, Objective
from spotlight_asars.sequence.training.resuming import (
    EPOCH_RECORD,
    EpochRecord,
    call_of,
    random_numbers_kept,
    saved_progress,
    shared_call,
    start_of,
)
from spotlight_asars.sequence.training.trainer import Trainer, TrainingOptions
from spotlight_asars.serialization.checkpoints import Checkpoint, CheckpointFile
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Fields, ListOf, Text, check_settings
from spotlight_asars.serialization.state import (
    OptimizerFunc,
    SystemState,
    constructor_arguments,
    optimizer_as_data,
    optimizer_from,
    plain_and_code,
    random_state_as_data,
    random_state_from,
)
from spotlight_asars.serialization.weights import check_weights, load_weights, weights_of


@register_kind("model")
class ASARSSequenceModel(Recommender, ImplicitSequenceModel):
    """
    A next-item model over sessions, with users and dwell times.

    Parameters
    ----------
    loss : str or callable, optional
        'cross_entropy' over all items, which draws no negatives; or, with negative samples, 'sampled_cross_entropy',
        'bpr', 'bpr_max', 'top1', 'top1_max', 'hinge', 'adaptive_hinge', 'pointwise'; or a function ``f(positive,
        negative)`` of scores of shapes (targets,) and (negatives, targets).
    representation : str, module or callable, optional
        A registered name ('asars_time_user', 'asars_time_att', 'asars_user_cat', 'gru4rec', ...), one of the host's
        ('pooling', 'cnn', 'lstm', 'mixture'), a module with the host's interface, or a factory as for
        ``register_representation``.
    embedding_dim, n_iter, batch_size, l2, learning_rate, optimizer_func, use_cuda, sparse, random_state :
        As in the host; `batch_size` counts rows, `random_state` may be an int. A seed gives the same weights only with
        the same number of threads and the same versions: more threads add numbers in another order. With `sparse` and
        no `optimizer_func`, the optimizer is Adagrad instead of Adam, which cannot use sparse gradients.
    num_negative_samples : int, optional
        Negatives per target, for every loss that samples.
    dwell : {'known', 'observed'}, optional
        'known' uses only dwell times that have ended before the prediction, as a server has them; 'observed' is the
        paper's protocol, where the time up to the next event counts.
    representation_options : NetOptions or dict, optional
        Further keywords of the net, see ``NetOptions``.
    loss_options : dict, optional
        Further keywords of the loss function.
    sampling : {'local', 'shared'}, SamplingOptions or dict, optional
        How negatives are drawn: by the kind's name, or with options, as in ``{"kind": "shared", "alpha": 0.5}``.
    training : TrainingOptions or dict, optional
        Early stopping, mini-batches and initial embeddings.

    Attributes
    ----------
    net : module or None
        None before the first fit, as what follows.
    trainer : Trainer or None
        Holds the optimizer from one call of `fit` to the next.
    num_items, num_users : int or None
        Numbers of ids, 0 included.
    item_vocabulary, user_vocabulary : Vocabulary or None
        Raw ids, where the rows had them.
    binning, gap_binning : ScottBinning or None
        Bins of dwell and of session gaps.
    session_gap : float or None
        Seconds of inactivity that end a session; infinite if the training part had its own sessions.

    Raises
    ------
    InputError
        If an argument is not valid, or arguments do not go together.
    """

    @with_former_keywords
    def __init__(
        self,
        loss: str | Callable[..., Tensor] = ALL_ITEMS_LOSS,
        representation: str | nn.Module | Callable[..., nn.Module] = "asars_time_user",
        embedding_dim: int = 32,
        n_iter: int = 10,
        batch_size: int = 256,
        l2: float = 0.0,
        learning_rate: float = 1e-2,
        optimizer_func: OptimizerFunc | None = None,
        use_cuda: bool = False,
        sparse: bool = False,
        random_state: np.random.RandomState | int | None = None,
        num_negative_samples: int = 5,
        dwell: str = "known",
        representation_options: NetOptions | dict | None = None,
        loss_options: dict | None = None,
        sampling: SamplingOptions | str | dict = "local",
        training: TrainingOptions | dict | None = None,
    ) -> None:
        check_choice("dwell", dwell, DWELL_RULES)
        _check_representation(representation, representation_options, dwell)
        if sparse and l2 and optimizer_func is None:
            raise InputError("l2 is dense and cannot be combined with sparse gradients: leave one out")
        objective = Objective(loss, dict(loss_options or {}), SamplingOptions.of(sampling), num_negative_samples)
        options = TrainingOptions.of(training)
        # The host knows its own losses and nets only; it is given the net in `_initialize`.
        super().__init__(
            embedding_dim=embedding_dim,
            n_iter=n_iter,
            batch_size=batch_size,
            l2=l2,
            learning_rate=learning_rate,
            optimizer_func=optimizer_func,
            use_cuda=use_cuda,
            sparse=sparse,
            random_state=random_state if hasattr(random_state, "shuffle") else np.random.RandomState(random_state),
            num_negative_samples=num_negative_samples,
        )
        self.loss, self.representation, self.dwell = loss, representation, dwell
        self.representation_options, self.loss_options = representation_options, loss_options
        self.sampling, self.training = sampling, training
        self._given_random_state, self._objective, self._training_options = random_state, objective, options
        self._num_users: int | None = None
        self.binning: ScottBinning | None = None
        self.gap_binning: ScottBinning | None = None
        self.item_vocabulary: Vocabulary | None = None
        self.user_vocabulary: Vocabulary | None = None
        self.session_gap: float | None = None
        self._trainer: Trainer | None = None
        self._interrupted_start: dict | None = None  # what a call of `fit` began with that was stopped

    @property
    def net(self) -> nn.Module | None:
        """The net; None before the first fit."""
        return self._net

    @property
    def n_iter(self) -> int:
        """Epochs that a call of `fit` takes."""
        return self._n_iter

    @n_iter.setter
    def n_iter(self, epochs: int) -> None:
        self._n_iter = epochs

    @property
    def trainer(self) -> Trainer | None:
        """The trainer; None before the first fit."""
        return self._trainer

    @property
    def epoch_records(self) -> list[EpochRecord]:
        """One record for each epoch, over all calls of `fit`."""
        return [] if self._trainer is None else self._trainer.epoch_records

    @property
    def num_items(self) -> int | None:
        """Number of item ids, the padding included; None before the first fit."""
        return self._num_items

    @property
    def num_users(self) -> int | None:
        """Number of user ids, the anonymous one included; None before the first fit."""
        return self._num_users

    def fit(
        self,
        interactions: SequenceInteractions,
        verbose: bool = False,
        validation: SequenceInteractions | None = None,
        callbacks: Iterable[Callback | Callable[["ASARSSequenceModel", EpochRecord], object]] = (),
        checkpoint: Checkpoint | str | Path | None = None,
    ) -> "ASARSSequenceModel":
        """
        Fit the model; a further call resumes training.

        In a data-parallel job (see ``spotlight_asars.sequence.training.distributed``) every process makes the same
        call, and all reach the same weights.

        Parameters
        ----------
        interactions : SessionSequences, or the host's SequenceInteractions or Interactions with timestamps
            Rows to learn from. Dwell is unknown in SequenceInteractions; Interactions are split into sessions.
        verbose : bool, optional
            Show a progress bar, one step an epoch.
        validation : SessionSequences, SequenceInteractions or Interactions, optional
            Rows whose loss is measured after each epoch. With them, fitting stops early and keeps the weights of the
            epoch with the smallest validation loss.
        callbacks : iterable of Callback or callable, optional
            A plain function is called with the model and the :class:`EpochRecord` after each epoch, and ends fitting by
            returning True. In a job every process calls its own callbacks, and the first process decides.
        checkpoint : path or Checkpoint, optional
            A file that records progress, after every epoch or as ``Checkpoint(path, minutes=10)`` says. If the process
            is killed, the same call with the same settings, rows and file resumes there and ends with the same weights,
            to the bit on a CPU; callbacks are called for the remaining epochs. A finished call returns at once when
            repeated, and continues with a larger `n_iter`. Each call needs its own file.

        Returns
        -------
        The model.

        Raises
        ------
        InputError
            If no row has an event to predict, if ids lie outside what the model was first fitted on, or if the loss or
            a score is no longer finite; the model is then as it was after the last epoch that was kept. Also if the
            checkpoint is damaged or belongs to another call; the model is then as it was.

        Warns
        -----
        UserWarning
            Once, if a checkpoint cannot be written; fitting continues.
        """
        group = ProcessGroup.current()
        sequences = _rows_with_targets(interactions, like=self)
        validation = None if validation is None else _rows_with_targets(validation, like=sequences)
        file = None if checkpoint is None else CheckpointFile(checkpoint, group)
        saved = self._saved(group, file, sequences, validation)
        callbacks = [*([Progress()] if verbose else []), *map(as_callback, callbacks)]
        # torch wants to know whether to check sparse tensors; those of embeddings' gradients are valid.
        unchecked = torch.sparse.check_sparse_tensor_invariants(False)
        with random_numbers_kept(self._use_cuda), unchecked:
            torch.manual_seed(int(self._random_state.randint(2**31 - 1)))
            is_new = not self._initialized
            try:
                if is_new:
                    self._begin(sequences)
                for rows in (sequences, validation):
                    if rows is not None:
                        check_same_numbering(rows, self)
                progress = self._trainer.begin(file, saved)
            except InputError:
                if is_new:
                    self._net = self._trainer = None  # as before the call
                raise
            self._trainer.fit(self, sequences, self._n_iter, progress, validation, callbacks, file)
        self._net.train(False)
        self._interrupted_start = None
        return self

    def _saved(
        self,
        group: ProcessGroup,
        file: CheckpointFile | None,
        sequences: SessionSequences,
        validation: SessionSequences | None,
    ) -> dict[str, object] | None:
        """Return what the checkpoint of this call holds; None if it is only beginning."""
        settings = self._settings_of_call()
        if group.size > 1:
            group.check_same(
                shared_call(settings, sequences, validation, len(self.epoch_records), has_checkpoint=file is not None)
            )
        if file is None or not group.is_first:
            self._interrupted_start = None
            return None
        # An interrupted call, say by Ctrl-C, has changed the model; resuming is allowed nevertheless.
        start = self._interrupted_start if file.exists and self._interrupted_start else self._start()
        saved = saved_progress(file, call_of(settings, start, sequences, validation), self._n_iter)
        self._interrupted_start = start
        return saved

    def _start(self) -> dict[str, object]:
        """Return what a call of `fit` begins with."""
        is_seeded = self._given_random_state is not None
        state = {"random_state": self._random_state.get_state(legacy=False)} if is_seeded else None
        if self._initialized:
            net, optimizer = self._net.state_dict(), self._trainer.optimizer.state_dict()
            state = {**(state or {}), "net": net, "optimizer": optimizer}
        return start_of(len(self.epoch_records), state)

    def _begin(self, sequences: SessionSequences) -> None:
        """Make net and trainer for the rows of the first fit."""
        self._initialize(sequences)
        choice = self._training_options.initial_embeddings
        if choice != "random":
            start_from_cooccurrence(self._net, sequences, choice == "catalogue")

    def _initialize(self, interactions: SessionSequences | Numbering) -> None:
        self._num_users = interactions.num_users
        self.binning, self.gap_binning = interactions.binning, interactions.gap_binning
        self.session_gap = interactions.session_gap
        self.item_vocabulary, self.user_vocabulary = interactions.item_vocabulary, interactions.user_vocabulary
        self._representation = self._host_representation(interactions)
        if isinstance(self._representation, nn.Module):
            self._objective.check_net(self._representation)
        super()._initialize(interactions)
        self._objective.check_net(self._net)  # the host's own nets are made only here
        self._training_options.check_net(self._net)
        if self._optimizer_func is None:
            self._optimizer = self._default_optimizer()
        self._trainer = Trainer(
            self._net,
            self._optimizer,
            self._objective,
            self._training_options,
            batch_size=self._batch_size,
            num_items=self._num_items,
            num_users=self._num_users,
            random_state=self._random_state,
            use_cuda=self._use_cuda,
        )

    def _host_representation(self, interactions: SessionSequences | Numbering) -> str | nn.Module:
        """Return what the host makes its net from: one of its names, or a module."""
        representation = self.representation
        if isinstance(representation, nn.Module) or representation in HOST_REPRESENTATIONS:
            return representation
        factory = representation_factory(representation) if isinstance(representation, str) else representation
        options = self.representation_options or {}
        return factory(
            num_items=interactions.num_items,
            embedding_dim=self._embedding_dim,
            num_users=interactions.num_users,
            num_dwell_bins=interactions.binning.num_bins,
            num_gap_bins=interactions.gap_binning.num_bins,
            dwell=self.dwell,
            sparse=self._sparse,
            **(vars(options) if isinstance(options, NetOptions) else options),
        )

    def _default_optimizer(self) -> torch.optim.Optimizer:
        weights, rate = self._net.parameters(), self._learning_rate
        if self._sparse:
            return torch.optim.Adagrad(weights, lr=rate)
        # The host's, with each weight's step as one operation.
        return torch.optim.Adam(weights, lr=rate, weight_decay=self._l2, fused=True)

    @property
    def is_fitted(self) -> bool:
        """Whether the model has a net."""
        return self._initialized

    def scores_after(self, rows: SessionSequences) -> Tensor:
        self._net.train(False)
        with torch.no_grad():
            return score_all_items(self._net, states_after(self._net, rows), self._num_items)

    def item_scores_after(self, rows: SessionSequences, items: np.ndarray) -> np.ndarray:
        """Return scores of given items after the last event of each row: float32, (rows, items)."""
        if np.array_equal(items, np.arange(self._num_items)):
            return super().item_scores_after(rows, items)
        self._net.train(False)
        with torch.no_grad():
            states = states_after(self._net, rows)  # (rows, *state)
            wanted = self._tensor(items.astype(np.int64))[:, None].expand(-1, len(rows))  # (items, rows)
            scores = score_items(self._net, states, wanted).T  # (rows, items)
            return scores.masked_fill(wanted.T == PADDING_ITEM, PADDING_SCORE).cpu().numpy()

    is_random = True
    has_live_sessions = True

    @property
    def system_name(self) -> str:
        """The registered name of the net, or the class of a net or factory of your own."""
        named = self.representation
        return named if isinstance(named, str) else type(named).__name__

    @property
    def has_users(self) -> bool:
        """Whether the net learns about users."""
        return self._net_has("has_users")

    @property
    def reads_dwell(self) -> bool:
        """Whether the net reads dwell bins."""
        return self._net_has("reads_dwell")

    def _net_has(self, capability: str) -> bool:
        named = self.representation
        if isinstance(named, str):
            named = None if named in HOST_REPRESENTATIONS else representation_factory(named)
        return bool(getattr(named, capability, False))  # a net of your own need not say

    @property
    def has_attention(self) -> bool:
        """Whether the net, once it is made, gives weights that `explain` can show."""
        return hasattr(self._net, "attention_weights")

    def attention_weights(self, rows: SessionSequences) -> np.ndarray:
        """How much each event of some rows weighs in what is recommended after the last: (events,), row by row."""
        if not self.has_attention:
            raise InputError(no_attention(type(self._net).__name__))
        self._net.train(False)
        found = np.empty(len(rows.events), dtype=np.float32)
        for batch in bounded_batches(rows.lengths):
            events = rows.padded_events(batch)  # (batch, time, channel)
            with torch.no_grad():
                weights = self._net.attention_weights(self._tensor(events)).cpu().numpy()  # (batch, time)
            places, _, _ = flat_positions(rows.offsets[batch], rows.lengths[batch])
            found[places] = weights[events[:, :, ITEM] != PADDING_ITEM]
        return found

    def item_embeddings(self) -> pd.DataFrame:
        """Return the net's embedding of each item, a row by its raw id: float32, (items, dim)."""
        vectors = self._table("item_embeddings")
        return super().item_embeddings() if vectors is None else embeddings_table(vectors, self.raw_items, "item")

    def user_embeddings(self) -> pd.DataFrame:
        """Return the net's embedding of each user, a row by its raw id: float32, (users, dim)."""
        vectors = self._table("user_embeddings") if self.has_users else None
        return super().user_embeddings() if vectors is None else embeddings_table(vectors, self.raw_users, "user")

    def _table(self, name: str) -> np.ndarray | None:
        """Return a table of the net's embeddings without the padding, None if the net has no such table."""
        self.check_fitted()
        weight = getattr(getattr(self._net, name, None), "weight", None)
        return None if weight is None else weight.detach().cpu().numpy()[PADDING_ITEM + 1 :]

    def session(self, user: Hashable = None) -> LiveSession:
        """
        A live session: ``observe(item, timestamp)`` and ``recommend(k, now=None)`` at a cost that does not grow.

        Its answers are those of :meth:`recommend` for all that it has observed. ``online.LiveSessions`` steps many as
        one batch.

        Parameters
        ----------
        user : raw id, optional
            None or an unknown one is anonymous.
        """
        return LiveSession(self, user)

    def live_steps(self) -> NetLiveSteps:
        """Steps of the net, for :class:`LiveSession`."""
        return NetLiveSteps(self)

    def target_states(self, sequences: SessionSequences) -> Tensor:
        """
        States from which the targets of some rows are predicted, in the order of rows, then of time.

        Returns
        -------
        tensor of shape (targets, *state)
        """
        self.check_fitted()
        sequences = as_session_sequences(sequences, like=self)
        check_same_numbering(sequences, self)
        self._net.train(False)
        return target_states(self._net, sequences, self._batch_size)

    def item_scores(self, states: Tensor) -> Tensor:
        """Scores of items 1, 2, ... from states of :meth:`target_states`: (targets, items)."""
        with torch.no_grad():
            return score_all_items(self._net, states, self._num_items)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._trainer.device)

    def state(self) -> SystemState:
        """
        Return the model as data; the optimizer's own state is not part of it.

        Raises
        ------
        InputError
            If there are weights or raw ids that no file can hold.
        """
        settings, code = self._settings()
        settings["random_state"] = random_state_as_data(self._random_state)
        if not self._initialized:
            return SystemState(settings, code)
        numbering = Numbering.of(self)
        records = [record.as_data() for record in self.epoch_records]
        fitted = {**numbering.fitted(), "net": type(self._net).__name__, "epoch_records": records}
        return SystemState(settings, code, fitted, {"weights": weights_of(self._net)}, numbering.parts())

    @classmethod
    def from_state(cls, state: SystemState) -> "ASARSSequenceModel":
        """Return an equal model; torch's global random state stays as it is."""
        settings = regrouped(state.settings)
        random_state = random_state_from(settings.pop("random_state", None))
        given = {*state.code, "optimizer_func"}
        check_settings(cls, settings, given)
        settings["optimizer_func"] = optimizer_from(settings.get("optimizer_func"))
        with random_numbers_kept(settings["use_cuda"]):  # the host seeds torch for the whole process
            model = cls(**settings, random_state=random_state)
            # The host has drawn torch's seed from it.
            random_state.set_state(state.settings["random_state"])
            if state.fitted is not None:
                numbering = Numbering.from_state(state)
                Fields({"net": Text(), "epoch_records": ListOf(EPOCH_RECORD)}).check("model", state.fitted)
                Fields({"weights": Fields({})}).check("model", state.arrays)
                net = model._net_without_memory(numbering)
                if net is not None:
                    _check_net(net, state)
                model._initialize(numbering)
        if state.fitted is not None:
            _check_net(model.net, state)
            load_weights(model.net, state.arrays["weights"])
            model.net.train(False)
            few = SessionSequences(np.arange(1, min(model.num_items, 9))[None], num_items=model.num_items)
            if not gives_finite_scores(model.net, model._tensor(few.padded_events(np.arange(1))), model.num_items):
                raise InputError("its weights or scores are not finite: train it again with a lower learning_rate")
            model.trainer.epoch_records = [EpochRecord.from_data(record) for record in state.fitted["epoch_records"]]
        return model

    def _net_without_memory(self, numbering: Numbering) -> nn.Module | None:
        """Return a net as `_initialize` makes it, whose weights have a shape alone; None if it cannot be made so."""
        if isinstance(self.representation, nn.Module):  # it is there already
            return None
        model = copy(self)
        model._use_cuda, model._optimizer_func = False, lambda parameters: None
        try:
            with torch.device("meta"):
                model._initialize(numbering)
        except Exception:
            factory = self.representation
            if isinstance(factory, str) and factory not in HOST_REPRESENTATIONS:
                factory = representation_factory(factory)
            if factory in (*HOST_REPRESENTATIONS, *BUILT_IN.values()):
                raise
            return None  # a net of the user's, whose code may need values
        return model.net

    def _settings(self) -> tuple[dict[str, object], dict[str, str]]:
        """Return the constructor arguments but the random state: plain data, and the names of those that are code."""
        arguments = {name: asdict(one) if is_dataclass(one) else one for name, one in self._parameters().items()}
        del arguments["random_state"]
        arguments["optimizer_func"] = optimizer_as_data(self._optimizer_func)
        return plain_and_code(arguments)

    def _settings_of_call(self) -> dict[str, object]:
        """Return the settings that identify a call of `fit`; named as in release 0.1.0, whose checkpoints resume."""
        settings, code = self._settings()
        sampling, given = self._objective.sampling, {**settings, **code}
        options = {name: value for name, value in asdict(sampling).items() if name == "alpha" or value != MOST_TARGETS}
        del options["kind"], given["training"]
        return {
            **given,
            **self._training_options.as_of_release_0_1_0(),
            "representation_options": given["representation_options"] or {},
            "loss_options": given["loss_options"] or {},
            "sampling": sampling.kind,
            "sampling_options": options if sampling.kind == "shared" else None,
        }

    def _parameters(self) -> dict[str, object]:
        """Return the constructor arguments; the random state as it was given."""
        return {**constructor_arguments(self, "random_state"), "random_state": self._given_random_state}


def _check_net(net: nn.Module, state: SystemState) -> None:
    """Raise an InputError unless a net is of the class and has the shapes of the one in a state."""
    made, wanted = type(net).__name__, state.fitted["net"]
    if made != wanted:  # weights may fit another net and score otherwise
        raise InputError(f"its net was a {wanted:.80}, and here a {made} is made: register or give that one")
    check_weights(net, state.arrays["weights"])


def _check_representation(
    representation: str | nn.Module | Callable[..., nn.Module], options: NetOptions | dict | None, dwell: str
) -> None:
    """Raise an InputError if there is no such net, or the arguments do not go with it."""
    is_module, is_hosts = isinstance(representation, nn.Module), representation in HOST_REPRESENTATIONS
    if isinstance(representation, str) and not is_hosts:
        representation_factory(representation)
    if representation == "mixture" and host.NAME == "embedded":
        raise InputError("representation 'mixture' is Spotlight's own and needs it installed: choose another")
    if options and (is_module or is_hosts):
        raise InputError("representation_options apply to nets given by name or by a factory: this net takes none")
    if is_module and getattr(representation, "dwell", dwell) != dwell:
        raise InputError(f"the net was made with dwell={representation.dwell!r} and the model with {dwell!r}")


def _rows_with_targets(
    interactions: SequenceInteractions, like: "ASARSSequenceModel | SessionSequences"
) -> SessionSequences:
    """Return interactions as rows; raise an InputError if there is nothing to predict."""
    sequences = as_session_sequences(interactions, like)
    if not sequences.num_targets:
        raise InputError("no row has an event to predict: sessions need at least two events")
    return sequences
