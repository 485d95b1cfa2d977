"""
The ASARS nets (paper section 2.3, Fig. 4 and 5): ways to represent a user by what he did and how long he dwelt on it.

Every net maps events to states in the space of the item embeddings, so that a score is ``dot(q, e_item) + b_item``.
A net takes (batch, time) item ids, as the host's nets do (dwell unknown, user anonymous), or (batch, time, channel)
events with the channels of ``spotlight_asars.interactions``. It knows nothing of the model that trains it.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from spotlight_asars.binning import UNKNOWN_BIN
from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions import PADDING_ITEM
from spotlight_asars.layers import (
    EventGRU,
    EventLSTM,
    UnitEmbedding,
    at_positions,
    triangle_attention,
    without_padding,
)
from spotlight_asars.rows import DWELL, ITEM, NUM_CHANNELS, SESSION_START, TIME, UNKNOWN_TIME, USER

DWELL_RULES = ("observed", "known")
SCOPES = ("sequence", "session")


@dataclass(frozen=True)
class NetOptions:
    """
    Sizes and switches that the nets share; paper section 3.3 gives the sizes.

    Attributes
    ----------
    hidden_dim : int
        Units of the recurrent layers.
    user_dim, dwell_dim : int
        Embedding dimensions of users and of dwell bins.
    dropout : float
        Share of the recurrent layers' inputs dropped in training.
    hidden_dropout : float
        Share of the state dropped before the last linear layer.
    user_dropout : float
        Share of the rows whose user is taken for anonymous in training, so that the net learns to do without.
    residual : bool
        Keep the newest hidden state beside the attended one, ``[q_t ; h_t]``.
    scope : {'sequence', 'session'}
        Whether attention reaches over the whole row or starts anew with each session.
    attention : {'linear', 'dense'}
        Form of the triangle.
    recurrent : {'lstm', 'gru'}
        The layer over items.
    """

    hidden_dim: int = 100
    user_dim: int = 32
    dwell_dim: int = 16
    dropout: float = 0.5
    hidden_dropout: float = 0.0
    user_dropout: float = 0.0
    residual: bool = True
    scope: str = "sequence"
    attention: str = "linear"
    recurrent: str = "lstm"

    def __post_init__(self) -> None:
        choices = {"scope": SCOPES, "attention": ("linear", "dense"), "recurrent": tuple(RECURRENT_LAYERS)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        for name in ("dropout", "hidden_dropout", "user_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 0 and less than 1")
        for name in ("hidden_dim", "user_dim", "dwell_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")

    @classmethod
    def of(cls, options: dict) -> "NetOptions":
        """Options by name; an unknown name is an error that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise ValueError(f"no net option is called {name!r}: there are {', '.join(known)}")
        return cls(**options)


RECURRENT_LAYERS = {"lstm": EventLSTM, "gru": EventGRU}


