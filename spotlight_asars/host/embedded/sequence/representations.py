"""
Nets that compute a state of the user before and after each item of a sequence.

``user_representation(sequences)`` returns the states before each item, (batch, dim, time), and the state after the last
item, (batch, dim). ``forward(user_representations, targets)`` scores targets, (batch, time), in these states. A score
is dot(state, item) + bias of the item.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn
from torch.backends import cudnn

from spotlight_asars.host.embedded.layers import ScaledEmbedding, ZeroEmbedding

PADDING_IDX = 0


class _DotProductNet(nn.Module):
    """Base with item embeddings, item biases and the score of an item in a state; subclasses compute the states."""

    def __init__(
        self,
        num_items: int,
        embedding_dim: int,
        item_embedding_layer: nn.Module | None,
        sparse: bool,
    ) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        if item_embedding_layer is None:
            item_embedding_layer = ScaledEmbedding(num_items, embedding_dim, padding_idx=PADDING_IDX, sparse=sparse)
        self.item_embeddings = item_embedding_layer
        self.item_biases = ZeroEmbedding(num_items, 1, padding_idx=PADDING_IDX, sparse=sparse)

    def _channels(self, item_sequences: torch.Tensor) -> torch.Tensor:
        """Embed ids, (batch, time), as images, (batch, dim, time, 1), for a convolution."""
        embeddings = self.item_embeddings(item_sequences)  # (batch, time, dim)
        return embeddings.permute(0, 2, 1).unsqueeze(3)  # (batch, dim, time, 1)

    def forward(self, user_representations, targets):
        """
        Score targets in states.

        Parameters
        ----------
        user_representations : torch.Tensor, (batch, dim, time) or (batch, dim)
            States; without a time axis, all targets of a row are scored in the same state.
        targets : torch.Tensor of int64, (batch, time)
            Item ids.

        Returns
        -------
        torch.Tensor, (batch, time)
            Or (batch,) if the states have no time axis and there is one target per row.
        """
        embeddings = self.item_embeddings(targets).permute(0, 2, 1)  # (batch, dim, time)
        biases = self.item_biases(targets).squeeze(2)  # (batch, time)

        if user_representations.dim() == 2:
            if targets.size(1) == 1:
                embeddings, biases = embeddings.squeeze(2), biases.squeeze(1)  # (batch, dim), (batch,)
            else:
                user_representations = user_representations.unsqueeze(2)  # (batch, dim, 1)

        return biases + (user_representations * embeddings).sum(1)  # (batch, time)


class PoolNet(_DotProductNet):
    """
    Net whose state is the sum of the items so far, divided by their number plus one.

    Parameters
    ----------
    num_items : int
        Number of item ids, including the padding.
    embedding_dim : int
        Size of the item vectors.
    item_embedding_layer : torch.nn.Module, optional
        Embedding to use instead of a new one.
    sparse : bool
        Use sparse gradients for embeddings.
    """

    def __init__(
        self,
        num_items,
        embedding_dim=32,
        item_embedding_layer=None,
        sparse=False,
    ):
        super().__init__(num_items, embedding_dim, item_embedding_layer, sparse)

    def user_representation(self, item_sequences):
        """Return the states before each item, (batch, dim, time), and after the last item, (batch, dim)."""
        embeddings = F.pad(self._channels(item_sequences), (0, 0, 1, 0))  # (batch, dim, time + 1, 1)
        total = torch.cumsum(embeddings, 2)
        # As in Spotlight, an item counts where its component is not 0; the padding's vector is all 0.
        count = torch.cumsum((embeddings != 0.0).float(), 2)
        states = (total / (count + 1)).squeeze(3)  # (batch, dim, time + 1)
        return states[:, :, :-1], states[:, :, -1]


class LSTMNet(_DotProductNet):
    """
    Net whose state is the output of an LSTM over a zero vector and the items so far, including padding.

    Parameters
    ----------
    num_items : int
        Number of item ids, including the padding.
    embedding_dim : int
        Size of the item vectors and of the state.
    item_embedding_layer : torch.nn.Module, optional
        Embedding to use instead of a new one.
    sparse : bool
        Use sparse gradients for embeddings.
    """

    def __init__(
        self,
        num_items,
        embedding_dim=32,
        item_embedding_layer=None,
        sparse=False,
    ):
        super().__init__(num_items, embedding_dim, item_embedding_layer, sparse)
        self.lstm = nn.LSTM(input_size=embedding_dim, hidden_size=embedding_dim, batch_first=True)

    def user_representation(self, item_sequences):
        """Return the states before each item, (batch, dim, time), and after the last item, (batch, dim)."""
        embeddings = F.pad(self.item_embeddings(item_sequences), (0, 0, 1, 0))  # (batch, time + 1, dim)
        states, _ = self.lstm(embeddings)
        states = states.permute(0, 2, 1)  # (batch, dim, time + 1)
        return states[:, :, :-1], states[:, :, -1]


class CNNNet(_DotProductNet):
    """
    Net whose state is the output of stacked causal dilated convolutions over the items so far.

    Parameters
    ----------
    num_items : int
        Number of item ids, including the padding.
    embedding_dim : int
        Size of the item vectors, and number of filters of each layer.
    kernel_width, dilation : int or sequence of int
        Of each layer; an int applies to all ``num_layers`` layers. The shorter of two sequences determines the number
        of layers.
    num_layers : int
        Number of layers if both of the above are ints.
    nonlinearity : {'tanh', 'relu'}
        Applied after each layer.
    residual_connections : bool
        Add each layer's input to its output.
    sparse : bool
        Use sparse gradients for embeddings.
    benchmark : bool
        Assigned to ``torch.backends.cudnn.benchmark``, which affects the whole process.
    item_embedding_layer : torch.nn.Module, optional
        Embedding to use instead of a new one.

    Raises
    ------
    ValueError
        If the nonlinearity is unknown.
    """

    def __init__(
        self,
        num_items,
        embedding_dim=32,
        kernel_width=3,
        dilation=1,
        num_layers=1,
        nonlinearity="tanh",
        residual_connections=True,
        sparse=False,
        benchmark=True,
        item_embedding_layer=None,
    ):
        functions = {"tanh": torch.tanh, "relu": torch.relu}
        if nonlinearity not in functions:
            raise ValueError("Nonlinearity must be one of (tanh, relu)")

        super().__init__(num_items, embedding_dim, item_embedding_layer, sparse)
        cudnn.benchmark = benchmark

        self.kernel_width = _one_per_layer(kernel_width, num_layers)
        self.dilation = _one_per_layer(dilation, num_layers)
        self.nonlinearity = functions[nonlinearity]
        self.residual_connections = residual_connections

        widths = zip(self.kernel_width, self.dilation, strict=False)
        self._num_layers = 0
        for width, step in widths:
            layer = nn.Conv2d(embedding_dim, embedding_dim, (width, 1), dilation=(step, 1))
            self.add_module(f"cnn_{self._num_layers}", layer)
            self._num_layers += 1

    @property
    def cnn_layers(self) -> list[nn.Conv2d]:
        """The convolutions in order."""
        return [getattr(self, f"cnn_{index}") for index in range(self._num_layers)]

    def user_representation(self, item_sequences):
        """Return the states before each item, (batch, dim, time), and after the last item, (batch, dim)."""
        states = F.pad(self._channels(item_sequences), (0, 0, 1, 0))  # (batch, dim, time + 1, 1)
        for layer in self.cnn_layers:
            # With as many leading zeros as a kernel reaches back, no output depends on later items.
            reach = (layer.kernel_size[0] - 1) * layer.dilation[0]
            outputs = self.nonlinearity(layer(F.pad(states, (0, 0, reach, 0))))  # (batch, dim, time + 1, 1)
            states = outputs + states if self.residual_connections else outputs

        states = states.squeeze(3)  # (batch, dim, time + 1)
        return states[:, :, :-1], states[:, :, -1]


def _one_per_layer(value: int | Iterable[int], num_layers: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Iterable) else (value,) * num_layers
