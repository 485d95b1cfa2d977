"""The neural systems ASARS is compared with (paper section 3.2); ``factorization.py`` holds the factorisations."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from spotlight_asars.layers.basic import running_sum
from spotlight_asars.sequence.representations.session_net import SessionNet


class GRU4RecNet(SessionNet):
    """
    ``gru4rec``: a GRU over the items of a session, nothing else (Hidasi et al. 2016; paper Eq. 3).

    Item embeddings are shared between the input and the scores, as in its authors' version; where the hidden size is
    the embedding size there is no linear layer between.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        settings.setdefault("recurrent", "gru")
        settings.setdefault("hidden_dim", embedding_dim)
        super().__init__(num_items, embedding_dim, **settings)
        if self.options.hidden_dim == embedding_dim:
            self.projection = nn.Identity()


class YouTubeDNNNet(SessionNet):
    """
    ``youtube_dnn``: the mean of the items so far beside the user, through a tower of ReLU layers.

    The candidate generation of Covington et al. 2016: it knows what was watched and not in which order. Their further
    inputs (searches, place, age of the example) are in no log that this package reads.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`; an anonymous user's embedding is zero.
    layers : int, optional
        ReLU layers of ``hidden_dim`` units, before the last linear one to the item space.
    window : int, optional
        How many of the newest events the mean is over; all of the row's by default.
    """

    has_users = True

    def __init__(
        self, num_items: int, embedding_dim: int = 64, layers: int = 2, window: int | None = None, **settings
    ) -> None:
        _check_at_least(1, layers=layers)
        if window is not None:
            _check_at_least(1, window=window)
        self.window = window
        super().__init__(num_items, embedding_dim, **settings)
        sizes = [embedding_dim + self.options.user_dim, *[self.options.hidden_dim] * layers]
        tower = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.projection = nn.Sequential(*tower, nn.Linear(sizes[-1], embedding_dim))

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        return self.embedding_dim

    @property
    def _ends_with_hidden(self) -> bool:
        return False

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """The mean of the items up to each event; the user and the tower come after it, in `projection`."""
        count = torch.arange(1, events.shape[1] + 1, device=events.device)  # (time,)
        if self.window is not None:
            count = count.clamp(max=self.window)
        return running_sum(self.input_dropout(items), self.window) / count[:, None]  # (batch, time, embedding)


class WaveNetNet(SessionNet):
    """
    ``wavenet_cnn``: stacked dilated causal convolutions over the items (van den Oord et al. 2016, WaveNet).

    Block k looks at events ``2 ** k`` apart: ``x <- x + R(z)`` with ``z = tanh(F * x) * sigmoid(G * x)``, and gives the
    skip ``S(z)``. The state is ``relu(W relu(sum of the skips))``, then the last linear layer. The last block has no
    ``R``, for nothing comes after it.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`; ``hidden_dim``, the channels of the convolutions, is `embedding_dim` by default.
    depth : int, optional
        Blocks. A state sees the newest ``1 + (kernel - 1) * (2 ** depth - 1)`` events, 32 by default.
    kernel : int, optional
        Taps of each convolution.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, depth: int = 5, kernel: int = 2, **settings) -> None:
        _check_at_least(1, depth=depth)
        _check_at_least(2, kernel=kernel)
        self.depth, self.kernel = depth, kernel
        settings.setdefault("hidden_dim", embedding_dim)
        super().__init__(num_items, embedding_dim, **settings)

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        channels = self.options.hidden_dim
        self.entry = nn.Conv1d(self.embedding_dim, channels, 1)
        self.blocks = nn.ModuleList(
            _GatedBlock(channels, self.kernel, 2**place, place == self.depth - 1) for place in range(self.depth)
        )
        self.exit = nn.Conv1d(channels, channels, 1)
        self._start_at_unit_size()
        return channels

    def _start_at_unit_size(self) -> None:
        """
        Let the signal begin with entries of about unit size in every layer, from item embeddings of unit length.

        By torch's own start they shrink from layer to layer, to a few thousandths in the state, and the net
        learns next to nothing for epochs.
        """
        for name, weight in self.named_parameters():
            if name.startswith(("entry", "blocks", "exit")):
                if name.endswith("bias"):
                    nn.init.zeros_(weight)
                elif name.startswith("entry"):
                    nn.init.normal_(weight)
                else:
                    nn.init.kaiming_normal_(weight)

    @property
    def _ends_with_hidden(self) -> bool:
        return False

    def encode(self, items: Tensor, events: Tensor, users: Tensor | None) -> Tensor:
        """See :meth:`SessionNet.encode`; before a row's first event stand zeros, in every layer."""
        signal = self.entry(self.input_dropout(items).permute(0, 2, 1))  # (batch, channels, time)
        skips = 0.0
        for block in self.blocks:
            signal, skip = block(signal)
            skips = skips + skip
        return torch.relu(self.exit(torch.relu(skips))).permute(0, 2, 1)  # (batch, time, channels)


class _GatedBlock(nn.Module):
    """One layer of WaveNet: a gated dilated causal convolution, what it adds, and its skip."""

    def __init__(self, channels: int, kernel: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.gated = nn.Conv1d(channels, 2 * channels, kernel, dilation=dilation)  # tanh's half, then sigmoid's
        self.residual = None if last else nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, time) to the next block's signal and the skip, of that shape both."""
        reached = nn.functional.pad(signal, (self.reach, 0))  # (batch, channels, reach + time)
        filtered, gate = self.gated(reached).chunk(2, dim=1)
        passed = torch.tanh(filtered) * torch.sigmoid(gate)  # (batch, channels, time)
        return signal if self.residual is None else signal + self.residual(passed), self.skip(passed)


def _check_at_least(least: int, **given: int) -> None:
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{name} is {value!r}: give a whole number of at least {least}")
