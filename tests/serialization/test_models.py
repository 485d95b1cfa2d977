"""Saved and loaded models and live sessions: every system, fitted or not, with and without users, both dwell rules."""

from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars import host
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import STAN, VSKNN, VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, RepeatLast, SequentialRules
from spotlight_asars.sequence.online.sessions import LiveSession, LiveSessions
from spotlight_asars.sequence.representations.registry import (
    register_representation,
    representation_factory,
    representation_names,
    unregister_representation,
)
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.models import (
    MODEL,
    load_model,
    load_sessions,
    registered_kinds,
    save_model,
    save_sessions,
)
from spotlight_asars.serialization.state import constructor_arguments

pytestmark = pytest.mark.filterwarnings("ignore:a user has seen every item:UserWarning")

HOST_NETS = ["pooling", "cnn", "lstm"] + (["mixture"] if host.NAME == "spotlight" else [])
NETS = [*representation_names(), *HOST_NETS]
NON_NEURAL = [
    Popularity(),
    RepeatLast(),
    SequentialRules(steps=3, weighting="linear"),
    VSKNN(k=7, sample_size=20, weighting="division", idf_weight=0.5),
    STAN(k=5, neighbour_decay=None),
    VSTAN(similarity="dot", session_decay_days=0.25),
    SessionMemory("observed", steps=4, smoothing=0.7, rounds=2),
]


def again(model, tmp_path, **given):
    save_model(model, tmp_path / "model.h5")
    return load_model(tmp_path / "model.h5", **given)


def arguments(model):
    """Constructor arguments that can be compared."""
    found = constructor_arguments(model)
    return {name: value for name, value in found.items() if name not in ("random_state", "optimizer_func")}


def without_time(record):
    """An epoch record but for its seconds, which no model file holds."""
    return {**asdict(record), "seconds": None}


def mean_loss(positive, negative):
    return (negative - positive).exp().mean()


def halved_steps(parameters):
    return torch.optim.SGD(parameters, lr=0.005)


