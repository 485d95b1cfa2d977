"""The search for settings: what it begins with, keeps and finds, and that it never sees the test part."""

import csv
import itertools
import json

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.cross_validation import SupportFilters
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.experiments.logs import LogChoice, TuningLog, training_log
from spotlight_asars.experiments.settings import CountingSettings, NetSettings, Training, read_settings
from spotlight_asars.experiments.systems import settings_of, system_names
from spotlight_asars.experiments.tuning import search
from spotlight_asars.experiments.tuning.search import Search, tune
from spotlight_asars.experiments.tuning.spaces import settings_from, space_of, suggest, values_of
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.training import callbacks

optuna = pytest.importorskip("optuna")

QUICK = Search(trials=3, epochs=2, max_sequence_length=50)


def chains(users=12):
    """Ten sessions a user, of four items each of which is one more than the one before."""
    random_state = np.random.RandomState(0)
    sessions = 10 * users
    items = (random_state.randint(25, size=(sessions, 1)) + np.arange(4)) % 25 + 1
    seconds = random_state.randint(5, 300, size=(sessions, 4)).cumsum(axis=1)
    seconds = seconds + 43_200 * np.tile(np.arange(10), users)[:, None]
    user = np.repeat(np.arange(1, users + 1), 40)
    return SessionInteractions(user, items.ravel(), timestamps=seconds.ravel() + 1.4e9, num_items=26)


@pytest.fixture(scope="module")
def log():
    return TuningLog.of("chains", chains(), 50)


def trials_in(folder):
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(trials):
    """Trials that came to an end, without what a stop changes."""
    ended = [trial for trial in trials if trial["state"] != "stopped"]
    return [{key: value for key, value in trial.items() if key not in ("seconds", "number")} for trial in ended]


def interrupted_after(calls):
    """Ranks so many times, then as if Ctrl-C were pressed."""
    left = itertools.count(calls, -1)

    def rank(*arguments):
        if next(left) == 0:
            raise KeyboardInterrupt
        return rank_targets(*arguments)

    return rank


class TestSpaces:
    @pytest.mark.parametrize("name", system_names())
    def test_a_system_s_own_settings_are_in_its_space_and_stay_as_they_are(self, name):
        base = settings_of(name)
        space = space_of(base)
        values = values_of(base, space)
        assert suggest(optuna.trial.FixedTrial(values), space) == values  # a value out of range would warn
        assert settings_from(values, space, base) == base

    @pytest.mark.parametrize("name", system_names())
    def test_every_choice_and_both_ends_give_a_system_that_fits_and_ranks(self, name, log):
        base = settings_of(name)
        space = space_of(base)
        for turn in range(max([len(parameter.choices) for parameter in space] + [2])):
            values = {}
            for parameter in space:
                ends = parameter.choices or (parameter.low, parameter.high)
                value = ends[turn % len(ends)]
                values[parameter.name] = ("+".join(value) or "none") if isinstance(value, tuple) else value
            settings = settings_from(suggest(optuna.trial.FixedTrial(values), space), space, base)
            system = settings.new_system(log.fitting, Training(epochs=1)).fit(log.fitting)
            # The fastest learning may diverge, and is then told; anything else is a wrong space.
            try:
                assert len(rank_targets(system, log.validation)) == log.validation.num_targets
            except InputError as error:
                assert "not finite" in str(error)

    def test_settings_outside_of_the_usual_ranges_widen_them(self):
        base = NetSettings("asars_time_att", learning_rate=2.0, loss="bpr", batch_events=7)
        base = settings_from({"context": "hour"}, (), base)
        space = space_of(base)
        assert settings_from(values_of(base, space), space, base) == base
        ranges = {parameter.name: parameter for parameter in space}
        assert ranges["learning_rate"].high == 2.0 and ranges["batch_events"].low == 7
        assert ranges["adam_learning_rate"].high < 0.1 and "bpr" in ranges["loss"].choices

    def test_the_other_loss_takes_its_own_options_only(self):
        bpr_max, plain = settings_of("gru4rec_bpr_max"), settings_of("gru4rec")
        found = settings_from({"loss": "cross_entropy"}, space_of(bpr_max), bpr_max)
        assert found.loss_options == {} and found.sampling == "local" and found.sampling_options == {}
        values = {"loss": "bpr_max", "regularization": 0.5, "elu": 0.2, "alpha": 0.3, "num_negative_samples": 99}
        found = settings_from(values, space_of(plain), plain)
        assert found.loss_options == {"regularization": 0.5, "elu": 0.2} and found.sampling == "shared"
        assert found.sampling_options == {"alpha": 0.3} and found.num_negative_samples == 99

    def test_a_decay_that_is_left_out_stays_out(self):
        base = CountingSettings("stan", {"position_decay": None})
        assert "position_decay" not in values_of(base, space_of(base))

    def test_every_parameter_says_why(self):
        for name in system_names():
            names = [parameter.name for parameter in space_of(settings_of(name))]
            assert len(names) == len(set(names))
            assert all(parameter.why for parameter in space_of(settings_of(name)))


