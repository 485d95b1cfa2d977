"""Built-in settings of every system by name, and settings from parameter files."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.experiments.settings import (
    COUNTING_SYSTEMS,
    CountingSettings,
    NetSettings,
    Settings,
    Training,
    TwoStageSettings,
    read_settings,
)
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.representations.history_kernel import FEATURES
from spotlight_asars.sequence.representations.registry import (
    HOST_REPRESENTATIONS,
    representation_factory,
    representation_names,
)
from spotlight_asars.sequence.two_stage.model import TwoStageRanker

DEFAULT_SYSTEMS = ("gru4rec", "vsknn", "repeat_last", "asars_memory", "asars_time_user", "asars_two_stage")
# Chosen by MRR@20 on the latest sessions of training logs; see benchmarks/TRIALS.rst.
# Mini-batches in order of time are GRU4Rec's own, too: its code sorts the sessions.
_GRU4REC = NetSettings(
    "gru4rec",
    mix_lengths=True,
    time_order=True,
    representation_options={"dropout": 0.5, "hidden_dropout": 0.3, "hidden_scope": "session"},
)
_ASARS_OPTIONS = {
    "dropout": 0.5,
    "hidden_dropout": 0.5,
    "user_dropout": 0.8,
    "recurrent": "gru",
    "dwell_weight": True,
    "recency": True,
    "scope": "session",
    "hidden_scope": "session",
}
_POINTER = {"pointer": True, "history_kernel": FEATURES}
_ASARS = NetSettings(
    "asars_time_user",
    mix_lengths=True,
    time_order=True,
    popularity_drift=0.5,
    initial_embeddings="cooccurrence",
    representation_options={**_ASARS_OPTIONS, **_POINTER, "item_path": True, "scores": "cosine"},
)
# As their authors, or the libraries with the best figures for them, train them.
_SELF_ATTENTION = {"hidden_scope": "session", "scores": "cosine", "temperature": 0.07, "hidden_dropout": 0.5}
_SASREC = NetSettings(
    "sasrec",
    learning_rate=0.001,
    optimizer="adam",
    embedding_dim=256,
    batch_events=512,
    mix_lengths=True,
    representation_options={**_SELF_ATTENTION, "dropout": 0.0, "blocks": 1, "heads": 4, "window": 20},
)
_CORE = replace(
    _SASREC,
    representation="core",
    embedding_dim=200,
    representation_options={
        **_SELF_ATTENTION,
        "dropout": 0.2,
        "item_dropout": 0.2,
        "blocks": 2,
        "heads": 2,
        "window": 50,
    },
)
_BPR_MAX = {
    "loss": "bpr_max",
    "loss_options": {"regularization": 1.95, "elu": 0.5},
    "sampling": "shared",
    "sampling_options": {"alpha": 0.4},
    "num_negative_samples": 2048,
}
_SETTINGS: dict[str, Settings] = {
    "gru4rec": _GRU4REC,
    "gru4rec_bpr_max": replace(
        _GRU4REC,
        representation_options={**_GRU4REC.representation_options, "hidden_dropout": 0.05},
        batch_events=80,
        **_BPR_MAX,
    ),
    "wavenet_cnn": NetSettings(
        "wavenet_cnn", learning_rate=0.003, optimizer="adam", representation_options={"dropout": 0.3}
    ),
    "sasrec": _SASREC,
    "core": _CORE,
    **{name: replace(_ASARS, representation=name) for name in ("asars_time_user", "asars_time_att", "asars_user_att")},
    **{name: CountingSettings(name) for name in COUNTING_SYSTEMS},
}
_SETTINGS["asars_two_stage"] = TwoStageSettings(
    (_SETTINGS["asars_time_user"], CountingSettings("asars_memory"), CountingSettings("vstan"))
)


def system_names() -> tuple[str, ...]:
    """Return the names of all systems: every registered net, the non-neural ones, and those of your own."""
    return tuple(dict.fromkeys([*representation_names(), *_SETTINGS, *COUNTING_SYSTEMS]))


def register_system(name: str, system_class: type[Recommender]) -> None:
    """
    Make a recommender of your own known by name, to ``compare``, ``train`` and parameter files.

    A net is better added with ``register_representation``, which gives it training by epochs and live sessions. For
    model files, also put ``serialization.models.register_kind("model")`` on the class. A comparison that goes on in the
    same folder knows the class by this name alone: give it another ``--out`` when its code has changed.

    Parameters
    ----------
    name : str
    system_class : subclass of Recommender
        Gets its `options` as keywords, and `dwell` if it `reads_dwell` and `random_state` if it `is_random`.

    Raises
    ------
    InputError
        If this is no subclass of Recommender, or another system has the name.
    """
    if not (isinstance(system_class, type) and issubclass(system_class, Recommender)):
        raise InputError(f"{name!r} is no subclass of Recommender: derive it from spotlight_asars.sequence.Recommender")
    taken = name in system_names() or name in HOST_REPRESENTATIONS
    if taken and COUNTING_SYSTEMS.get(name) is not system_class:
        raise InputError(f"{name!r} is the name of another system: choose another")
    COUNTING_SYSTEMS[name] = system_class


def name_of_model(model: Recommender) -> str:
    """Return the name under which a system is registered, or its ``system_name``."""
    names = {made_by: name for name, made_by in COUNTING_SYSTEMS.items()} | {TwoStageRanker: "asars_two_stage"}
    return names.get(type(model), model.system_name)


def settings_of(name: str) -> Settings:
    """
    Return the built-in settings of a system.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name in _SETTINGS:
        return _SETTINGS[name]
    if name in COUNTING_SYSTEMS:
        return CountingSettings(name)
    representation_factory(name)
    ours = name.startswith("asars_")  # the others start at random, as in their papers
    return NetSettings(
        name,
        mix_lengths=ours,
        initial_embeddings="cooccurrence" if ours else "random",
        representation_options=_ASARS_OPTIONS,
    )


