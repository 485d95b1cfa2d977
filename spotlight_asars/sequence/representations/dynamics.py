"""Temporal dynamics (paper section 2.2): survival times, users who drift, and the net of Eq. 14."""

import torch
from torch import Tensor, nn

from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.channels import DWELL, SESSION_START, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.times import SECONDS_PER_DAY
from spotlight_asars.layers.basic import UnitEmbedding
from spotlight_asars.sequence.representations.session_net import SessionNet

_DEVIATION_POWER = 0.4


def deviation(days: Tensor) -> Tensor:
    """``sign(x) * |x| ** 0.4``, the time deviation of timeSVD++ (Koren 2009, Eq. 6)."""
    return days.sign() * days.abs() ** _DEVIATION_POWER


def days_since_first(events: Tensor) -> Tensor:
    """
    Days from the first event of a row whose time is known to each event; 0 where an event's time is unknown.

    Nothing here looks at a later event: an event that comes before the first known time has itself an unknown one.

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
    Days between the last event of a session and the first of the next, at that first event; 0 at all others.

    It is 0 too where one of the two times is unknown, and where they are in the wrong order.

    Parameters
    ----------
    events : int64 tensor of shape (batch, time, channel)

    Returns
    -------
    float64 tensor of shape (batch, time)
    """
    seconds = events[:, :, TIME]  # (batch, time)
    known = seconds != UNKNOWN_TIME
    counts = (events[:, 1:, SESSION_START] != 0) & known[:, 1:] & known[:, :-1]  # (batch, time - 1)
    pause = torch.where(counts, seconds[:, 1:] - seconds[:, :-1], 0).clamp(min=0)
    first = seconds.new_zeros(len(seconds), min(1, seconds.shape[1]))  # nothing comes before a row's first event
    return torch.cat([first, pause], dim=1).double() / SECONDS_PER_DAY  # (batch, time)


class UserTerms(UnitEmbedding):
    """
    A user's embedding, and behind it further numbers of his that begin at zero, in one table.

    Parameters
    ----------
    num_users : int
        The anonymous user 0 included, whose row is zero and stays so.
    dim : int
        Dimension of the embedding.
    further : int
        How many numbers more.
    sparse : bool, optional
    """

    def __init__(self, num_users: int, dim: int, further: int, sparse: bool = False) -> None:
        self.vector_dim = dim
        super().__init__(num_users, dim + further, padding_idx=0, sparse=sparse)

    def reset_parameters(self) -> None:
        """Draw the embeddings anew as :class:`UnitEmbedding` does; the numbers behind them are zero."""
        super().reset_parameters()
        with torch.no_grad():
            self.weight *= (self.embedding_dim / self.vector_dim) ** 0.5
            self.weight[:, self.vector_dim :] = 0.0


class DriftingUserNet(SessionNet):
    """
    Base of the nets whose scores hold terms of the user and the time alone, the same for all items (Eq. 7 and 12).

    The states have these terms as one more, last column, (..., embedding + 1). They change no ranking; losses that look
    at a single score see them. A user's embedding lies in the item space.
    """

    has_users = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        user_dim = settings.setdefault("user_dim", embedding_dim)
        if user_dim != embedding_dim:
            raise ValueError(
                f"user_dim is {user_dim} and embedding_dim {embedding_dim}: "
                f"{type(self).__name__} multiplies users and items, so give the same or leave user_dim out"
            )
        super().__init__(num_items, embedding_dim, **settings)
        self.projection = nn.Identity()

    @property
    def _ends_with_hidden(self) -> bool:
        return False

    def score(self, states: Tensor, items: Tensor) -> Tensor:
        """``dot(q, e_item) + b_item`` and the state's last column; see :meth:`SessionNet.score`."""
        return super().score(states[:, :-1], items) + states[:, -1]

    def score_shared(self, states: Tensor, items: Tensor | None = None) -> Tensor:
        """The same for items shared by all states, (targets, items); see :meth:`SessionNet.score_shared`."""
        return super().score_shared(states[:, :-1], items) + states[:, -1:]


def from_no_event_on(values: Tensor) -> Tensor:
    """A zero before the first step, as of a row without events: (batch, time) to (batch, time + 1)."""
    return nn.functional.pad(values, (1, 0))


