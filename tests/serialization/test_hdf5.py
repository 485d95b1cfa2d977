"""Sealed HDF5 files: damaged, foreign and forged ones are refused with one line, and arrays survive a round trip."""

import hashlib
import json
import os
import random
import re

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from spotlight_asars import host
from spotlight_asars.errors import InputError
from spotlight_asars.sequence.non_neural.rules import Popularity
from spotlight_asars.serialization.hdf5 import SEAL_BYTES, open_sealed, read_arrays, write_arrays, write_sealed
from spotlight_asars.serialization.models import load_model, save_model, write_model


def refusal(path):
    """Return the message, one line, with which a file is refused."""
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def refuses_with(file, path, place, byte):
    """Check that a file is refused while one byte is changed; `file` is open for unbuffered writing."""
    file.seek(place)
    before = file.read(1)
    file.seek(place)
    file.write(bytes([byte]))
    refusal(path)
    file.seek(place)
    file.write(before)


@pytest.fixture(scope="module")
def content(tmp_path_factory, rows):
    """The bytes of a small model file."""
    path = tmp_path_factory.mktemp("whole") / "model.h5"
    save_model(Popularity().fit(rows), path)
    return path.read_bytes()


class TestDamaged:
    def test_every_byte(self, model_file):
        """Each byte is changed in turn."""
        content, change = bytearray(model_file.read_bytes()), random.Random(0)
        assert len(content) < 10_000
        with model_file.open("r+b", buffering=0) as file:
            for place, byte in enumerate(content):
                refuses_with(file, model_file, place, byte ^ change.randint(1, 255))
        load_model(model_file)

    def test_every_bit_of_the_seal(self, model_file):
        text = model_file.read_bytes()[:SEAL_BYTES].rstrip(b"\0")
        with model_file.open("r+b", buffering=0) as file:
            for place, byte in enumerate(text):
                for bit in range(8):
                    refuses_with(file, model_file, place, byte ^ 1 << bit)
        load_model(model_file)

    @given(data=st.data())
    def test_random_bytes_in_it(self, tmp_path_factory, content, data):
        path = tmp_path_factory.getbasetemp() / "random.h5"
        begin = data.draw(st.integers(0, len(content) - 1))
        end = data.draw(st.integers(begin, len(content)))
        put = data.draw(st.binary(max_size=200))
        changed = content[:begin] + put + content[end:]
        path.write_bytes(changed)
        if changed == content:
            load_model(path)
        else:
            refusal(path)

    @given(content=st.binary(max_size=1000))
    def test_random_bytes_alone(self, tmp_path_factory, content):
        path = tmp_path_factory.getbasetemp() / "alone.h5"
        path.write_bytes(content)
        refusal(path)

    def test_cut_short(self, model_file):
        written = model_file.stat().st_size
        os.truncate(model_file, written - 1)
        assert "cut short" in refusal(model_file) and str(written - SEAL_BYTES) in refusal(model_file)
        for length in [*range(700, written, 37)[::-1], *range(700)[::-1]]:
            os.truncate(model_file, length)
            refusal(model_file)

    def test_more_behind(self, model_file):
        with model_file.open("ab") as file:
            file.write(b"\0")
        assert "damaged" in refusal(model_file)

    def test_says_so(self, model_file):
        content = bytearray(model_file.read_bytes())
        content[-1] ^= 1
        model_file.write_bytes(content)
        message = refusal(model_file)
        assert "checksum" in message and "save the model again" in message


