"""``use_cuda=True`` on the stand-in, around the net: checkpoints, model files, live sessions, rankings, commands."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars import cli
from spotlight_asars.audit import audit
from spotlight_asars.evaluation import rank_targets
from spotlight_asars.experiments.settings import NetSettings, write_settings
from spotlight_asars.experiments.training import PeakMemory
from spotlight_asars.host import ImplicitFactorizationModel, ImplicitSequenceModel, Interactions, SequenceInteractions
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.representations.factorization import BPRMFNet
from spotlight_asars.sequence.representations.registry import representation_factory, representation_names
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.checkpoints import Checkpoint
from spotlight_asars.serialization.models import load_model, load_sessions, save_model, save_sessions

DRAWING = {"dropout": 0.3, "hidden_dropout": 0.2, "user_dropout": 0.3, "pointer": True}
ITEMS, TIMES = [103, 104, 999, 105], [0.0, 30.0, 41.0, 10_000.0]


class Stopped(Exception):
    """Stands for whatever ends a process between two epochs."""


def model_of(use_cuda=True, representation="asars_time_user", loss="bpr_max", **settings):
    fixed = {"embedding_dim": 6, "n_iter": 3, "batch_size": 16, "random_state": 3}
    return ASARSSequenceModel(loss, representation, use_cuda=use_cuda, **{**fixed, **settings})


def net_of(representation="asars_time_user", **options):
    return {"representation": representation, "representation_options": {"hidden_dim": 6, **options}}


def states_of_generators():
    return [torch.random.get_rng_state(), torch.cuda.get_rng_state()]


def answers(system):
    return system.recommend(ITEMS, TIMES, user=3, k=30, return_scores=True)


def assert_alike(one, other):
    first, second = dict(answers(one)), dict(answers(other))
    np.testing.assert_allclose([first[item] for item in second], list(second.values()), rtol=1e-5, atol=1e-5)


@pytest.fixture
def on_gpu(gpu):
    """The stand-in is open during the test, with random numbers of its own."""
    with gpu(own_random_numbers=True):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("case", [{"sampling": "shared"}, {"loss": "bpr"}, {"sparse": True, "loss": "hinge"}])
def test_a_stopped_fit_goes_on_to_the_same_bits(case, rows, on_gpu, tmp_path):
    make = partial(model_of, **net_of(**DRAWING), **case)
    never_stopped = make().fit(rows, validation=rows)

    def stop(model, record):
        if record.epoch == 1:
            raise Stopped

    for minutes in (None, 0.0):
        checkpoint = Checkpoint(tmp_path / f"{minutes}.h5", minutes)
        with pytest.raises(Stopped):
            make().fit(rows, validation=rows, checkpoint=checkpoint, callbacks=[stop])
        torch.rand(3, device="cuda")
        went_on = make().fit(rows, validation=rows, checkpoint=checkpoint)
        for one, other in zip(went_on.net.parameters(), never_stopped.net.parameters(), strict=True):
            assert one.is_cuda and torch.equal(one, other)


@pytest.mark.parametrize("use_cuda", [False, True])
def test_random_numbers_of_others_stay(use_cuda, rows, on_gpu, tmp_path):
    model = model_of(use_cuda, **net_of(**DRAWING))
    before = states_of_generators()
    model.fit(rows, validation=rows)
    save_model(model, tmp_path / "model.h5")
    load_model(tmp_path / "model.h5")
    assert all(map(torch.equal, states_of_generators(), before))


@pytest.mark.parametrize("use_cuda", [False, True])
def test_random_numbers_of_others_stay_when_a_ranking_is_fitted(use_cuda, rows, on_gpu, tmp_path):
    before = states_of_generators()
    save_model(ranking_of(use_cuda).fit(rows), tmp_path / "model.h5")
    load_model(tmp_path / "model.h5")
    assert all(map(torch.equal, states_of_generators(), before))


def test_a_model_on_the_cpu_starts_no_gpu(rows, on_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: pytest.fail("it was started"))
    model_of(use_cuda=False, n_iter=1).fit(rows)


def ranking_of(use_cuda):
    net = Member(lambda epochs: model_of(use_cuda, **net_of(dropout=0.0), n_iter=epochs, loss="cross_entropy"), 2)
    return TwoStageRanker(
        [net, Member(lambda epochs: SequentialRules())], candidates=8, ranking=RankingNets(nets=1, epochs=2)
    )


def test_a_ranking_with_a_net_on_the_gpu(rows, gpu, tmp_path):
    wanted = ranking_of(False).fit(rows)
    with gpu():
        ranking = ranking_of(True).fit(rows)
        assert ranking.systems[0].trainer.device.type == "cuda"
        assert_alike(ranking, wanted)
        np.testing.assert_array_equal(rank_targets(ranking, rows).ranks, rank_targets(wanted, rows).ranks)
        save_model(ranking, tmp_path / "ranking.h5")
        assert_alike(load_model(tmp_path / "ranking.h5"), wanted)
    assert_alike(load_model(tmp_path / "ranking.h5", use_cuda=False), wanted)


@pytest.mark.parametrize("use_cuda", [False, True])
def test_a_model_file_goes_to_the_other_device(use_cuda, rows, gpu, tmp_path):
    with gpu():
        model = model_of(use_cuda, **net_of(pointer=True)).fit(rows)
        save_model(model, tmp_path / "model.h5")
        for asked, there in ((None, use_cuda), (False, False), (True, True)):
            loaded = load_model(tmp_path / "model.h5", use_cuda=asked)
            assert {one.is_cuda for one in loaded.net.parameters()} == {there}
            assert_alike(loaded, model)
            loaded.fit(rows)


class Blind(BPRMFNet):
    """A net that steps itself, and looks at the user alone; it keeps how many events there were."""

    def initial_carry(self, sessions):
        return {"events": torch.zeros(sessions, 1)}

    def step(self, carry, events):
        return self._users(events), {"events": carry["events"] + (events[:, -1:, ITEM] != 0)}


def test_live_sessions_of_a_net_of_ones_own(rows, on_gpu):
    model = model_of(representation=Blind, n_iter=1).fit(rows)
    live = model.session(3)
    for item, time in zip(ITEMS, TIMES, strict=True):
        live.observe(item, time)
    assert_alike(SimpleNamespace(recommend=lambda *history, user, **how: live.recommend(**how)), model)


@pytest.mark.parametrize(
    "net",
    [
        *(net_of(name) for name in representation_names()),
        net_of(pointer=True, recency=True, context=("hour", "session_gap"), recurrent="gru", hidden_scope="session"),
        {"representation": "pooling"},
        {"representation": "cnn"},
        {"representation": "lstm"},
    ],
    ids=str,
)
def test_live_sessions(net, rows, on_gpu, tmp_path):
    model = model_of(**net, loss="cross_entropy", n_iter=1).fit(rows)
    live = LiveSessions(model, [3, None])
    for item, time in zip(ITEMS, TIMES, strict=True):
        live.observe([item, 105], [time, time])
    save_sessions(live, tmp_path / "sessions.h5")
    for sessions in (live, load_sessions(tmp_path / "sessions.h5", model)):
        found, wanted = dict(sessions.recommend(30, return_scores=True)[0]), dict(answers(model))
        np.testing.assert_allclose([found[item] for item in wanted], list(wanted.values()), rtol=1e-4, atol=1e-4)


def test_the_audit(rows, on_gpu):
    assert audit(model_of(**net_of(pointer=True)).fit(rows), rows, max_rows=4, max_cuts=2).passed


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_plain_models_of_the_host(loss, rows, gpu):
    sequences = SequenceInteractions(rows.sequences, num_items=rows.num_items)
    pairs = Interactions(np.repeat(rows.user_ids, rows.lengths), rows.events[:, ITEM])

    def scores(use_cuda):
        settings = {"loss": loss, "use_cuda": use_cuda, "embedding_dim": 6, "n_iter": 1}
        torch.manual_seed(0)
        net = representation_factory("asars_user_att")(rows.num_items, 6, hidden_dim=6, dropout=0.0)
        of_sequences = ImplicitSequenceModel(representation=net, random_state=np.random.RandomState(0), **settings)
        of_sequences.fit(sequences)
        of_pairs = ImplicitFactorizationModel(random_state=np.random.RandomState(0), **settings)
        of_pairs.fit(pairs)
        assert next(of_pairs._net.parameters()).is_cuda is use_cuda
        return [of_sequences.predict(rows.sequences[0]), of_pairs.predict(1)]

    wanted = scores(use_cuda=False)
    with gpu():
        for found, one in zip(scores(use_cuda=True), wanted, strict=True):
            np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-5)


def test_memory(on_gpu):
    with PeakMemory(use_cuda=True) as memory:
        torch.zeros(3, device="cuda")
    assert memory.mib == 1.0


def test_commands(on_gpu, tmp_path, capsys):
    small = NetSettings("asars_time_user", embedding_dim=6, batch_events=100, representation_options={"hidden_dim": 6})
    write_settings(tmp_path / "asars_time_user.json", small)
    session, place = (one.ravel() for one in np.indices((60, 4)))
    events = {"user": session % 12, "item": (session * 7 + place) % 20, "time": 40_000 * session + 60 * place}
    pd.DataFrame(events).to_csv(tmp_path / "log.csv", index=False)
    log = ["--data", tmp_path / "log.csv", "--format", "csv", "--columns", "user,item,time", "--filters", "1,2,1"]
    net = ["--parameters", tmp_path, "--epochs", "2"]
    file = ["--model-file", tmp_path / "model.h5"]
    for command in (
        ["train", *log, *net, "--test-share", "0.2", "--validation", "0.2", "--out", tmp_path / "model.h5"],
        ["evaluate", *log, *file, "--test-share", "0.2"],
        ["recommend", *file, "--items", "1,2", "--times", "0,20"],
        ["explain", *file, "--items", "1,2", "--times", "0,20"],
        ["compare", *log, "--models", "asars_time_user", "--epochs", "1", "--out", tmp_path / "compared"],
        ["tune", *log, "--models", "asars_time_user", "--epochs", "1", "--trials", "1", "--out", tmp_path / "tuned"],
    ):
        assert cli.main([str(word) for word in [*command, "--use-cuda"]]) == 0, capsys.readouterr()
