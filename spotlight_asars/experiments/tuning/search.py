"""Search for a system's settings, by MRR@20 on the latest sessions of the training part."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

import spotlight_asars
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.logs import TuningLog
from spotlight_asars.experiments.settings import Settings, Training, describe, write_settings
from spotlight_asars.experiments.systems import settings_of
from spotlight_asars.experiments.tuning.spaces import Space, settings_from, space_of, suggest, values_of
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.training.callbacks import EarlyStopping
from spotlight_asars.sequence.training.resuming import EpochRecord
from spotlight_asars.serialization.files import write_whole

try:
    import optuna
    from optuna import Study, Trial
    from optuna.samplers import TPESampler
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, TrialState
except ImportError:  # an optional dependency; see require_optuna
    optuna = None

JOURNAL, TABLE = "trials.journal", "trials.csv"
# Number of random trials at first, and of trials before the median rule can prune one.
RANDOM_TRIALS, TRIALS_OF_A_MEDIAN = 10, 5


@dataclass(frozen=True)
class Search:
    """
    How to search.

    Attributes
    ----------
    trials : int
        Number of finished trials, including those of earlier calls in the same folder.
    epochs : int
        Maximum epochs of a trial, which stops after ``PATIENCE`` epochs without a better MRR@20.
    seed : int
        Seed of the search and of every system.
    dwell : {'known', 'observed'}
    max_sequence_length : int
        Most events per row.
    use_cuda : bool
    timeout : float or None
        Seconds after which no new trial of a system starts; one trial always runs.
    """

    trials: int = 30
    epochs: int = 20
    seed: int = 0
    dwell: str = "known"
    max_sequence_length: int = 200
    use_cuda: bool = False
    timeout: float | None = None

    @property
    def training(self) -> Training:
        """How the systems are trained."""
        return Training(self.epochs, self.seed, self.dwell, self.use_cuda)


@dataclass(frozen=True)
class Found:
    """
    The result of a search.

    Attributes
    ----------
    settings : Settings
        The best settings.
    mrr, recall : float
        Their MRR@20 and Recall@20 on the validation rows.
    first_mrr : float or None
        MRR@20 of the initial settings; None if they diverged.
    best_epoch : int or None
        Counted from 1; None for systems without epochs.
    trial, trials : int
        Number of the best trial, and count of finished trials.
    """

    settings: Settings
    mrr: float
    recall: float
    first_mrr: float | None
    best_epoch: int | None
    trial: int
    trials: int


def tune(
    log: TuningLog,
    name: str,
    search: Search,
    out: Path,
    base: Settings | None = None,
    space: Space | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Found:
    """
    Search for the settings of one system, or continue an interrupted search.

    The first trial uses the settings `base`, so the result is never worse on the validation rows. After each trial the
    folder holds all trials so far (``trials.csv``: every system searched there, best first) and the best settings
    (``<name>.json``, which ``compare --parameters`` reads). An interrupted search continues to the result that it would
    have found without the interruption.

    Parameters
    ----------
    log : TuningLog
    name : str
        One of ``system_names()``.
    search : Search
    out : Path
        An existing folder.
    base : Settings, optional
        The system's built-in settings by default.
    space : Space, optional
        ``space_of(base)`` by default.
    report : callable, optional
        Called with a line after each trial.

    Returns
    -------
    Found

    Raises
    ------
    InputError
        If optuna is missing, the folder holds trials of another search, or every trial diverged.
    """
    base = settings_of(name).for_catalogue(log.fitting.num_items) if base is None else base
    space = space_of(base) if space is None else space
    require_optuna()
    storage = _open_storage(out)
    study = _open_study(storage, out, name, _description(log, search, base, space))
    _enqueue(study, values_of(base, space))
    keep = partial(_keep, storage, study, out, name, log, search, partial(settings_from, space=space, base=base))
    begin = perf_counter()
    wanted = search.trials if space else 1  # without parameters there is nothing to search
    try:
        while (done := len(_finished(study))) < wanted:
            if done and search.timeout is not None and perf_counter() - begin >= search.timeout:
                report(f"{name}: stopped by the timeout after {done} of {wanted} trials")
                break
            trial = _next_trial(study, search.seed, done)
            _run(trial, settings_from(suggest(trial, space), space, base), log, search.training)
            keep()
            report(f"{name}: trial {done + 1} of {wanted}, {_describe_trial(study, trial)}")
    finally:
        found = keep()  # record an interrupted trial, too
    if found is None:
        raise InputError(f"{name}: every trial diverged (see {out / TABLE}): search again with more --trials")
    return found


def _description(log: TuningLog, search: Search, base: Settings, space: Space) -> dict:
    """Return everything that must be equal for trials to be comparable, as read back from JSON."""
    description = {
        "log": log.mark,
        "epochs": search.epochs,
        "seed": search.seed,
        "dwell": search.dwell,
        "max_sequence_length": search.max_sequence_length,
        "first settings": describe(base),
        "space": [repr(parameter) for parameter in space],
    }
    return json.loads(json.dumps(description))


def require_optuna() -> None:
    """
    Raise an InputError if optuna is not installed; else silence its log.

    Only the search needs optuna, an optional dependency.
    """
    if optuna is None:
        raise InputError("tune needs optuna, which is not installed: pip install optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _open_storage(out: Path) -> "JournalStorage":
    return JournalStorage(JournalFileBackend(str(out / JOURNAL)))


def _open_study(storage: "JournalStorage", out: Path, name: str, description: dict) -> "Study":
    """Open the trials of a system in this folder; raise an InputError if they belong to another search."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=TRIALS_OF_A_MEDIAN, n_warmup_steps=1)
    study = optuna.create_study(
        study_name=name, storage=storage, pruner=pruner, direction="maximize", load_if_exists=True
    )
    before = study.user_attrs.get("search", description)
    differing = [key for key, value in description.items() if before.get(key) != value]
    if differing:
        raise InputError(
            f"{out}: holds trials of {name} from another search (different {', '.join(differing)}): "
            "choose another folder with --out"
        )
    study.set_user_attr("search", description)
    return study


