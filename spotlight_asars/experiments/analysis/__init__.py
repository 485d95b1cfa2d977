"""The paper's Figure 1 for any log: what to know about it before training a model."""

from spotlight_asars.experiments.analysis.report import write_analysis
from spotlight_asars.experiments.analysis.statistics import (
    Analysis,
    DwellTimes,
    analyse,
    as_json,
    cold_shares,
    describe_dwell,
    shares_of_most_common,
    shares_of_repeats,
)

__all__ = [
    "Analysis",
    "DwellTimes",
    "analyse",
    "as_json",
    "cold_shares",
    "describe_dwell",
    "shares_of_most_common",
    "shares_of_repeats",
    "write_analysis",
]
