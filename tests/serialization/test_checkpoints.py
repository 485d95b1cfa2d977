"""An interrupted call of `fit` resumes from its checkpoint with bit-identical results."""

import errno
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.serialization.checkpoints import Checkpoint

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"
CASES = {
    "cross_entropy": {"loss": "cross_entropy", "optimizer_func": partial(torch.optim.Adagrad, lr=0.05)},
    "local": {"loss": "bpr", "training": {"mix_lengths": True}},
    "shared": {"loss": "bpr_max", "sampling": "shared", "num_negative_samples": 20},
    "sparse": {"loss": "sampled_cross_entropy", "sparse": True},
    "cooccurrence": {"loss": "cross_entropy", "training": {"initial_embeddings": "cooccurrence"}},
}


class Stopped(Exception):
    """Ends a call between two epochs."""


def make_rows(seed: int = 0, rows: int = 24):
    items = np.random.RandomState(seed).randint(1, 20, size=(rows, 6))
    items[::3, :2] = 0
    return SessionSequences(items, num_items=20)


def make_model(case: str = "cross_entropy", **changed):
    return ASARSSequenceModel(
        **{"n_iter": 4, "batch_size": 7, "embedding_dim": 6, "random_state": 3, **CASES[case], **changed}
    )


def stop_after(epochs: int):
    def callback(model, record):
        if record.epoch + 1 == epochs:
            raise Stopped

    return callback


def same(one, other) -> bool:
    first, second = one.net.state_dict(), other.net.state_dict()
    return (
        all(torch.equal(first[name], second[name]) for name in first)
        and [record.loss for record in one.epoch_records] == [record.loss for record in other.epoch_records]
        and repr(one.trainer.random_state.get_state()) == repr(other.trainer.random_state.get_state())
    )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("minutes", [None, 0.0])
def test_a_stopped_call_ends_with_the_bits_of_one_that_was_not(case, minutes, tmp_path):
    rows = make_rows()
    never_stopped = make_model(case).fit(rows)
    for epochs in (1, 2, 4):
        checkpoint = Checkpoint(tmp_path / f"{epochs}.h5", minutes)
        with pytest.raises(Stopped):
            make_model(case).fit(rows, checkpoint=checkpoint, callbacks=[stop_after(epochs)])
        went_on = make_model(case).fit(rows, checkpoint=checkpoint)
        assert same(went_on, never_stopped)
        assert len(went_on.epoch_records) == 4


def test_only_what_is_left_is_fitted(tmp_path):
    rows, path = make_rows(), tmp_path / "checkpoint.h5"
    with pytest.raises(Stopped):
        make_model().fit(rows, checkpoint=path, callbacks=[stop_after(3)])
    seen = []
    make_model().fit(rows, checkpoint=path, callbacks=[lambda model, record: seen.append(record.epoch)])
    assert seen == [2, 3]  # the checkpoint of an epoch is written after its callbacks
    make_model().fit(rows, checkpoint=path, callbacks=[lambda model, record: seen.append("again")])
    assert seen == [2, 3]


def test_more_epochs_go_on_from_a_finished_call(tmp_path):
    rows, path = make_rows(), tmp_path / "checkpoint.h5"
    make_model(n_iter=2).fit(rows, checkpoint=path)
    assert same(make_model(n_iter=5).fit(rows, checkpoint=path), make_model(n_iter=5).fit(rows))
    with pytest.raises(InputError, match="is in epoch 5 and n_iter is 2"):
        make_model(n_iter=2).fit(rows, checkpoint=path)


def test_early_stopping_remembers_what_was_best(tmp_path):
    rows, validation = make_rows(), make_rows(seed=1)
    options = {"training": {"early_stopping": 2}, "n_iter": 12}
    never_stopped = make_model(**options).fit(rows, validation=validation)
    assert len(never_stopped.epoch_records) < 12
    for epochs in range(1, len(never_stopped.epoch_records)):
        path = tmp_path / f"{epochs}.h5"
        with pytest.raises(Stopped):
            make_model(**options).fit(rows, validation=validation, checkpoint=path, callbacks=[stop_after(epochs)])
        went_on = make_model(**options).fit(rows, validation=validation, checkpoint=path)
        assert same(went_on, never_stopped)