class SessionNet(nn.Module):
    """
    Base of the nets: a recurrent layer over items, and a last linear layer to the item embedding space.

    Parameters
    ----------
    num_items : int
        Number of item ids, the padding 0 included.
    embedding_dim : int, optional
        Dimension of the item embeddings.
    num_users, num_dwell_bins : int, optional
        Numbers of user ids and dwell bins; 0 is anonymous, bins 0 and 1 are padding and unknown.
    dwell : {'observed', 'known'}, optional
        Whether the newest event's dwell, up to the moment of prediction, counts. Under 'known' it is unknown for the
        state right after that event, and known from the next event on.
    sparse : bool, optional
        Sparse gradients for the embeddings.
    item_embedding_layer : module, optional
        Used instead of a new item embedding.
    options :
        See :class:`NetOptions`.
    """

    has_users = False
    _keeps_newest = True  # whether the newest hidden state is the last part of what `mix` returns

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 64,
        num_users: int = 1,
        num_dwell_bins: int = UNKNOWN_BIN + 1,
        dwell: str = "known",
        sparse: bool = False,
        item_embedding_layer: nn.Module | None = None,
        **options,
    ) -> None:
        super().__init__()
        if dwell not in DWELL_RULES:
            raise ValueError(f"dwell is {dwell!r}: choose one of {', '.join(DWELL_RULES)}")
        self.dwell = dwell
        self.options = NetOptions.of(options)
        self.num_items, self.embedding_dim = num_items, embedding_dim
        self.item_embeddings = item_embedding_layer or UnitEmbedding(
            num_items, embedding_dim, padding_idx=PADDING_ITEM, sparse=sparse
        )
        self.item_biases = ZeroEmbedding(num_items, 1, sparse=sparse, padding_idx=PADDING_ITEM)
        self.input_dropout = nn.Dropout(self.options.dropout)
        self.hidden_dropout = nn.Dropout(self.options.hidden_dropout)
        self.recurrent = RECURRENT_LAYERS[self.options.recurrent](embedding_dim, self.options.hidden_dim)
        self._mixed_dim = state_dim = self._build(num_dwell_bins, sparse)
        if self.has_users:
            self.user_embeddings = UnitEmbedding(num_users, self.options.user_dim, padding_idx=0, sparse=sparse)
            state_dim += self.options.user_dim
        self.projection = nn.Linear(state_dim, embedding_dim)
        self._start_as_recurrent_net()

    def _start_as_recurrent_net(self) -> None:
        """
        Let the last layer begin by passing on the newest hidden state and nothing else, where the sizes agree.

        The net is then at first the plain recurrent net in the item space, and adds what attention and users bring as
        it learns to use them; a random start has to unlearn their noise.
        """
        hidden_dim, mixed_dim = self.options.hidden_dim, self._mixed_dim
        if hidden_dim != self.embedding_dim or not self._keeps_newest:
            return
        with torch.no_grad():
            self.projection.bias.zero_()
            self.projection.weight.zero_()
            self.projection.weight[:, mixed_dim - hidden_dim : mixed_dim].fill_diagonal_(1.0)

    def _build(self, num_dwell_bins: int, sparse: bool) -> int:
        """Add what the net has beyond the recurrent layer; returns the size of the state it mixes."""
        return self.options.hidden_dim

    def mix(self, hidden: Tensor, events: Tensor) -> Tensor:
        """
        State after each event, from the recurrent layer's.

        Parameters
        ----------
        hidden : tensor of shape (batch, time, hidden)
        events : int64 tensor of shape (batch, time, channel)
            Without padding in front; behind a row's last event there may be some.

        Returns
        -------
        tensor of shape (batch, time, state)
        """
        return hidden

    def user_representation(self, item_sequences: Tensor) -> tuple[Tensor, Tensor]:
        """
        States of a batch of sequences.

        Parameters
        ----------
        item_sequences : int64 tensor of shape (batch, time) or (batch, time, channel)

        Returns
        -------
        (all, final) : tensors of shape (batch, dim, time) and (batch, dim)
            The states before each step, and the one after the last.
        """
        events, seen = without_padding(as_events(item_sequences))  # (batch, short, channel)
        items = self.item_embeddings(events[:, :, ITEM])  # (batch, short, embedding)
        if items.shape[1]:
            states = self.mix(self.recurrent(self.input_dropout(items)), events)  # (batch, short, state)
        else:
            states = items.new_zeros(len(items), 0, self._mixed_dim)
        states = nn.functional.pad(states, (0, 0, 1, 0))  # (batch, short + 1, state): zeros before any event
        if self.has_users:
            # All of a row's events are the same user's; padding holds 0, so the largest is his.
            users = self._users(item_sequences)[:, None, :]  # (batch, 1, user)
            states = torch.cat([states, users.expand(-1, states.shape[1], -1)], dim=2)
        states = self.projection(self.hidden_dropout(states))  # (batch, short + 1, dim)
        states = at_positions(states, seen).permute(0, 2, 1)  # (batch, dim, time + 1)
        return states[:, :, :-1], states[:, :, -1]

    def _users(self, item_sequences: Tensor) -> Tensor:
        if item_sequences.dim() == 2 or not item_sequences.shape[1]:
            user_ids = item_sequences.new_zeros(len(item_sequences), dtype=torch.long)
        else:
            user_ids = item_sequences[:, :, USER].amax(dim=1)  # (batch,)
            if self.training and self.options.user_dropout:
                stays = torch.rand(len(user_ids), device=user_ids.device) >= self.options.user_dropout
                user_ids = user_ids * stays
        return self.user_embeddings(user_ids)  # (batch, user)

    def forward(self, user_representations: Tensor, targets: Tensor) -> Tensor:
        """
        Scores of target items.

        Parameters
        ----------
        user_representations : tensor of shape (batch, dim, time) or (batch, dim)
        targets : int64 tensor of shape (batch, time) or (batch, time, channel)

        Returns
        -------
        tensor of shape (batch, time)
        """
        items = targets[:, :, ITEM] if targets.dim() == 3 else targets
        if user_representations.dim() == 2:
            user_representations = user_representations[:, :, None]  # (batch, dim, 1)
        embedded = self.item_embeddings(items)  # (batch, time, dim)
        biases = self.item_biases(items)[:, :, 0]  # (batch, time)
        return (user_representations.permute(0, 2, 1) * embedded).sum(dim=2) + biases


