"""Neural baselines that the paper compares ASARS with (section 3.2): GRU4Rec, YouTube DNN and WaveNet."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from spotlight_asars.errors import check_whole
from spotlight_asars.layers.basic import running_sum
from spotlight_asars.sequence.representations.session_net import SessionNet


class GRU4RecNet(SessionNet):
    """
    ``gru4rec``: a GRU over the items of a session (Hidasi et al. 2016; paper Eq. 3).

    The state is the hidden state ``h_t``. Inputs and scores share their item embeddings, as in the authors' later
    versions. There is no final linear layer if ``hidden_dim`` equals `embedding_dim`, the default.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, **settings) -> None:
        settings.setdefault("recurrent", "gru")
        settings.setdefault("hidden_dim", embedding_dim)
        super().__init__(num_items, embedding_dim, **settings)
        if self.options.hidden_dim == embedding_dim:
            self.projection = nn.Identity()


class YouTubeDNNNet(SessionNet):
    """
    ``youtube_dnn``: the candidate generation network of Covington et al. 2016.

    The state is a ReLU tower over ``[mean(e_1 .. e_t) ; e_u]``, so it does not depend on the order of the items. The
    paper's other inputs (searches, location, example age) are left out, because the logs do not have them.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`. The embedding of an anonymous user is zero.
    layers : int, optional
        Number of ReLU layers of ``hidden_dim`` units, before the last linear layer to the item space.
    window : int, optional
        Number of newest events in the mean; all events of the row by default.
    """

    has_users = True

    def __init__(
        self, num_items: int, embedding_dim: int = 64, layers: int = 2, window: int | None = None, **settings
    ) -> None:
        check_whole("layers", layers)
        if window is not None:
            check_whole("window", window)
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
        """Return the mean of the items up to each event; `projection` adds the user and applies the tower."""
        count = torch.arange(1, events.shape[1] + 1, device=events.device)  # (time,)
        if self.window is not None:
            count = count.clamp(max=self.window)
        return running_sum(self.input_dropout(items), self.window) / count[:, None]  # (batch, time, embedding)


class WaveNetNet(SessionNet):
    """
    ``wavenet_cnn``: stacked dilated causal convolutions over the items (WaveNet, van den Oord et al. 2016).

    Block k has dilation ``2 ** k``. It computes ``z = tanh(F * x) * sigmoid(G * x)``, passes ``x + R(z)`` to the next
    block and adds ``S(z)`` to the skip connections. The state is ``relu(W relu(sum of the skips))``. The last block has
    no ``R``, since no block follows it.

    Parameters
    ----------
    num_items, embedding_dim, settings :
        As for :class:`SessionNet`. ``hidden_dim``, the number of channels, is `embedding_dim` by default.
    depth : int, optional
        Number of blocks. A state sees the newest ``1 + (kernel - 1) * (2 ** depth - 1)`` events, 32 by default.
    kernel : int, optional
        Kernel size of each convolution, at least 2.
    """

    def __init__(self, num_items: int, embedding_dim: int = 64, depth: int = 5, kernel: int = 2, **settings) -> None:
        check_whole("depth", depth)
        check_whole("kernel", kernel, least=2)
        self.depth, self.kernel = depth, kernel
        settings.setdefault("hidden_dim", embedding_dim)
        super().__init__(num_items, embedding_dim, **settings)

    def _build(self, num_users: int, num_dwell_bins: int, sparse: bool) -> int:
        channels = self.options.hidden_dim
        self.entry = nn.Conv1d(self.embedding_dim, channels, 1)
        self.blocks = nn.ModuleList(
            _GatedBlock(channels, self.kernel, 2**level, level == self.depth - 1) for level in range(self.depth)
        )
        self.exit = nn.Conv1d(channels, channels, 1)
        self._init_at_unit_size()
        return channels

    def _init_at_unit_size(self) -> None:
        """
        Initialize the weights so that activations have about unit size in every layer.

        Item embeddings have unit length. With torch's default initialization activations shrink from layer to layer,
        to a few thousandths in the state, and the net hardly learns for several epochs.
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
        """Return the states after each event; every layer pads the start of a row with zeros."""
        signal = self.entry(self.input_dropout(items).permute(0, 2, 1))  # (batch, channels, time)
        skips = 0.0
        for block in self.blocks:
            signal, skip = block(signal)
            skips = skips + skip
        return torch.relu(self.exit(torch.relu(skips))).permute(0, 2, 1)  # (batch, time, channels)


class _GatedBlock(nn.Module):
    """One WaveNet block: a gated dilated causal convolution with a residual and a skip output."""

    def __init__(self, channels: int, kernel: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.gated = nn.Conv1d(channels, 2 * channels, kernel, dilation=dilation)  # filter, then gate
        self.residual = None if last else nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Map (batch, channels, time) to the next block's input and the skip output, both of that shape."""
        padded = nn.functional.pad(signal, (self.reach, 0))  # (batch, channels, reach + time)
        filtered, gate = self.gated(padded).chunk(2, dim=1)
        passed = torch.tanh(filtered) * torch.sigmoid(gate)  # (batch, channels, time)
        return signal if self.residual is None else signal + self.residual(passed), self.skip(passed)
