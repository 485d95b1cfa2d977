"""
Checksummed HDF5 files ("sealed" files), and objects with a state as groups in them.

The first 512 bytes, the user block that HDF5 leaves to its users, hold four lines of text padded with zeros: the kind
of file, its format version, the number of bytes that follow, and their SHA-256. A damaged, truncated or foreign file
is refused before any of its bytes reach the HDF5 library, which such bytes have crashed.

The checksum detects damage, not tampering: anyone can compute it, so it says nothing about the author of a file. What a
file consists of is therefore checked before it is read (``contents.py``), and what it says before anything is built
from it (``schema.py``). :func:`open_sealed` is the one way into files of every kind.

An object with a state is a group: a dataset of JSON for plain data, a dataset for each array, and a group for each
part.
"""

import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

import h5py
import numpy as np
from scipy.sparse import csr_array, issparse

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.contents import MATRIX, PARTS, check_contents
from spotlight_asars.serialization.files import written_beside
from spotlight_asars.serialization.schema import LARGEST, Fields, Maybe, Text
from spotlight_asars.serialization.state import PLAIN_NUMBERS, Arrays, HasState, SystemState

SEAL_BYTES = 512  # the smallest user block
PIECE_BYTES = 1 << 20  # hashed and copied at a time
LONGEST_REASON = 500  # characters
# HDF5's file format is fixed, so that the same model gives the same bytes and older libraries can read them.
LIBRARY_VERSIONS = ("v110", "v110")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_PICKLES = (b"PK\x03\x04", b"\x80")  # the archive of torch.save, and a plain pickle

# Members of an object's group, beside PARTS. ABOUT is JSON: its kind, settings, and fitted values that are plain data.
ABOUT, ARRAYS = "about", "arrays"


@dataclass(frozen=True)
class FileKind:
    """
    A kind of sealed file, and what to do about one that cannot be read.

    Attributes
    ----------
    name : str
        Ends the first line of the file.
    content : str
        What is made from the file.
    format_version : int
        The newest version that can be read.
    give, mend : str
        What to do about a file of another kind, and about a damaged one.
    """

    name: str
    content: str
    format_version: int
    give: str
    mend: str

    @property
    def title(self) -> bytes:
        """The first line of the file."""
        return f"spotlight_asars {self.name}\n".encode("ascii")


MODEL_FILE = FileKind(
    "model file", "model", 1, "give a file that train or save_model wrote", "save the model again, or take another copy"
)
CHECKPOINT = FileKind(
    "checkpoint",
    "state of fit",
    1,
    "give checkpoint= another path",
    "remove it to start over, or give checkpoint= another path",
)
LIVE_SESSIONS = FileKind(
    "live sessions",
    "live sessions",
    1,
    "give a file that recommend --state or save_sessions wrote",
    "save the sessions again, or take another copy",
)
PREPARED_LOG = FileKind(
    "prepared log", "log", 1, "give a file that prepare wrote", "prepare the log again, or take another copy"
)
_KINDS = (MODEL_FILE, CHECKPOINT, LIVE_SESSIONS, PREPARED_LOG)


def write_sealed(path: str | Path, fill: Callable[[h5py.File], None], kind: FileKind = MODEL_FILE) -> None:
    """
    Write a sealed HDF5 file; an existing file is replaced only once the new one is complete.

    Parameters
    ----------
    path : path
    fill : callable
        Writes into the open file, which is held in memory until it is complete.
    kind : FileKind, optional

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    image = io.BytesIO()
    with h5py.File(image, "w", libver=LIBRARY_VERSIONS, userblock_size=SEAL_BYTES) as file:
        fill(file)
    write_seal(image, kind)
    image.seek(0)
    # Copied in pieces, not through a view: a failed write would keep the view alive in its traceback.
    with written_beside(path) as beside, beside.open("xb") as out:
        shutil.copyfileobj(image, out, PIECE_BYTES)


def write_sealed_on_disk(path: str | Path, fill: Callable[[h5py.File], None], kind: FileKind) -> None:
    """Do as :func:`write_sealed`, but let `fill` write straight to disk, for files larger than memory."""
    with written_beside(path) as beside:
        # Aligned arrays can be memory-mapped.
        layout = {"alignment_threshold": SEAL_BYTES, "alignment_interval": SEAL_BYTES}
        with h5py.File(beside, "w", libver=LIBRARY_VERSIONS, userblock_size=SEAL_BYTES, **layout) as file:
            fill(file)
        with beside.open("rb+") as content:
            write_seal(content, kind)


@contextmanager
def open_sealed(path: str | Path, kind: FileKind = MODEL_FILE) -> Iterator[h5py.File]:
    """
    Open a sealed file for reading, after verifying its checksum and what it consists of.

    Whatever goes wrong while the file is open is the file's fault: an exception inside the context becomes an
    InputError.

    Parameters
    ----------
    path : path
    kind : FileKind, optional

    Raises
    ------
    InputError
        If the file is missing, damaged, of another kind, of a newer version, or cannot be read as what it says it is.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise InputError(f"{path}: not a file: {kind.give}")
        content = path.open("rb")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path}: cannot be read ({reason}): {kind.give}") from error
    with content:
        size = _check_seal(path, content, kind)
        content.seek(0)
        try:
            with h5py.File(content, "r") as file:
                check_contents(file, size)
                yield file
        except Exception as error:
            if isinstance(error, InputError) and str(error).startswith(str(path)):
                raise
            made = type(error) if isinstance(error, InputError) else InputError
            raise made(f"{path}: no {kind.content} can be created from it: {_in_one_line(error)}") from error


