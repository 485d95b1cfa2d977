"""One contract for every recommender, and one of a user's own through the whole package."""

import json
import textwrap

import numpy as np
import pytest
import torch

from spotlight_asars import host
from spotlight_asars.audit import ContractError, check_recommender
from spotlight_asars.cli import main
from spotlight_asars.datasets.synthetic.log import generate_sessions
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.experiments import settings, systems
from spotlight_asars.experiments.comparison.compare import Protocol, compare
from spotlight_asars.experiments.logs import LogChoice, prepare_log
from spotlight_asars.experiments.settings import COUNTING_SYSTEMS
from spotlight_asars.experiments.systems import name_of_model, register_system, settings_of, system_names
from spotlight_asars.interactions.channels import ITEM, TARGET
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences, to_session_sequences
from spotlight_asars.sequence import (
    STAN,
    VSKNN,
    VSTAN,
    ASARSSequenceModel,
    Popularity,
    Recommender,
    SequentialRules,
    SessionMemory,
    TwoStageRanker,
)
from spotlight_asars.sequence.recommender.fitted import Numbering
from spotlight_asars.sequence.representations.registry import representation_names
from spotlight_asars.sequence.two_stage.model import Member
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.state import SystemState

HOST_NETS = ["pooling", "cnn", "lstm"] + (["mixture"] if host.NAME == "spotlight" else [])


@register_kind("model")
class PopularWithRepeats(Recommender):
    """A recommender as a user may write it: popularity, and `bonus` for the last item of the row."""

    def __init__(self, bonus=1.0):
        self.bonus = float(bonus)

    def fit(self, sequences):
        sequences = as_session_sequences(sequences)
        counts = np.bincount(sequences.events[:, ITEM], minlength=sequences.num_items)[1:]
        self.popularity = (counts / counts.sum()).astype(np.float32)  # (num_items - 1,)
        self.keep_numbering(sequences)
        return self

    def target_states(self, sequences):
        sequences = self.checked_rows(sequences)
        target = np.flatnonzero(sequences.events[:, TARGET])
        first = np.repeat(sequences.offsets[:-1], sequences.targets_a_row)
        return np.where(target > first, sequences.events[np.maximum(target - 1, 0), ITEM], 0)

    def item_scores(self, states):
        self.check_fitted()
        scores = np.tile(self.popularity, (len(states), 1))
        some = np.flatnonzero(states)
        scores[some, states[some] - 1] += np.float32(self.bonus)
        return torch.from_numpy(scores)

    def state(self):
        if not self.is_fitted:
            return SystemState({"bonus": self.bonus})
        numbering = Numbering.of(self)
        arrays = {"popularity": self.popularity}
        return SystemState({"bonus": self.bonus}, {}, numbering.fitted(), arrays, numbering.parts())

    @classmethod
    def from_state(cls, state):
        system = cls(**state.settings)
        if state.fitted is not None:
            system.keep_numbering(Numbering.from_state(state))
            system.popularity = state.arrays["popularity"]
        return system


def net(name, **changes):
    options = None if name in HOST_NETS else {"hidden_dim": 8}
    if name == "mixture":  # it cannot score all items at once
        changes["loss"] = "sampled_cross_entropy"
    return ASARSSequenceModel(
        representation=name, embedding_dim=8, n_iter=1, random_state=0, representation_options=options, **changes
    )


def two_stages(*members):
    return TwoStageRanker([Member(*one) for one in members], ranking=RankingNets(nets=1, epochs=1))


