"""Torch layers that do not depend on the data format: attention, recurrent layers, padding and basic layers."""

import spotlight_asars.layers.forks  # noqa: F401 - gives torch one thread in forked processes
from spotlight_asars.layers.attention import triangle_attention, triangle_weights
from spotlight_asars.layers.basic import Dropout, ScaledLinear, UnitEmbedding, UserDropout, running_sum
from spotlight_asars.layers.padding import by_session, without_padding
from spotlight_asars.layers.recurrent import EventGRU, EventLSTM

__all__ = [
    "Dropout",
    "EventGRU",
    "EventLSTM",
    "ScaledLinear",
    "UnitEmbedding",
    "UserDropout",
    "by_session",
    "running_sum",
    "triangle_attention",
    "triangle_weights",
    "without_padding",
]
