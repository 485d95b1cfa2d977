"""Files are complete or absent, and folders that cannot be written to are refused before any work."""

import os

import pytest

from spotlight_asars.serialization.files import output_folder, writable_folder, write_whole


@pytest.fixture
def failing_disk(monkeypatch):
    """Make writing fail with an exception, after the content is written."""

    def fail_with(error):
        def stop(descriptor):
            raise error

        monkeypatch.setattr(os, "fsync", stop)

    return fail_with


class TestWritableFolder:
    def test_makes_folders(self, tmp_path):
        folder = writable_folder(str(tmp_path / "a" / "b"))
        assert folder == tmp_path / "a" / "b"
        assert list(folder.iterdir()) == []

    def test_keeps_what_is_there(self, tmp_path):
        (tmp_path / "kept").write_text("text")
        assert writable_folder(tmp_path) == tmp_path
        assert [path.name for path in tmp_path.iterdir()] == ["kept"]

    @pytest.mark.parametrize("below", ["file", "file/folder"])
    def test_refuses_a_file(self, tmp_path, refuses, below):
        (tmp_path / "file").write_text("text")
        refuses(lambda: writable_folder(tmp_path / below), str(tmp_path / below), "cannot write", "another folder")
        assert (tmp_path / "file").read_text() == "text"

    def test_refuses_a_name_too_long(self, tmp_path, refuses):
        refuses(lambda: writable_folder(tmp_path / ("x" * 300)), "cannot write there", "--out")


class TestOutputFolder:
    def test_stays_after_success(self, tmp_path):
        with output_folder(tmp_path / "a" / "b") as folder:
            assert folder.is_dir()
        assert folder.is_dir()

    def test_empty_folders_made_for_it_go_after_failure(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(KeyboardInterrupt), output_folder(tmp_path / "a" / "b" / "c"):
            raise KeyboardInterrupt
        assert (tmp_path / "a").is_dir()
        assert list((tmp_path / "a").iterdir()) == []

    def test_folders_with_files_stay_after_failure(self, tmp_path):
        with pytest.raises(RuntimeError), output_folder(tmp_path / "a" / "b") as folder:
            (folder / "part").write_text("text")
            raise RuntimeError
        assert (tmp_path / "a" / "b" / "part").read_text() == "text"

    def test_a_folder_that_was_there_stays_after_failure(self, tmp_path):
        (tmp_path / "a").mkdir()
        with pytest.raises(RuntimeError), output_folder(tmp_path / "a"):
            raise RuntimeError
        assert (tmp_path / "a").is_dir()

    @pytest.mark.parametrize("name", ["file", "new/" + "x" * 300])
    def test_refuses_before_any_work(self, tmp_path, refuses, name):
        (tmp_path / "file").write_text("text")
        work = []

        def call():
            with output_folder(tmp_path / name):
                work.append("done")

        refuses(call, "cannot write there", "choose another folder")
        assert not work
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


class TestWriteWhole:
    @pytest.mark.parametrize("text", ["", "one\ntwo\n", "é 日本 🛒\n", "x" * 100_000])
    def test_writes(self, tmp_path, text):
        write_whole(tmp_path / "results.json", text)
        assert (tmp_path / "results.json").read_bytes() == text.encode("utf-8")
        assert [path.name for path in tmp_path.iterdir()] == ["results.json"]

    def test_writes_bytes_as_they_are(self, tmp_path):
        write_whole(tmp_path / "run.npz", b"\r\n\x00\xff")
        assert (tmp_path / "run.npz").read_bytes() == b"\r\n\x00\xff"

    def test_replaces(self, tmp_path):
        path = tmp_path / "results.json"
        path.write_text("a longer text that stood there before")
        write_whole(str(path), "new")
        assert path.read_text() == "new"

    def test_who_reads_the_old_file_reads_it_to_its_end(self, tmp_path):
        path = tmp_path / "results.json"
        path.write_text("old")
        with path.open() as reader:
            write_whole(path, "new")
            assert reader.read() == "old"

    def test_may_be_read_by_whom_a_plain_file_may(self, tmp_path):
        (tmp_path / "plain").write_text("text")
        write_whole(tmp_path / "whole", "text")
        assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("no number")])
    def test_a_full_disk_leaves_the_old_file_alone(self, tmp_path, refuses, failing_disk, error):
        path = tmp_path / "results.json"
        path.write_text("old")
        failing_disk(error)
        refuses(
            lambda: write_whole(path, "new"), str(path), "cannot be written", str(error.strerror or error), "choose"
        )
        assert path.read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["results.json"]

    def test_an_interrupt_leaves_nothing(self, tmp_path, failing_disk):
        failing_disk(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            write_whole(tmp_path / "results.json", "new")
        assert list(tmp_path.iterdir()) == []

    def test_text_that_has_no_bytes_leaves_nothing(self, tmp_path):
        with pytest.raises(UnicodeEncodeError):
            write_whole(tmp_path / "results.json", "begin \ud800")
        assert list(tmp_path.iterdir()) == []

    def test_refuses_places_that_cannot_be(self, tmp_path, refuses):
        (tmp_path / "file").write_text("text")
        (tmp_path / "folder").mkdir()
        for place in ("missing/results.json", "file/results.json", "folder"):
            refuses(
                lambda place=place: write_whole(tmp_path / place, "x"), str(tmp_path / place), "choose another place"
            )
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
