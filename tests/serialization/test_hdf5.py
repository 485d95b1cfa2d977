"""Files under a right seal that hold something else: refused, and nothing outside the file is looked at."""

import json

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_array

from spotlight_asars.errors import InputError
from spotlight_asars.sequence.non_neural.rules import Popularity
from spotlight_asars.serialization.hdf5 import open_sealed, read_arrays, write_arrays, write_sealed
from spotlight_asars.serialization.models import load_model, save_model

CLICKS = "model/arrays/clicks"


def forge(path, change):
    """Write a model file anew, changed and with a seal that is right."""

    def fill(file):
        with open_sealed(path) as source:
            source.copy("model", file)
        change(file)

    write_sealed(path, fill)


def replace(file, name, **dataset):
    del file[name]
    file.create_dataset(name, **dataset)


def about(**changed):
    def change(file):
        found = json.loads(file["model/about"][()])
        del file["model/about"]
        file["model/about"] = np.bytes_(json.dumps({**found, **changed}))

    return change


def without(name):
    return lambda file: file.__delitem__(name)


def text(name, content):
    return lambda file: replace(file, name, data=np.bytes_(content))


def link(name, target):
    def change(file):
        del file[name]
        file[name] = target

    return change


def elsewhere_in_it(file):
    file.move(CLICKS, "clicks")
    file[CLICKS] = h5py.SoftLink("/clicks")


def in_a_circle(file):
    file["model/parts/itself"] = file["model"]


def more_than_memory(file):
    replace(file, CLICKS, shape=(2**50,), dtype=np.float64)


def packed(file):
    replace(file, CLICKS, shape=(2**30,), dtype=np.int8, chunks=(2**20,), compression="gzip")


def virtual(file):
    layout = h5py.VirtualLayout(shape=(15,), dtype=np.float64)
    layout[:] = h5py.VirtualSource("other.h5", "clicks", shape=(15,))
    del file[CLICKS]
    file.create_virtual_dataset(CLICKS, layout)


IDS = "model/parts/item_vocabulary/arrays/ids"


def raw_ids(content):
    return lambda file: replace(file, IDS, data=np.frombuffer(content, dtype=np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        without("model"),
        without("model/about"),
        without("model/arrays"),
        without("model/parts"),
        without("model/parts/binning"),
        without(CLICKS),
        about(kind="os.system"),
        about(kind="Vocabulary"),
        about(kind=["Popularity"]),
        about(settings={"steps": 3}),
        about(settings=None),
        about(fitted={}),
        about(code={"loss": "a.b"}),
        text("model/about", b"{"),
        text("model/about", b"[]"),
        text("model/about", b"\xff\xfe"),
        text(CLICKS, b"clicks"),
        lambda file: replace(file, "model/about", data=3),
        lambda file: replace(file, CLICKS, data=np.array(["a"], dtype=object), dtype=h5py.string_dtype()),
        lambda file: replace(file, CLICKS, data=file["model"].ref, dtype=h5py.ref_dtype),
        elsewhere_in_it,
        link(CLICKS, h5py.SoftLink("/model/about")),
        link("model/parts", h5py.SoftLink("/model/arrays")),
        in_a_circle,
        more_than_memory,
        packed,
        virtual,
        raw_ids(b"[1,2"),
        raw_ids(b"3"),
        raw_ids(b'{"a": 1}'),
        raw_ids(b"[NaN]"),
        raw_ids(b'["a","a"]'),
        raw_ids(b'["' + b"\xc3\xbc" + b'"]'),
        raw_ids(b"[" * 100_000),
    ],
)
def test_content_of_another_kind(model_file, change):
    forge(model_file, change)
    with pytest.raises(InputError) as caught:
        load_model(model_file)
    message = str(caught.value)
    assert message.startswith(f"{model_file}: no model can be created from it: ") and "\n" not in message


def test_the_way_of_forging_is_sound(model_file, rows, assert_alike):
    forge(model_file, about(settings={}))
    assert_alike(load_model(model_file), Popularity().fit(rows), rows)


def test_other_files_are_not_read(model_file, tmp_path):
    """Neither by a link nor as the place where an array is kept."""
    (tmp_path / "secret").write_bytes(np.arange(15.0).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["clicks"] = np.arange(15.0)
    storage = [(str(tmp_path / "secret"), 0, 120)]
    for change in (
        link(CLICKS, h5py.ExternalLink(str(tmp_path / "other.h5"), "clicks")),
        lambda file: replace(file, CLICKS, shape=(15,), dtype=np.float64, external=storage),
    ):
        save_model(Popularity(), tmp_path / "changed.h5")
        (tmp_path / "changed.h5").write_bytes(model_file.read_bytes())
        forge(tmp_path / "changed.h5", change)
        with pytest.raises(InputError, match="no model can be created from it"):
            load_model(tmp_path / "changed.h5")


ARRAYS = {
    "plain": np.arange(6, dtype=np.int32).reshape(2, 3),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), dtype=np.float32),
    "half": np.array([1, 2], dtype=np.float16),
    "bool": np.array([True, False]),
    "big": np.array([1, 2], dtype=">i8"),
    "a/b": np.array([np.nan, -0.0, np.inf]),
    ".": np.array([1]),
    "..": np.array([2]),
    "%2E": np.array([3]),
    "ünï\0code": np.array([4]),
    "every.other": np.arange(10)[::2],
    "inner": {"a": np.array([1]), "deeper": {}},
    "matrix": csr_array(np.array([[0, 2.0], [0, 0]])),
}


def test_arrays_of_every_kind(tmp_path):
    write_sealed(tmp_path / "arrays.h5", lambda file: write_arrays(file.create_group("kept"), ARRAYS))
    with open_sealed(tmp_path / "arrays.h5") as file:
        found = read_arrays(file["kept"])
    assert found.keys() == ARRAYS.keys()
    matrix = found.pop("matrix")
    assert matrix.shape == (2, 2) and matrix.format == "csr" and matrix[0, 1] == 2.0 and matrix.nnz == 1
    inner = found.pop("inner")
    assert inner["a"] == 1 and inner["deeper"] == {}
    for name, array in found.items():
        assert array.dtype == ARRAYS[name].dtype.newbyteorder("=") and array.shape == ARRAYS[name].shape
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_arrays_that_are_not_numeric(tmp_path):
    for array in (np.array(["a"]), np.array([1j]), np.array([{}], dtype=object), np.array(["2020"], dtype="M8[s]")):
        with pytest.raises(TypeError, match=r"'array'.*not numeric"):
            write_sealed(tmp_path / "arrays.h5", lambda file, array=array: write_arrays(file, {"array": array}))
    assert list(tmp_path.iterdir()) == []
