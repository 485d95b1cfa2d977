"""Atomic file writing: a file is complete, or it is not there."""

import json
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spotlight_asars.errors import InputError


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


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """
    Provide a temporary path beside a file, which is moved to the file's path on success.

    Raises
    ------
    InputError
        If the file cannot be written; an existing file is left as it was.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # tempfile's files are readable by their owner only
    try:
        try:
            yield beside
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)  # after any failure, including an interrupt
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason}): choose another place") from error


@contextmanager
def folder_beside(path: str | Path) -> Iterator[Path]:
    """
    Provide a temporary folder beside a file, which is removed at the end.

    Raises
    ------
    InputError
        If the folder cannot be created.
    """
    path = Path(path)
    folder = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        folder.mkdir()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason}): choose another place") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    """Remove the temporary files and folders that a killed process left beside a file."""
    path = Path(path)
    with suppress(OSError):
        for beside in path.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}", beside.name):
                if beside.is_dir():
                    shutil.rmtree(beside, ignore_errors=True)
                else:
                    beside.unlink(missing_ok=True)


def json_text(data: object, indent: int | None = None) -> str:
    """Return plain data as JSON, with null for infinity and NaN, which JSON does not have."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: object) -> object:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
