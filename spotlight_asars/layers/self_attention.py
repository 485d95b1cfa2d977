"""Self-attention over events: transformer blocks, causal or over whole windows (Vaswani et al. 2017)."""

import torch
from torch import Tensor, nn

_INITIAL_DEVIATION = 0.02  # of the linear layers and positions, as in BERT


class SelfAttentionBlock(nn.Module):
    """
    Multi-head self-attention and a feed-forward layer, each normalised first and added to its input.

    Parameters
    ----------
    dim : int
    heads : int
        Must divide `dim`.
    dropout : float, optional
        Dropout rate of the attention weights and of what each layer adds.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries_keys_values, self.output = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.forward_layers = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, allowed: Tensor) -> Tensor:
        """
        Apply the block.

        Parameters
        ----------
        inputs : tensor of shape (batch, time, dim)
        allowed : bool tensor that broadcasts to (batch, heads, time, time)
            Entry (t, k) says whether step t attends to step k; every step must attend to some.

        Returns
        -------
        tensor of shape (batch, time, dim)
        """
        projected = self.queries_keys_values(self.attention_norm(inputs))  # (batch, time, 3 * dim)
        apart = projected.unflatten(2, (3, self.heads, -1))  # (batch, time, 3, heads, own)
        queries_keys_values = apart.permute(2, 0, 3, 1, 4)  # (3, batch, heads, time, own)
        mixed = nn.functional.scaled_dot_product_attention(
            *queries_keys_values, attn_mask=allowed, dropout_p=self.dropout.p if self.training else 0.0
        )  # (batch, heads, time, own)
        states = inputs + self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))  # (batch, time, dim)
        return states + self.dropout(self.forward_layers(self.forward_norm(states)))


class SelfAttention(nn.Module):
    """
    Positions, blocks of self-attention, and a final normalisation.

    Parameters
    ----------
    dim, blocks, heads : int
    window : int
        Number of positions; later steps share the last one.
    dropout : float, optional
    """

    def __init__(self, dim: int, blocks: int, heads: int, window: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.empty(window, dim))
        self.blocks = nn.ModuleList(SelfAttentionBlock(dim, heads, dropout) for _ in range(blocks))
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        nn.init.normal_(self.positions, std=_INITIAL_DEVIATION)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_INITIAL_DEVIATION)
                nn.init.zeros_(module.bias)

    def forward(self, inputs: Tensor, allowed: Tensor) -> Tensor:
        """
        Return the states of all steps.

        Parameters
        ----------
        inputs : tensor of shape (batch, time, dim)
        allowed : bool tensor that broadcasts to (batch, heads, time, time)
            See :class:`SelfAttentionBlock`.

        Returns
        -------
        tensor of shape (batch, time, dim)
        """
        places = torch.arange(inputs.shape[1], device=inputs.device).clamp(max=len(self.positions) - 1)  # (time,)
        states = self.dropout(inputs + self.positions[places])
        for block in self.blocks:
            states = block(states, allowed)
        return self.norm(states)
