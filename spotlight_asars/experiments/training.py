"""
Train one system.

:func:`train_and_test` makes one run of a comparison: train on one part of a log, rank the other. :func:`train_one`
trains a system for use: it finds the number of epochs on the latest sessions, then trains on all of them.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from spotlight_asars.cross_validation import TimeSplit, rows_of, time_based_split
from spotlight_asars.evaluation import Ranks, System, rank_targets
from spotlight_asars.experiments.logs import inner_rows
from spotlight_asars.experiments.settings import NetSettings, Settings, Training
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.training.callbacks import EarlyStopping, Progress
from spotlight_asars.serialization.checkpoints import Checkpoint

FINDING_EPOCHS, FINAL_FIT = "finding the best number of epochs", "final fit, epochs"  # titles of progress bars
_PROCESS_STATUS, _RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # on Linux


@dataclass(frozen=True)
class Parts:
    """Rows of a comparison: `fitting` and `validation` choose the epochs, `train` and `test` give the result."""

    fitting: SessionSequences
    validation: SessionSequences
    train: SessionSequences
    test: SessionSequences

    def with_shuffled_dwell(self, seed: int) -> "Parts":
        """Shuffle the known dwell bins of each part; see :func:`with_shuffled_dwell`."""
        parts = (self.fitting, self.validation, self.train, self.test)
        return Parts(*(with_shuffled_dwell(rows, seed) for rows in parts))


@dataclass(frozen=True)
class Run:
    """
    The result of training and testing one system.

    Attributes
    ----------
    figures : dict
        Seed, epochs, speed and memory, as in ``results.json``.
    ranks : Ranks
        Ranks of the test targets.
    """

    figures: dict
    ranks: Ranks


def parts_of(split: TimeSplit, max_sequence_length: int) -> Parts:
    """Make the rows of a split log, with the latest sessions of its training part to validate on."""
    return Parts(*inner_rows(split.train, max_sequence_length), *rows_of(split, max_sequence_length))


def with_shuffled_dwell(rows: SessionSequences, seed: int) -> SessionSequences:
    """
    Return rows whose known dwell bins are shuffled among events; everything else stays.

    These rows train the shuffled-dwell control: the same net without information about dwell. A net's gain over it
    comes from dwell times, not from a larger number of parameters.
    """
    events = rows.events.copy()
    known = np.flatnonzero(events[:, DWELL] > UNKNOWN_BIN)
    events[known, DWELL] = np.random.RandomState(seed).permutation(events[known, DWELL])
    return rows.with_events(events)


def train_and_test(settings: Settings, parts: Parts, training: Training, verbose: bool = False) -> Run:
    """
    Train a system and rank the test targets.

    A system that is trained by epochs is trained twice: without the validation part, to choose the number of epochs,
    then on the whole training part. Other systems are fitted once, on the whole training part.

    Parameters
    ----------
    settings : Settings
    parts : Parts
    training : Training
        With the maximum epochs.
    verbose : bool, optional
        Show epochs on standard error.

    Returns
    -------
    Run
    """
    begin = perf_counter()
    fit = _fit_net if settings.trained_by_epochs else _fit_at_once
    with PeakMemory(training.use_cuda) as memory:
        system, figures = fit(settings, parts, training, verbose)
        ranking_begin = perf_counter()
        ranks = rank_targets(system, parts.test)
        seconds = perf_counter() - ranking_begin
    figures |= {
        "evaluation_seconds": seconds,
        "peak_memory_mib": memory.mib,
        "run_seconds": perf_counter() - begin,
    }
    return Run(figures, ranks)


def _fit_net(settings: NetSettings, parts: Parts, training: Training, verbose: bool) -> tuple[ASARSSequenceModel, dict]:
    stopping = EarlyStopping(parts.validation)
    settings.new_system(parts.fitting, training).fit(
        parts.fitting, callbacks=[*_progress(FINDING_EPOCHS, verbose), stopping]
    )
    epochs = stopping.best_epoch + 1
    model = settings.new_system(parts.train, replace(training, epochs=epochs))
    model.fit(parts.train, callbacks=_progress(FINAL_FIT, verbose))
    seconds = float(np.median([record.seconds for record in model.epoch_records]))
    return model, {
        "seed": training.seed,
        "epochs": epochs,
        "validation_mrr@20": stopping.best_figures["mrr@20"],
        "parameters": sum(weight.numel() for weight in model.net.parameters()),
        "seconds_per_epoch": seconds,
        "events_per_second": model.epoch_records[0].events / seconds,
    }


def _fit_at_once(settings: Settings, parts: Parts, training: Training, verbose: bool) -> tuple[object, dict]:
    begin = perf_counter()
    system = settings.new_system(parts.train, training).fit(parts.train)
    seconds = perf_counter() - begin
    return system, {
        "seed": training.seed if settings.random else None,
        "epochs": None,
        "validation_mrr@20": None,
        "parameters": None,
        "seconds_per_epoch": seconds,
        "events_per_second": len(parts.train.events) / seconds,
    }


class PeakMemory:
    """
    Context manager that measures the peak memory of its block.

    With `use_cuda` this is the memory that torch allocates on the GPU. Otherwise it is the resident memory of the
    process: its peak inside the block on Linux, its peak since the process started elsewhere.

    Parameters
    ----------
    use_cuda : bool, optional

    Attributes
    ----------
    mib : float
        Peak in MiB, set when the block ends.
    """

    def __init__(self, use_cuda: bool = False) -> None:
        self._use_cuda = use_cuda
        self.mib = 0.0

    def __enter__(self) -> "PeakMemory":
        if self._use_cuda:
            torch.cuda.reset_peak_memory_stats()
        elif _RESET_PEAK.exists():
            with suppress(OSError):  # without permission the peak covers the whole process
                _RESET_PEAK.write_text("5")  # resets the peak to the current size
        return self

    def __exit__(self, *error: object) -> None:
        if self._use_cuda:
            self.mib = torch.cuda.max_memory_allocated() / 2**20
        elif _PROCESS_STATUS.exists():
            peak = next(line for line in _PROCESS_STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            self.mib = int(peak.split()[1]) / 2**10
        else:
            import resource  # not available on every system

            unit = 1 if sys.platform == "darwin" else 2**10
            self.mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _progress(title: str, verbose: bool) -> list[Progress]:
    """Return the callback that shows a progress bar, if it is wanted."""
    return [Progress(title)] if verbose else []


@dataclass(frozen=True)
class Plan:
    """
    How to train one system.

    Attributes
    ----------
    settings : Settings
    training : Training
        Its epochs are the maximum with `validation`, else the exact number.
    max_sequence_length : int
        Most events per row.
    validation : float or None
        Share of the sessions, the latest ones, to validate on first.
    checkpoint : Checkpoint or None
        Only for systems that are trained by epochs.
    verbose : bool
        Show progress on standard error.
    """

    settings: Settings
    training: Training
    max_sequence_length: int = 200
    validation: float | None = None
    checkpoint: Checkpoint | None = None
    verbose: bool = False

    @property
    def search_checkpoint(self) -> Checkpoint | None:
        """Checkpoint of the fit that chooses the number of epochs."""
        return None if self.checkpoint is None else replace(self.checkpoint, path=self._beside("validation"))

    @property
    def figures_file(self) -> Path | None:
        """File with the validation figures of each epoch of that fit."""
        return None if self.checkpoint is None else self._beside("validation.json")

    @property
    def files(self) -> list[Path]:
        """Files that an interrupted training may leave, in the order of its steps."""
        if self.checkpoint is None:
            return []
        return [self.figures_file, Path(self.search_checkpoint.path), Path(self.checkpoint.path)]

    def _beside(self, ending: str) -> Path:
        path = Path(self.checkpoint.path)
        return path.with_name(f"{path.name}.{ending}")


@dataclass(frozen=True)
class Trained:
    """
    A trained system and its figures.

    Attributes
    ----------
    system : System
    epochs : int or None
        None if the system is not trained by epochs.
    loss : float or None
        Training loss of the last epoch.
    seconds : float
        Duration of the final fit, including that of interrupted processes.
    events : int
        Number of events processed in this time.
    validation : dict or None
        'mrr@20', 'recall@20' and 'targets' of the validation, at its best epoch.
    """

    system: System
    epochs: int | None
    loss: float | None
    seconds: float
    events: int
    validation: dict[str, float] | None = None


def train_one(log: SessionInteractions, plan: Plan, report: Callable[[str], None] = lambda line: None) -> Trained:
    """
    Train one system on all of a log.

    With `plan.validation` the system is first fitted without the latest sessions. If it is trained by epochs, it is
    then retrained for the number of epochs with the best MRR@20 on them, as in ``compare``.

    Parameters
    ----------
    log : SessionInteractions
    plan : Plan
    report : callable, optional
        Called with a line before each fit.

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        If the log has nothing to learn from, a checkpoint belongs to another training, or the loss diverges.
    """
    validation, training = None, plan.training
    if plan.validation is not None:
        report(f"fitting without the latest {plan.validation:g} of the sessions, to validate on them")
        validation, training = _validate(log, plan)
        report("fitting on all sessions")
    rows = to_session_sequences(log, plan.max_sequence_length)
    system = plan.settings.new_system(rows, training)
    if not plan.settings.trained_by_epochs:
        begin = perf_counter()
        system.fit(rows)
        return Trained(system, None, None, perf_counter() - begin, len(rows.events), validation)
    system.fit(rows, callbacks=_progress(FINAL_FIT, plan.verbose), checkpoint=plan.checkpoint)
    records = system.epoch_records
    seconds, events = (sum(getattr(record, name) for record in records) for name in ("seconds", "events"))
    return Trained(system, len(records), records[-1].loss, seconds, events, validation)


def _validate(log: SessionInteractions, plan: Plan) -> tuple[dict[str, float], Training]:
    """Figures of the system on the latest sessions, and the training with the best number of epochs."""
    fitting, rows = rows_of(time_based_split(log, plan.validation), plan.max_sequence_length)
    system = plan.settings.new_system(fitting, plan.training)
    if not plan.settings.trained_by_epochs:
        stopping = EarlyStopping(rows)
        stopping.measure(system.fit(fitting))
        return stopping.best_figures, plan.training
    stopping = EarlyStopping(rows, path=plan.figures_file)
    callbacks = [*_progress(FINDING_EPOCHS, plan.verbose), stopping]
    system.fit(fitting, callbacks=callbacks, checkpoint=plan.search_checkpoint)
    stopping.check_complete(len(system.epoch_records))
    return stopping.best_figures, replace(plan.training, epochs=stopping.best_epoch + 1)
