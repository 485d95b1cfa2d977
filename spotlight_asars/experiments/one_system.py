"""One system trained for use: the number of its epochs found on the latest sessions, then fitted on all of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System, metrics, rank_targets
from spotlight_asars.experiments.settings import Settings, Training
from spotlight_asars.experiments.training import PATIENCE, rows_of
from spotlight_asars.files import write_whole
from spotlight_asars.interactions import SessionSequences, to_session_sequences
from spotlight_asars.sequence.checkpoints import Checkpoint
from spotlight_asars.sequence.distributed import Team
from spotlight_asars.sequence.fitting import EpochRecord
from spotlight_asars.sessions import SessionInteractions


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
        return _figures(system.fit(fitting), rows), plan.training
    found = _Figures(plan.figures_file, rows)
    system.fit(fitting, verbose=plan.verbose, callbacks=[found.measure], checkpoint=plan.search_checkpoint)
    found.check_complete(len(system.epoch_records))
    return found.epochs[found.best], replace(plan.training, epochs=found.best + 1)


def _figures(system: System, rows: SessionSequences) -> dict[str, float]:
    ranks = rank_targets(system, rows)
    return {**metrics(ranks, (20,)), "targets": len(ranks)}


class _Figures:
    """Figures of each epoch, kept in a file where there is one, so that a stopped training has those it began with."""

    def __init__(self, path: Path | None, rows: SessionSequences) -> None:
        self._path, self._rows, self._team = path, rows, Team.of_process()
        self.epochs: list[dict[str, float]] = self._team.agreed(self._read() if self._team.is_first else [])

    def _read(self) -> list[dict[str, float]]:
        if self._path is None or not self._path.exists():
            return []
        try:
            return json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self._path}: cannot be read ({error}): remove it and the checkpoint beside it"
            ) from error

    @property
    def best(self) -> int:
        """The epoch with the best MRR@20."""
        return int(np.argmax([figures["mrr@20"] for figures in self.epochs]))

    def measure(self, model: System, record: EpochRecord) -> bool:
        """Measure an epoch; whether it is time to stop."""
        self.check_complete(record.epoch)
        # What stands there of this epoch and later ones was written just before a stop, or is of another training.
        self.epochs = [*self.epochs[: record.epoch], self._team.agreed(_figures(model, self._rows))]
        if self._path is not None and self._team.is_first:
            write_whole(self._path, json.dumps(self.epochs) + "\n")
        return len(self.epochs) - 1 - self.best >= PATIENCE

    def check_complete(self, epochs: int) -> None:
        """Refuse to go on from a checkpoint without the figures of its epochs."""
        if len(self.epochs) < epochs:
            raise InputError(
                f"{self._path}: it lacks figures of the epochs that the checkpoint beside it has: remove that too, to "
                "begin anew"
            )
