"""Read and write Interactions in the HDF5 format of Spotlight's datasets."""

import os
from pathlib import Path

import h5py
import numpy as np

from spotlight_asars.datasets._text import complain
from spotlight_asars.host import Interactions
from spotlight_asars.serialization.files import written_beside

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# The name of each column of Interactions in Spotlight's files.
DATASETS = {"user_ids": "user_id", "item_ids": "item_id", "ratings": "rating", "timestamps": "timestamp"}


def read_interactions(path: str | os.PathLike) -> Interactions:
    """
    Read an HDF5 file with the datasets `user_id`, `item_id`, `rating` and `timestamp`, such as Spotlight downloads.

    Parameters
    ----------
    path: str or PathLike
        The file. HDF5 does not validate what it reads: only read files from sources that you trust.

    Returns
    -------
    the host's Interactions
        Without ratings if the file has none.

    Raises
    ------
    InputError
        If the file does not exist or has another layout.
    """
    columns = {}
    try:
        with h5py.File(path, "r") as file:
            for column, name in DATASETS.items():
                found = file.get(name)
                if found is None and column == "ratings":
                    continue
                if not isinstance(found, h5py.Dataset) or found.ndim != 1 or found.dtype.kind not in "iuf":
                    there = ", ".join(file)[:200]
                    complain(
                        path, f"there is no dataset {name!r} with one number for each event; the file has: {there}"
                    )
                columns[column] = found[:]
    except OSError as error:
        reason = " ".join((error.strerror or str(error)).split())
        complain(path, f"cannot be read as HDF5 ({reason}); check the path")
    if len({len(values) for values in columns.values()}) > 1 or not len(columns["user_ids"]):
        complain(path, "its datasets are empty or differ in length; fetch the file again")
    return Interactions(**columns)


def write_interactions(interactions: Interactions, path: str | os.PathLike) -> None:
    """
    Write Interactions to such a file, atomically; the format has no weights, sessions or raw ids.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with written_beside(Path(path)) as beside, h5py.File(beside, "w") as file:
        for column, name in DATASETS.items():
            values = getattr(interactions, column)
            if values is not None:
                file[name] = np.asarray(values)