class DecayedGRU(nn.Module):
    """
    A GRU whose hidden state fades over the pauses between sessions, ``h <- h * exp(-softplus(w) * dev(pause))``.

    The paper multiplies the last session's state by ``dev_i(t)`` (Eq. 14), which would grow with the pause; the
    exponential makes of it a share that falls from 1, at a speed w learned for each unit.

    Parameters
    ----------
    input_size, hidden_size : int
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True)
        self.fading = nn.Parameter(torch.zeros(hidden_size))  # half is left after a day

    def forward(self, inputs: Tensor, deviations: Tensor | None = None) -> Tensor:
        """
        States after each step.

        Parameters
        ----------
        inputs : tensor of shape (batch, time, input)
        deviations : tensor of shape (batch, time), optional
            ``dev(pause)`` before each step; 0 where nothing fades.

        Returns
        -------
        tensor of shape (batch, time, hidden)
        """
        if deviations is None or not deviations.any():
            return self.gru(inputs)[0]
        left = self.left(deviations)  # (batch, time, hidden)
        gru = self.gru
        weights = (gru.weight_ih_l0, gru.weight_hh_l0, gru.bias_ih_l0, gru.bias_hh_l0)
        hidden = inputs.new_zeros(len(inputs), gru.hidden_size)  # (batch, hidden)
        states = []
        for step, share in zip(inputs.unbind(1), left.unbind(1), strict=True):
            hidden = torch.gru_cell(step, hidden * share, *weights)
            states.append(hidden)
        return torch.stack(states, dim=1)  # (batch, time, hidden)

    def left(self, deviations: Tensor) -> Tensor:
        """The share of a state that is left after pauses of ``dev(pause)``: (...) to (..., hidden)."""
        return torch.exp(-deviations[..., None] * nn.functional.softplus(self.fading))


class AsarsDynamicsNet(DriftingUserNet):
    """
    ``asars_dynamics``: the inter-session temporal dynamics model (paper Eq. 5 to 14).

    The score is ``e_i . (e_u + alpha_u * GRU + v_bin) + b_i + b_u + alpha_u * dev_u(t)``. The GRU runs over the row,
    its state faded at each session start. ``e_i . v_bin`` is ``b_(i, t_bin)`` of Eq. 9 in low rank, for a table of
    items by bins does not grow well. ``dev_u(t)`` is the deviation of the days since the row's first event: all the
    net knows of the user's survival time. Eq. 6's mean is left out, as the item biases hold it. ``alpha_u`` begins
    at 1, and is 1 for anonymous users, whose other terms are 0.

    The bin is that of the newest event under ``dwell='observed'``; under 'known' that of the event before it, the last
    one whose dwell has ended. With ``hidden_scope='session'`` nothing is left of the state at a session start.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`. ``hidden_dim`` is `embedding_dim` by default; where it differs, a matrix leads
        from the GRU to the item space.
    """

    reads_dwell = True

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        if settings.setdefault("recurrent", "gru") != "gru":
            raise ValueError(f"recurrent is {settings['recurrent']!r}: AsarsDynamicsNet has a GRU (Eq. 14)")
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
        """``h_u(t)``, the user's short-term interest, in the item space; see :meth:`SessionNet.encode`."""
        inputs = self.input_dropout(items)
        if self.options.hidden_scope == "session":
            return self.to_items(self.recur(self.recurrent, events, inputs))
        faded = deviation(days_of_pause(events)).to(inputs.dtype)  # (batch, time)
        return self.to_items(self.recurrent(inputs, faded))  # (batch, time, dim)

    def finish(self, states: Tensor, events: Tensor, users: Tensor) -> Tensor:
        """The terms of Eq. 14 together; (batch, time + 1, embedding + 1)."""
        dim = self.embedding_dim
        interest, user = states[:, :, :dim], states[:, :, dim : 2 * dim]  # (batch, time + 1, dim) each
        bias, evolution = users[:, dim, None], 1.0 + users[:, dim + 1, None]  # (batch, 1) each
        state = user + evolution[:, :, None] * interest + self.dwell_biases(self._dwell_bins(events))
        survival = from_no_event_on(deviation(days_since_first(events))).to(states.dtype)  # (batch, time + 1)
        return torch.cat([state, (bias + evolution * survival)[:, :, None]], dim=2)

    def _dwell_bins(self, events: Tensor) -> Tensor:
        """The newest dwell bin known after 0, 1, ... events, (batch, time + 1); 0 where there is none yet."""
        bins = from_no_event_on(events[:, :, DWELL])  # (batch, time + 1)
        return bins if self.dwell == "observed" else from_no_event_on(bins[:, :-1])
