"""
What a sealed HDF5 file may consist of, checked before anything is read from it.

HDF5 can do far more than these files need: a dataset may lie in another file, be assembled from others, be compressed
to a thousandth of its size or share its bytes with another dataset; a link may lead out of the file, or to a group
above. A file that uses any of this was not written by this package, and is refused. What is left takes as much memory
as it takes on disk, and is walked in time proportional to that.
"""

import math

import h5py
import numpy as np
from h5py import h5a, h5d, h5o, h5s, h5t

from spotlight_asars.errors import InputError
from spotlight_asars.serialization.state import PLAIN_NUMBERS

PARTS = "parts"  # only groups in here may be linked several times: objects that are shared
MATRIX = "csr_matrix"  # the one attribute: the shape of a sparse matrix, on its group
DEEPEST = 32  # groups inside groups
SMALLEST_LINK = 12  # bytes
SMALLEST_OBJECT = 24  # bytes
LARGEST_NUMBER = 8  # bytes


def check_contents(file: h5py.File, size: int) -> None:
    """
    Check every link, group, dataset and attribute of a file.

    Parameters
    ----------
    file : h5py.File
    size : int
        Bytes of the file.

    Raises
    ------
    InputError
        If there is anything that this package does not write, or more than the file has room for.
    """
    links, held, seen = 0, 0, {h5o.get_info(file.id).addr}
    groups = [(file["/"], 0)]
    while groups:
        group, depth = groups.pop()
        links += len(group)
        if links > size // SMALLEST_LINK or depth > DEEPEST:
            raise InputError(f"{_name(group)} holds more than the file has room for")
        for name in group:
            found = _linked(group, name)
            address = h5o.get_info(found.id).addr
            if address in seen:
                if not (isinstance(found, h5py.Group) and group.name.rpartition("/")[2] == PARTS):
                    raise InputError(f"{_name(found)} is linked twice")
                continue
            seen.add(address)
            if isinstance(found, h5py.Group):
                groups.append((found, depth + 1))
                _check_attributes(found, {MATRIX} if MATRIX in found.attrs else set())
            else:
                _check_attributes(found, set())
                held += _bytes_of(found)
    if held > size or len(seen) > size // SMALLEST_OBJECT:
        raise InputError("its arrays are larger than the file")


def _linked(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return what a name in a group is linked to, which must be in this file."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise InputError(f"{_name(group)} has no {name!r:.80} in this file, but a link to elsewhere")
    found = group[name]
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise InputError(f"{_name(group)} holds neither a group nor an array")
    return found


def _check_attributes(found: h5py.Group | h5py.Dataset, wanted: set[str]) -> None:
    if h5a.get_num_attrs(found.id) != len(wanted):
        raise InputError(f"{_name(found)} has an unknown attribute")
    for name in wanted:
        attribute = h5a.open(found.id, name.encode())
        if attribute.shape != (2,) or attribute.dtype != np.int64:
            raise InputError(f"{_name(found)} is a matrix without a shape")


def _bytes_of(dataset: h5py.Dataset) -> int:
    """Return the bytes of a dataset, which must lie in this file, one value after the other."""
    made, kind = dataset.id.get_create_plist(), dataset.id.get_type()
    space = dataset.id.get_space()
    is_plain = made.get_layout() in (h5d.CONTIGUOUS, h5d.COMPACT) and not made.get_nfilters()
    if not is_plain or made.get_external_count() or space.get_simple_extent_type() == h5s.NULL:
        raise InputError(f"{_name(dataset)} is not stored as it is: external, virtual, chunked or compressed")
    if kind.get_class() == h5t.STRING:
        is_known = not kind.is_variable_str() and dataset.shape == ()
    else:
        is_known = kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM)
        is_known = is_known and dataset.dtype.kind in PLAIN_NUMBERS and kind.get_size() <= LARGEST_NUMBER
    size = kind.get_size() * math.prod(dataset.shape)
    if not is_known or kind.get_size() != dataset.dtype.itemsize or size != dataset.id.get_storage_size():
        raise InputError(f"{_name(dataset)} is not a plain array")
    return size


def _name(found: h5py.Group | h5py.Dataset) -> str:
    return f"{found.name or 'something'!s:.80}"
