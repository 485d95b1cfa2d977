"""Live sessions that outlive their process: nothing acknowledged is lost, and one process has the file."""

import errno
import os
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.online import durable
from spotlight_asars.sequence.online.durable import Durability, DurableUsers
from spotlight_asars.sequence.online.users import LiveUsers
from spotlight_asars.serialization.models import load_sessions, save_sessions


def fitted(seed):
    draw = np.random.RandomState(0)
    rows = SessionSequences(draw.randint(1, 10, size=(20, 6)), item_vocabulary=Vocabulary("abcdefghi"))
    options = {"hidden_dim": 6, "pointer": True}
    return ASARSSequenceModel(embedding_dim=6, n_iter=1, random_state=seed, representation_options=options).fit(rows)


@pytest.fixture(scope="module")
def model():
    return fitted(0)


@pytest.fixture(scope="module")
def other_model():
    return fitted(1)


@pytest.fixture
def opened(model, path, told, monkeypatch):
    """Durable sessions whose locks are of no effect, so that the next ones find what a killed process leaves."""
    monkeypatch.setattr(durable, "FileLock", lambda path: SimpleNamespace(release=lambda: None))

    def open_users(model=model, durability=None, **settings):
        return DurableUsers(model, path, durability=Durability(**durability or {}), report=told.append, **settings)

    return open_users


def wait_for_the_save():
    for thread in threading.enumerate():
        if thread.name == durable.SAVER:
            thread.join()


CHANGES = [
    ("observe", ("user", 1), "a", 10.0, 1),
    ("observe", ("user", "1"), "b", 11.0, "1"),
    ("observe", ("session", ("x", 2.5)), "unknown", 12.0),
    ("observe", ("user", 1), "c", 13.5, 1),
    ("end", ("user", 1)),
    ("observe", ("user", 1), "d", 14.0, 1),
    ("observe", ("session", True), "e", 15.0),
    ("forget", ("user", "1")),
    ("observe", ("user", "1"), "f", 5.0, "1"),
    ("observe", ("user", 2), "a", 20.0, 2, "mon"),
    ("observe", ("user", 2), "b", 21.0, 2, ("tue", 1)),
]


def apply(users, changes):
    for name, *arguments in changes:
        assert getattr(users, name)(*arguments)


def same(users, model, changes, **limits):
    """Whether the sessions are, to the bit, those of one process that was never stopped."""
    wanted = LiveUsers(model, **limits)
    apply(wanted, changes)
    keys = {key for _, key, *_ in changes}
    assert {key for key in keys if key in users} == {key for key in keys if key in wanted}
    return all(users.recommend(key, 9) == wanted.recommend(key, 9) for key in keys if key in wanted)


@pytest.mark.parametrize("journal", ["flush", "fsync"])
@pytest.mark.filterwarnings("ignore:the model knows none of the items")
def test_a_killed_process_loses_nothing(opened, model, journal):
    """Regression: everything since the last save was lost."""
    for end in range(len(CHANGES)):
        users = opened(durability={"journal": journal})
        apply(users, CHANGES[end : end + 1])
    assert same(opened(), model, CHANGES)


@pytest.mark.filterwarnings("ignore:the model knows none of the items")
def test_a_start_folds_the_journal_into_the_file(opened, model, path):
    apply(opened(), CHANGES)
    assert not path.exists()
    opened()
    assert load_sessions(path, model).changes == len(CHANGES)
    for part in path.parent.glob("*.journal-*"):
        part.unlink()
    assert same(opened(), model, CHANGES)


@pytest.mark.filterwarnings("ignore:the model knows none of the items")
def test_without_a_journal_a_clean_end_keeps_everything(opened, model, path):
    users = opened(durability={"journal": "off"})
    apply(users, CHANGES)
    users.close()
    assert os.listdir(path.parent) == ["live.h5"]
    assert same(opened(), model, CHANGES)


def test_a_clean_end_leaves_the_file_and_what_is_to_be_kept(opened, path):
    users = opened(durability={"keep_bytes": 0})
    apply(users, CHANGES[:2])
    users.close()
    assert os.listdir(path.parent) == ["live.h5"]
    with opened() as users:
        apply(users, CHANGES[3:4])
    assert sorted(os.listdir(path.parent)) == ["live.h5", "live.h5.journal-000000000000000003"]


