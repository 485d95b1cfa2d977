"""Means of a net's weights over epochs."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from torch import Tensor, nn


class LatestWeights:
    """
    A callback of `fit` that keeps the weights after the latest epochs, for their mean.

    The mean lies nearer the middle of the region that the epochs wander through than any of them, and overfits later
    (stochastic weight averaging, Izmailov et al. 2018, *Averaging weights leads to wider optima and better
    generalization*).

    Parameters
    ----------
    epochs : int
        How many of the latest; 1 keeps the weights as they are.
    """

    def __init__(self, epochs: int) -> None:
        self._latest: deque[dict[str, Tensor]] = deque(maxlen=epochs)

    def __call__(self, model: object, record: object) -> None:
        """Keep the weights after an epoch."""
        self._latest.append(deepcopy(model.net.state_dict()))

    def mean(self) -> dict[str, Tensor]:
        """Of each weight; what is not a number with a fraction is as in the latest epoch."""
        *_, latest = self._latest
        return {name: self._mean_of(name) if weight.is_floating_point() else weight for name, weight in latest.items()}

    def _mean_of(self, name: str) -> Tensor:
        return sum(weights[name] for weights in self._latest) / len(self._latest)


@contextmanager
def averaged(net: nn.Module, latest: LatestWeights) -> Iterator[dict[str, Tensor]]:
    """While it is open, the net has the mean of its latest weights, which it gives."""
    own, mean = deepcopy(net.state_dict()), latest.mean()
    net.load_state_dict(mean)
    try:
        yield mean
    finally:
        net.load_state_dict(own)
