"""The second stage: nets that rank the candidates of a target."""

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.sequence.training.resuming import random_numbers_kept
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Fields, Part, check_settings
from spotlight_asars.serialization.state import SystemState, constructor_arguments
from spotlight_asars.serialization.weights import check_weights, load_weights, weights_of

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


@register_kind("part")
class RankingNets:
    """
    Several ranking nets that differ in their random initialisation; a candidate's score is the mean of theirs.

    Parameters
    ----------
    nets : int, optional
        Number of nets.
    hidden_dim : int, optional
        Units of each hidden layer.
    epochs, batch_size, learning_rate, weight_decay : optional
        Of Adam.

    Attributes
    ----------
    fitted : list of Ranker
        Empty before the first fit, and after one on candidates that leave nothing to rank.
    """

    def __init__(
        self,
        nets: int = 3,
        hidden_dim: int = 16,
        epochs: int = 12,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        whole = {"nets": nets, "hidden_dim": hidden_dim, "epochs": epochs, "batch_size": batch_size}
        for name, value in whole.items():
            check_whole(name, value)
        self.nets, self.hidden_dim, self.epochs, self.batch_size = nets, hidden_dim, epochs, batch_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.fitted: list[Ranker] = []

    def fit(self, features: Tensor, places: Tensor, random_state: int) -> "RankingNets":
        """
        Fit the nets to rank the wanted candidate first, by a softmax over the candidates of a target.

        Parameters
        ----------
        features : float32 tensor of shape (targets, candidates, features)
        places : int64 tensor of shape (targets,)
            The wanted candidate of each target.
        random_state : int
        """
        first = random_state * self.nets
        generators = [torch.Generator().manual_seed(first + number) for number in range(self.nets)]
        self.fitted = [self._fit_one(features, places, generator) for generator in generators]
        return self

    def _fit_one(self, features: Tensor, places: Tensor, generator: torch.Generator) -> Ranker:
        torch.manual_seed(int(torch.randint(2**31 - 1, (1,), generator=generator)))
        ranker = Ranker(features.shape[2], self.hidden_dim)
        ranker.standardise(features)
        optimizer = torch.optim.Adam(ranker.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        for _ in range(self.epochs):
            for batch in torch.randperm(len(places), generator=generator).split(self.batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(ranker(features[batch]), places[batch]).backward()
                optimizer.step()
        return ranker

    def scores(self, features: Tensor) -> Tensor:
        """Return the mean of the nets' scores: (targets, candidates)."""
        with torch.no_grad():
            return torch.stack([ranker(features) for ranker in self.fitted]).mean(dim=0)

    def check_width(self, features: int) -> None:
        """Raise an InputError unless the nets read this many features."""
        if any(len(ranker.mean) != features for ranker in self.fitted):
            raise InputError(f"its ranking nets do not read {features} features")

    def state(self) -> SystemState:
        """Return the nets as data; see ``SystemState``."""
        rankers = {str(place): weights_of(ranker) for place, ranker in enumerate(self.fitted)}
        return SystemState(constructor_arguments(self), fitted={} if rankers else None, arrays=rankers)

    @classmethod
    def from_state(cls, state: SystemState) -> "RankingNets":
        """
        Return equal nets; the global random state of torch is unchanged.

        Raises
        ------
        InputError
            If the state is not one of ranking nets.
        """
        check_settings(cls, state.settings)
        made = cls(**state.settings)
        numbers = [str(place) for place in range(len(state.arrays))]
        Fields({number: Part(dict) for number in numbers}).check("ranking nets", state.arrays)
        made.fitted = [_ranker_from(state.arrays[number], made.hidden_dim) for number in numbers]
        return made


def _ranker_from(weights: dict[str, np.ndarray], hidden_dim: int) -> Ranker:
    Fields({"mean": Array("f", (None,))}).check("ranking net", weights)
    with random_numbers_kept():
        with torch.device("meta"):  # compared before they take memory
            check_weights(Ranker(len(weights["mean"]), hidden_dim), weights)
        ranker = Ranker(len(weights["mean"]), hidden_dim)
    load_weights(ranker, weights)
    return ranker
