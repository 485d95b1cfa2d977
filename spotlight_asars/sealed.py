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
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import h5py

from spotlight_asars.errors import InputError
from spotlight_asars.files import write_whole, written_beside

SEAL_BYTES = 512  # the smallest user block
LIBRARY_VERSIONS = ("v110", "v110")  # of HDF5, that the same model gives the same bytes and old ones can read them
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLES = (b"PK\x03\x04", b"\x80")  # torch.save's archive, and pickle alone


@dataclass(frozen=True)
class FileKind:
    """
    A kind of sealed file, and what to do about one that is not as it should be.

    Attributes
    ----------
    name : str
        Ends the first line of the file.
    format_version : int
        The newest that can be read.
    give, mend : str
        The mend for a file of something else, and for a damaged one.
    """

    name: str
    format_version: int
    give: str
    mend: str

    @property
    def title(self) -> bytes:
        """The first line."""
        return f"spotlight_asars {self.name}\n".encode("ascii")


MODEL_FILE = FileKind(
    "model file", 1, "give a file that train or save_model wrote", "save the model again, or take another copy"
)
CHECKPOINT = FileKind(
    "checkpoint", 1, "give checkpoint= another path", "remove it to begin anew, or give checkpoint= another path"
)
LIVE_SESSIONS = FileKind(
    "live sessions",
    1,
    "give a file that recommend --state or save_sessions wrote",
    "save the sessions again, or take another copy",
)
PREPARED_LOG = FileKind(
    "prepared log", 1, "give a file that prepare wrote", "prepare the log again, or take another copy"
)
_KINDS = (MODEL_FILE, CHECKPOINT, LIVE_SESSIONS, PREPARED_LOG)


def write_sealed(path: str | Path, fill: Callable[[h5py.File], None], kind: FileKind = MODEL_FILE) -> None:
    """
    Write an HDF5 file with its seal; it is whole, or what stood there before still stands.

    Parameters
    ----------
    path : path
    fill : callable
        Writes into the open file, which is in memory until it is finished.
    kind : FileKind, optional

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
    content[:SEAL_BYTES] = _seal(kind, len(behind), hashlib.sha256(behind).hexdigest())
    write_whole(path, content)


def write_sealed_on_disk(path: str | Path, fill: Callable[[h5py.File], None], kind: FileKind) -> None:
    """As :func:`write_sealed`, for files larger than memory: what `fill` writes goes to the disk at once."""
    with written_beside(path) as beside:
        # arrays begin at addresses that their numbers can be mapped from
        layout = {"alignment_threshold": SEAL_BYTES, "alignment_interval": SEAL_BYTES}
        with h5py.File(beside, "w", libver=LIBRARY_VERSIONS, userblock_size=SEAL_BYTES, **layout) as file:
            fill(file)
        with beside.open("rb+") as content:
            size = content.seek(0, io.SEEK_END) - SEAL_BYTES
            content.seek(SEAL_BYTES)
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            content.seek(0)
            content.write(_seal(kind, size, digest))


def is_of_kind(path: str | Path, kind: FileKind) -> bool:
    """Whether a file begins like one of a kind; False where there is none to be read."""
    try:
        with Path(path).open("rb") as content:
            return content.read(len(kind.title)) == kind.title
    except OSError:
        return False


def _seal(kind: FileKind, size: int, digest: str) -> bytes:
    text = f"version {kind.format_version}\nbytes {size}\nsha256 {digest}\n".encode("ascii")
    return (kind.title + text).ljust(SEAL_BYTES, b"\0")


@contextmanager
def open_sealed(path: str | Path, kind: FileKind = MODEL_FILE) -> Iterator[h5py.File]:
    """
    Open a file of :func:`write_sealed` for reading, after every byte of it was checked.

    Raises
    ------
    InputError
        If there is none, or it is of another kind, not as it was written, or of a newer version.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise InputError(f"{path}: not a file: {kind.give}")
        with path.open("rb") as content:
            _check_seal(path, content, kind)
            content.seek(0)
            with h5py.File(content, "r") as file:
                yield file
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({reason}): {kind.give}") from error


def _check_seal(path: Path, content: BinaryIO, kind: FileKind) -> None:
    seal = content.read(SEAL_BYTES)
    version = re.escape(kind.title) + rb"version ([1-9]\d{0,8})\n"
    found = re.match(version, seal)
    if found is None:
        raise InputError(f"{path}: {_what_it_is(seal, kind)}")
    if int(found[1]) > kind.format_version:
        raise InputError(
            f"{path}: written in format {int(found[1])} by a newer spotlight_asars, and this one reads up to "
            f"{kind.format_version}: update spotlight_asars"
        )
    found = re.fullmatch(version + rb"bytes (\d{1,18})\nsha256 ([0-9a-f]{64})\n\0*", seal)
    if found is None or len(seal) < SEAL_BYTES:
        raise InputError(f"{path}: damaged in its first {SEAL_BYTES} bytes: {kind.mend}")
    size = content.seek(0, io.SEEK_END) - SEAL_BYTES
    if size != int(found[2]):
        raise InputError(f"{path}: {size} bytes where {int(found[2])} were written, cut short or damaged: {kind.mend}")
    content.seek(SEAL_BYTES)
    if hashlib.file_digest(content, "sha256").hexdigest() != found[3].decode("ascii"):
        raise InputError(f"{path}: damaged, its checksum is not that of what was written: {kind.mend}")


def _what_it_is(begin: bytes, kind: FileKind) -> str:
    """What a file that does not begin like one of its kind is, and the mend."""
    if not begin:
        return f"empty, no {kind.name}: {kind.mend}"
    for other in _KINDS:
        if other is not kind and begin.startswith(other.title):
            article = "" if other is LIVE_SESSIONS else "a "
            return f"{article}{other.name}, no {kind.name}: {kind.give}"
    if begin.startswith(kind.title[:20]) or kind.title.startswith(begin):
        return f"damaged in its first {SEAL_BYTES} bytes: {kind.mend}"
    if begin.startswith(_HDF5):
        return f"an HDF5 file of something else, such as Spotlight's Interactions: {kind.give}"
    if kind is MODEL_FILE and begin.startswith(_PICKLES):
        return (
            "no model file but a pickle, as torch.save writes it, which can run any code: where you trust it, "
            "torch.load(path, weights_only=False) and save_model make a model file of it"
        )
    return f"no {kind.name}: {kind.give}"
