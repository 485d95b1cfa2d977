"""Settings of a compared system: what makes it, and its form in a parameter file."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System
from spotlight_asars.files import write_whole
from spotlight_asars.interactions import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.neighbours import STAN, VSKNN, VSTAN
from spotlight_asars.sequence.registry import HOST_REPRESENTATIONS, representation_factory
from spotlight_asars.sequence.rules import Popularity, SequentialRules

OPTIMIZERS = {"adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}
COUNTING_SYSTEMS = {
    "popularity": Popularity,
    "sequential_rules": SequentialRules,
    "vsknn": VSKNN,
    "stan": STAN,
    "vstan": VSTAN,
}


@dataclass(frozen=True)
class Training:
    """
    What a system is made for, beside its settings.

    Attributes
    ----------
    epochs : int
    seed : int
    dwell : {'known', 'observed'}
    use_cuda : bool
    """

    epochs: int
    seed: int = 0
    dwell: str = "known"
    use_cuda: bool = False


@dataclass(frozen=True)
class NetSettings:
    """
    Settings of a system that is a net in an ``ASARSSequenceModel``.

    Attributes
    ----------
    representation : str
        Name of the net.
    embedding_dim, learning_rate, loss, loss_options, num_negative_samples, sampling, sampling_options :
        As for ``ASARSSequenceModel``.
    batch_size, batch_events : int
        A mini-batch has at least so many rows, and more where they are short, to have about so many events.
    optimizer : {'adagrad', 'adam'}
    representation_options : dict
        See ``NetOptions``.
    """

    kind: ClassVar[str] = "net"
    trained_by_epochs: ClassVar[bool] = True

    representation: str
    learning_rate: float = 0.05
    optimizer: str = "adagrad"
    embedding_dim: int = 100
    batch_size: int = 32
    batch_events: int = 256
    loss: str = "cross_entropy"
    loss_options: dict = field(default_factory=dict)
    num_negative_samples: int = 5
    sampling: str = "local"
    sampling_options: dict = field(default_factory=dict)
    representation_options: dict = field(default_factory=dict)

    @property
    def has_users(self) -> bool:
        """Whether the net learns of users."""
        return self._net_says("has_users")

    @property
    def reads_dwell(self) -> bool:
        """Whether the net looks at dwell bins."""
        return self._net_says("reads_dwell")

    def _net_says(self, name: str) -> bool:
        if self.representation in HOST_REPRESENTATIONS:  # they know items alone
            return False
        return bool(getattr(representation_factory(self.representation), name, False))

    def rows_a_batch(self, mean_length: float) -> int:
        """Rows of a mini-batch, where a row has `mean_length` events."""
        return max(self.batch_size, round(self.batch_events / mean_length))

    @property
    def optimizer_func(self) -> Callable[[Iterable], torch.optim.Optimizer]:
        """What makes the optimizer from the net's parameters."""
        return partial(OPTIMIZERS[self.optimizer], lr=self.learning_rate)

    def new_system(self, rows: SessionSequences, training: Training) -> ASARSSequenceModel:
        """A model for these rows, not yet fitted."""
        return ASARSSequenceModel(
            loss=self.loss,
            representation=self.representation,
            embedding_dim=self.embedding_dim,
            n_iter=training.epochs,
            batch_size=self.rows_a_batch(float(rows.lengths.mean())),
            optimizer_func=self.optimizer_func,
            use_cuda=training.use_cuda,
            random_state=training.seed,
            num_negative_samples=self.num_negative_samples,
            dwell=training.dwell,
            representation_options=self.representation_options,
            loss_options=self.loss_options,
            sampling=self.sampling,
            sampling_options=self.sampling_options,
        )


@dataclass(frozen=True)
class CountingSettings:
    """
    Settings of a system that counts instead of learning: it has no epochs and nothing random.

    Attributes
    ----------
    system : str
        Of COUNTING_SYSTEMS.
    options : dict
        Keywords of its class.
    """

    kind: ClassVar[str] = "counting"
    trained_by_epochs: ClassVar[bool] = False
    has_users: ClassVar[bool] = False
    reads_dwell: ClassVar[bool] = False

    system: str
    options: dict = field(default_factory=dict)

    def new_system(self, rows: SessionSequences, training: Training) -> System:
        """A system for these rows, not yet fitted."""
        return COUNTING_SYSTEMS[self.system](**self.options)


Settings = NetSettings | CountingSettings
KINDS = {settings.kind: settings for settings in (NetSettings, CountingSettings)}


def describe(settings: Settings) -> dict:
    """Settings as they stand in ``results.json`` and in a parameter file."""
    return {"kind": settings.kind, **asdict(settings)}


def write_settings(path: Path, settings: Settings, about: dict | None = None) -> None:
    """Write a parameter file; `about` says how the settings were found, and is not read back."""
    text = json.dumps({"about": about or {}, **describe(settings)}, indent=2, allow_nan=False)
    write_whole(path, text + "\n")


def read_settings(path: Path) -> Settings:
    """
    Read a parameter file.

    Raises
    ------
    InputError
        If it cannot be read, or holds something that is no setting.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no parameter file ({error}): write one with tune") from error
    if not isinstance(found, dict) or found.get("kind") not in KINDS:
        raise InputError(f"{path}: a parameter file says 'kind', one of {', '.join(KINDS)}")
    kind = KINDS[found["kind"]]
    given = {name: value for name, value in found.items() if name not in ("kind", "about")}
    known = [one.name for one in fields(kind)]
    for name in given:
        if name not in known:
            raise InputError(f"{path}: {name!r} is no setting: there are {', '.join(known)}")
    try:
        return kind(**given)
    except TypeError as error:
        raise InputError(f"{path}: a setting is missing ({error})") from error
