"""Settings of a system: how to make it, and its form in a parameter file."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import STAN, VSKNN, VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, RepeatLast, SequentialRules
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.representations.registry import HOST_REPRESENTATIONS, representation_factory
from spotlight_asars.sequence.training.objective import ALL_ITEMS_LOSS, SAMPLED_LOSS
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.files import write_whole

# Above this many items, sparse optimizer steps are faster and scoring all items at each step is too slow.
LARGE_CATALOGUE = 10_000
_SAMPLED_SOFTMAX = {
    "loss": SAMPLED_LOSS,
    "sampling": "shared",
    "sampling_options": {"alpha": 0.5},
    "num_negative_samples": 2048,
}
OPTIMIZERS = {"adagrad": torch.optim.Adagrad, "adam": torch.optim.Adam}
COUNTING_SYSTEMS: dict[str, type[Recommender]] = {
    "popularity": Popularity,
    "repeat_last": RepeatLast,
    "sequential_rules": SequentialRules,
    "vsknn": VSKNN,
    "stan": STAN,
    "vstan": VSTAN,
    "asars_memory": SessionMemory,
}


@dataclass(frozen=True)
class Training:
    """
    How a system is trained, apart from its settings.

    Attributes
    ----------
    epochs : int
        Number of epochs, or the maximum where the number is chosen by validation.
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
    Settings of a net, trained by ``ASARSSequenceModel``.

    Attributes
    ----------
    representation : str
        Name of the net.
    embedding_dim, learning_rate, loss, loss_options, num_negative_samples, sampling, sampling_options, mix_lengths,
    initial_embeddings, time_order, popularity_drift :
        As for ``ASARSSequenceModel``.
    batch_size, batch_events : int
        A mini-batch has at least `batch_size` rows; short rows are added up to about `batch_events` events.
    optimizer : {'adagrad', 'adam'}
    representation_options : dict
        See ``NetOptions``.
    """

    kind: ClassVar[str] = "net"
    trained_by_epochs: ClassVar[bool] = True
    random: ClassVar[bool] = True

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
    mix_lengths: bool = False
    initial_embeddings: str = "random"
    time_order: bool = False
    popularity_drift: float = 0.0
    representation_options: dict = field(default_factory=dict)

    @property
    def has_users(self) -> bool:
        """Whether the net has a user embedding."""
        return self._net_says("has_users")

    @property
    def reads_dwell(self) -> bool:
        """Whether the net reads dwell bins."""
        return self._net_says("reads_dwell")

    def _net_says(self, name: str) -> bool:
        if self.representation in HOST_REPRESENTATIONS:  # they read items only
            return False
        return bool(getattr(representation_factory(self.representation), name, False))

    def rows_a_batch(self, mean_length: float) -> int:
        """Return the number of rows in a mini-batch, for rows of `mean_length` events on average."""
        return max(self.batch_size, round(self.batch_events / mean_length))

    def for_catalogue(self, num_items: int) -> "NetSettings":
        """Return these settings, with a sampled softmax if the catalogue is large and the softmax is over all items."""
        if num_items <= LARGE_CATALOGUE or self.loss != ALL_ITEMS_LOSS:
            return self
        return replace(self, **_SAMPLED_SOFTMAX)

    def _takes_sparse_steps(self, num_items: int) -> bool:
        """Whether to update only the embeddings of the mini-batch: the same steps, faster on a large catalogue."""
        return num_items > LARGE_CATALOGUE and self.optimizer == "adagrad" and self.loss != ALL_ITEMS_LOSS

    @property
    def optimizer_func(self) -> Callable[[Iterable], torch.optim.Optimizer]:
        """Function that makes the optimizer from the net's parameters."""
        return partial(OPTIMIZERS[self.optimizer], lr=self.learning_rate)

    def new_system(self, rows: SessionSequences, training: Training) -> ASARSSequenceModel:
        """Make an unfitted model for these rows."""
        sparse = self._takes_sparse_steps(rows.num_items)
        return ASARSSequenceModel(
            loss=self.loss,
            representation=self.representation,
            embedding_dim=self.embedding_dim,
            n_iter=training.epochs,
            batch_size=self.rows_a_batch(float(rows.lengths.mean())),
            # Fused steps are faster on a CPU. On a GPU torch chooses by itself; sparse gradients cannot be fused.
            optimizer_func=partial(self.optimizer_func, **({} if training.use_cuda or sparse else {"fused": True})),
            use_cuda=training.use_cuda,
            sparse=sparse,
            random_state=training.seed,
            num_negative_samples=self.num_negative_samples,
            dwell=training.dwell,
            representation_options=self.representation_options,
            loss_options=self.loss_options,
            sampling={"kind": self.sampling, **self.sampling_options},
            training={
                "mix_lengths": self.mix_lengths,
                "initial_embeddings": self.initial_embeddings,
                "time_order": self.time_order,
                "popularity_drift": self.popularity_drift,
            },
        )