class AsarsUserCatNet(SessionNet):
    """``asars_user_cat``: ``[h_t ; e_u]``, the hidden state beside the user's embedding (paper section 3.2)."""

    has_users = True


class AsarsTimeAttNet(SessionNet):
    """
    ``asars_time_att``: attention over the hidden states, steered by dwell (paper Eq. 15-18).

    ``p_k = tanh(W z_k + b)`` with z the states of an LSTM over dwell-bin embeddings; the state mixes h_k in proportion
    to ``exp(p_k . h_k)`` over k <= t.
    """

    def _build(self, num_dwell_bins: int, sparse: bool) -> int:
        options = self.options
        self.dwell_embeddings = UnitEmbedding(num_dwell_bins, options.dwell_dim, padding_idx=0, sparse=sparse)
        self.time_recurrent = EventLSTM(options.dwell_dim, options.hidden_dim)
        self.attention = nn.Linear(options.hidden_dim, options.hidden_dim)
        self._keeps_newest = options.residual
        return options.hidden_dim * (2 if options.residual else 1)

    def mix(self, hidden: Tensor, events: Tensor) -> Tensor:
        """``q_t``, or ``[q_t ; h_t]`` with the residual; see :meth:`SessionNet.mix`."""
        scores, current_scores = self.attention_scores(hidden, events)  # (batch, time) each
        attended = triangle_attention(
            scores,
            hidden,
            events[:, :, ITEM] != PADDING_ITEM,
            current_scores=current_scores,
            segments=self._segments(events),
            form=self.options.attention,
        )
        return torch.cat([attended, hidden], dim=2) if self.options.residual else attended

    def attention_scores(self, hidden: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """
        ``p_k . h_k`` (Eq. 16) once event k is past, and while it is the newest.

        The two differ under ``dwell='known'``, where the newest event's dwell is still unknown.

        Returns
        -------
        (scores, current_scores) : two tensors of shape (batch, time)
        """
        dwell = self.input_dropout(self.dwell_embeddings(events[:, :, DWELL]))  # (batch, time, dwell)
        if self.dwell == "observed":
            scores = self._score(self.time_recurrent(dwell), hidden)
            return scores, scores
        unknown = self.dwell_embeddings(events.new_full((1, 1), UNKNOWN_BIN))  # (1, 1, dwell)
        newest = self.input_dropout(unknown.expand_as(dwell))  # (batch, time, dwell)
        past, current = self.time_recurrent.with_newest(dwell, newest)  # (batch, time, hidden) each
        return self._score(past, hidden), self._score(current, hidden)

    def _score(self, time_states: Tensor, hidden: Tensor) -> Tensor:
        return (torch.tanh(self.attention(time_states)) * hidden).sum(dim=2)  # (batch, time)

    def _segments(self, events: Tensor) -> Tensor | None:
        if self.options.scope == "sequence":
            return None
        return events[:, :, SESSION_START].cumsum(dim=1)  # (batch, time)


class AsarsTimeUserNet(AsarsTimeAttNet):
    """``asars_time_user``: the time-attended state beside the user's embedding, the paper's final model (Fig. 4)."""

    has_users = True


def as_events(sequences: Tensor) -> Tensor:
    """Items alone as events with unknown dwell, an anonymous user and one session: (batch, time, channel)."""
    if sequences.dim() == 3:
        return sequences
    events = sequences.new_zeros(*sequences.shape, NUM_CHANNELS)  # (batch, time, channel)
    events[:, :, ITEM] = sequences
    events[:, :, DWELL] = (sequences != PADDING_ITEM).long() * UNKNOWN_BIN
    events[:, :, TIME] = UNKNOWN_TIME
    return events