def test_a_second_call_of_fit_has_a_checkpoint_of_its_own(tmp_path):
    rows = make_rows()
    never_stopped = make_model(n_iter=2).fit(rows).fit(rows)
    first = make_model(n_iter=2).fit(rows, checkpoint=tmp_path / "first.h5")
    with pytest.raises(Stopped):
        first.fit(rows, checkpoint=tmp_path / "second.h5", callbacks=[stop_after(4)])
    again = make_model(n_iter=2).fit(rows, checkpoint=tmp_path / "first.h5")
    with pytest.raises(InputError, match="begun after 0 epochs and not after 2"):
        again.fit(rows, checkpoint=tmp_path / "first.h5")
    assert same(again.fit(rows, checkpoint=tmp_path / "second.h5"), never_stopped)


@pytest.mark.parametrize(
    ("changed", "rows", "told"),
    [
        ({"loss": "top1"}, make_rows(), "with loss 'cross_entropy' and not 'top1'"),
        ({"batch_size": 8}, make_rows(), "with batch_size 7 and not 8"),
        ({}, make_rows(seed=5), "on other rows"),
        ({"random_state": 4}, make_rows(), "begun with another random_state"),
    ],
)
def test_the_checkpoint_of_another_call_is_refused(changed, rows, told, tmp_path, refuses):
    path = tmp_path / "checkpoint.h5"
    make_model().fit(make_rows(), checkpoint=path)
    before, model = path.read_bytes(), make_model(**changed)
    refuses(lambda: model.fit(rows, checkpoint=path), str(path), told, "remove it to start over")
    assert path.read_bytes() == before
    assert not model.epoch_records


def test_a_damaged_checkpoint_is_refused(tmp_path, refuses):
    path = tmp_path / "checkpoint.h5"
    make_model().fit(make_rows(), checkpoint=path)
    whole = path.read_bytes()
    for place in np.random.RandomState(0).randint(len(whole), size=20):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refuses(lambda: make_model().fit(make_rows(), checkpoint=path), str(path))
    path.write_bytes(whole[: len(whole) // 2])
    refuses(lambda: make_model().fit(make_rows(), checkpoint=path), str(path), "remove it to start over")


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch):
    rows, path = make_rows(), tmp_path / "checkpoint.h5"

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.warns(UserWarning, match="its checkpoint is not kept.*No space left") as told:
            model = make_model().fit(rows, checkpoint=path)
    assert len(told) == 1
    assert same(model, make_model().fit(rows))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_read_only_folder_costs_the_checkpoint_and_not_the_run(number, tmp_path, monkeypatch):
    """Permissions are faked, because they do not apply to root."""
    rows, path = make_rows(), tmp_path / "checkpoint.h5"

    def closed(self, *arguments, **keywords):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", closed)
        with pytest.warns(UserWarning, match="its checkpoint is not kept") as told:
            model = make_model().fit(rows, checkpoint=path)
    assert len(told) == 1 and os.strerror(number) in str(told[0].message)
    assert same(model, make_model().fit(rows))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path, monkeypatch):
    rows, path = make_rows(), tmp_path / "checkpoint.h5"
    with pytest.raises(Stopped):
        make_model().fit(rows, checkpoint=path, callbacks=[stop_after(2)])
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.warns(UserWarning, match="No space left"):
            make_model().fit(rows, checkpoint=path)
    assert path.read_bytes() == before
    assert same(make_model().fit(rows, checkpoint=path), make_model().fit(rows))


def test_a_folder_that_is_not_there_is_told_before_anything_is_fitted(tmp_path, refuses):
    model = make_model()
    refuses(lambda: model.fit(make_rows(), checkpoint=tmp_path / "no" / "one.h5"), "no such folder")
    assert not model.epoch_records


def test_what_a_killed_process_left_beside_is_removed(tmp_path):
    path = tmp_path / "checkpoint.h5"
    (tmp_path / f".checkpoint.h5.{'0' * 32}").write_bytes(b"half")
    (tmp_path / ".checkpoint.h5.mine").write_bytes(b"not ours")
    make_model().fit(make_rows(), checkpoint=path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".checkpoint.h5.mine", "checkpoint.h5"]


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_processes_killed_at_random_moments_end_with_the_same_bits():
    command = [sys.executable, str(SCRIPT), "--kills", "10", "--longest", "0.5"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["kills"] >= 10
    assert seen["rounds"] >= 5
    assert seen["differed"] == []
