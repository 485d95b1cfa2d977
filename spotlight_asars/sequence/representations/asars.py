"""The five ASARS nets (paper sections 2.3 and 3.2): users and dwell times added to a recurrent net over items."""

import torch
from torch import Tensor, nn

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START
from spotlight_asars.layers.attention import triangle_attention
from spotlight_asars.layers.basic import UnitEmbedding
from spotlight_asars.layers.padding import without_padding
from spotlight_asars.sequence.representations.session_net import SessionNet, as_events


class AsarsUserCatNet(SessionNet):
    """
    ``asars_user_cat``: the hidden state next to the user embedding (paper section 3.2).

    The state after event t is ``[h_t ; e_u]``, with h from a recurrent layer over item embeddings. The embedding of an
    anonymous user is zero.
    """

    has_users = True


class AsarsTimeCatNet(SessionNet):
    """
    ``asars_time_cat``: a recurrent layer over ``[e_item ; e_dwell]`` (paper section 3.2).

    The state after event t is the hidden state ``h_t``. Under ``dwell='known'`` the newest event enters with the bin
    of an unknown dwell.
    """

    reads_dwell = True

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        self.dwell_embeddings = UnitEmbedding(num_dwell_bins, self.options.dwell_dim, padding_idx=0, sparse=sparse)
        self.recurrent = self._new_recurrent(self.embedding_dim + self.options.dwell_dim)
        return self.options.hidden_dim

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return the hidden states, each with the newest dwell that the dwell rule allows; (batch, time, hidden)."""
        return _hidden_with_dwell(self, items, events)[1]


def _hidden_with_dwell(net: SessionNet, items: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hidden state of each event as a past event and as the newest one; (batch, time, hidden) each."""
    dwell = net.dwell_embeddings(events[:, :, DWELL])  # (batch, time, dwell)
    inputs = net.input_dropout(torch.cat([items, dwell], dim=2))  # (batch, time, embedding + dwell)
    if net.dwell == "observed":
        hidden = net.recur(net.recurrent, events, inputs)
        return hidden, hidden
    unknown = net.dwell_embeddings(events.new_full((1, 1), UNKNOWN_BIN)).expand_as(dwell)
    newest = net.input_dropout(torch.cat([items, unknown], dim=2))  # (batch, time, embedding + dwell)
    return net.recur(net.recurrent, events, inputs, newest)


