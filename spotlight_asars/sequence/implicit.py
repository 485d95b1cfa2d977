"""The session-aware sequence model: Spotlight's ImplicitSequenceModel with users, sessions and dwell.

The session-aware model as data: what a file needs to make an equal one, and what of it is code.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars import host
from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import PADDING_BIN, UNKNOWN_BIN, ScottBinning
from spotlight_asars.interactions.channels import (
    DWELL,
    DWELL_RULES,
    ITEM,
    NUM_CHANNELS,
    SESSION_GAP_BIN,
    SESSION_START,
    TIME,
    UNKNOWN_TIME,
    USER,
    whole_seconds,
)
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.losses import LOSSES
from spotlight_asars.sequence.online.sessions import LiveSession
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.recommender.explaining import no_attention
from spotlight_asars.sequence.recommender.fitted import Numbering
from spotlight_asars.sequence.representations.registry import HOST_REPRESENTATIONS, representation_factory
from spotlight_asars.sequence.representations.scoring import (
    final_states,
    score_all_items,
    score_items,
    scores_by_dot_product,
    target_states,
)
from spotlight_asars.sequence.training.initial_embeddings import INITIAL_EMBEDDINGS
from spotlight_asars.sequence.training.negatives import check_sampling
from spotlight_asars.sequence.training.resuming import EpochRecord, random_numbers_kept
from spotlight_asars.sequence.training.trainer import ALL_ITEMS_LOSS, SessionFitting
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.state import SystemState, as_plain, constructor_arguments, plain_and_code
from spotlight_asars.serialization.weights import load_weights, weights_of

OptimizerFunc = Callable[[Iterable], torch.optim.Optimizer]


class ModelState:
    """``state`` and ``from_state`` of ``ASARSSequenceModel``, see ``SystemState``."""

    def state(self) -> SystemState:
        """
        The model as data; the optimizer's own state is not part of it.

        Raises
        ------
        InputError
            If there are weights or raw ids that no file can hold.
        """
        settings, code = self._settings()
        settings["random_state"] = _random_state_as_data(self._random_state)
        if not self._initialized:
            return SystemState(settings, code)
        numbering = Numbering.of(self)
        records = [as_plain(asdict(record)) for record in self.epoch_records]
        fitted = {**numbering.fitted(), "net": type(self._net).__name__, "epoch_records": records}
        return SystemState(settings, code, fitted, {"weights": weights_of(self._net)}, numbering.parts())

    def _settings(self) -> tuple[dict[str, object], dict[str, str]]:
        """Constructor arguments but the random state: plain data, and the names of what is none."""
        arguments = self._parameters()
        del arguments["random_state"]
        arguments["optimizer_func"] = _optimizer_as_data(self._optimizer_func)
        return plain_and_code(arguments)

    def _parameters(self) -> dict[str, object]:
        """Constructor arguments, see ``Recommender``; the random state as it was given."""
        arguments = constructor_arguments(self)
        arguments["random_state"] = self._given_random_state
        if self._sampling == "local":  # it takes none, and has the defaults all the same
            arguments["sampling_options"] = None
        return arguments

    @classmethod
    def from_state(cls, state: SystemState) -> "ModelState":
        """An equal model; the global random state of torch stays as it is."""
        settings = dict(state.settings)
        random_state = np.random.RandomState()
        random_state.set_state(settings.pop("random_state"))
        settings["optimizer_func"] = _optimizer_from(settings["optimizer_func"])
        with random_numbers_kept(settings["use_cuda"]):  # the host seeds torch for everybody
            model = cls(**settings, random_state=0)
            if state.fitted is not None:
                model._initialize(Numbering.from_state(state))
        if state.fitted is not None:
            made, wanted = type(model._net).__name__, state.fitted["net"]
            if made != wanted:  # weights may fit another net and score otherwise
                raise InputError(f"its net was a {wanted}, and here a {made} is made: register or give that one")
            load_weights(model._net, state.arrays["weights"])
            model._net.train(False)
            model.epoch_records = [EpochRecord(**record) for record in state.fitted["epoch_records"]]
        model._random_state = model._given_random_state = random_state
        return model


def _random_state_as_data(random_state: np.random.RandomState) -> dict[str, object]:
    found = random_state.get_state(legacy=False)
    if found["bit_generator"] != "MT19937":
        raise InputError(
            f"the random_state runs on {found['bit_generator']}, which no model file can hold: "
            "give an int or numpy.random.RandomState(seed)"
        )
    return {**found, "state": {"key": found["state"]["key"].tolist(), "pos": int(found["state"]["pos"])}}


def _optimizer_as_data(optimizer_func: OptimizerFunc | None) -> object:
    """A class of torch.optim, with plain keywords or without, as data; anything else as it is."""
    made_by, keywords = optimizer_func, {}
    if isinstance(optimizer_func, partial) and not optimizer_func.args:
        made_by, keywords = optimizer_func.func, optimizer_func.keywords
    name = getattr(made_by, "__name__", None)
    if name is None or _optimizer_class(name) is not made_by:
        return optimizer_func
    try:
        return {"optimizer": name, "keywords": as_plain(keywords)}
    except TypeError:
        return optimizer_func


def _optimizer_from(data: object) -> OptimizerFunc | None:
    if not isinstance(data, dict):
        return data
    made_by = _optimizer_class(data["optimizer"])
    if made_by is None:
        raise InputError(f"there is no optimizer {data['optimizer']!r} here: update torch or spotlight_asars")
    keywords = {name: tuple(one) if isinstance(one, list) else one for name, one in data["keywords"].items()}
    return partial(made_by, **keywords)


def _optimizer_class(name: str) -> type[torch.optim.Optimizer] | None:
    found = getattr(torch.optim, name, None)
    return found if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) else None


PADDING_SCORE = float(np.finfo(np.float32).min)


@register_kind("model")
class ASARSSequenceModel(ModelState, SessionFitting, Recommender):
    """
    A next-item model over sessions, with users and dwell times.

    Parameters
    ----------
    loss : str or callable, optional
        'cross_entropy' over all items, which draws nothing; or, with negative samples, 'sampled_cross_entropy', 'bpr',
        'bpr_max', 'top1', 'top1_max', 'hinge', 'adaptive_hinge', 'pointwise'; or a function ``f(positive, negative)``
        of scores of shapes (targets,) and (negatives, targets).
    representation : str, module or callable, optional
        A registered name ('asars_time_user', 'asars_time_att', 'asars_user_cat', 'gru4rec', ...), one of the host's
        ('pooling', 'cnn', 'lstm', 'mixture'), a module with the host's interface, or a factory as for
        ``register_representation``.
    embedding_dim, n_iter, batch_size, l2, learning_rate, optimizer_func, use_cuda, sparse, random_state :
        As in the host; `batch_size` counts rows, `random_state` may be an int. With `sparse`, and without an
        `optimizer_func`, Adagrad takes the place of Adam, which cannot use sparse gradients.
    num_negative_samples : int, optional
        Negatives a target, for every loss that samples.
    dwell : {'known', 'observed'}, optional
        'known' uses only dwell times that had ended before the prediction, as a server has them; 'observed' is the
        paper's protocol, where the time up to the next event counts.
    representation_options, loss_options : dict, optional
        Further keywords of the net (see ``NetOptions``) and of the loss function.
    early_stopping : int, optional
        Epochs without a smaller validation loss after which `fit` stops; needs `validation`.
    sampling : {'local', 'shared'}, optional
        Negatives of each target's own, by popularity in the mini-batch and never of the user's history; or shared by
        the mini-batch: its other targets, and `num_negative_samples` items by popularity to the power `alpha`.
    sampling_options : dict, optional
        ``{"alpha": 0.5, "most_targets": 1024}`` for 'shared'; of a mini-batch with more targets, so many are shared.
    mix_lengths : bool, optional
        Let a mini-batch hold rows of any length instead of like ones. It computes more padding, about twice the time on
        sessions of unequal length. But a step on a batch of short sessions has few targets and one of long sessions
        many, and both move the net as far: mixed, no target counts for less than others.
    initial_embeddings : {'random', 'cooccurrence', 'catalogue'}, optional
        Where item embeddings begin: anywhere; or where items that stand together in sessions lie together, see
        ``initial_embeddings.py``, which takes a second and helps most where items have few events; or where, besides,
        neighbours in the order of the raw ids do, see ``catalogue.py``.

    Attributes
    ----------
    epoch_records : list of EpochRecord
        One an epoch, over all calls of `fit`.

    Notes
    -----
    `fit`, from :class:`SessionFitting`, drives the host's own `fit`, so that rows of like length can train together.
    """

    def __init__(
        self,
        loss: str | Callable[..., Tensor] = ALL_ITEMS_LOSS,
        representation: str | nn.Module | Callable[..., nn.Module] = "asars_time_user",
        embedding_dim: int = 32,
        n_iter: int = 10,
        batch_size: int = 256,
        l2: float = 0.0,
        learning_rate: float = 1e-2,
        optimizer_func: Callable[[Iterable], torch.optim.Optimizer] | None = None,
        use_cuda: bool = False,
        sparse: bool = False,
        random_state: np.random.RandomState | int | None = None,
        num_negative_samples: int = 5,
        dwell: str = "known",
        representation_options: dict | None = None,
        loss_options: dict | None = None,
        early_stopping: int = 10,
        sampling: str = "local",
        sampling_options: dict | None = None,
        mix_lengths: bool = False,
        initial_embeddings: str = "random",
    ) -> None:
        if isinstance(loss, str) and loss not in LOSSES:
            raise ValueError(f"loss is {loss!r}: choose one of {', '.join(LOSSES)}")
        if isinstance(representation, str) and representation not in HOST_REPRESENTATIONS:
            representation_factory(representation)
        if representation == "mixture" and host.NAME == "embedded":
            raise ValueError("representation 'mixture' is Spotlight's own and needs it installed: choose another")
        if representation_options and (isinstance(representation, nn.Module) or representation in HOST_REPRESENTATIONS):
            raise ValueError("representation_options go with our nets by name or a factory: this net takes none")
        if loss_options and loss == ALL_ITEMS_LOSS:
            raise ValueError("loss_options go with losses that have options: 'cross_entropy' has none")
        if isinstance(representation, nn.Module) and getattr(representation, "dwell", dwell) != dwell:
            raise ValueError(f"the net was made with dwell={representation.dwell!r} and the model with {dwell!r}")
        if sparse and l2 and optimizer_func is None:
            raise ValueError("l2 is dense and does not go with sparse gradients: leave one out")
        check_sampling(sampling, sampling_options or {})
        if sampling == "shared" and loss == ALL_ITEMS_LOSS:
            raise ValueError(
                "sampling='shared' goes with losses that sample: 'cross_entropy' is over all items; "
                "choose 'sampled_cross_entropy' or 'bpr_max', or leave sampling out"
            )
        if initial_embeddings not in INITIAL_EMBEDDINGS:
            raise ValueError(
                f"initial_embeddings is {initial_embeddings!r}: choose one of {', '.join(INITIAL_EMBEDDINGS)}"
            )
        if num_negative_samples < 1:
            raise ValueError(f"num_negative_samples is {num_negative_samples}: give at least 1")
        if dwell not in DWELL_RULES:
            raise ValueError(f"dwell is {dwell!r}: choose one of {', '.join(DWELL_RULES)}")
        self._seeded, self._given_random_state = random_state is not None, random_state
        if not isinstance(random_state, np.random.RandomState):
            random_state = np.random.RandomState(random_state)
        # The host knows its own losses and nets only: it gets two of them, and ours in their place.
        super().__init__(
            "pointwise",
            "pooling",
            embedding_dim,
            n_iter,
            batch_size,
            l2,
            learning_rate,
            optimizer_func,
            use_cuda,
            sparse,
            random_state,
            num_negative_samples,
        )
        self._loss, self._representation = loss, representation
        self.dwell = dwell
        self._representation_options = dict(representation_options or {})
        self._loss_options = dict(loss_options or {})
        self._early_stopping = early_stopping
        self._sampling, self._sampling_options = sampling, {"alpha": 0.5, **(sampling_options or {})}
        self._mix_lengths = mix_lengths
        self._initial_embeddings = initial_embeddings
        self._num_users: int | None = None
        self.binning: ScottBinning | None = None
        self.gap_binning: ScottBinning | None = None
        self.item_vocabulary = self.user_vocabulary = None
        self.session_gap: float | None = None
        self.epoch_records: list[EpochRecord] = []
        self._unfinished_start: dict | None = None

    @property
    def net(self) -> nn.Module | None:
        """The net; None before the first fit."""
        return self._net

    @property
    def num_items(self) -> int | None:
        """Number of item ids, the padding included; None before the first fit."""
        return self._num_items

    @property
    def num_users(self) -> int | None:
        """Number of user ids, the anonymous one included; None before the first fit."""
        return self._num_users

    def _initialize(self, interactions: SessionSequences) -> None:
        self._num_users = interactions.num_users
        self.binning, self.gap_binning = interactions.binning, interactions.gap_binning
        self.session_gap = interactions.session_gap
        self.item_vocabulary, self.user_vocabulary = (
            interactions.item_vocabulary,
            interactions.user_vocabulary,
        )
        net = self._new_net(interactions)
        one_by_one = net == "mixture" or (isinstance(net, nn.Module) and not scores_by_dot_product(net))
        if self._loss == ALL_ITEMS_LOSS and one_by_one:
            name = net if isinstance(net, str) else type(net).__name__
            raise ValueError(
                f"the loss 'cross_entropy' scores all items at once, which {name} cannot: "
                "choose 'sampled_cross_entropy', 'bpr_max' or another loss with negative samples"
            )
        asked, self._representation = self._representation, net
        try:
            super()._initialize(interactions)
        finally:
            self._representation = asked
        if self._optimizer_func is None:
            self._optimizer = self._default_optimizer()
        self._loss_func = self._mean_loss

    def _default_optimizer(self) -> torch.optim.Optimizer:
        weights, rate = self._net.parameters(), self._learning_rate
        if self._sparse:
            return torch.optim.Adagrad(weights, lr=rate)
        # The host's, with each weight's step as one operation.
        return torch.optim.Adam(weights, lr=rate, weight_decay=self._l2, fused=True)

    def _new_net(self, interactions: SessionSequences) -> str | nn.Module:
        representation = self._representation
        if isinstance(representation, nn.Module) or representation in HOST_REPRESENTATIONS:
            return representation
        factory = representation_factory(representation) if isinstance(representation, str) else representation
        return factory(
            num_items=interactions.num_items,
            embedding_dim=self._embedding_dim,
            num_users=interactions.num_users,
            num_dwell_bins=interactions.binning.num_bins,
            num_gap_bins=interactions.gap_binning.num_bins,
            dwell=self.dwell,
            sparse=self._sparse,
            **self._representation_options,
        )

    def _check_input(self, item_ids: np.ndarray | int) -> None:
        item_ids = np.asarray(item_ids)
        items = item_ids[..., ITEM] if item_ids.ndim == 3 else item_ids
        if items.size and items.max() >= self._num_items:
            raise ValueError(f"item id {items.max()} is not below the {self._num_items} item ids the model knows")
        if items.size and items.min() < 0:
            raise ValueError(f"item id {items.min()} is negative")

    def _check_fitted(self) -> None:
        if not self._initialized:
            raise ValueError("the model is not fitted yet: call fit first")

    def predict(
        self,
        sequences: np.ndarray,
        item_ids: np.ndarray | None = None,
        user_ids: np.ndarray | int | None = None,
        dwell: np.ndarray | None = None,
        session_starts: np.ndarray | None = None,
        timestamps: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Scores of the next item after one sequence or after each of a batch.

        Parameters
        ----------
        sequences : int array of shape (time,), (1, time) or (batch, time)
            Item ids, 0 is padding.
        item_ids : int array of shape (items,) or (items, 1), optional
            Items to score; all ids by default, where the padding gets the smallest float.
        user_ids : int or int array of shape (batch,), optional
            0, the default, is anonymous.
        dwell, session_starts : arrays of the shape of `sequences`, optional
            Dwell bins, as in ``SessionSequences.dwell``, and where sessions begin. Under ``dwell='known'`` the newest
            event's bin is not looked at.
        timestamps : array of the shape of `sequences`, optional
            Seconds since 1970, for nets that look at the moment of an event.

        Returns
        -------
        float32 array of shape (items,) for one sequence, (batch, items) for more
        """
        self._check_fitted()
        sequences = np.atleast_2d(np.asarray(sequences))
        if sequences.size and sequences.dtype.kind not in "iu":
            raise ValueError(f"the sequences are of type {sequences.dtype}: give item numbers, or raw ids to recommend")
        self._check_input(sequences)
        wanted = np.arange(self._num_items) if item_ids is None else np.asarray(item_ids).reshape(-1)
        self._check_input(wanted)
        events = self._events_of(sequences, user_ids, dwell, session_starts, timestamps)
        self._net.train(False)
        with torch.no_grad():
            states = final_states(self._net, self._tensor(events))  # (batch, *state)
            if item_ids is None:
                scores = score_all_items(self._net, states, self._num_items)  # (batch, items - 1)
                scores = nn.functional.pad(scores, (1, 0), value=PADDING_SCORE)  # (batch, items)
            else:
                items = self._tensor(wanted.astype(np.int64))[:, None].expand(-1, len(states))  # (items, batch)
                scores = score_items(self._net, states, items).T  # (batch, items)
                scores = scores.masked_fill(items.T == PADDING_ITEM, PADDING_SCORE)
        scores = scores.cpu().numpy()
        return scores[0] if len(scores) == 1 else scores

    def _events_of(
        self,
        sequences: np.ndarray,
        user_ids: np.ndarray | int | None,
        dwell: np.ndarray | None,
        session_starts: np.ndarray | None,
        timestamps: np.ndarray | None,
    ) -> np.ndarray:
        events = np.zeros((*sequences.shape, NUM_CHANNELS), dtype=np.int64)  # (batch, time, channel)
        events[..., ITEM] = sequences
        events[..., TIME] = UNKNOWN_TIME
        times = None if timestamps is None else whole_seconds(timestamps)
        given = {
            "dwell": (DWELL, dwell),
            "session_starts": (SESSION_START, session_starts),
            "timestamps": (TIME, times),
        }
        for name, (channel, values) in given.items():
            if values is not None:
                values = np.atleast_2d(values)
                if values.shape != sequences.shape:
                    raise ValueError(f"{name} has shape {values.shape} and sequences {sequences.shape}")
                events[..., channel] = values
        present = sequences != PADDING_ITEM
        events[..., SESSION_START] |= present & (np.cumsum(present, axis=1) == 1)
        events[..., SESSION_GAP_BIN] = np.where(events[..., SESSION_START] != 0, UNKNOWN_BIN, PADDING_BIN)
        if dwell is None:
            events[..., DWELL] = UNKNOWN_BIN
        elif not 0 <= events[..., DWELL].min(initial=0) <= events[..., DWELL].max(initial=0) < self.binning.num_bins:
            raise ValueError(f"a dwell bin is not one of the {self.binning.num_bins} the model knows")
        if user_ids is not None:
            users = np.asarray(user_ids)
            if users.shape not in ((), (1,), (len(sequences),)):
                raise ValueError(f"there are {len(sequences)} sequences and user_ids of shape {users.shape}")
            users = np.broadcast_to(users, len(sequences))
            if users.max(initial=0) >= self._num_users or users.min(initial=0) < 0:
                raise ValueError(f"a user id is not one of the {self._num_users} the model knows")
            events[..., USER] = users[:, None]
        events[sequences == PADDING_ITEM] = 0
        return events

    def scores_after(self, rows: SessionSequences) -> Tensor:
        self._net.train(False)
        events = self._tensor(rows.padded_events(np.arange(len(rows))))  # (rows, time, channel)
        with torch.no_grad():
            return score_all_items(self._net, final_states(self._net, events), self._num_items)

    is_random = True
    has_live_sessions = True

    @property
    def system_name(self) -> str:
        """The registered name of the net, or the class of a net or factory of your own."""
        named = self._representation
        return named if isinstance(named, str) else type(named).__name__

    @property
    def has_users(self) -> bool:
        """Whether the net learns of users."""
        return self._net_has("has_users")

    @property
    def reads_dwell(self) -> bool:
        """Whether the net reads dwell bins."""
        return self._net_has("reads_dwell")

    def _net_has(self, capability: str) -> bool:
        named = self._representation
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
        events = rows.padded_events(np.arange(len(rows)))  # (rows, time, channel)
        with torch.no_grad():
            weights = self._net.attention_weights(self._tensor(events)).cpu().numpy()  # (rows, time)
        return weights[events[:, :, ITEM] != PADDING_ITEM]

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

    def target_states(self, sequences: SessionSequences) -> Tensor:
        """
        States from which the targets of some rows are predicted, in the order of rows, then of time.

        Returns
        -------
        tensor of shape (targets, *state)
        """
        self._check_fitted()
        self._check_ids(sequences)
        self._net.train(False)
        return target_states(self._net, sequences, self._batch_size)

    def item_scores(self, states: Tensor) -> Tensor:
        """Scores of items 1, 2, ... from states of :meth:`target_states`: (targets, items)."""
        with torch.no_grad():
            return score_all_items(self._net, states, self._num_items)

    def item_probabilities(self, states: Tensor) -> Tensor:
        """Softmax of :meth:`item_scores`: (targets, items)."""
        return self.item_scores(states).softmax(dim=1)
