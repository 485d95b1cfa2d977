"""The temporal dynamics model (paper section 2.2, Eq. 5 to 14): survival time, drifting users and a decaying GRU."""

import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.channels import DWELL, SESSION_START, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.times import SECONDS_PER_DAY
from spotlight_asars.layers.basic import UnitEmbedding
from spotlight_asars.sequence.representations.session_net import SessionNet

_DEVIATION_POWER = 0.4


def deviation(days: Tensor) -> Tensor:
    """Return ``sign(x) * |x| ** 0.4``, the time deviation of timeSVD++ (Koren 2009, Eq. 6)."""
    return days.sign() * days.abs() ** _DEVIATION_POWER


def days_since_first(events: Tensor) -> Tensor:
    """
    Return the days from a row's first event with a known time to each event; 0 if the event's time is unknown.

    It never depends on later events: events before the first known time have unknown times themselves.

    Parameters
    ----------
    events : int64 tensor of shape (batch, time, channel)

    Returns
    -------
    float64 tensor of shape (batch, time)
    """
    seconds = events[:, :, TIME]  # (batch, time)
    if not seconds.shape[1]:
        return seconds.double()
    known = seconds != UNKNOWN_TIME
    first = seconds.gather(1, known.long().argmax(dim=1, keepdim=True))  # (batch, 1)
    return torch.where(known, (seconds - first).double() / SECONDS_PER_DAY, 0.0)


def days_of_pause(events: Tensor) -> Tensor:
    """
    Return the days between a session's last event and the next session's first, at that first event; 0 elsewhere.

    It is also 0 if one of the two times is unknown or they are in the wrong order.

    Parameters
    ----------
    events : int64 tensor of shape (batch, time, channel)

    Returns
    -------
    float64 tensor of shape (batch, time)
    """
    seconds = events[:, :, TIME]  # (batch, time)
    known = seconds != UNKNOWN_TIME
    has_gap = (events[:, 1:, SESSION_START] != 0) & known[:, 1:] & known[:, :-1]  # (batch, time - 1)
    gap = torch.where(has_gap, seconds[:, 1:] - seconds[:, :-1], 0).clamp(min=0)
    first = seconds.new_zeros(len(seconds), min(1, seconds.shape[1]))  # no gap comes before a row's first event
    return torch.cat([first, gap], dim=1).double() / SECONDS_PER_DAY  # (batch, time)


class UserTerms(UnitEmbedding):
    """
    One table that holds a user's embedding followed by further parameters, which start at zero.

    Parameters
    ----------
    num_users : int
        Number of user ids, including the anonymous user 0, whose row stays zero.
    dim : int
        Dimension of the embedding.
    further : int
        Number of further parameters for each user.
    sparse : bool, optional
        Use sparse gradients.
    """

    def __init__(self, num_users: int, dim: int, further: int, sparse: bool = False) -> None:
        self.vector_dim = dim
        super().__init__(num_users, dim + further, padding_idx=0, sparse=sparse)

    def reset_parameters(self) -> None:
        """Redraw the embeddings as :class:`UnitEmbedding` does and set the further parameters to zero."""
        super().reset_parameters()
        with torch.no_grad():
            self.weight *= (self.embedding_dim / self.vector_dim) ** 0.5
            self.weight[:, self.vector_dim :] = 0.0


def with_users_in_item_space(net: type, embedding_dim: int, settings: dict) -> dict:
    """Return a net's settings with ``user_dim`` equal to `embedding_dim`; raise an InputError if they differ."""
    user_dim = settings.get("user_dim", embedding_dim)
    if user_dim != embedding_dim:
        raise InputError(
            f"user_dim is {user_dim} and embedding_dim {embedding_dim}: "
            f"{net.__name__} multiplies users by items, so make them equal or leave user_dim out"
        )
    return {**settings, "user_dim": user_dim}


class DriftingUserNet(SessionNet):
    """
    Base of the nets whose scores include a term of user and time alone, the same for all items (Eq. 7 and 12).

    States hold this term as their last column, (..., embedding + 1). It does not change a ranking, but losses that
    depend on single scores see it. User embeddings have the dimension of item embeddings.
    """

    has_users = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        super().__init__(num_items, embedding_dim, **with_users_in_item_space(type(self), embedding_dim, settings))
        self.projection = nn.Identity()

    @property
    def _ends_with_hidden(self) -> bool:
        return False

    def score(self, states: Tensor, items: Tensor) -> Tensor:
        """Return ``dot(q, e_item) + b_item`` plus the state's last column; see :meth:`SessionNet.score`."""
        return super().score(states[:, :-1], items) + states[:, -1]

    def score_shared(self, states: Tensor, items: Tensor | None = None) -> Tensor:
        """Score items shared by all states, (targets, items); see :meth:`SessionNet.score_shared`."""
        return super().score_shared(states[:, :-1], items) + states[:, -1:]


def with_empty_prefix(values: Tensor) -> Tensor:
    """Prepend a zero for the empty prefix: (batch, time) to (batch, time + 1)."""
    return nn.functional.pad(values, (1, 0))


