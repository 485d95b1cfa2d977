"""The command line's `evaluate`: the numbers of `compare`, what the model does not know, and wrong input."""

import json

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.cross_validation import number_like
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural.rules import Popularity
from spotlight_asars.serialization.models import load_model, save_model

COLUMNS = ["--format", "csv", "--columns", "user,item,time"]
BEGIN = 1_400_000_000


@pytest.fixture
def parts(tmp_path):
    """12 users with 10 sessions of 4 of 25 items, 12 hours apart; the last two sessions of each are the test part."""
    random_state = np.random.RandomState(0)
    items = (random_state.randint(25, size=(120, 1)) + np.arange(4)) % 25
    seconds = random_state.randint(5, 300, size=(120, 4)).cumsum(axis=1)
    seconds = seconds + 43_200 * np.tile(np.arange(10), 12)[:, None]
    frame = pd.DataFrame({"user": np.repeat(np.arange(12), 40), "item": items.ravel(), "time": seconds.ravel() + BEGIN})
    late = frame.time >= BEGIN + 8 * 43_200
    frame.to_csv(tmp_path / "whole.csv", index=False)
    frame[~late].to_csv(tmp_path / "train.csv", index=False)
    frame[late].to_csv(tmp_path / "test.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("name", ["vsknn", "asars_memory"])
def test_it_measures_what_compare_measures(parts, name, run):
    both = ["--train", parts / "train.csv", "--test", parts / "test.csv", *COLUMNS, "--quiet"]
    assert run("compare", *both, "--models", name, "--out", parts)[0] == 0
    compared = json.loads((parts / "results.json").read_text())
    model, out = parts / "model.h5", parts / "deep" / "metrics.json"
    assert run("train", *both, "--model", name, "--out", model)[0] == 0
    code, printed, err = run("evaluate", *both, "--model-file", model, "--out", out)
    assert (code, err) == (0, "")
    found = json.loads(out.read_text())
    (measured,) = found["models"].values()
    for metric, value in compared["models"][name].items():
        if metric.startswith(("mrr@", "recall@")):
            assert measured[metric] == value
    assert list(found["models"]) == [name] and found["dataset"]["targets"] == compared["dataset"]["targets"] == 72
    for metric, interval in compared["models"][name]["ci95"].items():
        assert measured["ci95"][metric] == interval
    low, high = measured["ci95"]["mrr@20"]
    assert f"20   {measured['mrr@20']:.4f} ({low:.4f}-{high:.4f})   {measured['recall@20']:.4f}" in printed
    assert "items of 0 events, users of 0;" in printed and "no history" not in printed


def test_sessions_end_as_the_model_s_do(parts, run):
    """Regression: a model of half-minute pauses was measured on sessions that an hour ends."""
    both = ["--train", parts / "train.csv", "--test", parts / "test.csv", *COLUMNS, "--quiet"]
    model, out = parts / "model.h5", parts / "metrics.json"
    assert run("train", *both, "--model", "popularity", "--session-gap", "30", "--out", model)[0] == 0
    targets = []
    for more in ([], ["--session-gap", "30"], ["--session-gap", "3600"]):
        assert run("evaluate", *both, *more, "--model-file", model, "--out", out)[0] == 0
        targets.append(json.loads(out.read_text())["dataset"]["targets"])
    assert targets[0] == targets[1] < targets[2] == 72


def test_of_a_log_that_is_split_the_events_of_new_users_are_left_out_and_told(parts, run):
    whole = (parts / "whole.csv").read_text()
    latest = BEGIN + 20 * 43_200
    (parts / "whole.csv").write_text(whole + "".join(f"99,{item},{latest + 9 * item}\n" for item in range(4)))
    log = ["--data", parts / "whole.csv", *COLUMNS, "--filters", "1,2,1", "--test-share", "0.2", "--quiet"]
    model, out = parts / "model.h5", parts / "metrics.json"
    assert run("train", *log, "--model", "vsknn", "--out", model)[0] == 0
    code, printed, err = run("evaluate", *log, "--model-file", model, "--out", out)
    assert (code, err) == (0, "") and "items of 0 events, users of 4;" in printed
    assert json.loads(out.read_text())["protocol"]["dropped_test_events"] == pytest.approx(4 / 96)


def test_what_train_has_held_back(parts, run):
    options = ["--data", parts / "whole.csv", *COLUMNS, "--filters", "1,2,1", "--test-share", "0.2", "--quiet"]
    model = parts / "model.h5"
    assert run("train", *options, "--model", "vsknn", "--out", model)[0] == 0
    assert run("compare", *options, "--models", "vsknn", "--out", parts)[0] == 0
    code, printed, _ = run("evaluate", *options, "--model-file", model)
    compared = json.loads((parts / "results.json").read_text())["models"]["vsknn"]
    assert code == 0 and f"{compared['mrr@20']:.4f}" in printed and f"{compared['recall@40']:.4f}" in printed


def test_what_the_model_does_not_know_is_counted(parts, run):
    train = ["--train", parts / "train.csv", *COLUMNS, "--quiet"]
    run("train", *train, "--model", "popularity", "--out", parts / "model.h5")
    frame = pd.read_csv(parts / "test.csv")
    frame.loc[0, "item"] = 99  # a session keeps three of its four events
    frame.loc[frame.user == 5, "user"] = 77  # eight events
    frame.to_csv(parts / "test.csv", index=False)
    test = ["--test", parts / "test.csv", *COLUMNS, "--model-file", parts / "model.h5", "--out", parts / "metrics.json"]
    code, printed, err = run("evaluate", *test)
    assert code == 0 and "ranking" in err
    assert "items of 1 events, users of 8; 9.4% of the test events dropped" in printed
    assert "users have no history (give it with --train)" in printed
    protocol = json.loads((parts / "metrics.json").read_text())["protocol"]
    assert protocol["dropped_test_events"] == pytest.approx(9 / 96)
    assert protocol["dropped_test_sessions"] == pytest.approx(2 / 24) and protocol["history"] is False


class TestNumberLike:
    """Raw ids through a system's vocabularies."""

    @staticmethod
    def log(users, items, **more):
        return SessionInteractions.from_log(
            pd.DataFrame({"user": users, "item": items, "timestamp": np.arange(len(items)) * 1.0, **more})
        )

    def fitted(self, log):
        return Popularity().fit(to_session_sequences(log))

    def test_numbers_are_the_systems(self):
        system = self.fitted(self.log(["u", "u", "v", "v"], ["a", "b", "c", "a"]))
        found = number_like(system, self.log(["v", "v", "w", "w", "u", "u"], ["c", "z", "a", "b", "b", "a"]), 1)
        assert found.events.user_ids.tolist() == [1, 1, 2] and found.events.item_ids.tolist() == [2, 1, 3]
        assert (found.unknown_items, found.unknown_users) == (1, 2)
        assert found.dropped_events == 0.5 and found.dropped_sessions == pytest.approx(1 / 3)

    def test_to_a_system_without_users_all_are_anonymous(self):
        frame = pd.DataFrame({"item": ["a", "b"], "timestamp": [0.0, 1.0], "session": [1, 1]})
        system = self.fitted(SessionInteractions.from_log(frame))
        found = number_like(system, self.log(["u", "u"], ["b", "a"]))
        assert found.events.user_ids.tolist() == [0, 0] and found.unknown_users == 0
        assert found.events.item_ids.tolist() == [2, 1]

    def test_nothing_known_is_told(self, refuses):
        system = self.fitted(self.log(["u", "u"], [1, 2]))
        refuses(lambda: number_like(system, self.log(["u", "u"], ["3", "x"])), "2 are of unknown items", "of the type")

    def test_one_text_id_in_the_test_log_does_not_hide_the_others(self):
        system = self.fitted(self.log(["u", "u"], [1, 2]))
        found = number_like(system, self.log(["u", "u", "u"], ["2", "x", "1"]))
        assert found.events.item_ids.tolist() == [2, 1] and found.unknown_items == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "there is no test log"),
        (["--data", "log.csv", *COLUMNS], "--test-share that train had"),
        (["--train", "log.csv", *COLUMNS], "nothing to test on"),
        (["--test", "nowhere.csv", *COLUMNS], "no such file"),
    ],
)
def test_a_wrong_option(arguments, named, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(Popularity().fit(to_session_sequences(TestNumberLike.log([1, 1], [1, 2]))), "model.h5")
    code, out, err = run("evaluate", *arguments)
    assert code == 2 and out == "" and named in err and err.count("\n") == 1, err


def test_a_file_that_is_no_fitted_model(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["evaluate", "--test", "log.csv", *COLUMNS, "--model-file"]
    code, _, err = run(*options, "model.h5")
    assert code == 2 and "model.h5: cannot be read" in err and err.count("\n") == 1
    save_model(Popularity(), "model.h5")
    assert load_model("model.h5").num_items is None
    code, _, err = run(*options, "model.h5")
    assert code == 2 and "not fitted" in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["test.csv", "train.csv", "model.h5"])
def test_out_may_not_be_what_is_read(parts, name, run):
    both = ["--train", parts / "train.csv", "--test", parts / "test.csv", *COLUMNS, "--quiet"]
    run("train", *both, "--model", "popularity", "--out", parts / "model.h5")
    before = (parts / name).read_bytes()
    code, out, err = run("evaluate", *both, "--model-file", parts / "model.h5", "--out", parts / name)
    assert (code, out, err.count("\n")) == (2, "", 1) and "would replace" in err
    assert (parts / name).read_bytes() == before
