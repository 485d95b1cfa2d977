"""
The base class of the nets: item embeddings, a recurrent layer, users, and scores as dot products.

Every net maps events to states in the item embedding space, so the score of item i is ``dot(q, e_i) + b_i``. A net
takes item ids of shape (batch, time), as the host's nets do (dwell unknown, user anonymous), or events of shape
(batch, time, channel) with the channels of ``spotlight_asars.interactions.channels``. It does not depend on the model
that trains it.
"""

import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_choice
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import (
    DWELL_RULES,
    ITEM,
    NUM_CHANNELS,
    SESSION_START,
    USER,
    write_padded_events,
)
from spotlight_asars.layers.basic import Dropout, ScaledLinear, UnitEmbedding, UserDropout
from spotlight_asars.layers.padding import PackedSteps, at_positions, by_session, picked, without_padding
from spotlight_asars.layers.recurrent import EventGRU
from spotlight_asars.sequence.representations.context import ContextEmbedding
from spotlight_asars.sequence.representations.history_kernel import HistoryKernel
from spotlight_asars.sequence.representations.options import RECURRENT_LAYERS, NetOptions
from spotlight_asars.sequence.representations.pointer import PLACES, HistoryStates, pairs_of_equals

# Up to this share of padding in a batch, torch's GRU, which also computes the padding, is as fast as one that skips it.
MOST_PADDING = 0.1


