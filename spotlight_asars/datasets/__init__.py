"""Click logs: one reader a format, all to the same table, and a simulator whose truth is known."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from spotlight_asars.datasets import presets
from spotlight_asars.datasets.csv import read_csv
from spotlight_asars.datasets.movielens import read_movielens
from spotlight_asars.datasets.presets import SupportFilters
from spotlight_asars.datasets.recsys15 import read_recsys15
from spotlight_asars.datasets.synthetic import Behaviour, SyntheticLog, generate_sessions


@dataclass(frozen=True)
class LogFormat:
    """
    One format of logs.

    Parameters
    ----------
    read: callable
        Takes the path and the options named below; gives the log as a DataFrame.
    filters: SupportFilters
        The support filters for logs of this format.
    options: tuple of str
        The keyword arguments that `read` takes beside the path.
    """

    read: Callable[..., pd.DataFrame]
    filters: SupportFilters
    options: tuple[str, ...] = ()


FORMATS: Mapping[str, LogFormat] = MappingProxyType(
    {
        "csv": LogFormat(read_csv, presets.PAPER, options=("columns", "timestamp_unit", "separator")),
        "movielens": LogFormat(read_movielens, presets.MOVIELENS_100K),
        "recsys15": LogFormat(read_recsys15, presets.RECSYS15),
    }
)

__all__ = [
    "FORMATS",
    "Behaviour",
    "LogFormat",
    "SupportFilters",
    "SyntheticLog",
    "generate_sessions",
    "read_csv",
    "read_movielens",
    "read_recsys15",
]
