"""
Data-parallel training: what two processes come to, against one process, and what is left when one of them dies.

Run as a program, this file is one process of a job: ``test_distributed.py <what> <folder> <rank> <size>``.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from spotlight_asars.errors import InputError, LostProcess
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.losses import LOSSES
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.registry import representation_names
from spotlight_asars.sequence.training.distributed import ProcessGroup, data_parallel, leave
from spotlight_asars.sequence.training.trainer import TrainingStep

# Of the third mini-batch, one row: its user has seen all items in it, which does not matter here.
ONE_ROW = "ignore:a user has seen every item of the mini-batch"
WARNINGS = ["-W", "error", "-W", ONE_ROW]
pytestmark = pytest.mark.filterwarnings(ONE_ROW)
FOREVER = 3600.0  # seconds, which no job needs on the slowest machine: one that hangs is ended

DROPOUT = {"dropout": 0.3, "hidden_dropout": 0.3}
SHARED = {"sampling": "shared", "num_negative_samples": 6}
CASES = {
    **{f"loss-{loss}": {"representation": "gru4rec", "loss": loss} for loss in LOSSES},
    **{f"shared-{loss}": {"representation": "gru4rec", "loss": loss, **SHARED} for loss in ("bpr_max", "top1_max")},
    "shared-sampled": {"representation": "asars_time_user", "loss": "sampled_cross_entropy", **SHARED},
    **{f"net-{net}": {"representation": net} for net in representation_names()},
    "sparse": {"representation": "asars_time_user", "loss": "bpr", "sparse": True},
    "sparse-shared": {"representation": "gru4rec", "loss": "bpr_max", "sparse": True, **SHARED},
    "dropout": {
        "representation": "asars_time_user",
        "representation_options": {**DROPOUT, "user_dropout": 0.5, "pointer": True, "scope": "session"},
        "training": {"mix_lengths": True},
    },
    "dropout-local": {"representation": "gru4rec", "loss": "bpr", "representation_options": DROPOUT},
    "cooccurrence": {"representation": "gru4rec", "training": {"initial_embeddings": "cooccurrence"}},
}


def rows_for(users, seed=0, like=None):
    """Sessions of two to seven events over 15 items; each user has two."""
    random_state = np.random.RandomState(seed)
    lengths = random_state.randint(2, 8, size=2 * users)
    sessions = np.repeat(np.arange(2 * users), lengths)  # (events,)
    seconds = random_state.randint(1, 90, size=len(sessions)).cumsum() + sessions % 2 * 10_000 + sessions // 2 * 100_000
    items = random_state.randint(1, 16, size=len(sessions))
    log = SessionInteractions(sessions // 2 + 1, items, timestamps=seconds, num_items=16)
    return to_session_sequences(log, binning=None if like is None else like.binning)


def plain_steps(parameters):
    """Adam's first steps are of full length whatever the gradient: those of a mere rounding too."""
    return torch.optim.SGD(parameters, lr=0.5)


def new_model(case, epochs=2, seed=3, optimizer_func=plain_steps):
    # Nine rows make mini-batches of four, four and one: of the last, one of two processes has none.
    return ASARSSequenceModel(
        embedding_dim=4, n_iter=epochs, batch_size=4, random_state=seed, optimizer_func=optimizer_func, **CASES[case]
    )


def fitted(case, seed=3):
    model = new_model(case, seed=seed)
    rows = rows_for(9)
    return model.fit(rows, validation=rows_for(9, seed=1, like=rows) if case == "dropout" else None)


def told_of(model):
    weights = {name: weight.numpy() for name, weight in model.net.state_dict().items()}
    records = [(record.loss, record.validation_loss or 0.0, record.events) for record in model.epoch_records]
    return {**weights, "records": np.array(records)}


# What the processes of a job do.


def fit_all(folder, group):
    for case in CASES:
        np.savez(folder / f"{case}.{group.rank}.npz", **told_of(fitted(case)))


def fit_one(folder, group):
    np.savez(folder / f"dropout.{group.rank}.npz", **told_of(fitted("dropout")))


def sum_some(folder, group):
    """Gradients dense, sparse, sparse in one process alone, of both kinds of nothing."""
    dense, only_here, sparse, sparse_here, nowhere = (nn.Parameter(torch.zeros(4, 2)) for _ in range(5))
    dense.grad = torch.full((4, 2), 1.0 + group.rank)
    torch.sparse.check_sparse_tensor_invariants.disable()  # torch asks to be told
    sparse.grad = torch.sparse_coo_tensor([[3, group.rank, 3]], torch.ones(3, 2) * (1 + group.rank), (4, 2))
    if group.rank:
        only_here.grad = torch.full((4, 2), 5.0)
        sparse_here.grad = torch.sparse_coo_tensor([[2]], torch.ones(1, 2), (4, 2))
    parameters = [dense, only_here, sparse, sparse_here, nowhere]
    total = group.sum_gradients(parameters, torch.tensor(0.5 + group.rank))
    assert total == 2.0 and nowhere.grad is None and sparse.grad.is_sparse and sparse_here.grad.is_sparse
    grads = [parameter.grad.to_dense()[:, 0].tolist() for parameter in parameters[:4]]
    assert grads == [[3.0] * 4, [5.0] * 4, [1.0, 2.0, 0.0, 6.0], [0.0, 0.0, 1.0, 0.0]], grads
    assert group.any(group.rank == 1) and not group.any(False) and group.broadcast(group.rank) == 0