def test_a_killed_save_leaves_nothing_out_and_nothing_twice(opened, model, path, monkeypatch):
    """The state file is there and the journal it holds already too, as when a kill falls between the two."""
    users = opened()
    apply(users, CHANGES[:2])
    monkeypatch.setattr(durable.Journal, "remove_old", lambda *arguments: None)
    users.save()
    apply(users, CHANGES[3:4])
    assert same(opened(), model, [*CHANGES[:2], CHANGES[3]])


def test_a_start_clears_what_killed_saves_have_left(opened, path):
    left = path.with_name(f".{path.name}.{'0' * 32}")
    left.write_bytes(b"half")
    opened()
    assert not left.exists()


def test_changes_go_on_while_a_save_runs(opened, model, path, monkeypatch):
    """Regression: saving 100,000 users stopped every answer for seconds."""
    users, begun, may_end = opened(), threading.Event(), threading.Event()

    def slowly(sessions, target):
        begun.set()
        assert may_end.wait(60)
        save_sessions(sessions, target)

    monkeypatch.setattr(durable, "save_sessions", slowly)
    apply(users, CHANGES[:1])
    users.save_in_background()
    assert begun.wait(60)
    apply(users, CHANGES[1:2])
    assert same(users, model, CHANGES[:2])
    may_end.set()
    wait_for_the_save()
    assert load_sessions(path, model).changes == 1  # as it was when the save began
    assert same(opened(), model, CHANGES[:2])


def test_the_file_is_written_after_so_many_changes(opened, model, path, monkeypatch):
    monkeypatch.setattr(durable, "CHANGES_A_SAVE", 2)
    users = opened()
    apply(users, CHANGES[:2])
    wait_for_the_save()
    assert load_sessions(path, model).changes == 2


def test_a_save_that_fails_is_told_and_tried_again(opened, model, path, told, monkeypatch):
    monkeypatch.setattr(durable, "CHANGES_A_SAVE", 2)
    monkeypatch.setattr(durable, "CHANGES_BEFORE_RETRY", 1)
    users, save = opened(), durable.save_sessions

    def full(sessions, target):
        raise InputError(f"{target}: cannot be written (No space left on device): choose another place")

    monkeypatch.setattr(durable, "save_sessions", full)
    apply(users, CHANGES[:2])
    wait_for_the_save()
    assert len(told) == 1 and "No space left" in told[0] and told[0].endswith("; the journal has them")
    monkeypatch.setattr(durable, "save_sessions", save)
    apply(users, CHANGES[3:4])
    wait_for_the_save()
    assert load_sessions(path, model).changes == 3


