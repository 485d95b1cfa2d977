"""Writing files so that a half-written one never stays."""

import os
import tempfile
from pathlib import Path

from spotlight_asars.errors import InputError


def writable_folder(path: str | Path) -> Path:
    """
    Make a folder where there is none, and make sure that files can be written into it.

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
        raise InputError(f"{path}: cannot write there ({reason}): choose another folder with --out") from error
    return path


def write_whole(path: Path, text: str) -> None:
    """
    Write a text file beside its place, then move it there: it is whole, or it is not there.

    Raises
    ------
    InputError
        If it cannot be written; what stood there before is still there.
    """
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        Path(beside).unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