class TestNets:
    @pytest.mark.parametrize(("dwell", "users"), [("known", True), ("observed", False)])
    @pytest.mark.parametrize("representation", NETS)
    def test_fitted_and_not(
        self, representation, dwell, users, rows, anonymous_rows, make_model, tmp_path, assert_alike
    ):
        """Fitting a loaded unfitted model gives the same bits as fitting the saved one."""
        rows = rows if users else anonymous_rows
        model = make_model(representation, dwell=dwell, n_iter=1)
        unfitted = again(model, tmp_path)
        assert arguments(unfitted) == arguments(model) and unfitted.num_items is None
        assert_alike(model.fit(rows), unfitted.fit(rows), rows)
        loaded = again(model, tmp_path)
        assert not loaded.net.training
        assert_alike(model, loaded, rows)
        np.testing.assert_array_equal(loaded.predict([3, 1, 4]), model.predict([3, 1, 4]))
        assert arguments(loaded) == arguments(model)
        assert list(map(without_time, loaded.epoch_records)) == list(map(without_time, model.epoch_records))
        assert (loaded.user_vocabulary is not None) == users

    def test_fits_on(self, rows, make_model, tmp_path):
        model = make_model().fit(rows)
        loaded = again(model, tmp_path)
        before = loaded.predict([1, 2])
        loaded.fit(rows)
        assert [record.epoch for record in loaded.epoch_records] == [0, 1, 2, 3]
        assert not np.array_equal(loaded.predict([1, 2]), before)

    def test_fits_on_to_the_same_bits_where_the_optimizer_has_no_state(self, rows, make_model, tmp_path, assert_alike):
        model = make_model(optimizer_func=partial(torch.optim.SGD, lr=0.1)).fit(rows)
        loaded = again(model, tmp_path)
        assert_alike(model.fit(rows), loaded.fit(rows), rows)

    def test_rows_without_raw_ids(self, make_model, tmp_path):
        rows = host.SequenceInteractions(np.array([[0, 1, 2, 3], [3, 2, 1, 4]]), num_items=6)
        model = make_model().fit(rows)
        loaded = again(model, tmp_path)
        assert loaded.item_vocabulary is None and not loaded.binning.fitted
        np.testing.assert_array_equal(loaded.predict([[1, 2], [2, 3]]), model.predict([[1, 2], [2, 3]]))
        assert loaded.recommend([1, 2], k=3) == model.recommend([1, 2], k=3)

    @pytest.mark.parametrize(
        "settings",
        [
            {"sparse": True, "representation_options": {"pointer": True, "context": ("hour", "session_gap")}},
            {"loss": "cross_entropy", "n_iter": np.int64(1), "learning_rate": np.float32(0.1)},
            {"sampling": {"kind": "shared", "alpha": 0.25}, "loss_options": {"elu": 0.5}},
            {"optimizer_func": torch.optim.Adagrad},
            {"optimizer_func": partial(torch.optim.Rprop, lr=0.01, etas=(0.4, 1.3))},
            {"optimizer_func": partial(torch.optim.AdamW, lr=0.1, betas=(0.5, 0.9), amsgrad=True)},
        ],
    )
    def test_settings(self, settings, rows, make_model, tmp_path, assert_alike):
        model = make_model(**settings)
        loaded = again(model, tmp_path)
        assert_alike(model.fit(rows), loaded.fit(rows), rows)
        again_fitted = again(model, tmp_path)
        assert_alike(model, again_fitted, rows)
        for one in (loaded, again_fitted):
            assert type(one.trainer.optimizer) is type(model.trainer.optimizer)
            assert one.trainer.optimizer.defaults == model.trainer.optimizer.defaults

    def test_the_global_random_state_stays(self, rows, make_model, tmp_path):
        model = make_model().fit(rows)
        states = (
            torch.get_rng_state(),
            np.random.get_state()[1].copy(),
            model.trainer.random_state.get_state()[1].copy(),
        )
        again(model, tmp_path)
        assert torch.equal(torch.get_rng_state(), states[0])
        np.testing.assert_array_equal(np.random.get_state()[1], states[1])
        np.testing.assert_array_equal(model.trainer.random_state.get_state()[1], states[2])

    def test_same_model_same_bytes(self, rows, make_model, tmp_path):
        model = make_model().fit(rows)
        save_model(model, tmp_path / "one.h5")
        save_model(load_model(tmp_path / "one.h5"), tmp_path / "other.h5")
        assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "other.h5").read_bytes()


class TestWhatIsCode:
    def test_a_registered_net(self, rows, make_model, tmp_path, assert_alike, refuses):
        register_representation("own", representation_factory("asars_time_att"))
        model = make_model("own").fit(rows)
        assert_alike(model, again(model, tmp_path), rows)
        register_representation("own", representation_factory("gru4rec"))
        refuses(lambda: again(model, tmp_path), "model.h5", "AsarsTimeAttNet", "GRU4RecNet", "register")
        unregister_representation("own")
        refuses(lambda: load_model(tmp_path / "model.h5"), "model.h5", "'own'", "register_representation")

    @pytest.mark.parametrize(
        ("name", "make", "called"),
        [
            ("loss", lambda: mean_loss, "mean_loss"),
            ("optimizer_func", lambda: halved_steps, "halved_steps"),
            ("optimizer_func", lambda: partial(torch.optim.SGD, lr=torch.tensor(0.01)), "partial"),
            ("representation", lambda: partial(representation_factory("gru4rec"), hidden_dim=5), "partial"),
            ("representation", lambda: representation_factory("gru4rec")(15, 6), "GRU4RecNet"),
            (
                "representation_options",
                lambda: {"item_embedding_layer": nn.Embedding(15, 6, padding_idx=0)},
                "dict",
            ),
        ],
    )
    def test_is_given_again(self, name, make, called, rows, make_model, tmp_path, assert_alike, refuses):
        model = make_model(**{"representation": "gru4rec", "loss": "bpr", name: make()}).fit(rows)
        assert_alike(model, again(model, tmp_path, **{name: make()}), rows)
        refuses(lambda: load_model(tmp_path / "model.h5"), "model.h5", name, called, f"give load_model {name}=")

    def test_is_given_to_an_unfitted_model_too(self, rows, make_model, tmp_path, assert_alike):
        model = make_model("gru4rec", loss=mean_loss)
        loaded = again(model, tmp_path, loss=mean_loss)
        assert_alike(model.fit(rows), loaded.fit(rows), rows)

    def test_nothing_else_is_taken(self, make_model, tmp_path, refuses):
        refuses(lambda: again(make_model(), tmp_path, n_iter=5), "n_iter", "leave it out")

    def test_a_net_of_other_sizes_is_refused(self, rows, make_model, tmp_path, refuses):
        model = make_model(representation_factory("gru4rec")(15, 6)).fit(rows)
        other = representation_factory("gru4rec")(15, 7)
        refuses(lambda: again(model, tmp_path, representation=other), "model.h5", "(15, 6)", "(15, 7)")
        double = representation_factory("gru4rec")(15, 6).double()
        refuses(lambda: again(model, tmp_path, representation=double), "model.h5", "float32", "float64")


