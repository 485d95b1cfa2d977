"""One run of a comparison: a system trained on one part of a log, and its ranks on the other."""

import time
from dataclasses import dataclass, replace

import numpy as np

from spotlight_asars.binning import UNKNOWN_BIN
from spotlight_asars.cross_validation import TimeSplit, time_based_split
from spotlight_asars.evaluation import Ranks, metrics, rank_targets
from spotlight_asars.experiments.memory import PeakMemory
from spotlight_asars.experiments.settings import NetSettings, Settings, Training
from spotlight_asars.interactions import SessionSequences, to_session_sequences
from spotlight_asars.rows import DWELL
from spotlight_asars.sequence.fitting import EpochRecord
from spotlight_asars.sequence.implicit import ASARSSequenceModel

VALIDATION_SHARE = 0.1
PATIENCE = 3  # epochs without a better validation MRR@20 after which the search for their number ends


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


def rows_of(split: TimeSplit, max_sequence_length: int) -> tuple[SessionSequences, SessionSequences]:
    """Rows of both parts; those of the second have the first as their history, and its bins."""
    train = to_session_sequences(split.train, max_sequence_length)
    test = to_session_sequences(
        split.test,
        max_sequence_length,
        history=split.train,
        binning=train.binning,
        gap_binning=train.gap_binning,
    )
    return train, test


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
    validation_mrr = []

    def measure(model: ASARSSequenceModel, record: EpochRecord) -> bool:
        validation_mrr.append(metrics(rank_targets(model, parts.validation), (20,))["mrr@20"])
        return bool(len(validation_mrr) - 1 - np.argmax(validation_mrr) >= PATIENCE)

    settings.new_system(parts.fitting, training).fit(parts.fitting, verbose=verbose, callbacks=[measure])
    epochs = int(np.argmax(validation_mrr)) + 1
    model = settings.new_system(parts.train, replace(training, epochs=epochs))
    model.fit(parts.train, verbose=verbose)
    seconds = float(np.median([record.seconds for record in model.epoch_records]))
    return model, {
        "seed": training.seed,
        "epochs": epochs,
        "validation_mrr@20": validation_mrr[epochs - 1],
        "parameters": sum(weight.numel() for weight in model._net.parameters()),
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