class TestSearch:
    def test_it_begins_with_the_given_settings_and_never_ends_below(self, log, tmp_path):
        found = tune(log, "gru4rec", QUICK, tmp_path)
        system = settings_of("gru4rec").new_system(log.fitting, QUICK.training)
        by_epoch = []
        system.fit(
            log.fitting,
            callbacks=[lambda model, _: by_epoch.append(metrics(rank_targets(model, log.validation))["mrr@20"])],
        )
        first = next(trial for trial in trials_in(tmp_path) if trial["number"] == "0")
        assert first["is_first"] == "True" and found.first_mrr == max(by_epoch)
        assert float(first["validation_mrr@20"]) == pytest.approx(max(by_epoch), rel=1e-5)
        assert found.mrr >= found.first_mrr and found.trials == 3

    def test_every_trial_is_kept_the_best_first(self, log, tmp_path):
        tune(log, "vsknn", QUICK, tmp_path)
        tune(log, "popularity", QUICK, tmp_path)
        trials = trials_in(tmp_path)
        assert [trial["system"] for trial in trials] == ["popularity", "vsknn", "vsknn", "vsknn"]
        values = [float(trial["validation_mrr@20"]) for trial in trials[1:]]
        assert values == sorted(values, reverse=True)
        assert all(trial["k"].isdigit() and trial["state"] == "complete" for trial in trials[1:])

    def test_the_parameter_file_gives_the_system_that_was_found(self, log, tmp_path):
        found = tune(log, "asars_time_user", QUICK, tmp_path)
        settings = read_settings(tmp_path / "asars_time_user.json")
        about = json.loads((tmp_path / "asars_time_user.json").read_text())["about"]
        assert about["log"] == "chains" and about["dwell"] == "known" and about["trials"] == 3
        system = settings.new_system(log.fitting, Training(epochs=about["best_epoch"], seed=about["seed"]))
        figures = metrics(rank_targets(system.fit(log.fitting), log.validation))
        assert figures["mrr@20"] == about["validation_mrr@20"] == found.mrr
        assert figures["recall@20"] == about["validation_recall@20"]

    def test_a_stopped_search_goes_on_to_the_same_end(self, log, tmp_path, monkeypatch):
        whole, stopped = tmp_path / "whole", tmp_path / "stopped"
        whole.mkdir()
        stopped.mkdir()
        wanted = Search(trials=13, epochs=1, max_sequence_length=50)  # past the random trials
        tune(log, "stan", wanted, whole)
        for calls_left in (0, 5):
            monkeypatch.setattr(callbacks, "rank_targets", interrupted_after(calls_left))
            with pytest.raises(KeyboardInterrupt):
                tune(log, "stan", wanted, stopped)
            assert (stopped / "stan.json").exists() == (calls_left > 0)
        monkeypatch.setattr(callbacks, "rank_targets", rank_targets)
        tune(log, "stan", wanted, stopped)
        assert [trial["state"] for trial in trials_in(stopped)].count("stopped") == 2
        assert untimed(trials_in(stopped)) == untimed(trials_in(whole))
        assert (stopped / "stan.json").read_text() == (whole / "stan.json").read_text()
        before = trials_in(stopped)
        tune(log, "stan", wanted, stopped)  # nothing is left to do
        assert trials_in(stopped) == before

    def test_what_diverges_is_a_trial_and_not_the_end(self, log, tmp_path):
        wild = NetSettings("bpr_mf", learning_rate=1e30)
        with pytest.raises(InputError, match="every trial diverged"):
            tune(log, "bpr_mf", Search(trials=1, epochs=2), tmp_path, base=wild)
        assert [trial["state"] for trial in trials_in(tmp_path)] == ["diverged"]
        assert not (tmp_path / "bpr_mf.json").exists()

    def test_the_search_goes_on_after_a_trial_that_diverged(self, log, tmp_path, monkeypatch):
        calls = itertools.count()

        def first_diverges(*arguments):
            if next(calls) == 0:
                raise InputError("a score is not finite, the model has diverged")
            return rank_targets(*arguments)

        monkeypatch.setattr(callbacks, "rank_targets", first_diverges)
        found = tune(log, "sequential_rules", QUICK, tmp_path)
        assert found.first_mrr is None and found.trials == 3 and found.trial > 0
        assert [trial["state"] for trial in trials_in(tmp_path)] == ["complete", "complete", "diverged"]

    def test_another_error_ends_the_search(self, log, tmp_path, monkeypatch):
        def broken(*arguments):
            raise InputError("no event is to be predicted")

        monkeypatch.setattr(callbacks, "rank_targets", broken)
        with pytest.raises(InputError, match="no event"):
            tune(log, "sequential_rules", QUICK, tmp_path)
        assert [trial["state"] for trial in trials_in(tmp_path)] == ["stopped"]

    def test_what_lies_below_the_median_ends_early(self, log, tmp_path, monkeypatch):
        epochs = itertools.count()

        def figures(*_):
            epoch = next(epochs)
            value = (0.5 if epoch < 3 * 5 else 0.1) + epoch * 1e-3  # five trials of three epochs, then worse ones
            return {"mrr@20": value, "recall@20": value}

        monkeypatch.setattr(callbacks, "metrics", figures)
        monkeypatch.setattr(callbacks, "rank_targets", lambda *_: ())
        tune(log, "bpr_mf", Search(trials=6, epochs=3, max_sequence_length=50), tmp_path)
        last = next(trial for trial in trials_in(tmp_path) if trial["number"] == "5")
        assert last["state"] == "pruned" and last["best_epoch"] == "2"

    def test_trials_of_another_search_are_not_mixed_in(self, log, tmp_path):
        tune(log, "sequential_rules", QUICK, tmp_path)
        other = Search(trials=4, epochs=2, max_sequence_length=50, dwell="observed", seed=1)
        with pytest.raises(InputError, match=r"another search \(different seed, dwell\)"):
            tune(log, "sequential_rules", other, tmp_path)
        with pytest.raises(InputError, match=r"another search \(different log\)"):
            tune(TuningLog.of("chains", chains(users=11), 50), "sequential_rules", QUICK, tmp_path)

    def test_time_that_is_up_leaves_one_trial(self, log, tmp_path):
        lines = []
        found = tune(log, "vstan", Search(trials=9, timeout=1e-9), tmp_path, report=lines.append)
        assert found.trials == 1 and found.settings == settings_of("vstan")
        assert "stopped by the timeout" in lines[-1] and "trial 1 of 9, complete" in lines[0]

    def test_without_optuna_one_line_says_how_to_get_it(self, log, tmp_path, monkeypatch, refuses):
        monkeypatch.setattr(search, "optuna", None)
        refuses(lambda: tune(log, "stan", QUICK, tmp_path), "pip install optuna")
        assert not list(tmp_path.iterdir())


