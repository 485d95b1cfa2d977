"""The settings that `compare` trains each system with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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
    embedding_dim, batch_size, learning_rate, loss, num_negative_samples :
        As for ``ASARSSequenceModel``.
    optimizer : {'adagrad', 'adam'}
    representation_options : dict
        See ``NetOptions``.
    """

    learning_rate: float
    optimizer: str
    embedding_dim: int = 100
    batch_size: int = 32
    loss: str = "cross_entropy"
    num_negative_samples: int = 5
    representation_options: dict = field(default_factory=dict)

    @property
    def optimizer_func(self) -> Callable[[Iterable], torch.optim.Optimizer]:
        """What makes the optimizer from the net's parameters."""
        return partial(OPTIMIZERS[self.optimizer], lr=self.learning_rate)


# Chosen by MRR@20 on the latest 15 % of the training sessions of a RecSys 2015 slice, see benchmarks/README.rst.
_SETTINGS = {
    "gru4rec": SystemSettings(learning_rate=0.05, optimizer="adagrad", representation_options={"dropout": 0.5}),
}
_ASARS = SystemSettings(
    learning_rate=0.003, optimizer="adam", representation_options={"dropout": 0.5, "user_dropout": 0.5}
)

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
