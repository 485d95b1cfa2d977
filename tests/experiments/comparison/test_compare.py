"""A comparison as a whole: seeds, twins, the oracle, and going on after a stop."""

import json
from dataclasses import replace

import numpy as np
import pytest

from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import Ranks
from spotlight_asars.experiments.comparison import compare as experiment
from spotlight_asars.experiments.comparison.compare import Protocol, compare
from spotlight_asars.experiments.comparison.runs import RunFolder
from spotlight_asars.experiments.settings import CountingSettings
from spotlight_asars.interactions.channels import TARGET

QUICK = Protocol(epochs=2, verbose=False)
MEASURED = {"seconds_per_epoch", "events_per_second", "evaluation_seconds", "peak_memory_mib", "run_seconds"}


@pytest.fixture
def systems(small):
    return {
        "gru4rec": small("gru4rec"),
        "sequential_rules": CountingSettings("sequential_rules"),
        "asars_time_user": small("asars_time_user"),
    }


@pytest.fixture
def trained(monkeypatch):
    """What is trained, by net and seed, in a list; with `stop_at` that one is interrupted."""
    train = experiment.train_and_test

    class Trained(list):
        stop_at = None

        def __call__(self, settings, parts, training, verbose):
            call = (getattr(settings, "representation", "counting"), training.seed)
            if call == self.stop_at:
                raise KeyboardInterrupt
            self.append(call)
            return train(settings, parts, training, verbose)

    recording = Trained()
    monkeypatch.setattr(experiment, "train_and_test", recording)
    return recording


def without_measured(value):
    """Results without what differs from one run of the same to the next."""
    if isinstance(value, dict):
        return {name: without_measured(inner) for name, inner in value.items() if name not in MEASURED}
    return [without_measured(inner) for inner in value] if isinstance(value, list | tuple) else value


class TestSeeds:
    def test_nets_are_trained_with_each_and_what_counts_once(self, tiny_log, systems, trained):
        found = compare(tiny_log, systems, replace(QUICK, seed=4, seeds=2))
        assert trained == [
            *(("gru4rec", 4), ("gru4rec", 5), ("counting", 4), ("asars_time_user", 4), ("asars_time_user", 5))
        ]
        assert [len(model["seeds"]) for model in found["models"].values()] == [2, 1, 2]
        net = found["models"]["gru4rec"]
        assert [one["seed"] for one in net["seeds"]] == [4, 5]
        each = [one["mrr@20"] for one in net["seeds"]]
        assert each[0] != each[1] and net["mrr@20"] == pytest.approx(np.mean(each))
        assert net["standard_deviation"]["mrr@20"] == pytest.approx(np.std(each, ddof=1))
        assert found["protocol"]["seeds"] == 2 and found["protocol"]["seed"] == 4
        json.dumps(found, allow_nan=False)

    def test_the_first_seed_alone_is_the_same_run(self, tiny_log, small):
        one, two = (compare(tiny_log, {"gru4rec": small("gru4rec")}, replace(QUICK, seeds=seeds)) for seeds in (1, 2))
        first = one["models"]["gru4rec"]
        assert first["mrr@all"] == two["models"]["gru4rec"]["seeds"][0]["mrr@all"]
        assert first["standard_deviation"] is None

    def test_all_are_tested_against_the_first(self, tiny_log, systems):
        models = compare(tiny_log, systems, QUICK)["models"]
        assert "mrr@20_less_first" not in models["gru4rec"]
        for name in ("sequential_rules", "asars_time_user"):
            for metric in ("mrr@20", "recall@20"):
                test = models[name][f"{metric}_less_first"]
                assert test["first"] == "gru4rec" and 0 < test["p_value"] <= 1
                assert test["difference"] == pytest.approx(models[name][metric] - models["gru4rec"][metric])
                assert test["interval"][0] <= test["difference"] <= test["interval"][1]


class TestTwins:
    def test_only_nets_that_read_dwell_have_one(self, tiny_log, systems):
        found = compare(tiny_log, systems, replace(QUICK, twins=True, seeds=2))["models"]
        assert [name for name, model in found.items() if "dwell_gain" in model] == ["asars_time_user"]
        model = found["asars_time_user"]
        gain = model["dwell_gain"]
        assert gain["mrr@20"]["difference"] == pytest.approx(model["mrr@20"] - gain["twin"]["mrr@20"])
        plain = compare(tiny_log, systems, replace(QUICK, seeds=2))["models"]["asars_time_user"]
        assert plain["mrr@all"] == model["mrr@all"] and "dwell_gain" not in plain

    def test_where_there_is_none_it_is_said(self, tiny_log, small):
        lines = []
        compare(tiny_log, {"gru4rec": small("gru4rec")}, replace(QUICK, epochs=1, twins=True), lines.append)
        assert any("none of these systems reads dwell" in line for line in lines)


