"""Readers of click logs, one for each format and all with the same result, and a simulator with known probabilities."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from spotlight_asars.cross_validation import SupportFilters
from spotlight_asars.datasets import presets
from spotlight_asars.datasets._table import joined
from spotlight_asars.datasets.csv import csv_blocks, read_csv
from spotlight_asars.datasets.json_lines import json_lines_blocks, read_json_lines
from spotlight_asars.datasets.movielens import movielens_blocks, read_movielens
from spotlight_asars.datasets.recsys15 import read_recsys15, recsys15_blocks
from spotlight_asars.datasets.spotlight_files import read_interactions, write_interactions
from spotlight_asars.datasets.synthetic.log import SyntheticLog, generate_sessions
from spotlight_asars.datasets.synthetic.world import Behaviour
from spotlight_asars.datasets.tianchi import read_tianchi, tianchi_blocks
from spotlight_asars.interactions.sessions import LogCounts


@dataclass(frozen=True)
class LogFormat:
    """
    A log format.

    Parameters
    ----------
    blocks: callable
        Takes the path and the options below, and yields the log as DataFrames, a block of events each.
    filters: SupportFilters
        The default support filters for logs of this format.
    options: tuple of str
        The keyword arguments that `blocks` takes besides the path.
    """

    blocks: Callable[..., Iterator[pd.DataFrame]]
    filters: SupportFilters
    options: tuple[str, ...] = ()

    def read(self, path: str | os.PathLike, **options: object) -> pd.DataFrame:
        """Return the whole log as one DataFrame."""
        return joined(self.blocks(path, **options))


_TABLE_OPTIONS = ("columns", "timestamp_unit", "event_column", "events")
FORMATS: Mapping[str, LogFormat] = MappingProxyType(
    {
        "csv": LogFormat(csv_blocks, presets.LEARNABLE, (*_TABLE_OPTIONS, "separator")),
        "jsonl": LogFormat(json_lines_blocks, presets.LEARNABLE, _TABLE_OPTIONS),
        "movielens": LogFormat(movielens_blocks, presets.MOVIELENS_100K),
        "recsys15": LogFormat(recsys15_blocks, presets.RECSYS15),
        "tianchi": LogFormat(tianchi_blocks, presets.PAPER, options=("behaviours",)),
    }
)
__all__ = [
    "FORMATS",
    "Behaviour",
    "LogCounts",
    "LogFormat",
    "SupportFilters",
    "SyntheticLog",
    "generate_sessions",
    "read_csv",
    "read_interactions",
    "read_json_lines",
    "read_movielens",
    "read_recsys15",
    "read_tianchi",
    "write_interactions",
]