def test_a_full_disk_never_stops_answers(opened, model, told, monkeypatch):
    """Regression: the save of a full disk ended the server."""
    users, write = opened(), os.write

    def full(file, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    apply(users, CHANGES[:2])
    assert not users.is_kept and len(told) == 1 and users.recommend(("user", 1))
    monkeypatch.setattr(os, "write", write)
    users.close()
    assert users.is_kept and same(opened(), model, CHANGES[:2])


def test_what_was_not_forced_to_disk_is_not_said_to_be_kept(opened, monkeypatch):
    users, sync = opened(durability={"journal": "fsync"}), os.fsync

    def failing(file):
        raise OSError(errno.EIO, "Input/output error")

    apply(users, CHANGES[:1])
    assert users.is_kept
    monkeypatch.setattr(os, "fsync", failing)
    apply(users, CHANGES[1:2])
    assert not users.is_kept
    monkeypatch.setattr(os, "fsync", sync)
    apply(users, CHANGES[3:4])
    assert users.is_kept


def test_an_end_on_a_full_disk_is_an_error_only_if_something_is_lost(opened, model, told, refuses, monkeypatch):
    def full(sessions, target):
        raise InputError(f"{target}: cannot be written (No space left on device): choose another place")

    monkeypatch.setattr(durable, "save_sessions", full)
    users = opened()
    apply(users, CHANGES[:2])
    users.close()
    assert told[0].endswith("the journal has all sessions, and the next start reads them from there")
    assert same(opened(), model, CHANGES[:2])  # and this start cannot fold them
    assert told[-1].endswith("the journal has all sessions all the same")
    refuses(opened(durability={"journal": "off"}).close, "No space left on device")

    def no_room(file, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    users = opened()
    monkeypatch.setattr(os, "write", no_room)
    apply(users, CHANGES[3:4])
    refuses(users.close, "No space left on device", "the latest 1 changes are lost")


def test_one_process_has_the_file(model, path, refuses):
    """Regression: two servers wrote one file in turns."""
    users = DurableUsers(model, path)
    refuses(lambda: DurableUsers(model, path), f"{path}: process {os.getpid()} is serving these sessions")
    link = path.with_name("link.h5")
    link.symlink_to(path)
    refuses(lambda: DurableUsers(model, link), "is serving these sessions")
    users.close()
    DurableUsers(model, path).close()


@pytest.mark.once
def test_a_killed_process_gives_up_the_lock(path):
    code = (
        "import sys, pathlib; from spotlight_asars.sequence.online.file_lock import FileLock; "
        "FileLock(pathlib.Path(sys.argv[1])); print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(InputError, match=f"process {holder.pid} is serving"):
            durable.FileLock(path)
        holder.kill()
        holder.wait()
        durable.FileLock(path).release()


def test_a_forked_process_may_not_change_them(opened, refuses, monkeypatch, path):
    users = opened()
    apply(users, CHANGES[:1])
    monkeypatch.setattr(durable.os, "getpid", lambda: -1)
    refuses(lambda: apply(users, CHANGES[1:2]), "belong to the process that opened them")
    users.close()
    assert not path.exists()


class TestANewModel:
    @pytest.fixture(autouse=True)
    def saved(self, opened):
        with opened() as users:
            apply(users, CHANGES[:2])
        apply(opened(), CHANGES[3:4])

    def test_is_refused(self, opened, other_model, refuses):
        refuses(lambda: opened(other_model), "other weights", "--new-model", "replay", "fresh")
        opened()  # nothing has changed

    def test_replays_the_journal(self, opened, other_model, path):
        wanted = [*CHANGES[:2], CHANGES[3]]
        users = opened(other_model, durability={"new_model": "replay"})
        assert same(users, other_model, wanted)
        apply(users, CHANGES[5:6])
        assert same(opened(other_model, durability={"new_model": "replay"}), other_model, [*wanted, CHANGES[5]])

    def test_replays_what_there_still_is(self, opened, other_model, path, told):
        for part in path.parent.glob("*.journal-*"):
            part.unlink()
        with opened() as users:
            apply(users, CHANGES[5:6])
        users = opened(other_model, durability={"new_model": "replay"})
        assert same(users, other_model, CHANGES[5:6])
        assert f"{path}: its changes 1 to 2 are missing from the journal" in told

    def test_begins_anew(self, opened, other_model, path, told):
        users = opened(other_model, durability={"new_model": "fresh"})
        assert "begun anew" in told[-1]
        assert len(users) == 0 and sorted(os.listdir(path.parent)) == ["live.h5", "live.h5.old"]
        apply(users, CHANGES[1:2])
        assert same(opened(other_model, durability={"new_model": "fresh"}), other_model, CHANGES[1:2])


def test_a_journal_with_a_gap_is_replayed_from_its_begin_once(opened, model, path, monkeypatch):
    monkeypatch.setattr("spotlight_asars.sequence.online.journal.PART_BYTES", 1)
    apply(opened(), [CHANGES[0], CHANGES[1], CHANGES[3]])
    (path.parent / "live.h5.journal-000000000000000002").unlink()
    users = opened(durability={"new_model": "replay"})
    assert same(users, model, [CHANGES[0], CHANGES[3]]) and users.latest(("user", 1)) == 13.5


def test_a_state_file_that_is_gone_is_missed(opened, path, refuses, monkeypatch):
    with opened() as users:
        apply(users, CHANGES[:2])
    for part in path.parent.glob("*.journal-*"):
        part.unlink()
    apply(opened(), CHANGES[3:4])
    path.unlink()
    refuses(opened, str(path), "changes 1 to 2 are missing", "fresh")


def test_lower_limits_than_before_are_kept(opened, model):
    apply(opened(), [CHANGES[0], CHANGES[1], CHANGES[3]])
    users = opened(most=1)
    assert len(users) == 1 and users.recommend(("user", 1))


def test_an_id_that_no_file_can_hold_is_refused_before_anything_changes(opened, refuses):
    users = opened()
    refuses(lambda: users.observe(frozenset([1]), "a", 1.0), "cannot be written to the journal")
    assert len(users) == 0


def test_wrong_options(refuses):
    refuses(lambda: Durability(journal="on"), "choose one of off, flush, fsync")
    refuses(lambda: Durability(new_model="ask"), "choose one of refuse, replay, fresh")
