"""Nets by name: those of this package and those that users register."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from spotlight_asars.errors import InputError
from spotlight_asars.sequence.representations.asars import (
    AsarsTimeAttNet,
    AsarsTimeCatNet,
    AsarsTimeUserNet,
    AsarsUserAttNet,
    AsarsUserCatNet,
)
from spotlight_asars.sequence.representations.baselines import GRU4RecNet, WaveNetNet, YouTubeDNNNet
from spotlight_asars.sequence.representations.dynamics import AsarsDynamicsNet
from spotlight_asars.sequence.representations.factorization import BPRMFNet, FPMCNet, TimeSVDNet
from spotlight_asars.sequence.representations.transformers import CORENet, SASRecNet

Factory = Callable[..., nn.Module]
HOST_REPRESENTATIONS = ("pooling", "cnn", "lstm", "mixture")
BUILT_IN: Mapping[str, Factory] = MappingProxyType(
    {
        "bpr_mf": BPRMFNet,
        "fpmc": FPMCNet,
        "time_svd": TimeSVDNet,
        "youtube_dnn": YouTubeDNNNet,
        "wavenet_cnn": WaveNetNet,
        "gru4rec": GRU4RecNet,
        "sasrec": SASRecNet,
        "core": CORENet,
        "asars_user_att": AsarsUserAttNet,
        "asars_user_cat": AsarsUserCatNet,
        "asars_time_att": AsarsTimeAttNet,
        "asars_time_cat": AsarsTimeCatNet,
        "asars_time_user": AsarsTimeUserNet,
        "asars_dynamics": AsarsDynamicsNet,
    }
)
_REPRESENTATIONS = dict(BUILT_IN)


def register_representation(name: str, factory: Factory) -> None:
    """
    Make a net available by name, for ``ASARSSequenceModel(representation=name)`` and the command line.

    Parameters
    ----------
    name : str
        A new name, or that of a registered net to replace.
    factory : callable
        Called with the keywords num_items, embedding_dim, num_users, num_dwell_bins, num_gap_bins, dwell, sparse and
        the model's representation options. Returns a module with the ``user_representation`` and ``forward`` of the
        host's nets.

    Raises
    ------
    InputError
        If the host has a net of that name.
    """
    if name in HOST_REPRESENTATIONS:
        raise InputError(f"{name!r} is the name of a net of the host: choose another")
    _REPRESENTATIONS[name] = factory


def unregister_representation(name: str) -> None:
    """
    Remove a net that was registered; a net of this package gets its own factory back.

    Raises
    ------
    InputError
        If no such net is registered.
    """
    representation_factory(name)
    if name in BUILT_IN:
        _REPRESENTATIONS[name] = BUILT_IN[name]
    else:
        del _REPRESENTATIONS[name]


def representation_names() -> tuple[str, ...]:
    """Return the names of the registered nets."""
    return tuple(_REPRESENTATIONS)


def representation_factory(name: str) -> Factory:
    """
    Return the factory of the net with this name.

    Raises
    ------
    InputError
        If no such net is registered.
    """
    if name not in _REPRESENTATIONS:
        known = ", ".join(_REPRESENTATIONS)
        raise InputError(f"representation is {name!r}: choose one of {known}, or add it with register_representation")
    return _REPRESENTATIONS[name]