def is_of_kind(path: str | Path, kind: FileKind) -> bool:
    """Return whether a file begins like one of the kind; False if it cannot be read."""
    try:
        if not Path(path).is_file():  # reading a pipe would wait for ever
            return False
        with Path(path).open("rb") as content:
            return content.read(len(kind.title)) == kind.title
    except OSError:
        return False


def _in_one_line(error: Exception) -> str:
    """Return the first line of a message, or the name of its type; text of a file is shown in printable characters."""
    line = str(error).partition("\n")[0][:LONGEST_REASON] or type(error).__name__
    return line if line.isprintable() else ascii(line)


def write_seal(content: BinaryIO, kind: FileKind) -> None:
    """Write the seal of a complete file into its user block."""
    size, digest = content.seek(0, io.SEEK_END) - SEAL_BYTES, hashlib.sha256()
    content.seek(SEAL_BYTES)
    while piece := content.read(PIECE_BYTES):
        digest.update(piece)
    content.seek(0)
    content.write(_seal(kind, size, digest.hexdigest()))


def _seal(kind: FileKind, size: int, digest: str) -> bytes:
    text = f"version {kind.format_version}\nbytes {size}\nsha256 {digest}\n".encode("ascii")
    return (kind.title + text).ljust(SEAL_BYTES, b"\0")


def _check_seal(path: Path, content: BinaryIO, kind: FileKind) -> int:
    """Return the bytes behind the seal, once it is right."""
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
        raise InputError(f"{path}: {size} bytes instead of {int(found[2])}, cut short or damaged: {kind.mend}")
    content.seek(SEAL_BYTES)
    if hashlib.file_digest(content, "sha256").hexdigest() != found[3].decode("ascii"):
        raise InputError(f"{path}: damaged, its checksum does not match: {kind.mend}")
    return size


def _what_it_is(begin: bytes, kind: FileKind) -> str:
    """Return what a file without the expected beginning is, and what to do about it."""
    wanted = _with_article(kind)
    if not begin:
        return f"empty, not {wanted}: {kind.mend}"
    for other in _KINDS:
        if other is not kind and begin.startswith(other.title):
            return f"{_with_article(other)}, not {wanted}: {kind.give}"
    if begin.startswith(kind.title[:20]) or kind.title.startswith(begin):
        return f"damaged in its first {SEAL_BYTES} bytes: {kind.mend}"
    if begin.startswith(_HDF5):
        return f"an HDF5 file of something else, such as Spotlight's Interactions: {kind.give}"
    if kind is MODEL_FILE and begin.startswith(_PICKLES):
        return (
            "not a model file but a pickle, as torch.save writes it, which can run any code: if you trust it, "
            "torch.load(path, weights_only=False) and save_model turn it into a model file"
        )
    return f"not {wanted}: {kind.give}"


def _with_article(kind: FileKind) -> str:
    return kind.name if kind is LIVE_SESSIONS else f"a {kind.name}"


class RecordWriter:
    """
    Writes objects with a state as groups.

    Parameters
    ----------
    kind_of : callable
        Maps an object to the name of its class in the file.
    """

    def __init__(self, kind_of: Callable[[HasState], str]) -> None:
        self._kind_of = kind_of
        self._written: dict[int, tuple[HasState, h5py.Group]] = {}

    def write(self, parent: h5py.Group, name: str, made: HasState) -> None:
        """Write an object as a group; an object that was already written is linked, so that it stays one object."""
        if id(made) in self._written:
            parent[name] = self._written[id(made)][1]
            return
        kind, state = self._kind_of(made), made.state()
        group = parent.create_group(name)
        self._written[id(made)] = made, group
        about = {"kind": kind, "settings": state.settings, "code": state.code, "fitted": state.fitted}
        write_plain(group, ABOUT, about)
        write_arrays(group.create_group(ARRAYS), state.arrays)
        parts = group.create_group(PARTS)
        for part_name, part in state.parts.items():
            self.write(parts, part_name, part)


