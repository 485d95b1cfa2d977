"""States as groups of an HDF5 file: JSON for what is plain, a dataset for each array, a group for each part."""

import json
from collections.abc import Callable
from urllib.parse import quote, unquote

import h5py
import numpy as np
from scipy.sparse import csr_array, issparse

from spotlight_asars.state import PLAIN_NUMBERS, HasState, SystemState

# The members of a group. ABOUT is text: what it is, its settings, and what fitting has left that is plain.
ABOUT, ARRAYS, PARTS = "about", "arrays", "parts"
MATRIX = "csr_matrix"  # attribute of the group of a sparse matrix: its shape

Arrays = dict[str, "np.ndarray | csr_array | Arrays"]


class RecordWriter:
    """
    Writes objects with a state into groups.

    Parameters
    ----------
    kind_of : callable
        The name in the file of an object's class.
    """

    def __init__(self, kind_of: Callable[[HasState], str]) -> None:
        self._kind_of = kind_of
        self._written: dict[int, tuple[HasState, h5py.Group]] = {}

    def write(self, parent: h5py.Group, name: str, made: HasState) -> None:
        """Write an object as a group; one that was written before is linked, as it is one in memory."""
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


class RecordReader:
    """
    Makes objects from groups.

    Parameters
    ----------
    class_of : callable
        The class that a kind names.
    complete : callable
        From settings and `code` of a record to its settings, complete.
    """

    def __init__(self, class_of: Callable[[str], type], complete: Callable[[dict, dict], dict]) -> None:
        self._class_of, self._complete = class_of, complete
        self._made: dict[int, HasState] = {}

    def read(self, parent: h5py.Group, name: str) -> HasState:
        """Make the object of a group; what is one group in the file is one object."""
        group = _member(parent, name, h5py.Group)
        address = h5py.h5o.get_info(group.id).addr
        if address not in self._made:
            self._made[address] = self._make(group)
        return self._made[address]

    def _make(self, group: h5py.Group) -> HasState:
        about = read_plain(group, ABOUT)
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
    """What :func:`write_plain` wrote."""
    return json.loads(_dataset(group, name, "S")[()].decode("ascii"))


def write_arrays(group: h5py.Group, arrays: Arrays) -> None:
    """
    Write arrays as datasets, sparse matrices and dicts as groups of them.

    Raises
    ------
    TypeError
        If one is not of numbers.
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
            raise TypeError(f"the array {name!r} is of type {array.dtype}, which is no number")


def read_arrays(group: h5py.Group) -> Arrays:
    """What :func:`write_arrays` wrote."""
    return {unquote(name): _array(group, name) for name in group}


def _array(group: h5py.Group, name: str) -> "np.ndarray | csr_array | Arrays":
    found = _member(group, name, h5py.Group | h5py.Dataset)
    if isinstance(found, h5py.Dataset):
        array = _dataset(group, name, PLAIN_NUMBERS)[()]
        return np.asarray(array, dtype=array.dtype.newbyteorder("="))
    arrays = read_arrays(found)
    if MATRIX not in found.attrs:
        return arrays
    return csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(found.attrs[MATRIX].tolist()))


def _dataset(group: h5py.Group, name: str, kinds: str) -> h5py.Dataset:
    """A dataset whose values lie in this file as they are: not elsewhere, not packed, not of pointers."""
    found = _member(group, name, h5py.Dataset)
    stored = found.id.get_storage_size() == found.nbytes and not found.external and not found.is_virtual
    if found.dtype.kind not in kinds or not stored:
        raise TypeError(f"{found.name} is no plain array")
    return found


def _member(group: h5py.Group, name: str, kind: type) -> h5py.Group | h5py.Dataset:
    """A member of a group that lies in this file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise TypeError(f"{group.name} has no {name} of its own")
    found = group[name]
    if not isinstance(found, kind):
        raise TypeError(f"{found.name} is another kind of thing")
    return found


def _link_name(name: str) -> str:
    """A name that HDF5 takes for no path; letters, digits, dots and underscores stay as they are."""
    quoted = quote(name, safe="")
    return quoted if quoted.strip(".") else quoted.replace(".", "%2E")
