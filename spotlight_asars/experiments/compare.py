"""The paper's Table 2 for any log: train the named systems on one part, rank the other, and say how sure that is."""

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from spotlight_asars import host
from spotlight_asars.cross_validation import TimeSplit, time_based_split
from spotlight_asars.evaluation import Ranks, confidence_interval, metrics, paired_test, rank_targets
from spotlight_asars.experiments.logs import PreparedLog
from spotlight_asars.experiments.memory import PeakMemory
from spotlight_asars.experiments.settings import SystemSettings
from spotlight_asars.interactions import SessionSequences, to_session_sequences
from spotlight_asars.sequence.fitting import EpochRecord
from spotlight_asars.sequence.implicit import ASARSSequenceModel

VALIDATION_SHARE = 0.1
PATIENCE = 3  # epochs without a better validation MRR@20 after which the search for their number ends


@dataclass(frozen=True)
class Protocol:
    """
    How every system is trained and tested.

    Attributes
    ----------
    epochs : int
        The most epochs; how many are used is chosen on the latest sessions of the training part.
    seed : int
    dwell : {'known', 'observed'}
    max_sequence_length : int
        Events a row.
    use_cuda : bool
    verbose : bool
        Show progress on standard error.
    """

    epochs: int = 20
    seed: int = 0
    dwell: str = "known"
    max_sequence_length: int = 200
    use_cuda: bool = False
    verbose: bool = True


@dataclass(frozen=True)
class Parts:
    """The rows of one comparison: those to choose the number of epochs by, and those of the result."""

    fitting: SessionSequences
    validation: SessionSequences
    train: SessionSequences
    test: SessionSequences


def compare(
    log: PreparedLog,
    systems: dict[str, SystemSettings],
    protocol: Protocol,
    report: Callable[[str], None] = lambda line: None,
) -> dict:
    """
    Train and test systems on one log.

    Parameters
    ----------
    log : PreparedLog
    systems : dict
        Settings by the name of the net.
    protocol : Protocol
    report : callable, optional
        Gets a line before each system.

    Returns
    -------
    dict
        What ``results.json`` holds: 'dataset', 'protocol' and 'models'.
    """
    parts = _parts(log.split, protocol.max_sequence_length)
    models, reciprocal_ranks = {}, {}
    for place, (name, settings) in enumerate(systems.items()):
        report(f"{name} ({place + 1} of {len(systems)})")
        models[name], ranks = _run(name, settings, parts, protocol)
        reciprocal_ranks[name] = ranks.reciprocal(20)
        first = next(iter(systems))
        if name != first:
            test = paired_test(reciprocal_ranks[name], reciprocal_ranks[first], ranks.session_ids, seed=protocol.seed)
            models[name]["mrr@20_less_first"] = {"first": first, **asdict(test)}
    return {
        "dataset": {**log.dataset, "targets": parts.test.num_targets},
        "protocol": {**log.protocol, **_describe(protocol, parts)},
        "models": models,
    }


def _parts(split: TimeSplit, max_sequence_length: int) -> Parts:
    inner = time_based_split(split.train, VALIDATION_SHARE)
    fitting, validation = _rows(inner, max_sequence_length)
    train, test = _rows(split, max_sequence_length)
    return Parts(fitting, validation, train, test)


def _rows(split: TimeSplit, max_sequence_length: int) -> tuple[SessionSequences, SessionSequences]:
    train = to_session_sequences(split.train, max_sequence_length)
    test = to_session_sequences(
        split.test,
        max_sequence_length,
        history=split.train,
        binning=train.binning,
        gap_binning=train.gap_binning,
    )
    return train, test


def _run(name: str, settings: SystemSettings, parts: Parts, protocol: Protocol) -> tuple[dict, Ranks]:
    validation_mrr = []

    def measure(model: ASARSSequenceModel, record: EpochRecord) -> bool:
        validation_mrr.append(metrics(rank_targets(model, parts.validation), (20,))["mrr@20"])
        return bool(len(validation_mrr) - 1 - np.argmax(validation_mrr) >= PATIENCE)

    with PeakMemory(protocol.use_cuda) as memory:
        chosen = new_model(name, settings, protocol, protocol.epochs, parts.fitting)
        chosen.fit(parts.fitting, verbose=protocol.verbose, callbacks=[measure])
        epochs = int(np.argmax(validation_mrr)) + 1
        model = new_model(name, settings, protocol, epochs, parts.train)
        model.fit(parts.train, verbose=protocol.verbose)
        begin = time.perf_counter()
        ranks = rank_targets(model, parts.test)
        seconds = time.perf_counter() - begin
    result = {
        **metrics(ranks),
        "targets": len(ranks),
        "ci95": _intervals(ranks, protocol.seed),
        **_speed(model.epoch_records),
        "evaluation_seconds": seconds,
        "peak_memory_mib": memory.mib,
        "epochs": epochs,
        "validation_mrr@20": validation_mrr[epochs - 1],
        "parameters": sum(weight.numel() for weight in model._net.parameters()),
        "settings": asdict(settings),
    }
    return result, ranks


def new_model(
    name: str, settings: SystemSettings, protocol: Protocol, epochs: int, rows: SessionSequences
) -> ASARSSequenceModel:
    """A model of the named net for these rows, not yet fitted."""
    return ASARSSequenceModel(
        loss=settings.loss,
        representation=name,
        embedding_dim=settings.embedding_dim,
        n_iter=epochs,
        batch_size=settings.rows_a_batch(float(rows.lengths.mean())),
        optimizer_func=settings.optimizer_func,
        use_cuda=protocol.use_cuda,
        random_state=protocol.seed,
        num_negative_samples=settings.num_negative_samples,
        dwell=protocol.dwell,
        representation_options=settings.representation_options,
    )


def _intervals(ranks: Ranks, seed: int) -> dict[str, tuple[float, float]]:
    values = {"mrr@20": ranks.reciprocal(20), "recall@20": ranks.hits(20)}
    return {name: confidence_interval(value, ranks.session_ids, seed=seed) for name, value in values.items()}


def _speed(records: list[EpochRecord]) -> dict[str, float]:
    seconds = float(np.median([record.seconds for record in records]))
    return {"seconds_per_epoch": seconds, "events_per_second": records[0].events / seconds}


def _describe(protocol: Protocol, parts: Parts) -> dict:
    return {
        **{name: value for name, value in asdict(protocol).items() if name != "verbose"},
        "ranks": "among all training items; 1 + higher + equal others / 2",
        "intervals": "95 %, bootstrap by session, 1000 resamples",
        "epochs_chosen_by": f"MRR@20 on the latest {VALIDATION_SHARE:g} of the training sessions, patience {PATIENCE}",
        "fitted_on": "the whole training part, for that number of epochs",
        "validation_targets": parts.validation.num_targets,
        "host": host.NAME,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
