"""Spotlight's HDF5 files of Interactions, read and written."""

import h5py
import numpy as np

from spotlight_asars.datasets.movielens import read_movielens
from spotlight_asars.datasets.spotlight_files import read_interactions, write_interactions
from spotlight_asars.host import Interactions

COLUMNS = {
    "user_ids": np.array([3, 1], dtype=np.int32),
    "item_ids": np.array([7, 9], dtype=np.int32),
    "ratings": np.array([4.0, 5.0], dtype=np.float32),
    "timestamps": np.array([30, 10], dtype=np.int32),
}


def test_as_spotlight_reads_it(tmp_path):
    path = tmp_path / "movielens_100K.hdf5"
    write_interactions(Interactions(**COLUMNS), path)
    with h5py.File(path) as data:  # as Spotlight's get_movielens_dataset does
        found = data["/user_id"][:], data["/item_id"][:], data["/rating"][:], data["/timestamp"][:]
    for values, expected in zip(found, COLUMNS.values(), strict=True):
        assert values.dtype == expected.dtype
        np.testing.assert_array_equal(values, expected)
    interactions = read_interactions(path)
    for name, expected in COLUMNS.items():
        np.testing.assert_array_equal(getattr(interactions, name), expected)
    assert (interactions.num_users, interactions.num_items) == (4, 10)
    assert read_movielens(path).to_dict("list") == {"user": [3, 1], "item": [7, 9], "timestamp": [30.0, 10.0]}


def test_without_ratings(tmp_path):
    path = tmp_path / "log.hdf5"
    write_interactions(Interactions(**{**COLUMNS, "ratings": None}), path)
    assert read_interactions(path).ratings is None


def test_wrong_files(tmp_path, refuses):
    path = tmp_path / "log.hdf5"
    refuses(lambda: read_interactions(path), "log.hdf5", "cannot be read")
    write_interactions(Interactions(COLUMNS["user_ids"], COLUMNS["item_ids"]), path)
    refuses(lambda: read_interactions(path), "'timestamp'", "the file has: item_id, user_id")
    with h5py.File(path, "a") as file:
        file["timestamp"] = np.arange(3)
    refuses(lambda: read_interactions(path), "differ in length")
    refuses(lambda: write_interactions(Interactions(**COLUMNS), tmp_path / "none" / "log.hdf5"), "cannot be written")
