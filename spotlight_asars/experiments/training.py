"""One run of a comparison: a system trained on one part of a log, and its ranks on the other.

The most memory a piece of work takes.

One system trained for use: the number of its epochs found on the latest sessions, then fitted on all of them.
"""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from spotlight_asars.cross_validation import TimeSplit, rows_of, time_based_split
from spotlight_asars.evaluation import Ranks, System, rank_targets
from spotlight_asars.experiments.logs import VALIDATION_SHARE
from spotlight_asars.experiments.settings import NetSettings, Settings, Training
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.training.callbacks import EarlyStopping
from spotlight_asars.serialization.checkpoints import Checkpoint

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """
    Measure the peak memory of a block of code, in MiB.

    On a GPU it is what torch allocated there. On Linux it is the process's peak resident memory within the block;
    elsewhere the peak since the process began, the only one the system tells.

    Attributes
    ----------
    mib : float
        Known after the block.
    """

    def __init__(self, use_cuda: bool = False) -> None:
        self._use_cuda = use_cuda
        self.mib = 0.0

    def __enter__(self) -> "PeakMemory":
        if self._use_cuda:
            torch.cuda.reset_peak_memory_stats()
        elif _RESET.exists():
            with suppress(OSError):  # a locked-down system keeps the peak since the process began
                _RESET.write_text("5")  # sets the peak back to the present size
        return self

    def __exit__(self, *error: object) -> None:
        if self._use_cuda:
            self.mib = torch.cuda.max_memory_allocated() / 2**20
        elif _STATUS.exists():
            peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            self.mib = int(peak.split()[1]) / 2**10
        else:
            import resource  # not on every system

            unit = 1 if sys.platform == "darwin" else 2**10
            self.mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


@dataclass(frozen=True)
class Parts:
    """The rows of one comparison: those to choose the number of epochs by, and those of the result."""

    fitting: SessionSequences
    validation: SessionSequences
    train: SessionSequences
    test: SessionSequences

    def with_shuffled_dwell(self, seed: int) -> "Parts":
        """Each part with its known dwell bins shuffled, see :func:`with_shuffled_dwell`."""
        parts = (self.fitting, self.validation, self.train, self.test)
        return Parts(*(with_shuffled_dwell(rows, seed) for rows in parts))


@dataclass(frozen=True)
class Run:
    """
    What is kept of a system once it is trained and tested.

    Attributes
    ----------
    figures : dict
        Its seed, epochs, speed and memory, as they stand in ``results.json``.
    ranks : Ranks
        Of the test targets.
    """

    figures: dict
    ranks: Ranks


def parts_of(split: TimeSplit, max_sequence_length: int) -> Parts:
    """The rows of a split log, and within its training part those of the latest sessions to validate on."""
    fitting, validation = rows_of(time_based_split(split.train, VALIDATION_SHARE), max_sequence_length)
    return Parts(fitting, validation, *rows_of(split, max_sequence_length))


def with_shuffled_dwell(rows: SessionSequences, seed: int) -> SessionSequences:
    """
    Rows whose dwell bins say nothing: those that are known change places at random, all else stays.

    What a net gains from true dwell bins over these is what it learns from dwell, and not what it has by being larger.
    """
    events = rows.events.copy()
    known = np.flatnonzero(events[:, DWELL] > UNKNOWN_BIN)
    events[known, DWELL] = np.random.RandomState(seed).permutation(events[known, DWELL])
    return rows.with_events(events)


def train_and_test(settings: Settings, parts: Parts, training: Training, verbose: bool = False) -> Run:
    """
    Train a system and rank the test targets.

    A net is fitted twice: to find the number of epochs by the validation part, then anew on the whole training part.
    What only counts is fitted on the whole training part at once.

    Parameters
    ----------
    settings : Settings
    parts : Parts
    training : Training
        Its epochs are the most to be tried.
    verbose : bool, optional
        Show epochs on standard error.
    """
    begin = time.perf_counter()
    fit = _fit_net if settings.trained_by_epochs else _fit_at_once
    with PeakMemory(training.use_cuda) as memory:
        system, figures = fit(settings, parts, training, verbose)
        ranking_begin = time.perf_counter()
        ranks = rank_targets(system, parts.test)
        seconds = time.perf_counter() - ranking_begin
    figures |= {
        "evaluation_seconds": seconds,
        "peak_memory_mib": memory.mib,
        "run_seconds": time.perf_counter() - begin,
    }
    return Run(figures, ranks)