class TestTestPart:
    @pytest.fixture
    def frame(self):
        log = chains()
        frame = pd.DataFrame({"user": log.user_ids, "item": log.item_ids, "time": log.timestamps})
        return frame.sort_values("time", kind="stable", ignore_index=True)  # ids are numbered as they come up

    def test_other_test_events_change_nothing(self, frame, tmp_path):
        tables = []
        for name in ("one", "other"):
            path = tmp_path / f"{name}.csv"
            frame.to_csv(path, index=False)
            options = {"columns": "user,item,time"}
            choice = LogChoice(path, log_format="csv", read_options=options, filters=SupportFilters(1, 2, 1))
            train = training_log(choice, whole=False).events
            folder = tmp_path / name
            folder.mkdir()
            tune(TuningLog.of("log", train, 50), "gru4rec", QUICK, folder)
            tables.append((untimed(trials_in(folder)), (folder / "gru4rec.json").read_text()))
            is_test = frame.time > train.timestamps.max()
            assert is_test.sum() == len(frame) - len(train) > 0
            frame.loc[is_test, "item"] = 26 - frame.item[is_test]
            frame.loc[is_test, "user"] = 13 - frame.user[is_test]
        assert tables[0] == tables[1]

    def test_a_test_file_is_not_opened(self, frame, tmp_path):
        path = tmp_path / "train.csv"
        frame.to_csv(path, index=False)
        options = {"log_format": "csv", "read_options": {"columns": "user,item,time"}}
        for test in (None, tmp_path / "nowhere.csv"):
            log = training_log(LogChoice(train=path, test=test, **options), whole=False)
            assert log.name == "train.csv" and len(log.events) == len(frame)