class TestForeign:
    def test_newer_version(self, model_file):
        content = model_file.read_bytes()
        model_file.write_bytes(content.replace(b"version 1\n", b"version 2\n", 1))
        message = refusal(model_file)
        assert "format 2" in message and "up to 1" in message and "update spotlight_asars" in message

    def test_newer_version_of_another_form(self, model_file):
        """Later versions only have to keep the first two lines."""
        model_file.write_bytes(b"spotlight_asars model file\nversion 317\nall else is new")
        assert "format 317" in refusal(model_file)

    def test_hdf5_of_something_else(self, tmp_path):
        path = tmp_path / "other.h5"
        with h5py.File(path, "w") as file:
            file["model"] = np.arange(3)
        assert "HDF5 file of something else" in refusal(path)

    def test_hdf5_of_something_else_with_a_user_block(self, tmp_path):
        path = tmp_path / "other.h5"
        with h5py.File(path, "w", userblock_size=512) as file:
            file["model"] = np.arange(3)
        assert "not a model file" in refusal(path)

    def test_interactions_of_spotlight(self, tmp_path):
        """Spotlight stores data sets as HDF5 files with these columns."""
        path = tmp_path / "movielens.hdf5"
        with h5py.File(path, "w") as file:
            for name in ("/user_id", "/item_id", "/rating", "/timestamp"):
                file.create_dataset(name, data=np.arange(5), compression="gzip")
        assert "Interactions" in refusal(path) and "save_model" in refusal(path)

    def test_pickles(self, tmp_path):
        path = tmp_path / "model.pt"
        torch.save({"weight": torch.zeros(3)}, path)
        message = refusal(path)
        assert "pickle" in message and "any code" in message
        torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
        assert refusal(path) == message

    def test_empty(self, tmp_path):
        (tmp_path / "model.h5").touch()
        assert "empty" in refusal(tmp_path / "model.h5")

    def test_text(self, tmp_path):
        (tmp_path / "model.h5").write_text("user,item,time\n" * 100)
        assert "not a model file" in refusal(tmp_path / "model.h5")

    def test_no_file(self, tmp_path):
        assert "No such file" in refusal(tmp_path / "model.h5")
        assert "not a file" in refusal(tmp_path)
        refusal(tmp_path / ("x" * 300))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_a_pipe_does_not_hang(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert "not a file" in refusal(tmp_path / "pipe")

    def test_a_file_that_may_not_be_read(self, model_file, monkeypatch):
        def refuse(*arguments, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", refuse)
        assert "Permission denied" in refusal(model_file)


class TestWriting:
    def test_it_is_hdf5(self, model_file):
        """Any HDF5 program can open it; its groups have names, and its settings are text."""
        with h5py.File(model_file) as file:
            assert set(file["model"]) == {"about", "arrays", "parts"}
            assert b'"Popularity"' in file["model/about"][()]
            assert file["model/arrays/clicks"].shape == (15,)
            assert "item_vocabulary" in file["model/parts"]

    def test_the_seal_is_text(self, model_file):
        content = model_file.read_bytes()
        text = re.fullmatch(rb"(.*)\n(.*)\nbytes (\d+)\nsha256 (.*)\n\0+", content[:SEAL_BYTES])
        assert text[1] == b"spotlight_asars model file" and text[2] == b"version 1"
        assert int(text[3]) == len(content) - SEAL_BYTES
        assert text[4].decode() == hashlib.sha256(content[SEAL_BYTES:]).hexdigest()

    def test_nothing_that_runs(self, model_file):
        content = model_file.read_bytes()
        assert b"pickle" not in content and b"csklearn" not in content and b"\x80\x04\x95" not in content

    def test_what_stood_there_stays_when_the_disk_is_full(self, model_file, rows, monkeypatch, refuses):
        before = model_file.read_bytes()

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        refuses(lambda: save_model(Popularity(), model_file), str(model_file), "No space left")
        assert model_file.read_bytes() == before
        assert list(model_file.parent.iterdir()) == [model_file]

    def test_what_stood_there_stays_when_the_model_cannot_be_written(self, model_file, refuses):
        before = model_file.read_bytes()
        refuses(lambda: save_model(host.ImplicitSequenceModel(), model_file), "ImplicitSequenceModel")
        assert model_file.read_bytes() == before

    def test_no_folder(self, tmp_path, refuses):
        path = tmp_path / "none" / "model.h5"
        refuses(lambda: save_model(Popularity(), path), str(path), "cannot be written")

    def test_paths_as_text(self, tmp_path):
        save_model(Popularity(), str(tmp_path / "ünï code.h5"))
        assert isinstance(load_model(str(tmp_path / "ünï code.h5")), Popularity)

    def test_further_groups_do_not_matter(self, tmp_path, rows, assert_alike):
        """A model file may hold other groups as well."""
        model = Popularity().fit(rows)
        saved = {"step": np.array(3), "moments": {"a/b": np.ones((2, 3), dtype=np.float32)}}

        def fill(file):
            write_model(file, model)
            write_arrays(file.create_group("optimizer"), saved)

        write_sealed(tmp_path / "checkpoint.h5", fill)
        assert_alike(model, load_model(tmp_path / "checkpoint.h5"), rows)
        with open_sealed(tmp_path / "checkpoint.h5") as file:
            found = read_arrays(file["optimizer"])
        assert found["step"] == 3 and found["step"].shape == ()
        np.testing.assert_array_equal(found["moments"]["a/b"], saved["moments"]["a/b"])


CLICKS = "model/arrays/clicks"


def forge(path, change):
    """Change a model file and give it a valid seal."""

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


def test_an_unchanged_forgery_loads(model_file, rows, assert_alike):
    forge(model_file, about(settings={}))
    assert_alike(load_model(model_file), Popularity().fit(rows), rows)


def test_other_files_are_not_read(model_file, tmp_path):
    """Neither through a link nor as external storage of an array."""
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
