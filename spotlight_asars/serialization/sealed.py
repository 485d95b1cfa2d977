"""
An HDF5 file under a seal: it is taken as it was written, or it is refused.

The first 512 bytes, which HDF5 leaves to its users (the user block), hold four lines of text and zeros: what the file
is, the version of its format, the number of bytes behind, and their SHA-256. No byte of a damaged, truncated or
foreign file gets to the HDF5 library, which has been crashed by such bytes. The seal finds damage, not intent: it
does not tell who wrote a file.
"""

import hashlib
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import h5py

from spotlight_asars.errors import InputError
from spotlight_asars.files import write_whole

FORMAT_VERSION = 1
SEAL_BYTES = 512  # the smallest user block
TITLE = b"spotlight_asars model file\n"
LIBRARY_VERSIONS = ("v110", "v110")  # of HDF5, that the same model gives the same bytes and old ones can read them
_VERSION = re.compile(re.escape(TITLE) + rb"version ([1-9]\d{0,8})\n")
_SEAL = re.compile(_VERSION.pattern + rb"bytes (\d{1,18})\nsha256 ([0-9a-f]{64})\n\0*")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLES = (b"PK\x03\x04", b"\x80")  # torch.save's archive, and pickle alone


def write_sealed(path: str | Path, fill: Callable[[h5py.File], None]) -> None:
    """
    Write an HDF5 file with its seal; it is whole, or what stood there before still stands.

    Parameters
    ----------
    path : path
    fill : callable
        Writes into the open file, which is in memory until it is finished.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBRARY_VERSIONS, userblock_size=SEAL_BYTES) as file:
        fill(file)
    content = image.getbuffer()
    behind = content[SEAL_BYTES:]
    content[:SEAL_BYTES] = _seal(len(behind), hashlib.sha256(behind).hexdigest())
    write_whole(path, content)


def _seal(size: int, digest: str) -> bytes:
    text = TITLE + f"version {FORMAT_VERSION}\nbytes {size}\nsha256 {digest}\n".encode("ascii")
    return text.ljust(SEAL_BYTES, b"\0")


@contextmanager
def open_sealed(path: str | Path) -> Iterator[h5py.File]:
    """
    Open a file of :func:`write_sealed` for reading, after every byte of it was checked.

    Raises
    ------
    InputError
        If there is none, or it is not as it was written, or of a newer version.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise InputError(f"{path}: not a file: give the path that save_model was given")
        with path.open("rb") as content:
            _check_seal(path, content)
            content.seek(0)
            with h5py.File(content, "r") as file:
                yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({reason}): give the path that save_model was given") from error


def _check_seal(path: Path, content: BinaryIO) -> None:
    seal = content.read(SEAL_BYTES)
    found = _VERSION.match(seal)
    if found is None:
        raise InputError(f"{path}: {_what_it_is(seal)}")
    if int(found[1]) > FORMAT_VERSION:
        raise InputError(
            f"{path}: written in format {int(found[1])} by a newer spotlight_asars, and this one reads up to "
            f"{FORMAT_VERSION}: update spotlight_asars"
        )
    damaged = "save the model again, or take another copy"
    found = _SEAL.fullmatch(seal)
    if found is None or len(seal) < SEAL_BYTES:
        raise InputError(f"{path}: damaged in its first {SEAL_BYTES} bytes: {damaged}")
    size = content.seek(0, io.SEEK_END) - SEAL_BYTES
    if size != int(found[2]):
        raise InputError(f"{path}: {size} bytes where {int(found[2])} were written, cut short or damaged: {damaged}")
    content.seek(SEAL_BYTES)
    if hashlib.file_digest(content, "sha256").hexdigest() != found[3].decode("ascii"):
        raise InputError(f"{path}: damaged, its checksum is not that of what was written: {damaged}")


def _what_it_is(begin: bytes) -> str:
    """What a file that does not begin like a model file is, and the mend."""
    if not begin:
        return "empty, no model file: save the model again, or take another copy"
    if begin.startswith(TITLE[:20]) or TITLE.startswith(begin):
        return f"damaged in its first {SEAL_BYTES} bytes: save the model again, or take another copy"
    if begin.startswith(_HDF5):
        return "an HDF5 file of something else, such as Spotlight's Interactions: give a file that save_model wrote"
    if begin.startswith(_PICKLES):
        return (
            "no model file but a pickle, as torch.save writes it, which can run any code: where you trust it, "
            "torch.load(path, weights_only=False) and save_model make a model file of it"
        )
    return "no model file: give a file that save_model wrote"