def test_the_share_of_the_oracle(tiny_log, monkeypatch):
    def oracle_ranks(synthetic, test, dwell):
        assert synthetic == "the simulated log" and dwell == "known"
        return Ranks(np.full(test.num_targets, 2.0), test.session_ids[test.events[:, TARGET] != 0])

    monkeypatch.setattr(experiment, "oracle_ranks", oracle_ranks)
    log = replace(tiny_log, synthetic="the simulated log")
    found = compare(log, {"popularity": CountingSettings("popularity")}, QUICK)
    assert found["oracle"] == {"mrr@20": 0.5, "recall@20": 1.0}
    model = found["models"]["popularity"]
    assert model["share_of_oracle"] == pytest.approx(2 * model["mrr@20"])


def test_a_log_without_users_and_systems_that_have_them(tiny_log, small):
    split = replace(tiny_log.split, train=tiny_log.split.train.select(slice(None)))
    split.train.user_ids = np.zeros_like(split.train.user_ids)
    lines = []
    systems = {name: small(name) for name in ("gru4rec", "asars_user_cat", "asars_time_user")}
    experiment.report_cautions(replace(tiny_log, split=split), systems, QUICK, lines.append)
    assert lines == ["the log has no users: asars_user_cat, asars_time_user cannot learn from them"]
    experiment.report_cautions(tiny_log, systems, QUICK, lines.append)
    assert len(lines) == 1


class TestGoingOn:
    PROTOCOL = replace(QUICK, seeds=2, twins=True)

    def test_after_a_stop_in_the_second_net(self, tiny_log, systems, trained, tmp_path):
        undisturbed = compare(tiny_log, systems, self.PROTOCOL)
        before = list(trained)
        trained.clear()

        trained.stop_at = ("asars_time_user", 1)
        with pytest.raises(KeyboardInterrupt):
            compare(tiny_log, systems, self.PROTOCOL, folder=RunFolder(tmp_path))
        stopped = list(trained)
        assert stopped == before[:-2]

        trained.stop_at = None
        trained.clear()
        lines = []
        again = compare(tiny_log, systems, self.PROTOCOL, lines.append, RunFolder(tmp_path))
        assert trained == [("asars_time_user", 1)] * 2
        assert sum("reused from" in line for line in lines) == len(stopped)
        assert without_measured(again) == without_measured(undisturbed)

        trained.clear()
        once_more = compare(tiny_log, systems, self.PROTOCOL, folder=RunFolder(tmp_path))
        assert not trained and json.dumps(once_more) == json.dumps(again)  # measured times too

    def test_more_seeds_take_the_first_ones(self, tiny_log, small, trained, tmp_path):
        for seeds in (1, 3):
            trained.clear()
            compare(tiny_log, {"net": small("gru4rec")}, replace(QUICK, seeds=seeds), folder=RunFolder(tmp_path))
        assert trained == [("gru4rec", 1), ("gru4rec", 2)]

    def test_other_settings_and_damaged_files_are_run_anew(self, tiny_log, small, trained, tmp_path):
        folder, lines = RunFolder(tmp_path), []
        compare(tiny_log, {"net": small("gru4rec")}, QUICK, folder=folder)
        compare(tiny_log, {"net": small("gru4rec", learning_rate=0.1)}, QUICK, lines.append, folder)
        assert len(trained) == 2 and "has another settings: running again" in lines[0]
        (tmp_path / "net-seed0.npz").write_bytes(b"not a run")
        lines.clear()
        compare(tiny_log, {"net": small("gru4rec", learning_rate=0.1)}, QUICK, lines.append, folder)
        assert len(trained) == 3 and "is damaged" in lines[0]
        compare(tiny_log, {"net": small("gru4rec", learning_rate=0.1)}, QUICK, folder=folder)
        assert len(trained) == 3


def test_progress_says_which_run_and_how_long(tiny_log, systems):
    lines = []
    compare(tiny_log, systems, replace(QUICK, epochs=1, seeds=2, twins=True), lines.append)
    assert lines == [
        "gru4rec (1 of 3), seed 1 of 2",
        "gru4rec (1 of 3), seed 2 of 2, less than a minute left",
        "sequential_rules (2 of 3)",
        "asars_time_user (3 of 3), seed 1 of 2, less than a minute left",
        "asars_time_user (3 of 3), seed 1 of 2, dwell shuffled, less than a minute left",
        "asars_time_user (3 of 3), seed 2 of 2, less than a minute left",
        "asars_time_user (3 of 3), seed 2 of 2, dwell shuffled, less than a minute left",
    ]


def test_a_system_that_diverges_is_named(tiny_log, small, monkeypatch, refuses):
    def diverge(*arguments):
        raise InputError("lower learning_rate")

    monkeypatch.setattr(experiment, "train_and_test", diverge)
    refuses(lambda: compare(tiny_log, {"wild": small("gru4rec")}, QUICK), "wild (1 of 1): lower learning_rate")