class DecayedGRU(nn.Module):
    """
    A GRU whose hidden state decays over the gaps between sessions, ``h <- h * exp(-softplus(w) * dev(gap))``.

    The paper multiplies the last session's state by ``dev_i(t)`` (Eq. 14), which would grow with the gap. The
    exponential turns it into a factor that falls from 1, at a rate w learned for each hidden unit.

    Parameters
    ----------
    input_size, hidden_size : int
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True)
        self.fading = nn.Parameter(torch.zeros(hidden_size))  # softplus(0): the state halves in a day

    def forward(self, inputs: Tensor, deviations: Tensor | None = None) -> Tensor:
        """
        Return the states after each step.

        Parameters
        ----------
        inputs : tensor of shape (batch, time, input)
        deviations : tensor of shape (batch, time), optional
            ``dev(gap)`` before each step; 0 for no decay.

        Returns
        -------
        tensor of shape (batch, time, hidden)
        """
        if deviations is None or not deviations.any():
            return self.gru(inputs)[0]
        factors = self.left(deviations)  # (batch, time, hidden)
        gru = self.gru
        weights = (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0)
        hidden = inputs.new_zeros(len(inputs), gru.hidden_size)  # (batch, hidden)
        states = []
        for step, factor in zip(inputs.unbind(1), factors.unbind(1), strict=True):
            hidden = torch.gru_cell(step, hidden * factor, *weights)
            states.append(hidden)
        return torch.stack(states, dim=1)  # (batch, time, hidden)

    def left(self, deviations: Tensor) -> Tensor:
        """Return the factor by which states decay over gaps with deviations ``dev(gap)``: (...) to (..., hidden)."""
        return torch.exp(-deviations[..., None] * nn.functional.softplus(self.fading))


class AsarsDynamicsNet(DriftingUserNet):
    """
    ``asars_dynamics``: the inter-session temporal dynamics model (paper section 2.2, Eq. 5 to 14).

    The score is ``e_i . (e_u + alpha_u * h_u(t) + v_bin) + b_i + b_u + alpha_u * dev_u(t)``, where

    - ``h_u(t)`` is the state of a GRU over the row, decayed at each session start (:class:`DecayedGRU`);
    - ``e_i . v_bin`` is a low-rank ``b_(i, t_bin)`` of Eq. 9, since a full table of items by bins would be too large;
    - ``dev_u(t)`` is the deviation of the days since the row's first event, the only survival time that the net knows;
    - ``alpha_u`` starts at 1, and stays 1 for anonymous users, whose other terms are 0.

    The mean of Eq. 6 is left out: the item biases absorb it. The bin is that of the newest event under
    ``dwell='observed'``, and of the event before it, whose dwell has ended, under 'known'. With
    ``hidden_scope='session'`` the GRU starts from zero in each session.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`. ``hidden_dim`` is `embedding_dim` by default; if they differ, a matrix maps the
        GRU's states to the item space.
    """

    reads_dwell = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        if settings.setdefault("recurrent", "gru") != "gru":
            raise InputError(f"recurrent is {settings['recurrent']!r}: AsarsDynamicsNet has a GRU; leave recurrent out")
        settings.setdefault("hidden_dim", embedding_dim)
        super().__init__(num_items, embedding_dim, **settings)

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        dim, hidden_dim = self.embedding_dim, self.options.hidden_dim
        self.user_embeddings = UserTerms(num_users, dim, 2, sparse)  # e_u, b_u, alpha_u - 1
        self.dwell_biases = ZeroEmbedding(num_dwell_bins, dim, padding_idx=0, sparse=sparse)
        self.recurrent = DecayedGRU(dim, hidden_dim)
        self.to_items = nn.Identity() if hidden_dim == dim else nn.Linear(hidden_dim, dim, bias=False)
        return dim

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return ``h_u(t)``, the user's short-term interest, in the item space; see :meth:`SessionNet.encode`."""
        inputs = self.input_dropout(items)
        if self.options.hidden_scope == "session":
            return self.to_items(self.recur(self.recurrent, events, inputs))
        deviations = deviation(days_of_pause(events)).to(inputs.dtype)  # (batch, time)
        return self.to_items(self.recurrent(inputs, deviations))  # (batch, time, dim)

    def finish(self, states: Tensor, events: Tensor, users: Tensor) -> Tensor:
        """Combine the terms of Eq. 14; (batch, time + 1, embedding + 1)."""
        dim = self.embedding_dim
        interest, user = states[:, :, :dim], states[:, :, dim : 2 * dim]  # (batch, time + 1, dim) each
        bias, evolution = users[:, dim, None], 1.0 + users[:, dim + 1, None]  # (batch, 1) each
        state = user + evolution[:, :, None] * interest + self.dwell_biases(self._dwell_bins(events))
        survival = with_empty_prefix(deviation(days_since_first(events))).to(states.dtype)  # (batch, time + 1)
        return torch.cat([state, (bias + evolution * survival)[:, :, None]], dim=2)

    def _dwell_bins(self, events: Tensor) -> Tensor:
        """Return the newest known dwell bin after 0, 1, ... events, (batch, time + 1); 0 if there is none yet."""
        bins = with_empty_prefix(events[:, :, DWELL])  # (batch, time + 1)
        return bins if self.dwell == "observed" else with_empty_prefix(bins[:, :-1])
