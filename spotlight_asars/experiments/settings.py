"""The settings that `compare` trains each system with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from spotlight_asars.sequence.registry import representation_factory

OPTIMIZERS = {"adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}


@dataclass(frozen=True)
class SystemSettings:
    """
    Settings of one system.

    Attributes
    ----------
    embedding_dim, learning_rate, loss, num_negative_samples :
        As for ``ASARSSequenceModel``.
    batch_size, batch_events : int
        A mini-batch has at least so many rows, and more where they are short, to have about so many events.
    optimizer : {'adagrad', 'adam'}
    representation_options : dict
        See ``NetOptions``.
    """

    learning_rate: float
    optimizer: str
    embedding_dim: int = 100
    batch_size: int = 32
    batch_events: int = 256
    loss: str = "cross_entropy"
    num_negative_samples: int = 5
    representation_options: dict = field(default_factory=dict)

    def rows_a_batch(self, mean_length: float) -> int:
        """Rows of a mini-batch, where a row has `mean_length` events."""
        return max(self.batch_size, round(self.batch_events / mean_length))

    @property
    def optimizer_func(self) -> Callable[[Iterable], torch.optim.Optimizer]:
        """What makes the optimizer from the net's parameters."""
        return partial(OPTIMIZERS[self.optimizer], lr=self.learning_rate)


# Chosen by MRR@20 on the latest sessions of training logs, see benchmarks/README.rst.
_GRU4REC = SystemSettings(
    learning_rate=0.05, optimizer="adagrad", representation_options={"dropout": 0.5, "hidden_dropout": 0.3}
)
_ASARS = replace(
    _GRU4REC,
    representation_options={"dropout": 0.5, "hidden_dropout": 0.5, "user_dropout": 0.8, "recurrent": "gru"},
)
_SETTINGS = {"gru4rec": _GRU4REC}

DEFAULT_SYSTEMS = ("gru4rec", "asars_user_cat", "asars_time_att", "asars_time_user")


def settings_of(name: str) -> SystemSettings:
    """
    Settings of a system by name.

    Raises
    ------
    ValueError
        If no net has that name.
    """
    representation_factory(name)
    return _SETTINGS.get(name, _ASARS)
