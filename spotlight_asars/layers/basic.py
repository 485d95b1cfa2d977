"""Basic layers: embedding, linear layer, dropout and running sums."""

import torch
from torch import Tensor, nn


class UnitEmbedding(nn.Embedding):
    """
    An embedding whose rows have about unit length initially: normal with standard deviation ``dim ** -0.5``.

    The host's ScaledEmbedding uses a standard deviation of ``1 / dim``. Its rows are so short that a recurrent layer
    over them, and a product of two of them, hardly learn for the first epochs.
    """

    def reset_parameters(self) -> None:
        """Draw new rows; the padding row is zero."""
        with torch.no_grad():
            self.weight.normal_(0.0, self.embedding_dim**-0.5)
            if self.padding_idx is not None:
                self.weight[self.padding_idx].zero_()


class ScaledLinear(nn.Linear):
    """
    A linear layer initialised like torch's whose effective weights move by `scale` times an optimizer's step.

    The steps of Adam and Adagrad are about as long as the learning rate, however small the gradient. This suits the
    embeddings of rare items, but is noise in the many weights of a wide layer. The parameters hold the weights divided
    by `scale`.
    """

    def __init__(self, in_features: int, out_features: int, scale: float) -> None:
        self.scale = scale
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        """Draw new weights and biases."""
        super().reset_parameters()
        with torch.no_grad():
            for weight in (self.weight, self.bias):
                weight.div_(self.scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer, (..., input) to (..., output)."""
        if self.scale == 1.0:
            return super().forward(inputs)
        return nn.functional.linear(inputs, self.weight * self.scale, self.bias * self.scale)


class Dropout(nn.Dropout):
    """
    Dropout that, on a CPU, draws one random number for every four elements.

    torch draws one number per element, which takes longer than a small recurrent layer over them. Here 16 bits decide
    about an element: `p` is rounded to a multiple of 1 / 65,536, and the remaining elements are scaled accordingly.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Zero random elements of a tensor of any shape during training."""
        if not self.training or not self.p or inputs.device.type != "cpu":
            return super().forward(inputs)
        dropped = round(self.p * 2**16)
        words = torch.empty(inputs.numel() // 4 + 1, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: inputs.numel()].view(inputs.shape)
        mask = torch.ge(bits, dropped - 2**15, out=torch.empty_like(inputs, memory_format=torch.contiguous_format))
        return inputs * mask.mul_(2**16 / (2**16 - dropped))


class UserDropout(nn.Dropout):
    """Replace users by the anonymous user at random during training."""

    def forward(self, user_ids: Tensor) -> Tensor:
        """Return the user ids, (rows,), with some of them set to 0."""
        if not self.training or not self.p:
            return user_ids
        stays = torch.rand(len(user_ids), device=user_ids.device) >= self.p
        return user_ids * stays


def running_sum(values: Tensor, window: int | None = None) -> Tensor:
    """
    Return the sum over each step and the steps before it.

    Parameters
    ----------
    values : tensor of shape (batch, time, dim)
    window : int, optional
        Number of newest steps to sum over; all by default.

    Returns
    -------
    tensor of shape (batch, time, dim)
    """
    total = values.cumsum(dim=1)
    if window is None or window >= values.shape[1]:
        return total
    return total - nn.functional.pad(total[:, :-window], (0, 0, window, 0))  # (batch, time, dim)
