"""Factorisations as nets: BPR-MF (paper section 3.2), and FPMC and timeSVD++ beside it."""

import torch
from torch import Tensor, nn

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.layers.basic import UnitEmbedding, running_sum
from spotlight_asars.sequence.representations.context import context_of
from spotlight_asars.sequence.representations.dynamics import (
    DriftingUserNet,
    UserTerms,
    days_since_first,
    deviation,
    from_no_event_on,
)
from spotlight_asars.sequence.representations.session_net import SessionNet

PERIODS = ("weekday", "hour")


class BPRMFNet(SessionNet):
    """
    ``bpr_mf``: matrix factorisation, ``e_u . e_i + b_i`` (Rendle et al. 2009), whatever the loss.

    No event of the row counts. An anonymous user gets the item biases alone, that is popularity.
    """

    has_users = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        user_dim = settings.setdefault("user_dim", embedding_dim)
        if user_dim != embedding_dim:
            raise ValueError(
                f"user_dim is {user_dim} and embedding_dim {embedding_dim}: "
                "BPRMFNet multiplies users and items, so give the same or leave user_dim out"
            )
        super().__init__(num_items, embedding_dim, **settings)
        self.projection = nn.Identity()

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        return 0

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Nothing: the user's embedding, which comes behind it, is the whole state."""
        return items[:, :, :0]  # (batch, time, 0)


class FPMCNet(SessionNet):
    """
    ``fpmc``: factorised personalised Markov chains (Rendle et al. 2010) with baskets of one item.

    The score is ``V_u . V_i + L_last . I_i + b_i``. An item's ``[I_i ; V_i]`` is one embedding, so that the score is
    its dot product with ``[L_last ; V_u]``. Anonymous users have the chain alone, and before a row's first event
    there is the user alone.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`. ``user_dim`` of the embedding's dimensions are V's, half of them by default.
    """

    has_users = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        user_dim = settings.setdefault("user_dim", embedding_dim // 2)
        if not 0 < user_dim < embedding_dim:
            raise ValueError(
                f"user_dim is {user_dim} and embedding_dim {embedding_dim}: FPMCNet shares the embedding between "
                "users and last items, so give at least 1 and less than embedding_dim"
            )
        super().__init__(num_items, embedding_dim, **settings)
        self.projection = nn.Identity()

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        chain_dim = self.embedding_dim - self.options.user_dim
        self.last_item_embeddings = UnitEmbedding(self.num_items, chain_dim, padding_idx=PADDING_ITEM, sparse=sparse)
        return chain_dim

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """``L`` of each event's item; see :meth:`SessionNet.encode`."""
        return self.last_item_embeddings(events[:, :, ITEM])  # (batch, time, chain)


class TimeSVDNet(DriftingUserNet):
    """
    ``time_svd``: timeSVD++ (Koren 2009) as a model of the next item.

    The score is ``e_i . (p_u + a_u dev + |R| ** -1/2 sum_{j in R} y_j + v_bin) + b_i + b_u + c_u dev``, with R the
    events so far and ``dev`` the deviation of the days since the row's first event. Koren counts from the mean date of
    the user, which a net does not know and which would look ahead. ``e_i . v_bin`` is his ``b_(i, bin(t))`` in low
    rank. His bins are spans of ten weeks, which say nothing of a later test period; these are what comes again, the
    weekday or the hour of the newest event. His factors of single days, ``p_ukt``, are left out for the same reason.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`.
    period : {'weekday', 'hour'}, optional
        What the time bins are, in UTC.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, period: str = "weekday", **settings) -> None:
        if period not in PERIODS:
            raise ValueError(f"period is {period!r}: choose one of {', '.join(PERIODS)}")
        self.period = period
        super().__init__(num_items, embedding_dim, **settings)

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        dim = self.embedding_dim
        self.user_embeddings = UserTerms(num_users, dim, dim + 2, sparse)  # p_u, a_u, b_u, c_u
        self.implicit_embeddings = UnitEmbedding(self.num_items, dim, padding_idx=PADDING_ITEM, sparse=sparse)
        self.period_biases = ZeroEmbedding({"weekday": 8, "hour": 25}[self.period], dim, padding_idx=0, sparse=sparse)
        return dim

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """The implicit feedback up to each event, ``|R| ** -1/2 sum y_j``; see :meth:`SessionNet.encode`."""
        count = torch.arange(1, events.shape[1] + 1, device=events.device, dtype=items.dtype)  # (time,)
        return running_sum(self.implicit_embeddings(events[:, :, ITEM])) * count[:, None] ** -0.5

    def finish(self, states: Tensor, events: Tensor, users: Tensor) -> Tensor:
        """All terms but the item's bias; (batch, time + 1, embedding + 1)."""
        dim = self.embedding_dim
        feedback, user = states[:, :, :dim], states[:, :, dim : 2 * dim]  # (batch, time + 1, dim) each
        drift, bias, bias_drift = users[:, None, dim : 2 * dim], users[:, 2 * dim, None], users[:, 2 * dim + 1, None]
        age = from_no_event_on(deviation(days_since_first(events))).to(states.dtype)  # (batch, time + 1)
        period = self.period_biases(from_no_event_on(context_of(self.period, events)))  # (batch, time + 1, dim)
        state = user + drift * age[:, :, None] + feedback + period
        return torch.cat([state, (bias + bias_drift * age)[:, :, None]], dim=2)
