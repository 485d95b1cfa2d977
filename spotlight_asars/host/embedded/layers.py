"""Embedding layers with initial values that suit recommenders."""

import torch
from torch import nn


class _PaddedStart(nn.Embedding):
    """An embedding whose subclass chooses the initial values; the padding row starts and stays at zero."""

    def _fill(self) -> None:
        self.weight.zero_()

    def reset_parameters(self):
        """Draw new initial values."""
        with torch.no_grad():
            self._fill()
            if self.padding_idx is not None:
                self.weight[self.padding_idx].zero_()


class ScaledEmbedding(_PaddedStart):
    """Embedding initialized from a normal distribution with standard deviation ``1 / embedding_dim``."""

    def _fill(self) -> None:
        self.weight.normal_(0, 1.0 / self.embedding_dim)


class ZeroEmbedding(_PaddedStart):
    """Embedding initialized to zero, for biases."""
