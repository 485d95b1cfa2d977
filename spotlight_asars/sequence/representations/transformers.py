"""Neural peers with self-attention: SASRec and CORE."""

import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.channels import ITEM, SESSION_START
from spotlight_asars.layers.basic import Dropout
from spotlight_asars.layers.padding import by_session
from spotlight_asars.layers.self_attention import SelfAttention
from spotlight_asars.sequence.representations.session_net import SessionNet

_WINDOWS_AT_ONCE = 2048  # windows encoded at once, which bounds memory


class SelfAttentionNet(SessionNet):
    """
    Base of the nets with self-attention.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`. ``dropout`` is that of the items, ``hidden_dropout`` that of the self-attention.
    blocks, heads : int, optional
        Of the self-attention; `heads` must divide `embedding_dim`.
    window : int, optional
        Number of newest events, the event itself included, that an event attends to. With ``hidden_scope='session'``
        they are of its own session.
    """

    def __init__(
        self, num_items: int, embedding_dim: int = 64, blocks: int = 1, heads: int = 2, window: int = 50, **settings
    ) -> None:
        for name, value in (("blocks", blocks), ("heads", heads), ("window", window)):
            check_whole(name, value)
        if embedding_dim % heads:
            raise InputError(f"heads is {heads}, which does not divide embedding_dim {embedding_dim}: change one")
        self.blocks, self.heads, self.window = blocks, heads, window
        settings.setdefault("hidden_dim", embedding_dim)
        super().__init__(num_items, embedding_dim, **settings)
        self.projection = nn.Identity()
        self.hidden_dropout = Dropout(0.0)  # that of the self-attention is enough

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        self.self_attention = SelfAttention(
            self.embedding_dim, self.blocks, self.heads, self.window, self.options.hidden_dropout
        )
        return self.embedding_dim

    @property
    def _ends_with_hidden(self) -> bool:
        return False


class SASRecNet(SelfAttentionNet):
    """
    ``sasrec``: causal self-attention over the items of a session (Kang and McAuley 2018).

    The state is that of the newest event. Positions count from the start of the session.
    """

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return the state of each event, see :meth:`SessionNet.encode`."""
        inputs = self.input_dropout(items)
        starts = events[:, :, SESSION_START]  # (batch, time)
        if self.options.hidden_scope == "sequence" or not starts[:, 1:].any():
            return self._attend(inputs)
        return by_session(self._attend, starts, inputs)

    def _attend(self, inputs: Tensor) -> Tensor:
        """Apply the self-attention; padding may follow the last event of a row, (batch, time, dim) twice."""
        step = torch.arange(inputs.shape[1], device=inputs.device)  # (time,)
        apart = step[:, None] - step  # (time, time)
        return self.self_attention(inputs, (apart >= 0) & (apart < self.window))


class CORENet(SelfAttentionNet):
    """
    ``core``: the session as a weighted mean of its items' embeddings (Hou et al. 2022, CORE-trm).

    Self-attention over the session so far, in both directions, gives each event a weight; the state is the weighted
    mean of the item embeddings themselves, in the space in which they are scored, best with ``scores='cosine'``. Since
    the weights of all events change with each event, every state takes a pass over its own window.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SelfAttentionNet`.
    item_dropout : float, optional
        Dropout rate of the item embeddings in the scores, in training.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, item_dropout: float = 0.0, **settings) -> None:
        settings.setdefault("blocks", 2)
        super().__init__(num_items, embedding_dim, **settings)
        self.scored_dropout = Dropout(item_dropout)

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        self.weigh = nn.Linear(self.embedding_dim, 1)
        return super()._build(num_users, num_dwell_bins, sparse)

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """Return the state of each event's window, see :meth:`SessionNet.encode`; zero at padding."""
        places, lengths = self._windows(events)  # (events, window), (events,)
        flat = self.input_dropout(items).flatten(0, 1)  # (batch * time, embedding)
        order = lengths.argsort(stable=True)  # windows of like length share a pass
        found = [
            self.encode_windows(flat[places[some, : int(lengths[some[-1]])]], lengths[some])
            for some in order.split(_WINDOWS_AT_ONCE)
            if len(some)
        ]
        states = torch.zeros_like(flat)
        if found:
            present = (events[:, :, ITEM] != PADDING_ITEM).flatten().nonzero()[:, 0]  # (events,)
            states = states.index_copy(0, present[order], torch.cat(found))
        return states.view_as(items)

    def _windows(self, events: Tensor) -> tuple[Tensor, Tensor]:
        """Return the places of each event's window in the flat batch, oldest first, and the windows' lengths."""
        batch, time = events.shape[:2]
        column = torch.arange(time, device=events.device).expand(batch, -1)  # (batch, time)
        begin = (column - self.window + 1).clamp(min=0)
        if self.options.hidden_scope == "session":
            begin = torch.maximum(begin, (column * (events[:, :, SESSION_START] != 0)).cummax(dim=1).values)
        present = events[:, :, ITEM] != PADDING_ITEM
        first = (torch.arange(batch, device=events.device)[:, None] * time).expand(-1, time)[present]  # (events,)
        end, begin = column[present], begin[present]  # (events,) each
        places = begin[:, None] + torch.arange(self.window, device=events.device)  # (events, window)
        return first[:, None] + torch.minimum(places, end[:, None]), end - begin + 1

    def encode_windows(self, items: Tensor, lengths: Tensor) -> Tensor:
        """
        Return the state of each window.

        Parameters
        ----------
        items : tensor of shape (windows, time, embedding)
            Embedded items, oldest first; what follows a window's end is ignored.
        lengths : int64 tensor of shape (windows,)

        Returns
        -------
        tensor of shape (windows, embedding)
        """
        inside = torch.arange(items.shape[1], device=items.device) < lengths[:, None]  # (windows, time)
        states = self.self_attention(items, inside[:, None, None])  # (windows, time, embedding)
        weights = self.weigh(states)[:, :, 0].masked_fill(~inside, -torch.inf).softmax(dim=1)  # (windows, time)
        return (weights[:, :, None] * items).sum(dim=1)
