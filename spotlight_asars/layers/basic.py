"""Triangle attention (paper section 2.3), dropout, and the recurrent layers over events."""

import torch
from torch import Tensor, nn


class UnitEmbedding(nn.Embedding):
    """
    An embedding whose rows begin with about unit length, normal with deviation ``dim ** -0.5``.

    The host's ScaledEmbedding begins with deviation ``1 / dim``: rows so short that a recurrent layer over them, and
    a score that multiplies two of them, see next to nothing for the first epochs.
    """

    def reset_parameters(self) -> None:
        """Draw the rows anew; the padding row is zero."""
        with torch.no_grad():
            self.weight.normal_(0.0, self.embedding_dim**-0.5)
            if self.padding_idx is not None:
                self.weight[self.padding_idx].zero_()


class ScaledLinear(nn.Linear):
    """
    A linear layer that begins as torch's, but whose weights move `scale` times as far by each step of an optimizer.

    Adam's and Adagrad's steps are as long as the learning rate, however small a gradient is: right for rare items'
    embeddings, and noise in each of the many weights of a wide layer between them and the state. The parameters are the
    weights divided by `scale`.
    """

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        self.scale = scale
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        super().reset_parameters()
        with torch.no_grad():
            for weight in (self.weight, self.bias):
                weight.div_(self.scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., input) to (..., output)."""
        if self.scale == 1.0:
            return super().forward(inputs)
        return nn.functional.linear(inputs, self.weight * self.scale, self.bias * self.scale)


class Dropout(nn.Dropout):
    """
    Dropout as torch has it, with one draw of the random generator for four elements on a CPU.

    There torch draws a number for each element, which takes longer than a small recurrent layer over them. Sixteen bits
    decide as well: the share that is dropped is exact to 1 / 65,536, and what stays is scaled by what it is.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Of any shape, with some elements zero while it trains."""
        if not self.training or not self.p or inputs.device.type != "cpu":
            return super().forward(inputs)
        dropped = round(self.p * 2**16)
        words = torch.empty(inputs.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: inputs.numel()].view(inputs.shape)
        mask = torch.ge(bits, dropped - 2**15, out=torch.empty_like(inputs, memory_format=torch.contiguous_format))
        return inputs * mask.mul_(2**16 / (2**16 - dropped))


class UserDropout(nn.Dropout):
    """Takes users for anonymous at random, while it trains."""

    def forward(self, user_ids: Tensor) -> Tensor:
        """User ids of shape (rows,), some of them 0."""
        if not self.training or not self.p:
            return user_ids
        stays = torch.rand(len(user_ids), device=user_ids.device) >= self.p
        return user_ids * stays


def running_sum(values: Tensor, window: int | None = None) -> Tensor:
    """
    Sum over each step and those before it, (batch, time, dim) to the same.

    Parameters
    ----------
    values : tensor of shape (batch, time, dim)
    window : int, optional
        How many of the newest steps to sum over; all by default.
    """
    total = values.cumsum(dim=1)
    if window is None or window >= values.shape[1]:
        return total
    return total - nn.functional.pad(total[:, :-window], (0, 0, window, 0))  # (batch, time, dim)