def other_rows(folder, group):
    with pytest.raises(
        InputError, match="process 1 has other rows than process 0: give every process the same log and options"
    ):
        new_model("sparse").fit(rows_for(9, seed=group.rank))
    with pytest.raises(InputError, match="process 1 has other settings"):
        new_model(["sparse", "dropout"][group.rank], optimizer_func=lambda weights: plain_steps(weights)).fit(
            rows_for(9)
        )


def stop_at_the_first(folder, group):
    model = new_model("sparse", epochs=5).fit(rows_for(9), callbacks=[lambda *_: group.rank == 0])
    assert len(model.epoch_records) == 1
    model = new_model("sparse", epochs=2).fit(rows_for(9), callbacks=[lambda *_: group.rank == 1])
    assert len(model.epoch_records) == 2


def lose_one(folder, group):
    """The second process ends in the midst of the second epoch, without a word."""
    model, take, batches = new_model("dropout", epochs=3, optimizer_func=None), TrainingStep.user_representation, []

    def dies(*arguments):
        batches.append(1)
        if group.rank == 1 and len(batches) == 5:
            os._exit(9)
        return take(*arguments)

    TrainingStep.user_representation = dies
    with pytest.raises(LostProcess) as caught:
        model.fit(rows_for(9), checkpoint=folder / "fit.h5")
    message = str(caught.value)
    assert "\n" not in message and "run the same command again" in message
    os._exit(3)  # the group cannot be left in order


def go_on(folder, group):
    """The checkpoint is the first process's: another has no need of its folder."""
    checkpoint = folder / "fit.h5" if group.is_first else folder / "nowhere" / "fit.h5"
    model = new_model("dropout", epochs=3, optimizer_func=None).fit(rows_for(9), checkpoint=checkpoint)
    np.savez(folder / f"resumed.{group.rank}.npz", **told_of(model))


def uninterrupted(folder, group):
    model = new_model("dropout", epochs=3, optimizer_func=None).fit(rows_for(9))
    np.savez(folder / f"whole.{group.rank}.npz", **told_of(model))


def run_job(what, folder, size=2):
    """Exit codes and standard errors of a job's processes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, *WARNINGS, __file__, what, str(folder), str(rank), str(size)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        errors = [process.communicate(timeout=FOREVER)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """The folder of what two processes came to in every case."""
    folder = tmp_path_factory.mktemp("fits")
    codes, errors = run_job("fit_all", folder)
    assert codes == [0, 0], errors
    return folder


@pytest.mark.once
@pytest.mark.parametrize("case", CASES)
def test_two_processes_come_to_the_weights_of_one(fits, case):
    check_like_one([fits / f"{case}.{rank}.npz" for rank in range(2)], fitted(case))


def check_like_one(files, model):
    """The same bits in every process, and the numbers of one process to the rounding of sums."""
    first, *others = map(np.load, files)
    alone = told_of(model)
    assert sorted(first) == sorted(alone)
    for name, expected in alone.items():
        assert all(np.array_equal(first[name], other[name]) for other in others), f"{name}: not the same bits"
        np.testing.assert_allclose(first[name], expected, rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.once
def test_the_comparison_would_see_one_draw_more(fits):
    """The control: with another seed, the weights are far from those of the two processes."""
    other, job = told_of(fitted("dropout", seed=4)), np.load(fits / "dropout.0.npz")
    assert max(np.abs(other[name] - job[name]).max() for name in other) > 0.1


@pytest.mark.once
@pytest.mark.parametrize("what", ["sum_some", "other_rows", "stop_at_the_first"])
def test_in_both_processes(what, tmp_path):
    codes, errors = run_job(what, tmp_path)
    assert codes == [0, 0], errors


@pytest.mark.once
def test_three_processes_come_to_the_weights_of_one_too(tmp_path):
    codes, errors = run_job("fit_one", tmp_path, size=3)
    assert codes == [0, 0, 0], errors
    check_like_one([tmp_path / f"dropout.{rank}.npz" for rank in range(3)], fitted("dropout"))


@pytest.mark.once
def test_a_lost_process_is_told_of_and_the_job_goes_on_from_its_checkpoint(tmp_path):
    codes, errors = run_job("lose_one", tmp_path)
    assert codes == [3, 9], errors
    codes, errors = run_job("go_on", tmp_path)
    assert codes == [0, 0], errors
    codes, errors = run_job("uninterrupted", tmp_path)
    assert codes == [0, 0], errors
    for rank in range(2):
        resumed, whole = (np.load(tmp_path / f"{name}.{rank}.npz") for name in ("resumed", "whole"))
        for name in whole:
            assert np.array_equal(resumed[name], whole[name]), name


class TestAlone:
    def test_parts_are_all_rows_and_none_twice(self):
        for size in (1, 2, 3, 7):
            for rows in (1, 2, 5, 7, 12):
                parts = [ProcessGroup(rank, size).part(rows) for rank in range(size)]
                assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
                lengths = [part.stop - part.start for part in parts]
                assert max(lengths) - min(lengths) <= 1

    def test_without_torchrun_nothing_changes(self):
        with data_parallel() as group:
            assert group == ProcessGroup(0, 1) == ProcessGroup.current() and group.is_first
            assert not dist.is_initialized()
        assert group.any(True) and group.broadcast(7) == 7


if __name__ == "__main__":
    what, folder, rank, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{what}.meeting", rank=rank, world_size=size)
    globals()[what](folder, ProcessGroup.current())
    leave()
