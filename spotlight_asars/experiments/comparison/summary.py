"""Summarise the runs of a system over several seeds, for ``results.json``."""

import statistics
from dataclasses import asdict

import numpy as np

from spotlight_asars.evaluation import Ranks, confidence_interval, metrics, paired_test
from spotlight_asars.experiments.training import Run

JUDGED_BY = ("mrr@20", "recall@20")
_TYPICAL = ("seconds_per_epoch", "events_per_second", "evaluation_seconds", "peak_memory_mib")


def target_values(runs: list[Run]) -> dict[str, np.ndarray]:
    """Return each target's reciprocal rank and hit at cutoff 20, averaged over runs; arrays of shape (targets,)."""
    return {
        "mrr@20": np.mean([run.ranks.reciprocal(20) for run in runs], axis=0),
        "recall@20": np.mean([run.ranks.hits(20) for run in runs], axis=0),
    }


def summarise(runs: list[Run], values: dict[str, np.ndarray], seed: int) -> dict:
    """
    Summarise one system.

    Parameters
    ----------
    runs : list of Run
        One run per seed.
    values : dict
        The result of :func:`target_values`.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        Means of the metrics, their intervals and standard deviations (None for a single run), medians of speed and
        memory, and the figures of each run under 'seeds'.
    """
    each = [metrics(run.ranks) for run in runs]
    sessions = runs[0].ranks.session_ids
    figures = [run.figures for run in runs]
    return {
        **{name: float(np.mean([one[name] for one in each])) for name in each[0]},
        "targets": len(sessions),
        "ci95": {name: confidence_interval(value, sessions, seed=seed) for name, value in values.items()},
        "standard_deviation": _deviations(each),
        **{name: statistics.median(one[name] for one in figures) for name in _TYPICAL},
        "epochs": _unless_none(statistics.median_low, [one["epochs"] for one in figures]),
        "validation_mrr@20": _unless_none(statistics.fmean, [one["validation_mrr@20"] for one in figures]),
        "parameters": figures[0]["parameters"],
        "seeds": [{**figure, **one} for figure, one in zip(figures, each, strict=True)],
    }


def _deviations(each: list[dict[str, float]]) -> dict[str, float] | None:
    if len(each) == 1:
        return None
    return {name: float(np.std([one[name] for one in each], ddof=1)) for name in each[0]}


def _unless_none(mean, values: list):
    return None if None in values else mean(values)


def differences(values: dict[str, np.ndarray], others: dict[str, np.ndarray], ranks: Ranks, seed: int) -> dict:
    """Return, by metric, a paired test of the difference between the target values of two systems."""
    return {name: asdict(paired_test(values[name], others[name], ranks.session_ids, seed=seed)) for name in JUDGED_BY}


def dwell_gain(runs: list[Run], controls: list[Run], seed: int) -> dict:
    """Return a system's gain over its shuffled-dwell control, and the metrics of the control under 'twin'."""
    values, control_values = target_values(runs), target_values(controls)
    return {
        **differences(values, control_values, runs[0].ranks, seed),
        "twin": {name: float(control_values[name].mean()) for name in JUDGED_BY},
    }