def for_catalogue(
    settings: dict[str, Settings], num_items: int, report: Callable[[str], None] = lambda line: None
) -> dict[str, Settings]:
    """Return settings by name, adapted to the number of items; `report` is called with a line if any changes."""
    found = {name: own.for_catalogue(num_items) for name, own in settings.items()}
    changed = [name for name in found if found[name] != settings[name]]
    if changed:
        report(
            f"{num_items - 1:,} items are too many to score at every step: the loss of {', '.join(changed)} is "
            "sampled_cross_entropy (a file in --parameters can override this)"
        )
    return found


def settings_in(folder: Path, names: Iterable[str]) -> dict[str, Settings]:
    """
    Read the parameter files ``<system>.json`` in a folder.

    Parameters
    ----------
    folder : Path
    names : iterable of str
        Systems to look for.

    Returns
    -------
    dict
        Settings by name, for the systems that have a file.

    Raises
    ------
    InputError
        If there is no folder or no file, or a system cannot be made and fitted with its file.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder of parameter files: give the folder that tune wrote")
    names = tuple(names)
    found = {name: path for name in names if (path := folder / f"{name}.json").is_file()}
    if not found:
        raise InputError(f"{folder}: no parameter file of these systems: give a folder with {names[0]}.json, say")
    settings = {name: read_settings(path) for name, path in found.items()}
    for name in settings:
        _try(found[name], settings[name])
    return settings


def settings_at(path: Path, name: str) -> Settings:
    """
    Read the parameter file of a system, given the file or its folder.

    Raises
    ------
    InputError
        If there is no file, or the system cannot be made and fitted with it.
    """
    if path.is_dir():
        return settings_in(path, [name])[name]
    settings = read_settings(path)
    _try(path, settings)
    return settings


def _try(path: Path, settings: Settings) -> None:
    """Fit on a few tiny sessions, so that a wrong value shows before any long training."""
    rows = SessionSequences(np.tile([[1, 2, 3], [2, 3, 1]], (5, 1)))
    try:
        with warnings.catch_warnings(action="ignore"):  # about the few items
            settings.new_system(rows, Training(epochs=1)).fit(rows)
    except Exception as error:  # a wrong value can raise anything
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: these settings make no working system ({reason}): correct them") from error
