"""Factorization models as nets: BPR-MF (paper section 3.2), FPMC and timeSVD++."""

import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_choice
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.layers.basic import UnitEmbedding, running_sum
from spotlight_asars.sequence.representations.context import PERIOD_SIZES, context_of
from spotlight_asars.sequence.representations.dynamics import (
    DriftingUserNet,
    UserTerms,
    days_since_first,
    deviation,
    with_empty_prefix,
    with_users_in_item_space,
)
from spotlight_asars.sequence.representations.session_net import SessionNet

PERIODS = tuple(PERIOD_SIZES)


class BPRMFNet(SessionNet):
    """
    ``bpr_mf``: matrix factorization, ``e_u . e_i + b_i`` (Rendle et al. 2009), with any loss.

    The state is ``e_u`` and depends on no event. An anonymous user gets the item biases, that is, popularity.
    """

    has_users = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        super().__init__(num_items, embedding_dim, **with_users_in_item_space(type(self), embedding_dim, settings))
        self.projection = nn.Identity()

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        return 0

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return empty states: the user embedding appended to them is the whole state."""
        return items[:, :, :0]  # (batch, time, 0)


class FPMCNet(SessionNet):
    """
    ``fpmc``: factorized personalized Markov chains (Rendle et al. 2010) with baskets of one item.

    The score is ``V_u . V_i + L_last . I_i + b_i``. The embedding of item i is ``[I_i ; V_i]``, so the score is its dot
    product with the state ``[L_last ; V_u]``. ``V_u`` is zero for an anonymous user, ``L_last`` before a row's first
    event.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`. ``user_dim`` is the number of the embedding's dimensions that belong to V, half of
        them by default.
    """

    has_users = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        user_dim = settings.setdefault("user_dim", embedding_dim // 2)
        if not 0 < user_dim < embedding_dim:
            raise InputError(
                f"user_dim is {user_dim} and embedding_dim {embedding_dim}: FPMCNet splits the embedding between users "
                "and last items, so give a user_dim of at least 1 and less than embedding_dim"
            )
        super().__init__(num_items, embedding_dim, **settings)
        self.projection = nn.Identity()

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        chain_dim = self.embedding_dim - self.options.user_dim
        self.last_item_embeddings = UnitEmbedding(self.num_items, chain_dim, padding_idx=PADDING_ITEM, sparse=sparse)
        return chain_dim

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return ``L`` of each event's item; see :meth:`SessionNet.encode`."""
        return self.last_item_embeddings(events[:, :, ITEM])  # (batch, time, chain)


class TimeSVDNet(DriftingUserNet):
    """
    ``time_svd``: timeSVD++ (Koren 2009) as a model of the next item.

    The score is ``e_i . (p_u + a_u dev + |R| ** -1/2 sum_{j in R} y_j + v_bin) + b_i + b_u + c_u dev``, with R the
    events so far and ``dev`` the deviation of the days since the row's first event. It differs from Koren's model:

    - ``dev`` counts from the first event. Koren's origin, the mean date of the user, would look ahead.
    - ``e_i . v_bin`` is Koren's ``b_(i, bin(t))`` in low rank. His bins span ten weeks each, so none would cover a
      later test period; here a bin is the weekday or the hour of the newest event, which recur.
    - His factors of single days, ``p_ukt``, are left out, since they say nothing about later days.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`.
    period : {'weekday', 'hour'}, optional
        The meaning of the time bins, in UTC.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, period: str = "weekday", **settings) -> None:
        check_choice("period", period, PERIODS)
        self.period = period
        super().__init__(num_items, embedding_dim, **settings)

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        dim = self.embedding_dim
        self.user_embeddings = UserTerms(num_users, dim, dim + 2, sparse)  # p_u, a_u, b_u, c_u
        self.implicit_embeddings = UnitEmbedding(self.num_items, dim, padding_idx=PADDING_ITEM, sparse=sparse)
        self.period_biases = ZeroEmbedding(PERIOD_SIZES[self.period], dim, padding_idx=0, sparse=sparse)
        return dim

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return the implicit feedback up to each event, ``|R| ** -1/2 sum y_j``; see :meth:`SessionNet.encode`."""
        count = torch.arange(1, events.shape[1] + 1, device=events.device, dtype=items.dtype)  # (time,)
        return running_sum(self.implicit_embeddings(events[:, :, ITEM])) * count[:, None] ** -0.5

    def finish(self, states: Tensor, events: Tensor, users: Tensor) -> Tensor:
        """Sum all terms but the item bias; (batch, time + 1, embedding + 1)."""
        dim = self.embedding_dim
        feedback, user = states[:, :, :dim], states[:, :, dim : 2 * dim]  # (batch, time + 1, dim) each
        drift, bias, bias_drift = users[:, None, dim : 2 * dim], users[:, 2 * dim, None], users[:, 2 * dim + 1, None]
        age = with_empty_prefix(deviation(days_since_first(events))).to(states.dtype)  # (batch, time + 1)
        period = self.period_biases(with_empty_prefix(context_of(self.period, events)))  # (batch, time + 1, dim)
        state = user + drift * age[:, :, None] + feedback + period
        return torch.cat([state, (bias + bias_drift * age)[:, :, None]], dim=2)