def _enqueue(study: "Study", values: dict) -> None:
    """Make the initial settings the next trial, unless they are already waiting or done."""
    for trial in study.get_trials(deepcopy=False):
        if _is_first(trial) and trial.state in (TrialState.WAITING, *_ends()):
            return
    study.enqueue_trial(values, user_attrs={"is_first": True})


def _next_trial(study: "Study", seed: int, done: int) -> "Trial":
    # A new sampler for each trial, so that its draws do not depend on where a search was interrupted.
    own_seed = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    study.sampler = TPESampler(seed=own_seed, n_startup_trials=RANDOM_TRIALS)
    return study.ask()


def _run(trial: "Trial", settings: Settings, log: TuningLog, training: Training) -> None:
    """Train and validate, and tell the study how it went; whatever ends it, the trial is closed."""
    watch, begin = _Pruning(trial, log.validation), perf_counter()
    state, outcome = TrialState.FAIL, "stopped"
    try:
        system = settings.new_system(log.fitting, training)
        if settings.trained_by_epochs:
            system.fit(log.fitting, callbacks=[watch])
        else:
            watch.measure(system.fit(log.fitting))
        state, outcome = (TrialState.PRUNED, "pruned") if watch.pruned else (TrialState.COMPLETE, "complete")
    except InputError as error:
        if "finite" not in str(error):
            raise
        # Reported as pruned: the sampler learns nothing from failed trials, and would try the same region again.
        state, outcome = TrialState.PRUNED, "diverged"
    finally:
        trial.set_user_attr("outcome", outcome)
        trial.set_user_attr("seconds", perf_counter() - begin)
        if watch.figures:
            best = {name: watch.best_figures[name] for name in ("mrr@20", "recall@20")}
            trial.set_user_attr("best", best)
            trial.set_user_attr("best_epoch", watch.best_epoch + 1 if settings.trained_by_epochs else None)
        complete = state == TrialState.COMPLETE
        trial.study.tell(trial, best["mrr@20"] if complete else None, state)