@dataclass(frozen=True)
class CountingSettings:
    """
    Settings of a system without epochs: a non-neural one, or one added with ``register_system``.

    Attributes
    ----------
    system : str
        Name in COUNTING_SYSTEMS.
    options : dict
        Keywords of the system's class.
    """

    kind: ClassVar[str] = "counting"
    trained_by_epochs: ClassVar[bool] = False

    system: str
    options: dict = field(default_factory=dict)

    @property
    def random(self) -> bool:
        """Whether a fit depends on the seed."""
        return COUNTING_SYSTEMS[self.system].is_random

    @property
    def has_users(self) -> bool:
        """Whether the system learns about users."""
        return COUNTING_SYSTEMS[self.system].has_users

    @property
    def reads_dwell(self) -> bool:
        """Whether the system reads dwell bins."""
        return COUNTING_SYSTEMS[self.system].reads_dwell

    def for_catalogue(self, num_items: int) -> "CountingSettings":
        """Return these settings: a non-neural system takes any catalogue."""
        return self

    def new_system(self, rows: SessionSequences, training: Training) -> Recommender:
        """Return an unfitted system for these rows."""
        own = {"dwell": training.dwell} if self.reads_dwell else {}
        own |= {"random_state": training.seed} if self.random else {}
        return COUNTING_SYSTEMS[self.system](**own, **self.options)


@dataclass(frozen=True)
class TwoStageSettings:
    """
    Settings of a ``TwoStageRanker``.

    Attributes
    ----------
    members : tuple of NetSettings and CountingSettings
    options : dict
        Further keywords of ``TwoStageRanker``.
    ranking : dict
        Keywords of ``RankingNets``.
    """

    kind: ClassVar[str] = "two_stage"
    trained_by_epochs: ClassVar[bool] = False  # it chooses the epochs of its members itself
    random: ClassVar[bool] = True

    members: tuple
    options: dict = field(default_factory=dict)
    ranking: dict = field(default_factory=dict)

    @property
    def has_users(self) -> bool:
        """Whether any member has a user embedding."""
        return any(member.has_users for member in self.members)

    @property
    def reads_dwell(self) -> bool:
        """Whether any member reads dwell bins."""
        return any(member.reads_dwell for member in self.members)

    def for_catalogue(self, num_items: int) -> "TwoStageSettings":
        """Return these settings with every member adapted to the catalogue; see ``NetSettings``."""
        return replace(self, members=tuple(member.for_catalogue(num_items) for member in self.members))

    def new_system(self, rows: SessionSequences, training: Training) -> TwoStageRanker:
        """Make an unfitted system for these rows."""
        members = []
        for place, member in enumerate(self.members):
            epochs = training.epochs if member.trained_by_epochs else None
            # A seed of their own, so that members with equal settings differ, and so do trainings.
            own = replace(training, seed=(training.seed * len(self.members) + place) % 2**32)
            members.append(Member(partial(_new_member, member, rows, own), epochs))
        ranking = RankingNets(**self.ranking)
        return TwoStageRanker(
            members, dwell=training.dwell, ranking=ranking, random_state=training.seed, **self.options
        )


def _new_member(
    settings: NetSettings | CountingSettings, rows: SessionSequences, training: Training, epochs: int
) -> Recommender:
    return settings.new_system(rows, replace(training, epochs=epochs))


Settings = NetSettings | CountingSettings | TwoStageSettings
KINDS = {settings.kind: settings for settings in (NetSettings, CountingSettings, TwoStageSettings)}


def describe(settings: Settings) -> dict:
    """Return settings as in ``results.json`` and in a parameter file."""
    found = {"kind": settings.kind, **asdict(settings)}
    if isinstance(settings, TwoStageSettings):
        found["members"] = [describe(member) for member in settings.members]
    return found


def write_settings(path: Path, settings: Settings, about: dict | None = None) -> None:
    """Write a parameter file; `about` tells how the settings were found and is not read back."""
    text = json.dumps({"about": about or {}, **describe(settings)}, indent=2, allow_nan=False)
    write_whole(path, text + "\n")


def read_settings(path: Path) -> Settings:
    """
    Read a parameter file.

    Raises
    ------
    InputError
        If the file cannot be read or holds an unknown setting.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a parameter file ({error}): write one with tune") from error
    return _settings_from(found, path)


def _settings_from(found: object, path: Path) -> Settings:
    if not isinstance(found, dict) or found.get("kind") not in KINDS:
        raise InputError(f"{path}: not a parameter file: give its 'kind', one of {', '.join(KINDS)}")
    kind = KINDS[found["kind"]]
    given = {name: value for name, value in found.items() if name not in ("kind", "about")}
    known = [one.name for one in fields(kind)]
    for name in given:
        if name not in known:
            raise InputError(f"{path}: unknown setting {name!r}: choose from {', '.join(known)}")
    if kind is TwoStageSettings and isinstance(given.get("members"), list):
        given["members"] = tuple(_settings_from(member, path) for member in given["members"])
    try:
        return kind(**given)
    except TypeError as error:
        raise InputError(f"{path}: a setting is missing ({error}): add it, or write the file with tune") from error
