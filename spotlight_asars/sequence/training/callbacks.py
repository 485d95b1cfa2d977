"""Callbacks of `fit`: what happens beside the training, before, between and after mini-batches and epochs."""

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
from torch import Tensor, nn
from tqdm import tqdm

from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.evaluation import System, metrics, rank_targets
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.training.distributed import ProcessGroup
from spotlight_asars.sequence.training.resuming import EpochRecord
from spotlight_asars.serialization.files import write_whole

PATIENCE = 3  # epochs without a better MRR@20


class Callback:
    """
    Base class of callbacks; every hook does nothing by default.

    `model` is the model being fitted, its net with the weights of that moment. In a data-parallel job each process
    calls its own callbacks, and the first process decides.
    """

    def on_fit_begin(self, model: System, epochs: range) -> None:
        """Called once, with the epochs that this call of `fit` has yet to do."""

    def on_batch_end(self, model: System) -> None:
        """Called after each mini-batch."""

    def on_epoch_end(self, model: System, record: EpochRecord) -> bool | None:
        """Called after each epoch; return True to end fitting."""

    def on_fit_end(self, model: System) -> None:
        """Called once, when fitting ends or fails."""

    def __call__(self, model: System, record: EpochRecord) -> bool | None:
        """Call :meth:`on_epoch_end`, for a system whose `fit` takes plain functions."""
        return self.on_epoch_end(model, record)


class FunctionCallback(Callback):
    """A plain function ``f(model, record)`` as a callback that is called after each epoch."""

    def __init__(self, function: Callable[[System, EpochRecord], object]) -> None:
        self._function = function

    def on_epoch_end(self, model: System, record: EpochRecord) -> bool:
        """Call the function; it ends fitting by returning True."""
        return self._function(model, record) is True


def as_callback(callback: Callback | Callable[[System, EpochRecord], object]) -> Callback:
    """Return a Callback as it is, and wrap a plain function as a :class:`FunctionCallback`."""
    return callback if isinstance(callback, Callback) else FunctionCallback(callback)


class Progress(Callback):
    """
    A progress bar on standard error, one step an epoch.

    Parameters
    ----------
    title : str, optional
        What the epochs are for.
    """

    def __init__(self, title: str = "epochs") -> None:
        self._title = title
        self._bar: tqdm | None = None

    def on_fit_begin(self, model: System, epochs: range) -> None:
        """Show the bar."""
        self._bar = tqdm(total=len(epochs), desc=self._title, leave=False)

    def on_epoch_end(self, model: System, record: EpochRecord) -> None:
        """Advance the bar, and show the losses beside it."""
        losses = {"loss": record.loss, "validation_loss": record.validation_loss}
        self._bar.set_postfix({name: loss for name, loss in losses.items() if loss is not None})
        self._bar.update()

    def on_fit_end(self, model: System) -> None:
        """Remove the bar."""
        self._bar.close()


class WeightAveraging(Callback):
    """
    Keep the weights after the latest epochs, for their mean.

    The mean lies nearer the middle of the region that training wanders through than any single epoch, and overfits
    later (stochastic weight averaging, Izmailov et al. 2018, *Averaging weights leads to wider optima and better
    generalization*).

    Parameters
    ----------
    epochs : int
        How many of the latest epochs to average; 1 keeps the weights as they are.
    """

    def __init__(self, epochs: int) -> None:
        check_whole("epochs", epochs)
        self._latest: deque[dict[str, Tensor]] = deque(maxlen=epochs)

    def on_epoch_end(self, model: System, record: EpochRecord) -> None:
        """Keep the weights after an epoch."""
        self._latest.append(deepcopy(model.net.state_dict()))

    def mean(self) -> dict[str, Tensor]:
        """Return the mean of each weight; a tensor of integers is that of the latest epoch."""
        *_, latest = self._latest
        return {name: self._mean_of(name) if weight.is_floating_point() else weight for name, weight in latest.items()}

    def _mean_of(self, name: str) -> Tensor:
        return sum(weights[name] for weights in self._latest) / len(self._latest)

    @contextmanager
    def applied_to(self, net: nn.Module) -> Iterator[dict[str, Tensor]]:
        """Give the net the mean weights while the context is open, and yield them."""
        own, mean = deepcopy(net.state_dict()), self.mean()
        net.load_state_dict(mean)
        try:
            yield mean
        finally:
            net.load_state_dict(own)


class EarlyStopping(Callback):
    """
    End fitting once MRR@20 on held-out rows has stopped rising.

    Parameters
    ----------
    rows : SessionSequences
        The held-out rows.
    patience : int, optional
        Epochs without a better MRR@20 after which fitting ends.
    averaging : WeightAveraging, optional
        Measure its mean weights instead of those of the epoch, and keep the best of them as `best_weights`. Do not
        give it to `fit` as well.
    path : path, optional
        A JSON file for `figures`, so that a call of `fit` that resumes from a checkpoint knows those of the epochs
        before.

    Attributes
    ----------
    figures : list of dict
        'mrr@20', 'recall@20' and 'targets' after each epoch.
    best_weights : dict of str to Tensor or None

    Raises
    ------
    InputError
        If the file cannot be read, or lacks figures of epochs that the checkpoint has.
    """

    def __init__(
        self,
        rows: SessionSequences,
        patience: int = PATIENCE,
        averaging: WeightAveraging | None = None,
        path: Path | None = None,
    ) -> None:
        self._rows, self._patience, self._averaging, self._path = rows, patience, averaging, path
        self._group = ProcessGroup.current()
        self.best_weights: dict[str, Tensor] | None = None
        self.figures: list[dict[str, float]] = self._group.broadcast(self._read() if self._group.is_first else [])

    @property
    def best_epoch(self) -> int:
        """The epoch with the best MRR@20, the first of equal ones; from 0."""
        return int(np.argmax([figures["mrr@20"] for figures in self.figures]))

    @property
    def best_figures(self) -> dict[str, float]:
        """The figures of the best epoch."""
        return self.figures[self.best_epoch]

    def on_epoch_end(self, model: System, record: EpochRecord) -> bool:
        """Measure an epoch; return whether the patience is over."""
        self.check_complete(record.epoch)
        # Figures of this epoch and of later ones were written just before a stop, or by another training.
        self.figures = self.figures[: record.epoch]
        if self._averaging is None:
            self.measure(model)
        else:
            self._averaging.on_epoch_end(model, record)
            with self._averaging.applied_to(model.net) as weights:
                self.measure(model)
            if self.best_epoch == len(self.figures) - 1:
                self.best_weights = weights
        return len(self.figures) - 1 - self.best_epoch >= self._patience

    def measure(self, system: System) -> None:
        """Rank the held-out targets by a fitted system, and add the figures."""
        ranks = rank_targets(system, self._rows)
        figures = self._group.broadcast({**metrics(ranks, (20,)), "targets": len(ranks)})
        self.figures = [*self.figures, figures]
        if self._path is not None and self._group.is_first:
            write_whole(self._path, json.dumps(self.figures) + "\n")

    def check_complete(self, epochs: int) -> None:
        """Raise an InputError if figures of earlier epochs are missing."""
        if len(self.figures) < epochs:
            raise InputError(
                f"{self._path}: figures are missing for epochs that the checkpoint beside it has: remove both files to "
                "start over"
            )

    def _read(self) -> list[dict[str, float]]:
        if self._path is None or not self._path.exists():
            return []
        try:
            return json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self._path}: cannot be read ({error}): remove it and the checkpoint beside it"
            ) from error