class AttentionNet(SessionNet):
    """
    Base of the nets that mix hidden states by triangle attention (paper section 2.3, Eq. 16 to 18).

    ``q_t = sum_k a_tk h_k`` over the events k <= t, with ``a_tk`` the softmax over k of the events' attention scores.
    The state after event t is ``[q_t ; h_t]``, or ``q_t`` alone with ``residual=False``. With ``scope='session'`` the
    sum begins at the first event of the session.

    Methods return a pair of tensors: what holds for an event once later ones have followed, and what holds while it
    is the newest. They differ under ``dwell='known'``, where the newest event's dwell is still unknown.

    With ``item_path`` the same weights also mix the item embeddings, ``m_t = sum_k a_tk e_k``, in front of the state:
    a path from earlier items to their own scores, as in CORE (Hou et al. 2022).
    """

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        options = self.options
        self.recurrent = self._new_recurrent(self.embedding_dim)
        if options.recency:
            self.fading = nn.Parameter(torch.zeros(()))
        return options.hidden_dim * (2 if options.residual else 1) + (self.embedding_dim if options.item_path else 0)

    @property
    def _ends_with_hidden(self) -> bool:
        return self.options.residual

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return the attended states, each followed by ``h_t`` with the residual; see :meth:`SessionNet.encode`."""
        hidden, current = self.hidden_states(items, events)  # (batch, time, hidden) each
        return self.mix(hidden, current, events, users, items)

    def hidden_states(self, items: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden state of each event as a past event and as the newest one; (batch, time, hidden) each."""
        hidden = self.recur(self.recurrent, events, self.input_dropout(items))
        return hidden, hidden

    def mix(
        self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None, items: Tensor | None = None
    ) -> Tensor:
        """
        Return ``q_t``, after ``m_t`` with the item path, before ``h_t`` with the residual: (batch, time, state).

        `items`, the embedded items (batch, time, embedding), are needed for the item path only.
        """
        scores, current_scores = self.attention_scores(hidden, current, events, users)  # (batch, time) each
        values, newest = hidden, current
        if self.options.item_path:
            values = torch.cat([items, hidden], dim=2)  # (batch, time, embedding + hidden)
            newest = values if current is hidden else torch.cat([items, current], dim=2)
        attended = triangle_attention(
            scores,
            values,
            events[:, :, ITEM] != PADDING_ITEM,
            current_scores=current_scores,
            segments=self._segments(events),
            current_values=None if current is hidden else newest,
            form=self.options.attention,
            # With a slope over k, the softmax depends only on how far back an event lies.
            slope=self.fading if self.options.recency else None,
        )
        return torch.cat([attended, current], dim=2) if self.options.residual else attended

    def attention_weights(self, item_sequences: Tensor) -> Tensor:
        """
        Return the weight of each event in the state after the last one.

        Parameters
        ----------
        item_sequences : int64 tensor of shape (batch, time) or (batch, time, channel)

        Returns
        -------
        float64 tensor of shape (batch, time)
            Each row sums to 1, or to 0 if it has no event; padding and events outside the scope weigh 0.
        """
        events, seen = without_padding(as_events(item_sequences))  # (batch, short, channel), (batch, time + 1)
        last, present = seen[:, -1:] - 1, seen.diff(dim=1) > 0  # (batch, 1), (batch, time)
        if not events.shape[1]:
            return torch.zeros_like(present, dtype=torch.float64)
        hidden, current = self.hidden_states(self._embedded(events), events)
        users = self._users(item_sequences) if self.has_users else None
        scores, newest = self.attention_scores(hidden, current, events, users)  # (batch, short) each
        position = torch.arange(events.shape[1], device=events.device)  # (short,)
        logits = torch.where(position == last, newest, scores).double()
        if self.options.recency:
            logits = logits + self.fading * (position - last)
        inside = position <= last
        segments = self._segments(events)
        if segments is not None:
            inside = inside & (segments == segments.gather(1, last.clamp(min=0)))
        weights = logits.masked_fill(~inside, -torch.inf).softmax(dim=1).masked_fill(~inside, 0.0)  # (batch, short)
        return weights.gather(1, (seen[:, 1:] - 1).clamp(min=0)) * present  # (batch, time)

    def attention_scores(
        self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """
        Return the attention score of each event as a past event and as the newest one.

        Returns
        -------
        (scores, current_scores) : two tensors of shape (batch, time)
        """
        raise NotImplementedError

    def _segments(self, events: Tensor) -> Tensor | None:
        if self.options.scope == "sequence":
            return None
        return events[:, :, SESSION_START].cumsum(dim=1)  # (batch, time)


class AsarsUserAttNet(AttentionNet):
    """
    ``asars_user_att``: attention over hidden states, scored by the user (paper Eq. 19, Fig. 5).

    An event's attention score is ``p_k . e_u`` with ``p_k = tanh(W h_k + b)``. The state is the attended state of
    :class:`AttentionNet` followed by ``e_u``. An anonymous user's embedding is zero, so all events weigh the same.
    """

    has_users = True

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        self.attention = nn.Linear(self.options.hidden_dim, self.options.user_dim)
        return super()._build(num_users, num_dwell_bins, sparse)

    def attention_scores(
        self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return ``p_k . e_u`` (Eq. 19), the same for past events and the newest one."""
        keys = torch.tanh(self.attention(hidden))  # (batch, time, user)
        scores = (keys @ users[:, :, None])[:, :, 0]  # (batch, time)
        return scores, scores


class AsarsTimeAttNet(AttentionNet):
    """
    ``asars_time_att``: attention over hidden states, scored by dwell time (paper Eq. 15 to 18).

    An event's attention score is ``p_k . h_k`` with ``p_k = tanh(W z_k + b)``, where z are the states of a second
    recurrent layer, over dwell-bin embeddings. The state is the attended state of :class:`AttentionNet`.
    """

    reads_dwell = True

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        options = self.options
        state_dim = super()._build(num_users, num_dwell_bins, sparse)
        self.dwell_embeddings = UnitEmbedding(num_dwell_bins, options.dwell_dim, padding_idx=0, sparse=sparse)
        self.time_recurrent = self._new_recurrent(options.dwell_dim)
        self.attention = nn.Linear(options.hidden_dim, options.hidden_dim)
        if options.dwell_input:
            self.recurrent = self._new_recurrent(self.embedding_dim + options.dwell_dim)
        if options.dwell_weight:
            self.dwell_weights = ZeroEmbedding(num_dwell_bins, 1, padding_idx=0, sparse=sparse)
        return state_dim

    def hidden_states(self, items: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """
        Return hidden states as :meth:`AttentionNet.hidden_states` does.

        With ``dwell_input`` the recurrent layer reads dwell, so under ``dwell='known'`` the two tensors differ.
        """
        if self.options.dwell_input:
            return _hidden_with_dwell(self, items, events)
        return super().hidden_states(items, events)

    def attention_scores(
        self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """
        Return ``p_k . h_k`` (Eq. 16), plus the learned weight of the dwell bin with ``dwell_weight``.

        Under ``dwell='known'`` the two tensors differ: the newest event has an unknown dwell.
        """
        bins = events[:, :, DWELL]  # (batch, time)
        dwell = self.input_dropout(self.dwell_embeddings(bins))  # (batch, time, dwell)
        if self.dwell == "observed":
            scores = self._score(self.recur(self.time_recurrent, events, dwell), hidden, bins)
            return scores, scores
        unknown = bins.new_full((1, 1), UNKNOWN_BIN)
        # A single lookup, expanded: one per event would accumulate as many gradients in one row.
        newest = self.input_dropout(self.dwell_embeddings(unknown).expand_as(dwell))  # (batch, time, dwell)
        past_states, newest_states = self.recur(self.time_recurrent, events, dwell, newest)
        return self._score(past_states, hidden, bins), self._score(newest_states, current, unknown)

    def _score(self, time_states: Tensor, hidden: Tensor, bins: Tensor) -> Tensor:
        """Return scores (...) of time states and hidden states (..., hidden) and dwell bins (...)."""
        scores = (torch.tanh(self.attention(time_states)) * hidden).sum(dim=-1)
        return scores + self.dwell_weights(bins)[..., 0] if self.options.dwell_weight else scores


class AsarsTimeUserNet(AsarsTimeAttNet):
    """
    ``asars_time_user``: time attention and the user embedding, the paper's final model (section 3.2, Fig. 4).

    The state is that of :class:`AsarsTimeAttNet` followed by ``e_u``.
    """

    has_users = True
