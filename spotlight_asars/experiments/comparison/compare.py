"""The paper's Table 2 for any log: train systems on one part, rank the other, with confidence intervals and tests."""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

import spotlight_asars
from spotlight_asars import host
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import metrics
from spotlight_asars.experiments.comparison.oracle import oracle_ranks
from spotlight_asars.experiments.comparison.runs import Job, RunFolder, determinants, log_fingerprint
from spotlight_asars.experiments.comparison.summary import JUDGED_BY, differences, dwell_gain, summarise, target_values
from spotlight_asars.experiments.logs import VALIDATION_SHARE, PreparedLog
from spotlight_asars.experiments.settings import Settings, Training, describe
from spotlight_asars.experiments.training import Parts, Run, parts_of, train_and_test
from spotlight_asars.sequence.training.callbacks import PATIENCE


@dataclass(frozen=True)
class Protocol:
    """
    How every system is trained and tested.

    Attributes
    ----------
    epochs : int
        Maximum epochs; the number used is chosen on the latest sessions of the training part.
    seed : int
        First seed of the systems, and seed of the bootstrap.
    dwell : {'known', 'observed'}
    max_sequence_length : int
        Most events per row.
    use_cuda : bool
    verbose : bool
        Show progress on standard error.
    seeds : int
        Number of runs of each random system, with seeds `seed`, `seed` + 1, ...
    twins : bool
        Also train each system that reads dwell times on shuffled ones, as a control.
    """

    epochs: int = 20
    seed: int = 0
    dwell: str = "known"
    max_sequence_length: int = 200
    use_cuda: bool = False
    verbose: bool = True
    seeds: int = 1
    twins: bool = False


def compare(
    log: PreparedLog,
    systems: dict[str, Settings],
    protocol: Protocol,
    report: Callable[[str], None] = lambda line: None,
    folder: RunFolder | None = None,
) -> dict:
    """
    Train and test systems on one log.

    Parameters
    ----------
    log : PreparedLog
    systems : dict
        Settings by name of the system.
    protocol : Protocol
    report : callable, optional
        Called with a line before each run and with warnings.
    folder : RunFolder, optional
        Where finished runs are kept, and reused by later calls.

    Returns
    -------
    dict
        The content of ``results.json``: 'dataset', 'protocol', 'models' and, for a simulated log, 'oracle'.
    """
    report_cautions(log, systems, protocol, report)
    parts = parts_of(log.split, protocol.max_sequence_length)
    runner = _Runner(log, systems, protocol, parts, report, folder)
    oracle = _oracle(log, parts, protocol.dwell)
    models, first, first_values = {}, next(iter(systems)), {}
    for name, settings in systems.items():
        runs, controls = runner.run_all(name)
        values = target_values(runs)
        first_values = first_values or values
        models[name] = {**summarise(runs, values, protocol.seed), "settings": describe(settings)}
        if name != first:
            tests = differences(values, first_values, runs[0].ranks, protocol.seed)
            models[name] |= {f"{metric}_less_first": {"first": first, **test} for metric, test in tests.items()}
        if controls:
            models[name]["dwell_gain"] = dwell_gain(runs, controls, protocol.seed)
        if oracle:
            models[name]["share_of_oracle"] = models[name]["mrr@20"] / oracle["mrr@20"]
    return {
        "dataset": {**log.dataset, "targets": parts.test.num_targets},
        "protocol": {**log.protocol, **_describe(protocol, parts)},
        **({"oracle": oracle} if oracle else {}),
        "models": models,
    }


def report_cautions(
    log: PreparedLog, systems: dict[str, Settings], protocol: Protocol, report: Callable[[str], None]
) -> None:
    """Report systems that cannot use what the log lacks, a line for each kind."""
    with_users = [name for name, settings in systems.items() if settings.has_users]
    if with_users and not log.split.train.user_ids.any():
        report(f"the log has no users: {', '.join(with_users)} cannot learn from them")
    if protocol.twins and not any(settings.reads_dwell for settings in systems.values()):
        report("none of these systems reads dwell times: there is no shuffled-dwell control to train")


