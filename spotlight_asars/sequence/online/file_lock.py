"""A lock that one process holds on a file, and that ends with the process."""

import os
from contextlib import suppress
from pathlib import Path

from spotlight_asars.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None


class FileLock:
    """
    The right to change a file, which lies in a file of its own beside it: ``FILE.lock``.

    Parameters
    ----------
    path : path
        The file to protect.

    Raises
    ------
    InputError
        If another process holds the lock, or there can be none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.lock")
        self._file: int | None = None
        while self._file is None and fcntl is not None:
            try:
                opened = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise InputError(f"{self._path}: cannot be written ({error.strerror}): choose another place") from error
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is(opened):  # its last holder may have removed it meanwhile
                    self._file = opened
            except BlockingIOError:
                holder = os.read(opened, 20).decode("ascii", "replace").strip() or "unknown"
                raise InputError(
                    f"{path}: process {holder} is serving these sessions: give another file, or end that process first"
                ) from None
            except OSError as error:
                raise InputError(f"{path}: cannot be locked ({error.strerror}): choose another place") from error
            finally:
                if self._file is None:
                    os.close(opened)
        if self._file is not None:
            with suppress(OSError):  # the number only helps people; on a full disk the lock holds without it
                os.ftruncate(self._file, 0)
                os.write(self._file, b"%d\n" % os.getpid())

    def _is(self, opened: int) -> bool:
        """Return whether the lock file is still the one that was opened."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(opened))
        except OSError:
            return False

    def release(self) -> None:
        """Give up the lock and remove its file."""
        if self._file is not None:
            with suppress(OSError):
                os.unlink(self._path)
            os.close(self._file)
            self._file = None