class TestOthers:
    @pytest.mark.parametrize("system", NON_NEURAL, ids=lambda system: type(system).__name__)
    @pytest.mark.parametrize("users", [True, False])
    def test_that_count(self, system, users, rows, anonymous_rows, tmp_path, assert_alike):
        rows = rows if users else anonymous_rows
        unfitted = again(type(system)(**constructor_arguments(system)), tmp_path)
        assert constructor_arguments(unfitted) == constructor_arguments(system) and unfitted.num_items is None
        system.fit(rows)
        assert_alike(system, again(system, tmp_path), rows)
        assert_alike(system, unfitted.fit(rows), rows)

    @pytest.mark.parametrize("dwell", ["known", "observed"])
    def test_two_stages(self, dwell, rows, make_model, tmp_path, assert_alike):
        """Scores, and a second fit, which starts over."""
        members = [
            Member(lambda epochs: make_model("gru4rec", n_iter=epochs, dwell=dwell), 2),
            Member(lambda epochs: SessionMemory(dwell, rounds=1)),
            Member(lambda epochs: VSKNN(k=5)),
        ]
        ranker = TwoStageRanker(members, dwell, candidates=5, ranking=RankingNets(nets=2, epochs=2))
        unfitted = again(ranker, tmp_path)
        ranker.fit(rows)
        assert len(ranker.fitted_ranking.fitted) == 2
        loaded = again(ranker, tmp_path)
        assert_alike(ranker, loaded, rows)
        assert loaded.member_epochs == ranker.member_epochs
        assert loaded.systems[0].item_vocabulary is loaded.item_vocabulary  # one object in the file and in memory
        assert loaded.systems[0] is not loaded.members[0].new(2)
        for one in (unfitted, loaded):
            assert_alike(ranker, one.fit(rows), rows)

    def test_two_stages_without_ranking_nets(self, rows, tmp_path, assert_alike):
        ranker = TwoStageRanker([Member(lambda epochs: Popularity())], candidates=3).fit(rows)
        ranker.fitted_ranking = RankingNets()
        assert_alike(ranker, again(ranker, tmp_path), rows)

    def test_every_system_is_here(self):
        here = {type(system).__name__ for system in NON_NEURAL} | {"ASARSSequenceModel", "TwoStageRanker"}
        ours = [kind for kind in registered_kinds(MODEL) if kind.__module__.startswith("spotlight_asars.")]
        assert here == {kind.__name__ for kind in ours}