class SessionNet(nn.Module):
    """
    Base of the nets: a recurrent layer over items, and a final linear layer to the item embedding space.

    After event t the state is ``W [x_t ; e_u] + b``: x_t is what :meth:`encode` returns, here the hidden state, and e_u
    is the user embedding in nets with users. Subclasses override :meth:`encode` and `_build`, which adds their layers.

    Parameters
    ----------
    num_items : int
        Number of item ids, including the padding 0.
    embedding_dim : int, optional
        Dimension of the item embeddings.
    num_users, num_dwell_bins : int, optional
        Number of user ids, including the anonymous user 0, and of dwell bins, including 0 (padding) and 1 (unknown).
    num_gap_bins : int, optional
        Number of session gap bins, for the context 'session_gap'.
    dwell : {'observed', 'known'}, optional
        Whether a state uses the newest event's dwell, which lasts until the prediction ('observed'). Under 'known' it
        is unknown in the state right after the event, and known from the next event on.
    sparse : bool, optional
        Use sparse gradients for the embeddings.
    item_embedding_layer : module, optional
        Use this item embedding instead of a new one.
    options :
        See :class:`NetOptions`.

    Raises
    ------
    InputError
        If the dwell rule or an option is wrong.
    """

    has_users = False
    reads_dwell = False
    added_later = ("item_offsets",)  # weights that files of release 0.1.0 lack

    def __init__(
        self,
        num_items: int,
        embedding_dim: int = 64,
        num_users: int = 1,
        num_dwell_bins: int = UNKNOWN_BIN + 1,
        num_gap_bins: int = UNKNOWN_BIN + 1,
        dwell: str = "known",
        sparse: bool = False,
        item_embedding_layer: nn.Module | None = None,
        **options,
    ) -> None:
        super().__init__()
        check_choice("dwell", dwell, DWELL_RULES)
        self.dwell = dwell
        self.options = NetOptions.of(options)
        if self.options.pointer and type(self).score is not SessionNet.score:
            raise InputError(
                f"pointer cannot be used with {type(self).__name__}, which has its own score: leave pointer out"
            )
        self.num_items, self.embedding_dim = num_items, embedding_dim
        self.item_embeddings = item_embedding_layer or UnitEmbedding(
            num_items, embedding_dim, padding_idx=PADDING_ITEM, sparse=sparse
        )
        self.item_biases = ZeroEmbedding(num_items, 1, sparse=sparse, padding_idx=PADDING_ITEM)
        # Added to the biases outside training: how popularity has changed since, see `popularity_drift`.
        self.register_buffer("item_offsets", torch.zeros(num_items))
        self.input_dropout = Dropout(self.options.dropout)
        self.hidden_dropout = Dropout(self.options.hidden_dropout)
        self.user_dropout = UserDropout(self.options.user_dropout)
        self.scored_dropout = Dropout(0.0)  # of the item embeddings in scores
        if self.options.context:
            self.context = ContextEmbedding(self.options.context, embedding_dim, num_gap_bins, sparse)
        if self.has_users:
            self.user_embeddings = UnitEmbedding(num_users, self.options.user_dim, padding_idx=0, sparse=sparse)
        self._state_dim = self._build(num_users, num_dwell_bins, sparse)
        joined_dim = self._state_dim + (self.options.user_dim if self.has_users else 0)
        self.projection = ScaledLinear(joined_dim, embedding_dim, self.options.projection_scale)
        if self.options.pointer:
            if self.options.history_kernel:
                self.history_kernel = HistoryKernel(self.options.history_kernel, num_dwell_bins, dwell)
            self.pointer = nn.Linear(joined_dim, len(PLACES) + bool(self.options.history_kernel))
            nn.init.zeros_(self.pointer.weight)
            nn.init.zeros_(self.pointer.bias)
        self._start_as_recurrent_net()

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        """Add the net's own layers and return the size of the states that :meth:`encode` returns."""
        self.recurrent = self._new_recurrent(self.embedding_dim)
        return self.options.hidden_dim

    def _new_recurrent(self, input_dim: int) -> nn.Module:
        return RECURRENT_LAYERS[self.options.recurrent](input_dim, self.options.hidden_dim)

    def _start_as_recurrent_net(self) -> None:
        """
        Initialize the last layer to pass on the newest hidden state and nothing else, if the sizes agree.

        The hidden state is the last part of what :meth:`encode` returns. The net then starts as the plain recurrent net
        and learns to use attention and users; from a random start it would first have to unlearn their noise.
        """
        hidden_dim, state_dim = self.options.hidden_dim, self._state_dim
        if hidden_dim != self.embedding_dim or state_dim < hidden_dim or not self._ends_with_hidden:
            return
        with torch.no_grad():
            self.projection.bias.zero_()
            self.projection.weight.zero_()
            self.projection.weight[:, state_dim - hidden_dim : state_dim].fill_diagonal_(1.0 / self.projection.scale)

    @property
    def _ends_with_hidden(self) -> bool:
        """Whether :meth:`encode` returns states whose last part is the newest hidden state."""
        return True

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """
        Return the state after each event.

        Parameters
        ----------
        items : tensor of shape (batch, time, embedding)
            Embedded items, including their context.
        events : int64 tensor of shape (batch, time, channel)
            Without padding in front; padding may follow a row's last event.
        users : tensor of shape (batch, user) or None
            Embedded users, in nets with users.

        Returns
        -------
        tensor of shape (batch, time, state)
        """
        return self.recur(self.recurrent, events, self.input_dropout(items))

    def recur(
        self, layer: nn.Module, events: Tensor, inputs: Tensor, newest: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """
        Run a recurrent layer over inputs of shape (batch, time, dim), from zero in each row or in each session.

        Given `newest`, inputs for each event as the newest one, it also returns the states that these lead to; see the
        layers' ``with_newest``.
        """
        given = (inputs,) if newest is None else (inputs, newest)
        starts = events[:, :, SESSION_START] if self.options.hidden_scope == "session" else None  # (batch, time)
        if type(layer) is EventGRU and events.device.type == "cpu":
            steps = PackedSteps.of(events[:, :, ITEM] != PADDING_ITEM, starts)
            if steps.share_of_padding > MOST_PADDING:
                states = layer.step_by_step(steps.counts, *(steps.take(one) for one in given))
                states = tuple(steps.put(one, *events.shape[:2]) for one in states)  # (batch, time, hidden) each
                return states[0] if newest is None else states
        run = layer if newest is None else layer.with_newest
        if starts is None or not starts[:, 1:].any():
            return run(*given)
        return by_session(run, starts, *given)

    def user_representation(self, item_sequences: Tensor) -> tuple[Tensor, Tensor]:
        """
        Return the states of a batch of sequences.

        Parameters
        ----------
        item_sequences : int64 tensor of shape (batch, time) or (batch, time, channel)

        Returns
        -------
        (all, final) : tensors of shape (batch, dim, time) and (batch, dim)
            The states before each event, and the state after the last one.
        """
        events, seen = without_padding(as_events(item_sequences))  # (batch, short, channel)
        users = self._users(item_sequences) if self.has_users else None  # (batch, user)
        encoded = self._encoded(events, users)  # (batch, short, state)
        begin = encoded.new_zeros(len(encoded), 1, self._state_dim)  # before any event
        states = torch.cat([begin, encoded], dim=1)  # (batch, short + 1, state)
        if users is not None:
            states = torch.cat([states, users[:, None].expand(-1, states.shape[1], -1)], dim=2)
        states, back = self._projected(states)  # (batch, short + 1, embedding)
        states = self.finish(states, events, users)
        states = torch.cat([states, *back], dim=2)  # (batch, short + 1, dim)
        states = at_positions(states, seen).permute(0, 2, 1)  # (batch, dim, time + 1)
        return states[:, :, :-1], states[:, :, -1]

    def states_before(self, item_sequences: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """
        Return the states of :meth:`user_representation` before some events only, as a training step needs them.

        Parameters
        ----------
        item_sequences : int64 tensor of shape (batch, time, channel)
        row, column : int64 tensors of shape (targets,)
            Positions of the events, all different; `column` may be `time`, after the last event.

        Returns
        -------
        tensor of shape (targets, dim)
        """
        if not self._finishes_each_alone:
            before, final = self.user_representation(item_sequences)  # (batch, dim, time), (batch, dim)
            return torch.cat([before, final[:, :, None]], dim=2).permute(0, 2, 1)[row, column]
        events, seen = without_padding(item_sequences)  # (batch, short, channel)
        users = self._users(item_sequences) if self.has_users else None  # (batch, user)
        encoded = self._encoded(events, users)  # (batch, short, state)
        before = seen[row, column]  # (targets,): number of events before
        places = torch.where(before > 0, row * encoded.shape[1] + before - 1, -1)  # (targets,)
        states = picked(encoded.flatten(0, 1), places)  # (targets, state)
        if users is not None:
            states = torch.cat([states, nn.functional.embedding(row, users)], dim=1)
        states, back = self._projected(states)
        return torch.cat([states, *back], dim=1) if back else states

    @property
    def _finishes_each_alone(self) -> bool:
        """Whether each state depends only on :meth:`encode` and the last layer, not on other states."""
        own = type(self)
        return own.finish is SessionNet.finish and own.user_representation is SessionNet.user_representation

    def _encoded(self, events: Tensor, users: Tensor | None) -> Tensor:
        """Return the states after each event, (batch, time, channel) to (batch, time, state), even if time is 0."""
        items = self._embedded(events)  # (batch, time, embedding)
        if not items.shape[1]:
            return items.new_zeros(len(items), 0, self._state_dim)
        return self.encode(items, events, users)

    def _projected(self, states: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map ``[state ; user]`` to the item space, (..., embedding); also return the pointer's weights, if any."""
        states = self.hidden_dropout(states)
        back = [self.pointer(states)] if self.options.pointer else []  # (..., places)
        return self.projection(states), back

    def _embedded(self, events: Tensor) -> Tensor:
        """Embed items and their context: (batch, time, channel) to (batch, time, embedding)."""
        items = self.item_embeddings(events[:, :, ITEM])
        return items + self.context(events) if self.options.context and items.shape[1] else items

    def finish(self, states: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """
        Apply a last step to the states after 0, 1, ... events, in the item space.

        Parameters
        ----------
        states : tensor of shape (batch, time + 1, embedding)
        events, users :
            As for :meth:`encode`.

        Returns
        -------
        tensor of shape (batch, time + 1, dim)
            What :meth:`score` takes.
        """
        return states

    def _users(self, item_sequences: Tensor) -> Tensor:
        # A row belongs to one user and padding holds 0, so the maximum is the user.
        if item_sequences.dim() == 2 or not item_sequences.shape[1]:
            user_ids = item_sequences.new_zeros(len(item_sequences), dtype=torch.long)
        else:
            user_ids = self.user_dropout(item_sequences[:, :, USER].amax(dim=1))  # (batch,)
        return self.user_embeddings(user_ids)  # (batch, user)

    def forward(self, user_representations: Tensor, targets: Tensor) -> Tensor:
        """
        Return the scores of target items.

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
            user_representations = user_representations[:, :, None].expand(-1, -1, items.shape[1])  # (batch, dim, time)
        states = user_representations.permute(0, 2, 1).flatten(0, 1)  # (batch * time, dim)
        return self.score(states, items.flatten()).view(items.shape)

    def score(self, states: Tensor | HistoryStates, items: Tensor) -> Tensor:
        """
        Return the scores of given items.

        Parameters
        ----------
        states : tensor of shape (targets, dim), or HistoryStates
            A pointer needs HistoryStates; with a plain tensor, as in a host model, it is left out of the scores.
        items : int64 tensor of shape (..., targets)

        Returns
        -------
        tensor of the shape of `items`
        """
        vectors, weights = self._apart(states)  # (targets, embedding), (targets, places + 1)
        embedded = self.scored_embeddings(self.item_embeddings(items))  # (..., targets, embedding)
        scores = (embedded * self._scored_states(vectors)).sum(dim=-1) + self._biases_of(items)
        if weights is None:
            return scores
        numbers = torch.arange(len(states), device=items.device)
        scores = scores + weights[numbers, states.places_of(items, self.num_items)]
        if not self.options.history_kernel:
            return scores
        target, item, evidence = self.history_kernel(states, self.num_items)  # (found,) each, sorted
        if not len(target):
            return scores
        wanted = (numbers * self.num_items + items).contiguous()  # (..., targets)
        known = target * self.num_items + item  # (found,)
        nearest = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
        found = evidence[nearest] * states.states[numbers, -1]  # (..., targets)
        return scores + torch.where(known[nearest] == wanted, found, 0.0)

    def score_shared(self, states: Tensor | HistoryStates, items: Tensor | None = None) -> Tensor:
        """Return the scores of the same items for all states, (targets, items); of all but the padding by default."""
        vectors, weights = self._apart(states)  # (targets, embedding), (targets, places + 1)
        scores = self._scores_of_shared(vectors, items)
        if weights is None:
            return scores
        target, item, place = states.places(self.num_items)  # (found,) each
        scores = self._added(scores, items, target, item, weights[target, place])
        if not self.options.history_kernel:
            return scores
        target, item, evidence = self.history_kernel(states, self.num_items)  # (found,) each
        return self._added(scores, items, target, item, evidence * states.states[target, -1])

    def _scores_of_shared(self, vectors: Tensor, items: Tensor | None) -> Tensor:
        """Return scores without the pointer, (targets, items)."""
        if items is None and hasattr(self.item_embeddings, "weight"):
            embedded, biases = self.item_embeddings.weight[1:], self.scored_biases()[1:]  # (items, embedding), (items,)
        else:  # some items only, or the item embedding is not a plain table
            items = torch.arange(1, self.num_items, device=vectors.device) if items is None else items
            embedded, biases = self.item_embeddings(items[None])[0], self._biases_of(items)
        return torch.addmm(biases, self._scored_states(vectors), self.scored_embeddings(embedded).T)

    @staticmethod
    def _added(scores: Tensor, items: Tensor | None, target: Tensor, item: Tensor, values: Tensor) -> Tensor:
        """Add values (found,) to the scores (targets, items) of some pairs of target and item, in place."""
        if items is None:
            return scores.index_put_((target, item - 1), values, accumulate=True)  # there is no padding
        found, column = pairs_of_equals(item, items)  # (pairs,) each
        return scores.index_put_((target[found], column), values[found], accumulate=True)

    def scored_embeddings(self, embedded: Tensor) -> Tensor:
        """Return item embeddings, (..., embedding), as scores use them: of unit length for cosine scores."""
        embedded = self.scored_dropout(embedded)
        return nn.functional.normalize(embedded, dim=-1) if self.options.scores == "cosine" else embedded

    def scored_biases(self) -> Tensor:
        """Return what is added to the score of each item, (num_items,)."""
        biases = self.item_biases.weight[:, 0]
        return biases if self.training else biases + self.item_offsets

    def _biases_of(self, items: Tensor) -> Tensor:
        """Return :meth:`scored_biases` of some items, in their shape."""
        biases = self.item_biases(items)[..., 0]
        return biases if self.training else biases + self.item_offsets[items]

    def _scored_states(self, vectors: Tensor) -> Tensor:
        if self.options.scores == "dot":
            return vectors
        return nn.functional.normalize(vectors, dim=-1) / self.options.temperature

    def _apart(self, states: Tensor | HistoryStates) -> tuple[Tensor, Tensor | None]:
        """
        Split states into vectors (targets, embedding) and the pointer's weights (targets, places + 1).

        The last weight, 0, is that of items in no place. Without a pointer or a history there are no weights.
        """
        if not self.options.pointer:
            return states, None
        if not isinstance(states, HistoryStates):
            return states[:, : self.embedding_dim], None
        vectors, weights = states.states[:, : self.embedding_dim], states.states[:, self.embedding_dim :]
        return vectors, nn.functional.pad(weights[:, : len(PLACES)], (0, 1))


def as_events(sequences: Tensor) -> Tensor:
    """
    Return item ids of shape (batch, time) as events; events of shape (batch, time, channel) are returned unchanged.

    Items alone are one session of an anonymous user, with unknown dwell, gap and times.
    """
    if sequences.dim() == 3:
        return sequences
    return write_padded_events(sequences.new_zeros(*sequences.shape, NUM_CHANNELS), sequences)  # (batch, time, channel)
