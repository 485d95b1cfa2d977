"""sequence.two_stage.ranker"""

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.sequence.training.resuming import random_numbers_kept
from spotlight_asars.serialization.weights import load_weights

ROUNDING = 1e-5  # a feature whose values lie closer, as a share of the largest, does not vary


class Ranker(nn.Module):
    """
    A score for each candidate from its features and those of the candidates beside it.

    A linear part, and two hidden layers beside it. The second sees, beside a candidate's own first layer, the mean and
    the largest over all candidates (deep sets, Zaheer et al. 2017): how good a candidate is depends on the others.
    """

    def __init__(self, features: int, hidden_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.linear = nn.Linear(features, 1, bias=False)
        self.own = nn.Sequential(nn.Linear(features, hidden_dim), nn.ReLU())
        self.among = nn.Sequential(nn.Linear(3 * hidden_dim, hidden_dim), nn.ReLU())
        self.output = nn.Linear(hidden_dim, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation from features of shape (targets, candidates, features)."""
        high, low = features.amax(dim=(0, 1)), features.amin(dim=(0, 1))
        # Of what did not vary nothing is learned; without this, a new value would be as far off as rounding is small.
        varies = high - low > ROUNDING * torch.maximum(high.abs(), low.abs())
        self.mean.copy_(features.mean(dim=(0, 1)))
        self.scale.copy_(varies / features.std(dim=(0, 1)).clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """(targets, candidates, features) to (targets, candidates)."""
        features = (features - self.mean) * self.scale
        own = self.own(features)  # (targets, candidates, hidden)
        over_all = (own.mean(dim=1, keepdim=True), own.amax(dim=1, keepdim=True))  # (targets, 1, hidden) each
        among = torch.cat([own, *(one.expand_as(own) for one in over_all)], dim=2)  # (targets, candidates, 3 * hidden)
        return (self.linear(features) + self.output(self.among(among)))[:, :, 0]


def _ranker_from(weights: dict[str, np.ndarray], hidden_dim: int) -> Ranker:
    with random_numbers_kept():
        ranker = Ranker(len(weights["mean"]), hidden_dim)
    load_weights(ranker, weights)
    return ranker
