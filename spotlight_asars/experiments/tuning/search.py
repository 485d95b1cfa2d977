"""The search for a system's settings, by MRR@20 on the latest sessions of a training part."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from optuna import Study, Trial
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial

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

JOURNAL, TABLE = "trials.journal", "trials.csv"
# Trials before the search looks at those before it, and before a trial is compared with their median.
RANDOM_TRIALS, TRIALS_OF_A_MEDIAN = 10, 5


@dataclass(frozen=True)
class Search:
    """
    How settings are searched.

    Attributes
    ----------
    trials : int
        Finished trials that are wanted, those of earlier calls in the same folder included.
    epochs : int
        The most epochs of a trial, which ends before after ``PATIENCE`` epochs without a better MRR@20.
    seed : int
        Of the search and of every system.
    dwell : {'known', 'observed'}
    max_sequence_length : int
        Events a row.
    use_cuda : bool
    timeout : float or None
        Seconds after which no new trial of a system begins; one is always made.
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
        """What the systems are made for."""
        return Training(self.epochs, self.seed, self.dwell, self.use_cuda)


@dataclass(frozen=True)
class Found:
    """
    What a search found.

    Attributes
    ----------
    settings : Settings
        The best ones.
    mrr, recall : float
        Theirs at 20 on the validation rows.
    first_mrr : float or None
        That of the settings the search began with; None where they diverged.
    best_epoch : int or None
        Counted from 1; None for systems without epochs.
    trial, trials : int
        Number of the best trial, and how many have finished.
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
    Search the settings of one system; a search that was stopped goes on where it was.

    The first trial is of the settings `base`, so that what is found is never worse than they are on the validation
    rows. After each trial the folder holds all trials so far (``trials.csv``, of every system searched there, the
    best first) and the best settings (``<name>.json``, which ``compare --parameters`` reads). A search that was
    stopped and goes on finds what it would have found without the stop.

    Parameters
    ----------
    log : TuningLog
    name : str
        Of ``system_names()``.
    search : Search
    out : Path
        A folder that is there.
    base : Settings, optional
        The system's own by default.
    space : Space, optional
        See ``spaces``; ``space_of(base)`` by default.
    report : callable, optional
        Gets a line after each trial.

    Returns
    -------
    Found

    Raises
    ------
    InputError
        If optuna is missing, the folder holds trials of another search, or no trial came to an end without
        diverging.
    """
    base = settings_of(name).for_catalogue(log.fitting.num_items) if base is None else base
    space = space_of(base) if space is None else space
    require_optuna()
    storage = _open_storage(out)
    study = _open_study(storage, out, name, _description(log, search, base, space))
    _enqueue(study, values_of(base, space))
    keep = partial(_keep, storage, study, out, name, log, search, partial(settings_from, space=space, base=base))
    begin = perf_counter()
    wanted = search.trials if space else 1  # without a parameter there is nothing to vary
    try:
        while (done := len(_finished(study))) < wanted:
            if done and search.timeout is not None and perf_counter() - begin >= search.timeout:
                report(f"{name}: {done} of {wanted} trials, the time is up")
                break
            trial = _next_trial(study, search.seed, done)
            _run(trial, settings_from(suggest(trial, space), space, base), log, search.training)
            keep()
            report(f"{name}: trial {done + 1} of {wanted}, {_in_words(study, trial)}")
    finally:
        found = keep()  # also what an interrupted trial leaves
    if found is None:
        raise InputError(f"{name}: every trial diverged, see {out / TABLE}: search again with more --trials")
    return found


def _description(log: TuningLog, search: Search, base: Settings, space: Space) -> dict:
    """What makes trials comparable, as JSON gives it back."""
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
    Make sure that the search can be made; everything else of the package does without optuna.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import optuna  # an extra, not a need
    except ImportError as error:
        raise InputError("tune needs optuna, which is not installed: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _open_storage(out: Path) -> "JournalStorage":
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    return JournalStorage(JournalFileBackend(str(out / JOURNAL)))


def _open_study(storage: "JournalStorage", out: Path, name: str, description: dict) -> "Study":
    """The trials of a system in this folder, which must be of this same search."""
    import optuna

    pruner = optuna.pruners.MedianPruner(n_startup_trials=TRIALS_OF_A_MEDIAN, n_warmup_steps=1)
    study = optuna.create_study(
        study_name=name, storage=storage, pruner=pruner, direction="maximize", load_if_exists=True
    )
    before = study.user_attrs.get("search", description)
    differing = [key for key, value in description.items() if before.get(key) != value]
    if differing:
        raise InputError(
            f"{out}: the trials of {name} there are of another search ({', '.join(differing)}): "
            "choose another folder with --out"
        )
    study.set_user_attr("search", description)
    return study


def _enqueue(study: "Study", values: dict) -> None:
    """Put the settings it begins with first, unless they are waiting or done."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False):
        if _is_first(trial) and trial.state in (TrialState.WAITING, *_ends()):
            return
    study.enqueue_trial(values, user_attrs={"is_first": True})


def _next_trial(study: "Study", seed: int, done: int) -> "Trial":
    # A sampler of its own for each trial, so that what it draws does not depend on where a search was stopped.
    from optuna.samplers import TPESampler

    own_seed = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    study.sampler = TPESampler(seed=own_seed, n_startup_trials=RANDOM_TRIALS)
    return study.ask()


def _run(trial: "Trial", settings: Settings, log: TuningLog, training: Training) -> None:
    """Train and validate, and tell the study how it went; whatever ends it, the trial is closed."""
    from optuna.trial import TrialState

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
        # Told as pruned: of failed trials the sampler learns nothing, and would go there again.
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
    """The states of trials that count: those that failed were stopped from outside."""
    from optuna.trial import TrialState

    return TrialState.COMPLETE, TrialState.PRUNED


def _finished(study: "Study") -> list["FrozenTrial"]:
    return study.get_trials(deepcopy=False, states=_ends())


def _is_first(trial: "FrozenTrial") -> bool:
    return trial.user_attrs.get("is_first", False)


def _best(trials: list["FrozenTrial"]) -> "FrozenTrial | None":
    """The complete trial of the highest value, the first of equal ones."""
    complete = [trial for trial in trials if trial.user_attrs["outcome"] == "complete"]
    return max(complete, key=lambda trial: trial.value, default=None)


def _in_words(study: "Study", trial: "Trial") -> str:
    this, best = study.get_trials(deepcopy=False)[trial.number], _best(_finished(study))
    figures = this.user_attrs.get("best")
    value = f", validation MRR@20 {figures['mrr@20']:.4f}" if figures else ""
    far = f" (best so far {best.value:.4f})" if best else ""
    return f"{this.user_attrs['outcome']} after {this.user_attrs['seconds']:.0f} s{value}{far}"


def _keep(
    storage: "JournalStorage",
    study: "Study",
    out: Path,
    name: str,
    log: TuningLog,
    search: Search,
    settings_of_values: Callable[[dict], Settings],
) -> Found | None:
    """Write all trials, and the best settings where there are any."""
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
    """All trials of a folder as CSV, system by system, the best first and those that came to no end last."""
    from optuna import load_study
    from optuna.study import get_all_study_names

    ranks = {"complete": 0, "pruned": 1, "diverged": 2, "stopped": 3}
    rows = []
    for name in get_all_study_names(storage):
        for trial in load_study(study_name=name, storage=storage).get_trials(deepcopy=False):
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
    rows = [row for *_, row in sorted(rows, key=lambda entry: entry[:4])]
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for row in rows for key in row), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()