class _Pruning(EarlyStopping):
    """End a trial early too if it lies below the median of the other trials at that epoch."""

    def __init__(self, trial: "Trial", validation: SessionSequences) -> None:
        super().__init__(validation)
        self._trial, self.pruned = trial, False

    def on_epoch_end(self, model: ASARSSequenceModel, record: EpochRecord) -> bool:
        """Measure an epoch and report it to the study; return whether to stop."""
        out_of_patience = super().on_epoch_end(model, record)
        self._trial.report(self.figures[-1]["mrr@20"], record.epoch)
        self.pruned = bool(self._trial.should_prune())  # numpy's True is not `is True`, which `fit` asks for
        return self.pruned or out_of_patience


def _ends() -> tuple:
    """Return the states of finished trials; a failed trial was interrupted."""
    return TrialState.COMPLETE, TrialState.PRUNED


def _finished(study: "Study") -> list["FrozenTrial"]:
    return study.get_trials(deepcopy=False, states=_ends())


def _is_first(trial: "FrozenTrial") -> bool:
    return trial.user_attrs.get("is_first", False)


def _best(trials: list["FrozenTrial"]) -> "FrozenTrial | None":
    """Return the complete trial with the highest value, the earliest in a tie."""
    complete = [trial for trial in trials if trial.user_attrs["outcome"] == "complete"]
    return max(complete, key=lambda trial: trial.value, default=None)


def _describe_trial(study: "Study", trial: "Trial") -> str:
    this, best = study.get_trials(deepcopy=False)[trial.number], _best(_finished(study))
    figures = this.user_attrs.get("best")
    value = f", validation MRR@20 {figures['mrr@20']:.4f}" if figures else ""
    best_value = f" (best so far {best.value:.4f})" if best else ""
    return f"{this.user_attrs['outcome']} after {this.user_attrs['seconds']:.0f} s{value}{best_value}"


def _keep(
    storage: "JournalStorage",
    study: "Study",
    out: Path,
    name: str,
    log: TuningLog,
    search: Search,
    settings_of_values: Callable[[dict], Settings],
) -> Found | None:
    """Write all trials and, if any is complete, the best settings."""
    write_whole(out / TABLE, _table(storage))
    trials = _finished(study)
    best = _best(trials)
    if best is None:
        return None
    first = [trial.value for trial in trials if _is_first(trial)]
    figures = best.user_attrs["best"]
    found = Found(
        settings=settings_of_values(best.params),
        mrr=figures["mrr@20"],
        recall=figures["recall@20"],
        first_mrr=first[0] if first else None,
        best_epoch=best.user_attrs["best_epoch"],
        trial=best.number,
        trials=len(trials),
    )
    about = {
        "log": log.name,
        "trials": found.trials,
        "seed": search.seed,
        "validation_mrr@20": found.mrr,
        "validation_recall@20": found.recall,
        "validation_mrr@20_of_first": found.first_mrr,
        "best_epoch": found.best_epoch,
        "most_epochs": search.epochs,
        "dwell": search.dwell,
        "max_sequence_length": search.max_sequence_length,
        "spotlight_asars": spotlight_asars.__version__,
    }
    write_settings(out / f"{name}.json", found.settings, about)
    return found


def _table(storage: "JournalStorage") -> str:
    """Return all trials of a folder as CSV: by system, best first, unfinished trials last."""
    ranks = {"complete": 0, "pruned": 1, "diverged": 2, "stopped": 3}
    rows = []
    for name in optuna.get_all_study_names(storage):
        for trial in optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False):
            known = trial.user_attrs
            if "outcome" not in known:  # waiting, running, or killed
                continue
            figures = known.get("best", {"mrr@20": None, "recall@20": None})
            row = {
                "system": name,
                "number": trial.number,
                "state": known["outcome"],
                **{f"validation_{metric}": figures[metric] for metric in ("mrr@20", "recall@20")},
                "best_epoch": known.get("best_epoch"),
                "seconds": known["seconds"],
                "is_first": _is_first(trial),
                **trial.params,
            }
            rows.append((name, ranks[known["outcome"]], -(figures["mrr@20"] or 0.0), trial.number, row))
    rows = [_six_digits(row) for *_, row in sorted(rows, key=lambda entry: entry[:4])]
    # As objects, so that whole numbers stay whole in a column with gaps.
    return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")


def _six_digits(row: dict) -> dict:
    return {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
