"""Neural nets that map the events of a session to the states from which items are scored."""

from spotlight_asars.sequence.representations.asars import (
    AsarsTimeAttNet,
    AsarsTimeCatNet,
    AsarsTimeUserNet,
    AsarsUserAttNet,
    AsarsUserCatNet,
    AttentionNet,
)
from spotlight_asars.sequence.representations.baselines import GRU4RecNet, WaveNetNet, YouTubeDNNNet
from spotlight_asars.sequence.representations.dynamics import AsarsDynamicsNet
from spotlight_asars.sequence.representations.factorization import BPRMFNet, FPMCNet, TimeSVDNet
from spotlight_asars.sequence.representations.options import NetOptions
from spotlight_asars.sequence.representations.registry import (
    register_representation,
    representation_factory,
    representation_names,
    unregister_representation,
)
from spotlight_asars.sequence.representations.session_net import SessionNet

__all__ = [
    "AsarsDynamicsNet",
    "AsarsTimeAttNet",
    "AsarsTimeCatNet",
    "AsarsTimeUserNet",
    "AsarsUserAttNet",
    "AsarsUserCatNet",
    "AttentionNet",
    "BPRMFNet",
    "FPMCNet",
    "GRU4RecNet",
    "NetOptions",
    "SessionNet",
    "TimeSVDNet",
    "WaveNetNet",
    "YouTubeDNNNet",
    "register_representation",
    "representation_factory",
    "representation_names",
    "unregister_representation",
]
