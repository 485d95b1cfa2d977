"""
Atomic file writing: a file is complete, or it is not there.

What is being written lies in a temporary folder beside the file, and the writer holds a lock on that folder. A folder
without a lock was left by a killed process, and the next writer of the same file removes it.
"""

import json
import math
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spotlight_asars.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there, and so nothing that was left behind is removed
    fcntl = None


def writable_folder(path: str | Path, option: str = "--out") -> Path:
    """
    Create a folder if it does not exist, and check that files can be written into it.

    Parameters
    ----------
    path : path
    option : str, optional
        The command-line option that named the folder.

    Raises
    ------
    InputError
        If the folder cannot be created or written to.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot write there ({reason}): choose another folder with {option}") from error
    return path


@contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """
    Provide a folder for results; if the work fails, remove the folders that were created for it and are still empty.

    Raises
    ------
    InputError
        If the folder cannot be created or written to, before any work.
    """
    path = Path(path)
    # Not Path.exists, which raises if a name is too long or a folder is not readable.
    made = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]
    try:
        yield writable_folder(path)
    except BaseException:
        for folder in made:
            with suppress(OSError):  # not empty, or never created
                folder.rmdir()
        raise


def check_output(path: str | Path, inputs: Iterable[str | Path | None], option: str = "--out") -> None:
    """
    Refuse to write a file that is also read, whichever way the two paths name it.

    Parameters
    ----------
    path : path
        The file to write.
    inputs : iterable of paths
        Files that are read, and folders whose files are; None is skipped.
    option : str, optional
        The command-line option that named the file.

    Raises
    ------
    InputError
        If writing would replace an input, or the path is neither a regular file nor free.
    """
    path = Path(path)
    for read in inputs:
        if read is None or not os.path.exists(path):
            continue
        files = Path(read).glob("*") if os.path.isdir(read) else [read]
        if any(os.path.exists(file) and os.path.samefile(path, file) for file in files):
            raise InputError(f"{option}: {path} would replace what is read from {read}: give another file")
    with _write_errors(path):
        _target_of(path)


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """
    Provide a temporary path beside a file, which is moved to the file's path on success.

    A symbolic link is followed: the file that it names is written, and the link stays.

    Raises
    ------
    InputError
        If the file cannot be written; an existing file is left as it was.
    """
    path = Path(path)
    with _write_errors(path), folder_beside(path) as folder:
        target = _target_of(path)
        temporary = folder / "file"
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)


@contextmanager
def folder_beside(path: str | Path) -> Iterator[Path]:
    """
    Provide a temporary folder beside a file, which is removed at the end; also remove those of killed processes.

    Raises
    ------
    InputError
        If the folder cannot be created.
    """
    path = Path(path)
    with _write_errors(path):
        target = _target_of(path)
        remove_leftovers(target)
        folder, lock = _locked_folder(target)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # after any failure, including an interrupt
        if lock is not None:
            os.close(lock)


def write_whole(path: str | Path, content: str | bytes) -> None:
    """
    Write a file atomically, text as UTF-8.

    Raises
    ------
    InputError
        If the file cannot be written; an existing file is left as it was.
    """
    with written_beside(path) as beside, beside.open("xb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def remove_leftovers(path: str | Path) -> None:
    """Remove what killed processes left beside a file; what a living process writes is locked, and stays."""
    if fcntl is None:
        return
    path = Path(os.path.realpath(path))
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}")
    with suppress(OSError):
        for beside in os.scandir(path.parent):
            if name.fullmatch(beside.name):
                with suppress(OSError):
                    _remove_unless_locked(beside.path)


def _remove_unless_locked(beside: str) -> None:
    lock = os.open(beside, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for a writer
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(lock).st_mode):
            shutil.rmtree(beside, ignore_errors=True)
        else:  # as release 0.1.0 left them
            os.unlink(beside)
    finally:
        os.close(lock)


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    """Make a temporary folder beside a file; return it and the descriptor that locks it, None if none can."""
    while True:
        folder = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        folder.mkdir()
        if fcntl is None:
            return folder, None
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks, where nothing is removed either
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return folder, lock
            os.close(lock)
        # Another writer took the folder for a leftover before it was locked: make one more.


def _target_of(path: Path) -> Path:
    """Return the file that a path names, through symbolic links; raise an OSError if it is not a regular file."""
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not target.is_file():
        raise OSError(f"it is {'a folder' if target.is_dir() else 'not a regular file'}")
    return target


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into an InputError that names the file."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason}): choose another place") from error


def json_text(data: object, indent: int | None = None) -> str:
    """Return plain data as JSON, with null for infinity and NaN, which JSON does not have."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: object) -> object:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
