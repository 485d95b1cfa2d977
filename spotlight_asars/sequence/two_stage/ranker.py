"""The net that ranks the candidates of a target."""

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.sequence.training.resuming import random_numbers_kept
from spotlight_asars.serialization.schema import Array, Fields
from spotlight_asars.serialization.weights import check_weights, load_weights

ROUNDING = 1e-5  # relative range below which a feature is constant up to rounding


class Ranker(nn.Module):
    """
    Score each candidate from its own features and those of the other candidates.

    The score is the sum of a linear part and of two hidden layers. The second layer sees a candidate's own first layer,
    and the mean and maximum of the first layer over all candidates (deep sets, Zaheer et al. 2017).
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
        """Set mean and scale from features of shape (targets, candidates, features)."""
        high, low = features.amax(dim=(0, 1)), features.amin(dim=(0, 1))
        # A constant feature carries no information, and a scale of rounding size would blow up a new value.
        varies = high - low > ROUNDING * torch.maximum(high.abs(), low.abs())
        self.mean.copy_(features.mean(dim=(0, 1)))
        self.scale.copy_(varies / features.std(dim=(0, 1)).clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """Return scores: features (targets, candidates, features) to (targets, candidates)."""
        features = (features - self.mean) * self.scale
        own = self.own(features)  # (targets, candidates, hidden)
        pooled = (own.mean(dim=1, keepdim=True), own.amax(dim=1, keepdim=True))  # (targets, 1, hidden) each
        joined = torch.cat([own, *(one.expand_as(own) for one in pooled)], dim=2)  # (targets, candidates, 3 * hidden)
        return (self.linear(features) + self.output(self.among(joined)))[:, :, 0]


def ranker_from(weights: dict[str, np.ndarray], hidden_dim: int) -> Ranker:
    """
    Return a ranker with these weights; the global random state of torch is unchanged.

    Raises
    ------
    InputError
        If they are not the weights of a ranker with hidden layers of this size.
    """
    Fields({"mean": Array("f", (None,))}).check("ranking net", weights)
    with random_numbers_kept():
        with torch.device("meta"):  # compared before they take memory
            check_weights(Ranker(len(weights["mean"]), hidden_dim), weights)
        ranker = Ranker(len(weights["mean"]), hidden_dim)
    load_weights(ranker, weights)
    return ranker
