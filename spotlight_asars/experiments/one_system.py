"""One system trained for use: the number of its epochs found on the latest sessions, then fitted on all of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np

from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.evaluation import Ranks, System, rank_targets
from spotlight_asars.experiments.settings import Settings, Training
from spotlight_asars.experiments.training import rows_of
from spotlight_asars.interactions import SessionSequences, to_session_sequences
from spotlight_asars.sequence.checkpoints import Checkpoint
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
    def checkpoints(self) -> list[Checkpoint]:
        """That of the fit that is kept, and before it that of the validation, if there are any."""
        if self.checkpoint is None:
            return []
        path = Path(self.checkpoint.path)
        search = replace(self.checkpoint, path=path.with_name(f"{path.name}.validation"))
        return [self.checkpoint] if self.validation is None else [search, self.checkpoint]


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
    validation : Ranks or None
    """

    system: System
    epochs: int | None
    loss: float | None
    seconds: float
    events: int
    validation: Ranks | None = None


def train_one(log: SessionInteractions, plan: Plan, report: Callable[[str], None] = lambda line: None) -> Trained:
    """
    Train one system on all of a log.

    With a validation it is first fitted on the earlier sessions. A system that is trained by epochs is then fitted
    anew for as many epochs as had the smallest loss on the later ones.

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
    training, checkpoints, ranks = plan.training, plan.checkpoints, None
    if plan.validation is not None:
        report(f"fitting on all but the latest {plan.validation:g} of the sessions, to validate on these")
        fitting, validation = rows_of(time_based_split(log, plan.validation), plan.max_sequence_length)
        found = _fit(plan, training, fitting, checkpoints[0] if checkpoints else None, validation)
        ranks = rank_targets(found.system, validation)
        if found.epochs is not None:
            losses = [record.validation_loss for record in found.system.epoch_records]
            training = replace(training, epochs=int(np.argmin(losses)) + 1)
        report("fitting on all sessions")
    rows = to_session_sequences(log, plan.max_sequence_length)
    return replace(_fit(plan, training, rows, checkpoints[-1] if checkpoints else None), validation=ranks)


def _fit(
    plan: Plan,
    training: Training,
    rows: SessionSequences,
    checkpoint: Checkpoint | None,
    validation: SessionSequences | None = None,
) -> Trained:
    system = plan.settings.new_system(rows, training)
    if not plan.settings.trained_by_epochs:
        begin = perf_counter()
        system.fit(rows)
        return Trained(system, None, None, perf_counter() - begin, len(rows.events))
    system.fit(rows, verbose=plan.verbose, validation=validation, checkpoint=checkpoint)
    records = system.epoch_records
    seconds, events = (sum(getattr(record, name) for record in records) for name in ("seconds", "events"))
    return Trained(system, len(records), records[-1].loss, seconds, events)
