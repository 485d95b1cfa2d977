"""The five ASARS nets (paper section 2.3 and 3.2, Fig. 4 and 5): users and dwell times beside a session's items."""

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
    """``asars_user_cat``: ``[h_t ; e_u]``, the hidden state beside the user's embedding (paper section 3.2)."""

    has_users = True


class AsarsTimeCatNet(SessionNet):
    """``asars_time_cat``: a recurrent layer over ``[e_item ; e_dwell]`` (paper section 3.2)."""

    reads_dwell = True

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        self.dwell_embeddings = UnitEmbedding(num_dwell_bins, self.options.dwell_dim, padding_idx=0, sparse=sparse)
        self.recurrent = self._new_recurrent(self.embedding_dim + self.options.dwell_dim)
        return self.options.hidden_dim

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """The hidden states; under 'known' those that the newest event's dwell has not entered."""
        return _hidden_with_dwell(self, items, events)[1]


def _hidden_with_dwell(net: SessionNet, items: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states of each event once it is past, and while it is the newest; (batch, time, hidden) each."""
    dwell = net.dwell_embeddings(events[:, :, DWELL])  # (batch, time, dwell)
    inputs = net.input_dropout(torch.cat([items, dwell], dim=2))  # (batch, time, embedding + dwell)
    if net.dwell == "observed":
        hidden = net.recur(net.recurrent, events, inputs)
        return hidden, hidden
    unknown = net.dwell_embeddings(events.new_full((1, 1), UNKNOWN_BIN)).expand_as(dwell)
    newest = net.input_dropout(torch.cat([items, unknown], dim=2))  # (batch, time, embedding + dwell)
    return net.recur(net.recurrent, events, inputs, newest)


class AttentionNet(SessionNet):
    """Base of the nets that mix hidden states by triangle attention (paper Eq. 16-18)."""

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        options = self.options
        self.recurrent = self._new_recurrent(self.embedding_dim)
        if options.recency:
            self.fading = nn.Parameter(torch.zeros(()))
        return options.hidden_dim * (2 if options.residual else 1)

    @property
    def _ends_with_hidden(self) -> bool:
        return self.options.residual

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """The attended state and, with the residual, the newest hidden one; see :meth:`SessionNet.encode`."""
        hidden, current = self.hidden_states(items, events)  # (batch, time, hidden) each
        return self.mix(hidden, current, events, users)

    def hidden_states(self, items: Tensor, events: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden state of each event once it is past, and while it is the newest; (batch, time, hidden) each."""
        hidden = self.recur(self.recurrent, events, self.input_dropout(items))
        return hidden, hidden

    def mix(self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """``q_t``, or ``[q_t ; h_t]`` with the residual: (batch, time, hidden) to (batch, time, state)."""
        scores, current_scores = self.attention_scores(hidden, current, events, users)  # (batch, time) each
        attended = triangle_attention(
            scores,
            hidden,
            events[:, :, ITEM] != PADDING_ITEM,
            current_scores=current_scores,
            segments=self._segments(events),
            current_values=None if current is hidden else current,
            form=self.options.attention,
            # exp(fading * k) cancels in the softmax but for how far back an event lies.
            slope=self.fading if self.options.recency else None,
        )
        return torch.cat([attended, current], dim=2) if self.options.residual else attended

    def attention_weights(self, item_sequences: Tensor) -> Tensor:
        """
        How much each event weighs in the state after the last one.

        Parameters
        ----------
        item_sequences : int64 tensor of shape (batch, time) or (batch, time, channel)

        Returns
        -------
        float64 tensor of shape (batch, time)
            0 at padding and outside the scope; rows sum to 1, or to 0 where there is no event.
        """
        events, seen = without_padding(as_events(item_sequences))  # (batch, short, channel), (batch, time + 1)
        last, present = seen[:, -1:] - 1, seen.diff(dim=1) > 0  # (batch, 1), (batch, time)
        if not events.shape[1]:
            return torch.zeros_like(present, dtype=torch.float64)
        hidden, current = self.hidden_states(self._embedded(events), events)
        users = self._users(item_sequences) if self.has_users else None
        scores, newest = self.attention_scores(hidden, current, events, users)  # (batch, short) each
        place = torch.arange(events.shape[1], device=events.device)  # (short,)
        logits = torch.where(place == last, newest, scores).double()
        if self.options.recency:
            logits = logits + self.fading * (place - last)
        inside = place <= last
        segments = self._segments(events)
        if segments is not None:
            inside = inside & (segments == segments.gather(1, last.clamp(min=0)))
        weights = logits.masked_fill(~inside, -torch.inf).softmax(dim=1).masked_fill(~inside, 0.0)  # (batch, short)
        return weights.gather(1, (seen[:, 1:] - 1).clamp(min=0)) * present  # (batch, time)

    def attention_scores(
        self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """
        The score of each event once it is past, and while it is the newest.

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
    ``asars_user_att``: attention over the hidden states, steered by the user; his embedding beside it (Eq. 19, Fig. 5).

    ``p_k = tanh(W h_k + b)``; the state mixes h_k in proportion to ``exp(p_k . e_u)`` over k <= t. To an anonymous user
    all events weigh the same.
    """

    has_users = True

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        self.attention = nn.Linear(self.options.hidden_dim, self.options.user_dim)
        return super()._build(num_users, num_dwell_bins, sparse)

    def attention_scores(
        self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """``p_k . e_u`` (Eq. 19), the same for the newest event."""
        keys = torch.tanh(self.attention(hidden))  # (batch, time, user)
        scores = (keys @ users[:, :, None])[:, :, 0]  # (batch, time)
        return scores, scores


class AsarsTimeAttNet(AttentionNet):
    """
    ``asars_time_att``: attention over the hidden states, steered by dwell (paper Eq. 15-18).

    ``p_k = tanh(W z_k + b)`` with z the states of a recurrent layer over dwell-bin embeddings; the state mixes h_k in
    proportion to ``exp(p_k . h_k)`` over k <= t.
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
        """See :meth:`AttentionNet.hidden_states`; the two differ where dwell is an input and the newest is unknown."""
        if self.options.dwell_input:
            return _hidden_with_dwell(self, items, events)
        return super().hidden_states(items, events)

    def attention_scores(
        self, hidden: Tensor, current: Tensor, events: Tensor, users: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """
        ``p_k . h_k`` (Eq. 16).

        The two differ under ``dwell='known'``, where the newest event's dwell is still unknown.
        """
        bins = events[:, :, DWELL]  # (batch, time)
        dwell = self.input_dropout(self.dwell_embeddings(bins))  # (batch, time, dwell)
        if self.dwell == "observed":
            scores = self._score(self.recur(self.time_recurrent, events, dwell), hidden, bins)
            return scores, scores
        unknown = bins.new_full((1, 1), UNKNOWN_BIN)
        # one look-up: as many as there are events would each have a gradient to be added up
        newest = self.input_dropout(self.dwell_embeddings(unknown).expand_as(dwell))  # (batch, time, dwell)
        past_time, newest_time = self.recur(self.time_recurrent, events, dwell, newest)
        return self._score(past_time, hidden, bins), self._score(newest_time, current, unknown)

    def _score(self, time_states: Tensor, hidden: Tensor, bins: Tensor) -> Tensor:
        """Two of (..., hidden) and one of (...) to (...)."""
        scores = (torch.tanh(self.attention(time_states)) * hidden).sum(dim=-1)
        return scores + self.dwell_weights(bins)[..., 0] if self.options.dwell_weight else scores


class AsarsTimeUserNet(AsarsTimeAttNet):
    """``asars_time_user``: the time-attended state beside the user's embedding, the paper's final model (Fig. 4)."""

    has_users = True
