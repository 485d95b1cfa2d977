"""Keep finished runs on disk, so that an interrupted comparison continues where it stopped."""

import hashlib
import io
import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch

import spotlight_asars
from spotlight_asars import host
from spotlight_asars.cross_validation import TimeSplit
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import Ranks
from spotlight_asars.experiments.settings import Settings, Training, describe
from spotlight_asars.experiments.training import Run
from spotlight_asars.serialization.files import json_text, writable_folder, write_whole

_PACKAGE = Path(spotlight_asars.__file__).parent
# Code that cannot change a run: the command line, the readers (their events are hashed) and the use of its ranks.
_OUTSIDE_OF_RUNS = ("cli", "datasets", "experiments", "__main__.py")
_INSIDE_AFTER_ALL = ("experiments/settings.py", "experiments/training.py")


@dataclass(frozen=True)
class Job:
    """
    One run of a comparison.

    Attributes
    ----------
    system : str
        Name of the system.
    settings : Settings
    training : Training
    twin : bool
        Whether the dwell bins are shuffled.
    """

    system: str
    settings: Settings
    training: Training
    twin: bool = False

    @property
    def file_name(self) -> str:
        """Name of the file that keeps the run."""
        return f"{quote(self.system, safe='')}-seed{self.training.seed}{'-twin' if self.twin else ''}.npz"


def log_fingerprint(split: TimeSplit) -> str:
    """Return the SHA-256 of all events of both parts, by their numbered ids."""
    found = hashlib.sha256()
    for part in (split.train, split.test):
        found.update(f"{len(part)} {part.num_items} {part.num_users};".encode())
        for name in ("user_ids", "item_ids", "session_ids", "timestamps"):
            column = np.ascontiguousarray(getattr(part, name))
            found.update(f"{name} {column.dtype.str};".encode() + column.tobytes())
    return found.hexdigest()


@cache  # describe the code this process loaded, even if the files change later
def code_fingerprint() -> str:
    """Return the SHA-256 of the code that decides a run, since a checkout can change without its version."""
    paths = [path.relative_to(_PACKAGE) for path in _PACKAGE.rglob("*.py")]
    outside = {path for path in paths if path.parts[0] in _OUTSIDE_OF_RUNS}
    found = hashlib.sha256()
    for path in sorted({*paths} - outside | {Path(name) for name in _INSIDE_AFTER_ALL}):
        found.update(f"{path.as_posix()};".encode() + (_PACKAGE / path).read_bytes())
    return found.hexdigest()


def determinants(job: Job, dataset: dict, events: str, max_sequence_length: int) -> dict:
    """
    Return everything that decides the outcome of a run; two runs with equal determinants are equal.

    Parameters
    ----------
    job : Job
    dataset : dict
        Counts of the log.
    events : str
        The result of :func:`log_fingerprint`.
    max_sequence_length : int

    Returns
    -------
    dict
    """
    found = {
        "settings": describe(job.settings),
        "training": asdict(job.training) if job.settings.random else {"dwell": job.training.dwell},
        "twin": job.twin,
        "rows": {"max_sequence_length": max_sequence_length},
        "log": {"counts": dataset, "events": events},
        "package": {"version": spotlight_asars.__version__, "code": code_fingerprint(), "host": host.NAME},
        "machine": {"node": platform.node(), "kind": platform.machine(), "threads": torch.get_num_threads()},
        "libraries": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    return json.loads(json.dumps(found))  # as read back from a file: tuples become lists


class RunFolder:
    """
    A folder of finished runs, one file each; created with the first run.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    kept : int
        Number of runs that this object has written or reused.

    Raises
    ------
    InputError
        If `path` is a file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.kept = 0
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: not a folder, but finished runs go there: choose another folder with --out")

    def keep(self, job: Job, run: Run, decided_by: dict) -> None:
        """Write a finished run."""
        about = json_text({"decided_by": decided_by, "figures": run.figures})
        content = io.BytesIO()
        np.savez(content, about=np.array(about), ranks=run.ranks.ranks, session_ids=run.ranks.session_ids)
        write_whole(writable_folder(self.path) / job.file_name, content.getvalue())
        self.kept += 1

    def take(self, job: Job, decided_by: dict) -> tuple[Run | None, str]:
        """
        Return the run of an earlier comparison if it has the same determinants.

        Returns
        -------
        run : Run or None
        remark : str
            Where the run comes from, or why it cannot be reused; empty if there is no file.
        """
        path = self.path / job.file_name
        if not path.exists():
            return None, ""
        try:
            about, run = _read(path)
            before = about["decided_by"]
            changed = [name for name in decided_by if before.get(name) != decided_by[name]]
        except Exception as error:  # a damaged file can raise anything; the run is repeated
            reason = str(error).partition("\n")[0] or type(error).__name__
            return None, f"{path} is damaged ({reason}): running again"
        if changed:
            return None, f"{path} has another {' and '.join(changed)}: running again"
        self.kept += 1
        return run, f"reused from {path}"


def _read(path: Path) -> tuple[dict, Run]:
    # From bytes, since numpy leaves a file open when it fails to read it as an archive.
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
        about = json.loads(str(found["about"]))
        ranks, session_ids = found["ranks"], found["session_ids"]
    if ranks.ndim != 1 or ranks.shape != session_ids.shape or not (ranks >= 1).all():
        raise ValueError("its ranks are invalid")
    return about, Run(dict(about["figures"]), Ranks(ranks, session_ids))
