"""get_params, set_params and scikit-learn's clone, for every system."""

import inspect
from functools import partial

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import STAN, VSKNN, VSTAN
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.models import load_model, save_model

MEMBERS = (Member(lambda epochs: SequentialRules()), Member(lambda epochs: SessionMemory()))
NET = {
    "representation": "asars_time_att",
    "embedding_dim": 6,
    "n_iter": 2,
    "random_state": 3,
    "representation_options": {"hidden_dim": 6},
    "optimizer_func": partial(torch.optim.Adagrad, lr=0.05),
}
SYSTEMS = [
    (ASARSSequenceModel, NET),
    (ASARSSequenceModel, {"loss": "bpr_max", "sampling": {"kind": "shared", "alpha": 0.3}}),
    (Popularity, {}),
    (SequentialRules, {"steps": 3, "weighting": "linear"}),
    (VSKNN, {"k": 7}),
    (STAN, {"k": 7, "sample_size": 30}),
    (VSTAN, {"k": 7}),
    (SessionMemory, {"dwell": "observed", "steps": 4}),
    (TwoStageRanker, {"members": MEMBERS, "candidates": 3, "ranking": RankingNets(nets=2, epochs=1)}),
]


@pytest.fixture(scope="module")
def rows():
    return SessionSequences(np.random.RandomState(0).randint(1, 9, size=(40, 5)), num_items=9)


def scores(system, rows):
    return system.item_scores(system.target_states(rows)).numpy()


@pytest.mark.parametrize(("made_by", "arguments"), SYSTEMS)
class TestEverySystem:
    def test_get_params_are_the_constructors(self, made_by, arguments):
        found = made_by(**arguments).get_params()
        assert set(found) == set(inspect.signature(made_by).parameters)
        assert {name: found[name] for name in arguments} == arguments

    def test_a_clone_is_equal_and_not_fitted(self, made_by, arguments, rows):
        clone = pytest.importorskip("sklearn.base").clone
        system = made_by(**arguments).fit(rows)
        copy = clone(system)
        assert type(copy) is made_by and copy.num_items is None and system.num_items == 9
        found, wanted = copy.get_params(), system.get_params()
        assert {name: str(value)[:40] for name, value in found.items()} == {
            name: str(value)[:40] for name, value in wanted.items()
        }
        if arguments is not NET and made_by is ASARSSequenceModel:  # without a seed
            return
        np.testing.assert_array_equal(scores(copy.fit(rows), rows), scores(system, rows))

    def test_a_fitted_one_is_not_changed(self, made_by, arguments, rows, refuses):
        system = made_by(**arguments).fit(rows)
        assert system.set_params() is system and system.num_items == 9
        for name in list(arguments)[:1]:
            refuses(lambda name=name: system.set_params(**{name: arguments[name]}), "is fitted", "clone")
        refuses(lambda: system.set_params(colour=1), "no parameter 'colour'")


def test_sklearns_clone_without_sklearn(rows):
    """What `sklearn.base.clone` calls, where it is not installed."""
    model = ASARSSequenceModel(**NET)
    clone = model.__sklearn_clone__()
    options = clone.get_params()["representation_options"]
    assert options == {"hidden_dim": 6} and options is not model.get_params()["representation_options"]
    np.testing.assert_array_equal(scores(clone.fit(rows), rows), scores(model.fit(rows), rows))


class TestSetParams:
    def test_it_is_as_if_made_so(self, rows):
        model = ASARSSequenceModel().set_params(**NET).set_params(n_iter=1)
        assert model.get_params()["n_iter"] == 1 and model.get_params()["random_state"] == 3
        wanted = ASARSSequenceModel(**{**NET, "n_iter": 1})
        np.testing.assert_array_equal(scores(model.fit(rows), rows), scores(wanted.fit(rows), rows))

    def test_a_refused_value_changes_nothing(self):
        model = ASARSSequenceModel(**NET)
        before = model.get_params()
        with pytest.raises(ValueError, match="choose one of"):
            model.set_params(n_iter=9, loss="nonsense")
        assert model.get_params() == before
        stan = STAN(k=3)
        with pytest.raises(ValueError, match="k is 0"):
            stan.set_params(k=0)
        assert stan.k == 3 and stan.get_params()["k"] == 3

    def test_of_a_loaded_model(self, rows, tmp_path):
        model = ASARSSequenceModel(**NET).fit(rows)
        save_model(model, tmp_path / "model.h5")
        found, wanted = load_model(tmp_path / "model.h5").get_params(), model.get_params()
        for name in ("random_state", "optimizer_func"):
            assert type(found.pop(name)) in (np.random.RandomState, partial) and wanted.pop(name) is not None
        assert found == wanted

    def test_a_random_state_of_ones_own(self):
        state = np.random.RandomState(5)
        model = ASARSSequenceModel(random_state=state)
        assert model.get_params()["random_state"] is state
        clone = model.__sklearn_clone__()
        assert clone.get_params()["random_state"] is not state
