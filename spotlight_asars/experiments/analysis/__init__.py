"""The paper's Figure 1 for any log: what to know about it before training a model."""

from spotlight_asars.experiments.analysis.report import write_analysis
from spotlight_asars.experiments.analysis.statistics import Analysis, analyse

__all__ = ["Analysis", "analyse", "write_analysis"]
