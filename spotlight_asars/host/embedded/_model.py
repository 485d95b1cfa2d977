"""Base of the models for implicit feedback: settings, optimizer and training loop."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import nn

from spotlight_asars.host.embedded._random import as_random_state
from spotlight_asars.host.embedded.losses import adaptive_hinge_loss, bpr_loss, hinge_loss, pointwise_loss
from spotlight_asars.host.embedded.torch_utils import cpu, gpu, set_seed

LOSSES = {
    "pointwise": pointwise_loss,
    "bpr": bpr_loss,
    "hinge": hinge_loss,
    "adaptive_hinge": adaptive_hinge_loss,
}


Predictions = tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]


class ImplicitModel:
    """
    Base of the models: settings, initialization, and the loop over epochs and minibatches.

    A subclass builds the net in `_build_net`. Its ``fit`` passes its epochs, and a function that scores a minibatch, to
    `_train`.
    """

    def __init__(
        self,
        *,
        loss: str,
        representation: Any,
        embedding_dim: int,
        n_iter: int,
        batch_size: int,
        l2: float,
        learning_rate: float,
        optimizer_func: Callable[[Any], torch.optim.Optimizer] | None,
        use_cuda: bool,
        sparse: bool,
        random_state: np.random.RandomState | int | None,
        num_negative_samples: int,
    ) -> None:
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(map(repr, LOSSES))}, not {loss!r}.")

        self._loss = loss
        self._representation = representation
        self._embedding_dim = embedding_dim
        self._n_iter = n_iter
        self._learning_rate = learning_rate
        self._batch_size = batch_size
        self._l2 = l2
        self._use_cuda = use_cuda
        self._sparse = sparse
        self._optimizer_func = optimizer_func
        self._random_state = as_random_state(random_state)
        self._num_negative_samples = num_negative_samples

        self._num_items: int | None = None
        self._net: nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._loss_func: Callable[..., torch.Tensor] | None = None

        set_seed(self._random_state.randint(-(10**8), 10**8), cuda=self._use_cuda)

    def __repr__(self):
        net = "[uninitialised]" if self._net is None else repr(self._net)
        return f"<{type(self).__name__}: {net}>"

    @property
    def _initialized(self) -> bool:
        return self._net is not None

    def _build_net(self) -> nn.Module:
        """Return a new net sized for the data, or the net the user has supplied."""
        return self._representation

    def _initialize(self, interactions):
        """Build the net, the optimizer and the loss for the number of items in ``interactions``."""
        self._num_items = interactions.num_items
        self._net = gpu(self._build_net(), self._use_cuda)

        if self._optimizer_func is None:
            self._optimizer = torch.optim.Adam(self._net.parameters(), lr=self._learning_rate, weight_decay=self._l2)
        else:
            self._optimizer = self._optimizer_func(self._net.parameters())

        # A subclass may store a loss name of its own in _loss and then set the function itself.
        self._loss_func = LOSSES.get(self._loss)

    def _train(self, epochs: Iterable[Iterable[Any]], score: Callable[[Any], Predictions], verbose: bool) -> None:
        """
        Take one optimizer step for each minibatch of each epoch.

        Parameters
        ----------
        epochs : iterable of iterables
            The minibatches of each epoch.
        score : callable
            Maps a minibatch to positive scores, negative scores and keyword arguments of the loss.
        verbose : bool
            Print the mean loss of each epoch.

        Raises
        ------
        ValueError
            If there is nothing to train on, or the mean loss of an epoch is NaN or exactly zero.
        """
        for number, minibatches in enumerate(epochs):
            total, steps = 0.0, 0
            for batch in minibatches:
                total += self._step(*score(batch))
                steps += 1
            if steps == 0:
                raise ValueError("Nothing to fit on: the interactions are empty.")
            epoch_loss = total / steps

            if verbose:
                print(f"Epoch {number}: loss {epoch_loss}")
            if np.isnan(epoch_loss) or epoch_loss == 0.0:
                raise ValueError(f"Degenerate epoch loss: {epoch_loss}")

    def _step(self, positive: torch.Tensor, negative: torch.Tensor, options: dict[str, torch.Tensor]) -> float:
        self._optimizer.zero_grad()
        loss = self._loss_func(positive, negative, **options)
        value = loss.item()
        loss.backward()
        self._optimizer.step()
        return value

    def _ready_to_predict(self) -> None:
        """
        Check that there is a net and switch it to evaluation mode.

        As in Spotlight, it stays in that mode, so dropout remains off if ``fit`` is called again.
        """
        if self._net is None:
            raise RuntimeError(f"This {type(self).__name__} is not fitted yet: call fit before predict.")
        self._net.train(False)

    @staticmethod
    def _flat(predictions: torch.Tensor) -> np.ndarray:
        return cpu(predictions).detach().numpy().flatten()


def check_ids(ids: Any, limit: int, kind: str) -> None:
    """
    Raise a ValueError unless all ids are in 0..limit-1.

    Parameters
    ----------
    ids : int or array of int
        An empty array passes.
    limit : int
        Number of ids in the model.
    kind : str
        'user' or 'item', for the message.

    Raises
    ------
    ValueError
        If an id is out of range.
    """
    ids = np.asarray(ids)
    if ids.size == 0:
        return
    if ids.max() >= limit:
        raise ValueError(f"Maximum {kind} id greater than number of {kind}s in model.")
    if ids.min() < 0:
        raise ValueError(f"Negative {kind} id: ids start at 0.")
