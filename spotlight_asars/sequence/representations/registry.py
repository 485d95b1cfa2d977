"""Nets by name: those of this package, and those that users add."""

from collections.abc import Callable

from torch import nn

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

Factory = Callable[..., nn.Module]
HOST_REPRESENTATIONS = ("pooling", "cnn", "lstm", "mixture")
_REPRESENTATIONS: dict[str, Factory] = {
    "bpr_mf": BPRMFNet,
    "fpmc": FPMCNet,
    "time_svd": TimeSVDNet,
    "youtube_dnn": YouTubeDNNNet,
    "wavenet_cnn": WaveNetNet,
    "gru4rec": GRU4RecNet,
    "asars_user_att": AsarsUserAttNet,
    "asars_user_cat": AsarsUserCatNet,
    "asars_time_att": AsarsTimeAttNet,
    "asars_time_cat": AsarsTimeCatNet,
    "asars_time_user": AsarsTimeUserNet,
    "asars_dynamics": AsarsDynamicsNet,
}


def register_representation(name: str, factory: Factory) -> None:
    """
    Make a net known by name, for ``ASARSSequenceModel(representation=name)`` and the command line.

    Parameters
    ----------
    name : str
    factory : callable
        Called with the keywords num_items, embedding_dim, num_users, num_dwell_bins, num_gap_bins, dwell,
        sparse and the model's
        representation options; returns a module with ``user_representation`` and ``forward`` as the host's nets.

    Raises
    ------
    ValueError
        If the host has a net of that name.
    """
    if name in HOST_REPRESENTATIONS:
        raise ValueError(f"{name!r} is the name of a net of the host: choose another")
    _REPRESENTATIONS[name] = factory


def representation_names() -> tuple[str, ...]:
    """Names of the registered nets."""
    return tuple(_REPRESENTATIONS)


def representation_factory(name: str) -> Factory:
    """
    What makes the net of this name.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name not in _REPRESENTATIONS:
        known = ", ".join(_REPRESENTATIONS)
        raise ValueError(f"representation is {name!r}: choose one of {known}, or add it with register_representation")
    return _REPRESENTATIONS[name]