_ABOUT = Fields({"kind": Text(), "settings": Fields({}), "code": Fields({}), "fitted": Maybe(Fields({}))})


class RecordReader:
    """
    Creates objects from groups.

    Parameters
    ----------
    class_of : callable
        Maps a name in the file to a class.
    complete : callable
        Maps the settings and `code` of an object to its complete settings.
    """

    def __init__(self, class_of: Callable[[str], type], complete: Callable[[dict, dict], dict]) -> None:
        self._class_of, self._complete = class_of, complete
        self._made: dict[int, HasState | None] = {}

    def read(self, parent: h5py.Group, name: str) -> HasState:
        """Return the object of a group; a group that is linked several times is one object."""
        group = _member(parent, name, h5py.Group)
        address = h5py.h5o.get_info(group.id).addr
        if address not in self._made:
            self._made[address] = None
            self._made[address] = self._make(group)
        if self._made[address] is None:
            raise InputError(f"{group.name:.80} is a part of itself")
        return self._made[address]

    def _make(self, group: h5py.Group) -> HasState:
        about = read_plain(group, ABOUT)
        _ABOUT.check(ABOUT, about)
        made_by = self._class_of(about["kind"])
        settings = self._complete(about["settings"], about["code"])
        arrays = read_arrays(_member(group, ARRAYS, h5py.Group))
        parts = _member(group, PARTS, h5py.Group)
        parts = {name: self.read(parts, name) for name in parts}
        return made_by.from_state(SystemState(settings, about["code"], about["fitted"], arrays, parts))


def write_plain(group: h5py.Group, name: str, plain: object) -> None:
    """Write plain data as a dataset of JSON."""
    group[name] = np.bytes_(json.dumps(plain))


def read_plain(group: h5py.Group, name: str) -> object:
    """Read plain data that :func:`write_plain` wrote."""
    return json.loads(_dataset(group, name, "S")[()].decode("ascii"), parse_int=_whole)


def _whole(digits: str) -> int:
    number = int(digits) if len(digits) <= len(str(-LARGEST)) else LARGEST + 1
    if abs(number) > LARGEST:
        raise InputError("it holds a whole number of more than 63 bits")
    return number


def write_arrays(group: h5py.Group, arrays: Arrays) -> None:
    """
    Write arrays as datasets, and sparse matrices and dicts as groups of datasets.

    Raises
    ------
    TypeError
        If an array is not numeric.
    """
    for name, array in arrays.items():
        name = _link_name(name)
        if isinstance(array, dict):
            write_arrays(group.create_group(name), array)
        elif issparse(array):
            matrix = group.create_group(name)
            matrix.attrs[MATRIX] = np.array(array.shape)
            write_arrays(matrix, {part: getattr(array, part) for part in ("data", "indices", "indptr")})
        elif array.dtype.kind in PLAIN_NUMBERS:
            group.create_dataset(name, data=array)
        else:
            raise TypeError(f"the array {name!r} is of type {array.dtype}, which is not numeric")


def read_arrays(group: h5py.Group) -> Arrays:
    """Read arrays that :func:`write_arrays` wrote."""
    return {unquote(name): _array(group, name) for name in group}


def _array(group: h5py.Group, name: str) -> "np.ndarray | csr_array | Arrays":
    found = _member(group, name, h5py.Group | h5py.Dataset)
    if isinstance(found, h5py.Dataset):
        array = _dataset(group, name, PLAIN_NUMBERS)[()]
        return np.asarray(array, dtype=array.dtype.newbyteorder("="))
    arrays = read_arrays(found)
    return _matrix(arrays, tuple(found.attrs[MATRIX].tolist())) if MATRIX in found.attrs else arrays


def _matrix(arrays: Arrays, shape: tuple[int, int]) -> csr_array:
    """Return a sparse matrix whose indices lie inside it: scipy's loops would read and write anywhere."""
    if len(arrays["indptr"]) != shape[0] + 1 or shape[1] < 0:
        raise InputError("a sparse matrix has another shape than its arrays")
    matrix = csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
    matrix.check_format(full_check=True)
    return matrix


def _dataset(group: h5py.Group, name: str, kinds: str) -> h5py.Dataset:
    found = _member(group, name, h5py.Dataset)
    if found.dtype.kind not in kinds:
        raise InputError(f"{found.name:.80} is not of the expected kind")
    return found


def _member(group: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    found = group.get(name)
    if not isinstance(found, kind):
        raise InputError(f"{group.name:.80} has no {name:.80} of the expected kind")
    return found


def _link_name(name: str) -> str:
    """Escape a name that HDF5 would take for a path; letters, digits, dots and underscores stay as they are."""
    quoted = quote(name, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")
