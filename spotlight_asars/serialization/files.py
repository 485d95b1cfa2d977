"""Writing files so that a half-written one never stays."""

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
    Make a folder where there is none, and make sure that files can be written into it.

    Parameters
    ----------
    path : path
    option : str, optional
        Of the command line, which has named it.

    Raises
    ------
    InputError
        If that is not possible.
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
    A folder to write results into; where the work in between fails, folders made for it and still empty go again.

    Raises
    ------
    InputError
        As for :func:`writable_folder`, before any work.
    """
    path = Path(path)
    # os.path's, since Path's raises where a name is too long or a folder closed
    made = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]
    try:
        yield writable_folder(path)
    except BaseException:
        for folder in made:
            with suppress(OSError):  # not empty, or never made
                folder.rmdir()
        raise


@contextmanager
def written_beside(path: str | Path) -> Iterator[Path]:
    """
    A place beside a file to write it to; when all went well it is moved to its own: it is whole, or it is not there.

    Raises
    ------
    InputError
        If it cannot be written; what stood there before is still there.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # tempfile's would be the owner's alone to read
    try:
        try:
            yield beside
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)  # whatever went wrong, an interrupt included
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason}): choose another place") from error


@contextmanager
def folder_beside(path: str | Path) -> Iterator[Path]:
    """
    A folder beside a file for what the work on it needs for a while; it goes when the work is done.

    Raises
    ------
    InputError
        If it cannot be made.
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
    Write a file as :func:`written_beside` does. Text is written as UTF-8.

    Raises
    ------
    InputError
        If it cannot be written; what stood there before is still there.
    """
    with written_beside(path) as beside, beside.open("xb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


def remove_leftovers(path: str | Path) -> None:
    """Remove what a process that was killed inside :func:`written_beside` or :func:`folder_beside` has left."""
    path = Path(path)
    with suppress(OSError):
        for beside in path.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(path.name)}\.[0-9a-f]{{32}}", beside.name):
                if beside.is_dir():
                    shutil.rmtree(beside, ignore_errors=True)
                else:
                    beside.unlink(missing_ok=True)
