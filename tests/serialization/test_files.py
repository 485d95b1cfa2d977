"""Files are complete or absent, and folders that cannot be written to are refused before any work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spotlight_asars.serialization.files import (
    check_output,
    folder_beside,
    output_folder,
    writable_folder,
    write_whole,
    written_beside,
)


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


class TestLinks:
    """A symbolic link given as the place to write is followed, and stays."""

    @pytest.mark.parametrize("is_there", [True, False])
    def test_the_file_it_names_is_written(self, tmp_path, is_there):
        target, link = tmp_path / "elsewhere" / "model.h5", tmp_path / "latest.h5"
        target.parent.mkdir()
        if is_there:
            target.write_text("old")
        link.symlink_to("elsewhere/model.h5")
        write_whole(link, "new")
        assert os.readlink(link) == "elsewhere/model.h5"
        assert target.read_text() == "new" and not target.is_symlink()
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "latest.h5", "model.h5"]

    def test_a_failed_write_leaves_both(self, tmp_path, refuses, failing_disk):
        (tmp_path / "model.h5").write_text("old")
        (tmp_path / "latest.h5").symlink_to("model.h5")
        failing_disk(OSError(28, "No space left on device"))
        refuses(lambda: write_whole(tmp_path / "latest.h5", "new"), "latest.h5: cannot be written", "No space left")
        assert (tmp_path / "latest.h5").is_symlink() and (tmp_path / "model.h5").read_text() == "old"

    def test_a_circle_is_refused(self, tmp_path, refuses):
        (tmp_path / "a").symlink_to("b")
        (tmp_path / "b").symlink_to("a")
        refuses(lambda: write_whole(tmp_path / "a", "new"), "not a regular file")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
    def test_a_device_is_not_replaced(self, tmp_path, refuses):
        os.mkfifo(tmp_path / "pipe")
        refuses(lambda: write_whole(tmp_path / "pipe", "new"), "not a regular file")
        assert not (tmp_path / "pipe").is_file()


WRITER = """
import sys, time
from spotlight_asars.serialization.files import written_beside
with written_beside(sys.argv[1]) as beside:
    beside.write_text("half")
    print("begun", flush=True)
    time.sleep(600)
"""


class TestLeftovers:
    """The next writer of a file removes what killed processes left beside it, and nothing else."""

    @pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.write_text("half, as release 0.1.0 left it")])
    def test_what_nobody_has_locked_is_removed(self, tmp_path, make):
        make(tmp_path / f".results.json.{'0' * 32}")
        others = [f".other.json.{'0' * 32}", ".results.json.mine", f".results.json.{'0' * 31}g"]
        for name in others:
            (tmp_path / name).write_text("not ours")
        write_whole(tmp_path / "results.json", "new")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "results.json"])

    def test_a_living_writer_keeps_its_file(self, tmp_path):
        path = tmp_path / "results.json"
        with written_beside(path) as slow:
            slow.write_text("slow")
            write_whole(path, "quick")
            assert slow.read_text() == "slow"
        assert path.read_text() == "slow"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_folder_for_more_files_is_kept_while_one_of_them_is_written(self, tmp_path):
        path = tmp_path / "log.h5"
        with folder_beside(path) as folder:
            (folder / "part").write_text("events")
            write_whole(path, "log")
            assert (folder / "part").read_text() == "events"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.once
    def test_those_of_a_killed_process(self, tmp_path):
        path = tmp_path / "results.json"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
            try:
                assert writer.stdout.readline() == "begun\n"
                write_whole(path, "while it lives")
                assert len(list(tmp_path.iterdir())) == 2
            finally:
                writer.send_signal(signal.SIGKILL)
        assert len(list(tmp_path.iterdir())) == 2
        write_whole(path, "once it is dead")
        assert list(tmp_path.iterdir()) == [path] and path.read_text() == "once it is dead"


class TestCheckOutput:
    """Nothing is written over what it is made from."""

    @pytest.fixture
    def log(self, tmp_path):
        path = tmp_path / "logs" / "log.csv"
        path.parent.mkdir()
        path.write_text("events")
        return path

    def test_the_same_path(self, log, refuses):
        refuses(lambda: check_output(log, [None, log]), "--out", str(log), "give another file")

    def test_a_relative_path(self, log, refuses, monkeypatch):
        monkeypatch.chdir(log.parent)
        refuses(lambda: check_output("../logs/./log.csv", [log]), "would replace")

    @pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
    def test_a_link(self, log, tmp_path, refuses, link):
        getattr(tmp_path / "link", link)(log)
        refuses(lambda: check_output(tmp_path / "link", [log]), "would replace")
        refuses(lambda: check_output(log, [tmp_path / "link"]), "would replace")

    def test_a_shard_of_a_folder(self, log, refuses):
        refuses(lambda: check_output(log, [log.parent]), "would replace", str(log.parent))

    def test_other_files_may_be_written(self, log, tmp_path):
        (tmp_path / "other").write_text("text")
        check_output(tmp_path / "other", [log, log.parent, tmp_path / "missing"])
        check_output(tmp_path / "new", [log, log.parent])

    def test_what_is_no_file(self, tmp_path, refuses):
        refuses(lambda: check_output(tmp_path, []), "cannot be written", "a folder")