def _oracle(log: PreparedLog, parts: Parts, dwell: str) -> dict | None:
    if log.synthetic is None:
        return None
    found = metrics(oracle_ranks(log.synthetic, parts.test, dwell), (20,))
    return {name: found[name] for name in JUDGED_BY}


class _Runner:
    """Train the systems of a comparison one by one, reuse finished runs and report progress."""

    def __init__(
        self,
        log: PreparedLog,
        systems: dict[str, Settings],
        protocol: Protocol,
        parts: Parts,
        report: Callable[[str], None],
        folder: RunFolder | None,
    ) -> None:
        self._log, self._protocol, self._parts, self._report, self._folder = log, protocol, parts, report, folder
        self._names = list(systems)
        self._jobs = [job for name, settings in systems.items() for job in self._jobs_of(name, settings)]
        self._seconds: dict[str, float] = {}  # of finished runs, by file name
        self._events = log_fingerprint(log.split) if folder else ""

    def _jobs_of(self, name: str, settings: Settings) -> list[Job]:
        protocol, times = self._protocol, self._protocol.seeds if settings.random else 1
        twins = (False, True) if protocol.twins and settings.reads_dwell else (False,)
        trainings = (
            Training(protocol.epochs, protocol.seed + time, protocol.dwell, protocol.use_cuda) for time in range(times)
        )
        return [Job(name, settings, training, twin) for training in trainings for twin in twins]

    def run_all(self, name: str) -> tuple[list[Run], list[Run]]:
        """Return all runs of a system, and those of its shuffled-dwell control."""
        runs, controls = [], []
        for job in self._jobs:
            if job.system == name:
                (controls if job.twin else runs).append(self._run(job))
        return runs, controls

    def _run(self, job: Job) -> Run:
        decided_by, run, remark = {}, None, ""
        if self._folder is not None:
            decided_by = determinants(job, self._log.dataset, self._events, self._protocol.max_sequence_length)
            run, remark = self._folder.take(job, decided_by)
        progress = [self._name_of(job), remark if run else self._time_left(job)]
        if remark and run is None:
            self._report(remark)
        self._report(", ".join(part for part in progress if part))
        if run is None:
            parts = self._parts.with_shuffled_dwell(job.training.seed) if job.twin else self._parts
            try:
                run = train_and_test(job.settings, parts, job.training, self._protocol.verbose)
            except InputError as error:
                raise InputError(f"{self._name_of(job)}: {error}") from error
            if self._folder is not None:
                self._folder.keep(job, run, decided_by)
        self._seconds[job.file_name] = run.figures["run_seconds"]
        return run

    def _name_of(self, job: Job) -> str:
        name = f"{job.system} ({self._names.index(job.system) + 1} of {len(self._names)})"
        if self._protocol.seeds > 1 and job.settings.random:
            name += f", seed {job.training.seed - self._protocol.seed + 1} of {self._protocol.seeds}"
        return name + (", dwell shuffled" if job.twin else "")

    def _time_left(self, job: Job) -> str:
        """Estimate the time left, from the mean time of the runs so far."""
        nets = [other for other in self._jobs if other.settings.random]
        done = {other.file_name: self._seconds.get(other.file_name) for other in nets}
        known = [seconds for seconds in done.values() if seconds is not None]
        if not known or not job.settings.random:
            return ""
        minutes = sum(known) / len(known) * (len(nets) - len(known)) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"


def _describe(protocol: Protocol, parts: Parts) -> dict:
    return {
        **{name: value for name, value in asdict(protocol).items() if name != "verbose"},
        "ranks": "among all training items; 1 + higher + equal others / 2",
        "intervals": "95 %, bootstrap by session, 1000 resamples; of the mean over seeds of each target",
        "epochs_chosen_by": f"MRR@20 on the latest {VALIDATION_SHARE:g} of the training sessions, patience {PATIENCE}",
        "fitted_on": "the whole training part, for that number of epochs",
        "validation_targets": parts.validation.num_targets,
        "host": host.NAME,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "version": spotlight_asars.__version__,
    }