def _fit_net(settings: NetSettings, parts: Parts, training: Training, verbose: bool) -> tuple[ASARSSequenceModel, dict]:
    stopping = EarlyStopping(parts.validation)
    settings.new_system(parts.fitting, training).fit(parts.fitting, verbose=verbose, callbacks=[stopping])
    epochs = stopping.best_epoch + 1
    model = settings.new_system(parts.train, replace(training, epochs=epochs))
    model.fit(parts.train, verbose=verbose)
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
    begin = time.perf_counter()
    system = settings.new_system(parts.train, training).fit(parts.train)
    seconds = time.perf_counter() - begin
    return system, {
        "seed": training.seed if settings.random else None,
        "epochs": None,
        "validation_mrr@20": None,
        "parameters": None,
        "seconds_per_epoch": seconds,
        "events_per_second": len(parts.train.events) / seconds,
    }


@dataclass(frozen=True)
class Plan:
    """
    How one system is trained.

    Attributes
    ----------
    settings : Settings
    training : Training
        Its epochs are the most to be tried where there is a validation, else those that are fitted.
    max_sequence_length : int
        Events a row.
    validation : float or None
        Share of the sessions, the latest, on which the system is first validated.
    checkpoint : Checkpoint or None
        For systems that are trained by epochs.
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
        """Where the fit before the one that is kept has its checkpoint."""
        return None if self.checkpoint is None else replace(self.checkpoint, path=self._beside("validation"))

    @property
    def figures_file(self) -> Path | None:
        """What each epoch of that fit was worth, which its checkpoint does not hold."""
        return None if self.checkpoint is None else self._beside("validation.json")

    @property
    def files(self) -> list[Path]:
        """All that may be there of a training that was stopped, in the order of its steps."""
        if self.checkpoint is None:
            return []
        return [self.figures_file, Path(self.search_checkpoint.path), Path(self.checkpoint.path)]

    def _beside(self, ending: str) -> Path:
        path = Path(self.checkpoint.path)
        return path.with_name(f"{path.name}.{ending}")


@dataclass(frozen=True)
class Trained:
    """
    A trained system, and what there is to say of it.

    Attributes
    ----------
    system : System
    epochs : int or None
        None of a system that is fitted at once.
    loss : float or None
        Of the last epoch.
    seconds : float
        Of the fit that is kept; of an earlier, killed process too.
    events : int
        That went through the system in this time.
    validation : dict or None
        'mrr@20', 'recall@20' and 'targets', of the fit before it, at its best epoch.
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

    With a validation it is first fitted on the earlier sessions. A system that is trained by epochs is then fitted
    anew for as many epochs as had the best MRR@20 on the later ones, as ``compare`` does it.

    Parameters
    ----------
    log : SessionInteractions
    plan : Plan
    report : callable, optional
        Gets a line before each fit.

    Raises
    ------
    InputError
        If the log has nothing to learn from, a checkpoint is of something else, or the loss is no longer finite.
    """
    validation, training = None, plan.training
    if plan.validation is not None:
        report(f"fitting on all but the latest {plan.validation:g} of the sessions, to validate on these")
        validation, training = _validate(log, plan)
        report("fitting on all sessions")
    rows = to_session_sequences(log, plan.max_sequence_length)
    system = plan.settings.new_system(rows, training)
    if not plan.settings.trained_by_epochs:
        begin = perf_counter()
        system.fit(rows)
        return Trained(system, None, None, perf_counter() - begin, len(rows.events), validation)
    system.fit(rows, verbose=plan.verbose, checkpoint=plan.checkpoint)
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
    system.fit(fitting, verbose=plan.verbose, callbacks=[stopping], checkpoint=plan.search_checkpoint)
    stopping.check_complete(len(system.epoch_records))
    return stopping.best_figures, replace(plan.training, epochs=stopping.best_epoch + 1)
