"""Files that are not as they were written are refused in one line: damaged, cut short, foreign, newer, missing."""

import hashlib
import os
import random
import re

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spotlight_asars import host
from spotlight_asars.errors import InputError
from spotlight_asars.sequence.non_neural.rules import Popularity
from spotlight_asars.serialization.hdf5 import SEAL_BYTES, open_sealed, write_sealed
from spotlight_asars.serialization.models import load_model, save_model


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


def refuses_with(file, path, place, byte):
    """Check that a file is refused while one of its bytes is another; `file` is open for writing without a buffer."""
    file.seek(place)
    before = file.read(1)
    file.seek(place)
    file.write(bytes([byte]))
    refusal(path)
    file.seek(place)
    file.write(before)


@pytest.fixture(scope="module")
def content(tmp_path_factory, rows):
    """What a small model file holds."""
    path = tmp_path_factory.mktemp("whole") / "model.h5"
    save_model(Popularity().fit(rows), path)
    return path.read_bytes()


class TestDamaged:
    def test_every_byte(self, model_file):
        """Each byte of the file in turn gets another value."""
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
        """All that later versions have to keep are the two first lines."""
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
        """Spotlight keeps data sets as HDF5 files with these columns."""
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
        """Any HDF5 program opens it; its tree is named, and its settings are text."""
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
        """A model file is one whatever else is kept in it."""
        from spotlight_asars.serialization.hdf5 import read_arrays, write_arrays
        from spotlight_asars.serialization.models import write_model

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