SYSTEMS = {
    **{name: lambda name=name: net(name) for name in (*representation_names(), *HOST_NETS)},
    "observed": lambda: net("asars_time_user", dwell="observed"),
    "bpr_max": lambda: net("gru4rec", loss="bpr_max", sampling="shared"),
    "popularity": Popularity,
    "sequential_rules": SequentialRules,
    "vsknn": lambda: VSKNN(k=20),
    "stan": STAN,
    "vstan": VSTAN,
    "memory": lambda: SessionMemory(rounds=1),
    "memory_observed": lambda: SessionMemory("observed", rounds=1),
    "two_stages": lambda: two_stages((lambda epochs: SessionMemory(rounds=1),), (lambda epochs: SequentialRules(),)),
    "two_stages_with_net": lambda: two_stages(
        (lambda epochs: ASARSSequenceModel(embedding_dim=8, n_iter=epochs, random_state=0), 1),
        (lambda epochs: Popularity(),),
    ),
    "own": PopularWithRepeats,
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_recommender_keeps_the_contract(name):
    check_recommender(SYSTEMS[name]())


class Peeks(PopularWithRepeats):
    """Favours the target's own item."""

    def target_states(self, sequences):
        super().target_states(sequences)
        return sequences.events[sequences.events[:, TARGET] != 0, ITEM]


class LosesState(PopularWithRepeats):
    @classmethod
    def from_state(cls, state):
        system = super().from_state(state)
        system.bonus = 2.0
        return system


class AcceptsForeignRows(PopularWithRepeats):
    def checked_rows(self, sequences):
        self.check_fitted()
        return as_session_sequences(sequences)


class AcceptsForeignBins(PopularWithRepeats):
    def checked_rows(self, sequences):
        sequences = as_session_sequences(sequences)
        if self.is_fitted and len(sequences):
            sequences = sequences.rows(np.arange(len(sequences)))
            sequences.binning = self.binning
        return super().checked_rows(sequences)


class ReturnsNothing(PopularWithRepeats):
    def fit(self, sequences):
        super().fit(sequences)


class ForgetsNumbering(PopularWithRepeats):
    def keep_numbering(self, sequences):
        pass


class Float64(PopularWithRepeats):
    def item_scores(self, states):
        return super().item_scores(states).double()


class Disordered(PopularWithRepeats):
    def target_states(self, sequences):
        return super().target_states(sequences)[::-1]


class NotFinite(PopularWithRepeats):
    def item_scores(self, states):
        return super().item_scores(states) * torch.nan


class BySlice(PopularWithRepeats):
    def item_scores(self, states):
        return super().item_scores(states) / (1 + len(states))


class Seeds(PopularWithRepeats):
    def item_scores(self, states):
        torch.manual_seed(0)
        return super().item_scores(states)


class KeepsNoArgument(PopularWithRepeats):
    def __init__(self, bonus=1.0):
        self._given = bonus
        self.popular_bonus = 1.0


class UnclearBeforeFit(PopularWithRepeats):
    def check_fitted(self):
        pass


class PaddingScored(PopularWithRepeats):
    def predict(self, sequences, *given, **named):
        return np.maximum(super().predict(sequences, *given, **named), 0)


class IgnoresExcludeSeen(PopularWithRepeats):
    def recommend(self, *given, **named):
        return super().recommend(*given, **{**named, "exclude_seen": False})


class ForgetsEarlierEvents(PopularWithRepeats):
    """Recommends after the last event alone, while evaluation sees whether the one before was the same."""

    def target_states(self, sequences):
        states = super().target_states(sequences)
        target = np.flatnonzero(sequences.events[:, TARGET])
        first = np.repeat(sequences.offsets[:-1], sequences.targets_a_row)
        return np.where(target - first > 1, states, 0)

    def scores_after(self, rows):
        return self.item_scores(rows.events[rows.offsets[1:] - 1, ITEM])


class PretendsAttention(PopularWithRepeats):
    has_attention = True


class WrongSession(PopularWithRepeats):
    has_live_sessions = True

    def session(self, user=None):
        self.check_fitted()
        own = self

        class Session:
            def observe(self, item, seconds):
                pass

            def recommend(self, k, return_scores):
                return own.recommend(["item 1"], k=k, return_scores=return_scores)

        return Session()


class AnyItem(PopularWithRepeats):
    def predict(self, sequences, *given, **named):
        self.check_fitted()
        return super().predict(np.asarray(sequences).astype(int) % self.num_items, *given, **named)


FAULTS = {
    Peeks: "leak audit",
    LosesState: "state",
    AcceptsForeignRows: "foreign rows",
    AcceptsForeignBins: "foreign rows",
    ReturnsNothing: "fit",
    ForgetsNumbering: "fit",
    Float64: "target states",
    Disordered: "target states",
    NotFinite: "target states",
    BySlice: "target states",
    Seeds: "random state",
    KeepsNoArgument: "parameters",
    UnclearBeforeFit: "not fitted",
    PaddingScored: "predict",
    IgnoresExcludeSeen: "recommend",
    ForgetsEarlierEvents: "evaluation",
    PretendsAttention: "explain",
    WrongSession: "session",
    AnyItem: "foreign ids",
}


@pytest.mark.parametrize(("faulty", "check"), FAULTS.items())
def test_a_planted_fault_is_named(faulty, check):
    with pytest.raises(ContractError, match=f"^{faulty.__name__} fails the check '{check}': ") as found:
        check_recommender(faulty())
    assert "\n" not in str(found.value)


def test_only_unfitted_recommenders_are_checked(refuses):
    refuses(lambda: check_recommender(object()), "object is not a Recommender")
    fitted = Popularity().fit(SessionSequences(np.array([[1, 2, 1]])))
    refuses(lambda: check_recommender(fitted), "is already fitted")


def test_an_abstract_recommender_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Recommender()


@pytest.fixture(scope="module")
def registered():
    register_system("popular_with_repeats", PopularWithRepeats)
    yield "popular_with_repeats"
    del COUNTING_SYSTEMS["popular_with_repeats"]


class TestOwnRecommender:
    def test_compare_and_evaluate(self, registered):
        assert registered in system_names()
        log = prepare_log(LogChoice(seed=0))
        both = {name: settings_of(name) for name in (registered, "popularity")}
        found = compare(log, both, Protocol(epochs=1), lambda line: None)["models"]
        assert found[registered]["mrr@20"] > 0 and found[registered]["targets"] == found["popularity"]["targets"]
        train = to_session_sequences(log.split.train)
        bins = {"binning": train.binning, "gap_binning": train.gap_binning}
        test = to_session_sequences(log.split.test, history=log.split.train, **bins)
        system = PopularWithRepeats().fit(train)
        assert name_of_model(system) == registered
        assert metrics(rank_targets(system, test))["mrr@20"] == found[registered]["mrr@20"]

    def test_names_and_classes_are_checked(self, registered, refuses):
        register_system(registered, PopularWithRepeats)
        refuses(lambda: register_system("popularity", PopularWithRepeats), "name of another system")
        refuses(lambda: register_system("gru4rec", PopularWithRepeats), "name of another system")
        refuses(lambda: register_system("own", object), "no subclass of Recommender")


MODULE = """
from spotlight_asars.experiments.systems import register_system
from spotlight_asars.sequence import SequentialRules
from spotlight_asars.serialization.models import register_kind


@register_kind("model")
class NextStep(SequentialRules):
    def __init__(self):
        super().__init__(steps=1)


register_system("next_step", NextStep)
"""


def test_the_command_line_takes_a_module_with_a_recommender(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "COUNTING_SYSTEMS", dict(COUNTING_SYSTEMS))
    monkeypatch.setattr(settings, "COUNTING_SYSTEMS", systems.COUNTING_SYSTEMS)
    (tmp_path / "own_systems.py").write_text(textwrap.dedent(MODULE))
    generate_sessions(num_users=40, num_items=30, num_categories=5, random_state=0).log.to_csv("log.csv", index=False)
    log = ["--data", "log.csv", "--format", "csv", "--columns", "user,item,timestamp", "--filters", "1,2,1"]
    first = ["--import", "own_systems"]
    assert main([*first, "train", *log, "--model", "next_step", "--test-share", "0.2", "--quiet"]) == 0
    evaluated = [*first, "evaluate", *log, "--test-share", "0.2", "--quiet", "--out", "figures.json"]
    assert main(evaluated) == 0
    assert json.loads((tmp_path / "figures.json").read_text())["models"]["next_step"]["mrr@20"] > 0
    capsys.readouterr()
    assert main([*first, "recommend", "--items", "1,2", "-k", "3"]) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 3
    with pytest.raises(SystemExit) as error:
        main(["--import", "no_such_module", "recommend"])
    assert error.value.code == 2
    assert "--import no_such_module: cannot be imported" in capsys.readouterr().err