class TestWhatNoFileCanHold:
    """Refused before anything is written."""

    def refused(self, model, tmp_path, refuses, *parts):
        refuses(lambda: save_model(model, tmp_path / "model.h5"), *parts)
        assert list(tmp_path.iterdir()) == []

    def test_other_objects(self, make_model, rows, tmp_path, refuses):
        class Own(Popularity):
            pass

        for other in (host.ImplicitSequenceModel(), {}, rows, Own().fit(rows), None):
            self.refused(other, tmp_path, refuses, type(other).__name__, "ASARSSequenceModel")
        ranker = TwoStageRanker([Member(lambda epochs: Own())])
        self.refused(ranker, tmp_path, refuses, "Own", "Popularity")

    def test_weights_that_numpy_does_not_know(self, make_model, rows, tmp_path, refuses):
        model = make_model("gru4rec").fit(rows)
        model.net.bfloat16()
        self.refused(model, tmp_path, refuses, "item_offsets", "bfloat16", "float32")

    def test_other_generators(self, make_model, tmp_path, refuses):
        model = make_model(random_state=np.random.RandomState(np.random.PCG64(1)))
        self.refused(model, tmp_path, refuses, "PCG64", "RandomState")

    def test_ids(self, rows, tmp_path, refuses):
        from spotlight_asars.interactions.vocabulary import Vocabulary

        model = Popularity().fit(rows)
        model.item_vocabulary = Vocabulary([frozenset("ab"), *range(13)])
        self.refused(model, tmp_path, refuses, "frozenset", "text")


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 1e38])
def test_weights_that_overflow_are_told_at_loading(weight, make_model, rows, tmp_path, refuses):
    """Regression: such a model was loaded, and every answer was an empty list."""
    model = make_model("gru4rec").fit(rows)
    with torch.no_grad():
        model.net.item_embeddings.weight[-1, 0] = weight
    save_model(model, tmp_path / "model.h5")
    refuses(lambda: load_model(tmp_path / "model.h5"), "model.h5", "not finite", "lower learning_rate")


def test_a_gpu_that_is_not_there(make_model, rows, tmp_path, refuses, assert_alike, monkeypatch):
    model = make_model("gru4rec").fit(rows)
    model._use_cuda = True
    save_model(model, tmp_path / "model.h5")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refuses(lambda: load_model(tmp_path / "model.h5"), "model.h5", "GPU", "use_cuda=False")
    loaded = load_model(tmp_path / "model.h5", use_cuda=False)
    assert loaded.get_params()["use_cuda"] is False
    assert_alike(model, loaded, rows)


@pytest.fixture(scope="module")
def pointer_model(rows):
    options = {"hidden_dim": 6, "pointer": True, "recency": True}
    return ASARSSequenceModel(
        representation="asars_time_user", embedding_dim=6, n_iter=1, random_state=0, representation_options=options
    ).fit(rows)


def observed(sessions, model, first: int, last: int):
    items = model.raw_items.inverse(list(range(1, 14))).tolist()
    for step in range(first, last):
        if isinstance(sessions, LiveSession):
            sessions.observe(items[step % 13], 1e6 + 500.0 * step)
        else:
            sessions.observe([items[step % 13], items[(step * 5) % 13]], [1e6 + 500.0 * step, 1e6 + 900.0 * step])
    return sessions.scores(now=1e6 + 900.0 * last)


class TestLiveSessions:
    @pytest.mark.parametrize("make", [lambda model: model.session(103), lambda model: LiveSessions(model, [None, 105])])
    def test_saved_sessions_go_on(self, make, pointer_model, tmp_path):
        sessions = make(pointer_model)
        observed(sessions, pointer_model, 0, 9)
        save_sessions(sessions, tmp_path / "sessions.h5")
        save_model(pointer_model, tmp_path / "model.h5")
        loaded = load_sessions(tmp_path / "sessions.h5", load_model(tmp_path / "model.h5"))
        assert type(loaded) is type(sessions)
        assert torch.equal(observed(loaded, pointer_model, 9, 30), observed(sessions, pointer_model, 9, 30))

    def test_another_model_or_file_is_refused(self, pointer_model, rows, tmp_path, refuses):
        path = tmp_path / "sessions.h5"
        save_sessions(pointer_model.session(), path)
        other = ASARSSequenceModel(representation="asars_time_user", embedding_dim=6, n_iter=1, random_state=1)
        other.fit(rows)
        refuses(lambda: load_sessions(path, other), str(path), "other weights")
        refuses(lambda: load_model(path), str(path), "live sessions")
        save_model(pointer_model, tmp_path / "model.h5")
        refuses(lambda: load_sessions(tmp_path / "model.h5", pointer_model), "model file", "save_sessions")
        path.write_bytes(path.read_bytes()[:-9])
        refuses(lambda: load_sessions(path, pointer_model), str(path), "save the sessions again")
        refuses(lambda: save_sessions(pointer_model, path), "model.session()")
