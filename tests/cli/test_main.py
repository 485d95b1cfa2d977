"""The command line: the main job end to end on a small log, and each kind of wrong input."""

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import spotlight_asars
from spotlight_asars import cli
from spotlight_asars.cli import compare as cli_compare
from spotlight_asars.cli import options as cli_options
from spotlight_asars.cli.main import argument_parser
from spotlight_asars.experiments import settings as settings_module
from spotlight_asars.experiments.comparison import compare as comparison
from spotlight_asars.experiments.settings import NetSettings, describe, write_settings
from spotlight_asars.experiments.systems import system_names

COLUMNS = ["--format", "csv", "--columns", "user,item,time"]
QUICK = ["--models", "gru4rec,asars_time_user", "--epochs", "2", "--quiet"]


def write_log(folder):
    """30 users with 10 sessions of 4 of 25 items, 12 hours apart."""
    random_state = np.random.RandomState(0)
    sessions = 300
    items = (random_state.randint(25, size=(sessions, 1)) + np.arange(4)) % 25
    seconds = (
        random_state.randint(5, 300, size=(sessions, 4)).cumsum(axis=1) + 43_200 * np.tile(np.arange(10), 30)[:, None]
    )
    frame = pd.DataFrame(
        {"user": np.repeat(np.arange(30), 40), "item": items.ravel(), "time": seconds.ravel() + 1_400_000_000}
    )
    path = folder / "log.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def log(tmp_path):
    return write_log(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Standard output of a run, and the folder it wrote."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        arguments = ["compare", "--data", write_log(folder), *COLUMNS, *QUICK, "--out", folder / "out"]
        assert cli.main([str(argument) for argument in arguments]) == 0
    assert err.getvalue() == ""
    return out.getvalue(), folder / "out"


class TestCompare:
    @pytest.fixture
    def results(self, finished):
        out, folder = finished
        return out, json.loads((folder / "results.json").read_text())

    def test_results_hold_what_the_design_names(self, results):
        _, found = results
        dataset, protocol, models = found["dataset"], found["protocol"], found["models"]
        assert dataset["events"] == 1200 and dataset["users"] == 30
        assert dataset["items"] == 25 and dataset["sessions"] == 300
        assert dataset["train"]["sessions"] == 240 and dataset["test"]["sessions"] == 60
        assert dataset["targets"] == 180
        assert protocol["dwell"] == "known" and protocol["seed"] == 0 and protocol["dropped_test_events"] == 0.0
        assert protocol["events_read"] == 1200 and protocol["test_events_before_training_ends"] == 0.0
        assert list(models) == ["gru4rec", "asars_time_user"]
        less = models["asars_time_user"]["mrr@20_less_first"]
        assert less["first"] == "gru4rec" and less["interval"][0] <= less["difference"] <= less["interval"][1]
        assert less["difference"] == pytest.approx(models["asars_time_user"]["mrr@20"] - models["gru4rec"]["mrr@20"])
        for model in models.values():
            assert model["targets"] == 180
            for metric in ("mrr@20", "recall@20"):
                low, high = model["ci95"][metric]
                assert 0 <= low <= model[metric] <= high <= 1
            assert model["mrr@10"] <= model["mrr@20"] <= model["mrr@30"] <= model["mrr@40"] <= model["mrr@all"]
            assert model["seconds_per_epoch"] > 0 and model["events_per_second"] > 0
            assert model["peak_memory_mib"] > 10 and model["epochs"] in (1, 2)

    def test_the_table_tells_the_same(self, results):
        out, found = results
        for name, model in found["models"].items():
            row = next(line for line in out.splitlines() if line.startswith(name))
            assert f"{model['mrr@20']:.4f}" in row and f"{model['recall@20']:.4f}" in row

    def test_same_seed_same_numbers(self, results, log, tmp_path, run):
        run("compare", "--data", log, *COLUMNS, *QUICK, "--out", tmp_path / "again")
        again = json.loads((tmp_path / "again" / "results.json").read_text())
        for name, model in results[1]["models"].items():
            for key in ("mrr@20", "recall@20", "mrr@all", "ci95"):
                assert again["models"][name][key] == model[key]

    def test_two_parts_are_taken_as_split(self, log, tmp_path, run):
        frame = pd.read_csv(log)
        frame["session"] = frame.user * 100 + (frame.time - 1_400_000_000) // 43_200
        late = frame.time >= 1_400_000_000 + 8 * 43_200
        frame[~late].to_csv(tmp_path / "train.csv", index=False)
        frame[late].to_csv(tmp_path / "test.csv", index=False)
        parts = ["--train", tmp_path / "train.csv", "--test", tmp_path / "test.csv"]
        columns = ["--format", "csv", "--columns", "-,item,time,session"]
        code, _, err = run("compare", *parts, *columns, *QUICK, "--dwell", "observed", "--out", tmp_path)
        assert (code, err) == (0, "")
        found = json.loads((tmp_path / "results.json").read_text())
        assert found["dataset"]["users"] == 0 and found["dataset"]["test"]["sessions"] == 60
        assert found["protocol"]["split"] == "as given" and found["protocol"]["dwell"] == "observed"

    def test_progress_goes_to_standard_error(self, log, tmp_path, run):
        arguments = ["--data", log, *COLUMNS, "--models", "gru4rec", "--epochs", "1", "--out", tmp_path]
        code, out, err = run("compare", *arguments)
        assert code == 0 and "gru4rec (1 of 1)" in err and "epochs" in err and "epochs:" not in out

    def test_all_files_are_there(self, finished):
        pytest.importorskip("matplotlib")
        files = ["curves.csv", "mrr_at_k.png", "peak_memory.png", "results.json", "runs", "table.csv"]
        out, folder = finished
        assert sorted(os.listdir(folder)) == [*files, "training_speed.png"]
        assert sorted(os.listdir(folder / "runs")) == ["asars_time_user-seed0.npz", "gru4rec-seed0.npz"]
        assert all(name in out.splitlines()[-1] for name in files if name != "runs")

    def test_the_same_command_takes_finished_runs(self, log, tmp_path, run):
        arguments = ["compare", "--data", log, *COLUMNS, "--models", "gru4rec,vsknn", "--epochs", "1"]
        arguments += ["--out", tmp_path / "out"]
        run(*arguments)
        first = (tmp_path / "out" / "results.json").read_text()
        code, _, err = run(*arguments)
        assert code == 0 and err.count("reused from") == 2 and "epochs:" not in err
        assert (tmp_path / "out" / "results.json").read_text() == first

    def test_seeds_twins_and_what_counts(self, log, tmp_path, run):
        arguments = ["--models", "asars_time_att,popularity", "--epochs", "1", "--seeds", "2", "--twins", "--quiet"]
        code, out, err = run("compare", "--data", log, *COLUMNS, *arguments, "--out", tmp_path / "out")
        assert (code, err) == (0, "") and "mean of seeds 0 to 1" in out and "shuffled-dwell control" in out
        models = json.loads((tmp_path / "out" / "results.json").read_text())["models"]
        assert len(models["asars_time_att"]["seeds"]) == 2 and "dwell_gain" in models["asars_time_att"]
        assert models["popularity"]["epochs"] is None and len(models["popularity"]["seeds"]) == 1

    def test_parameter_files(self, log, tmp_path, run):
        small = NetSettings("gru4rec", embedding_dim=8, representation_options={"hidden_dim": 8})
        write_settings(tmp_path / "gru4rec.json", small)
        arguments = [*QUICK, "--parameters", tmp_path, "--out", tmp_path / "out"]
        assert run("compare", "--data", log, *COLUMNS, *arguments)[0] == 0
        models = json.loads((tmp_path / "out" / "results.json").read_text())["models"]
        assert list(models) == ["gru4rec", "asars_time_user"]
        assert models["gru4rec"]["settings"] == describe(small)
        assert models["gru4rec"]["settings_from"] == str(tmp_path / "gru4rec.json")
        assert models["asars_time_user"]["settings_from"] == "built in"

    def test_without_matplotlib_the_rest_is_written(self, log, tmp_path, run, monkeypatch):
        monkeypatch.setattr("spotlight_asars.experiments.figures.Figure", None)
        arguments = ["--data", log, *COLUMNS, "--models", "popularity", "--out", tmp_path / "out"]
        code, _, err = run("compare", *arguments)
        assert code == 0 and "pip install matplotlib" in err
        assert sorted(os.listdir(tmp_path / "out")) == ["curves.csv", "results.json", "runs", "table.csv"]

    def test_a_log_without_users_is_told_once(self, log, tmp_path, run):
        frame = pd.read_csv(log)
        frame["session"] = frame.user * 100 + (frame.time - 1_400_000_000) // 43_200
        frame.to_csv(tmp_path / "log.csv", index=False)
        arguments = ["--data", tmp_path / "log.csv", "--format", "csv", "--columns", "-,item,time,session"]
        arguments += ["--models", "bpr_mf,popularity", "--epochs", "1", "--filters", "1,2,1"]
        code, _, err = run("compare", *arguments, "--out", tmp_path / "out")
        assert code == 0 and err.count("has no users: bpr_mf cannot learn from them") == 1

    def test_all_systems_by_one_word(self):
        options = argument_parser().parse_args(["compare", "--models", "gru4rec,all"])
        assert options.models[0] == "gru4rec" and sorted(options.models) == sorted(set(system_names()))

    def test_the_simulator_is_the_default(self):
        """What the README's first command runs; the run itself takes minutes."""
        options = argument_parser().parse_args(["compare"])
        choice = cli_options.log_choice(options)
        assert (choice.data, choice.train, choice.test) == (None, None, None)
        ours = ("asars_memory", "asars_time_user", "asars_two_stage")
        assert options.models == ("gru4rec", "vsknn", "repeat_last", *ours)

    @pytest.mark.once
    def test_as_a_module_in_a_process_of_its_own(self, log, tmp_path):
        command = [sys.executable, "-m", "spotlight_asars", "compare", "--data", str(log), *COLUMNS]
        command += ["--models", "gru4rec", "--epochs", "1", "--quiet", "--out", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "gru4rec" in done.stdout and done.stderr == ""


def write(path, text):
    path.write_text(text)
    return path


def test_the_version(run):
    code, out, _ = run("--version")
    assert code == 0 and out == f"spotlight-asars {spotlight_asars.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["recommend", "--items", "a", "--k", "5"], "unknown argument: --k 5"),
        (
            ["analyse", "--filter", "2,2,2"],
            "unknown argument: --filter (did you mean --filters?)",
        ),
        (
            ["analyse", "log.csv", "more.csv"],
            "unknown argument: more.csv (name a file with its option, such as --data FILE)",
        ),
    ],
)
def test_what_is_no_option_is_told_with_the_help_of_its_command(arguments, told, run):
    code, out, err = run(*arguments)
    prog = f"spotlight-asars {arguments[0]}"
    assert (code, out) == (2, "") and err == f"{prog}: {told}; see {prog} --help\n"


class TestWrongInput:
    """Exit code 2, one line, nothing left behind."""

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("user,item,when\na,x,1\n", "no column 'time'"),
            ("user,item,time\na,x,1\na,y,soon\n", "line 3: column 'time' has 'soon'"),
            ("user,item,time\na,x,1500000000\na,y,1500000005000\n", "line 3: column 'time' has the time"),
            ("", "the file is empty"),
            ("user,item,time\n", "no event below"),
            (
                "user,item,time\na,x,1\na,y,5\n",
                "after the filters 2,2,1 (events an item, events a session, sessions a user; the most that the log "
                "has of each: 1,2,1): lower them",
            ),
        ],
    )
    def test_a_wrong_log(self, text, named, tmp_path, run):
        path = write(tmp_path / "log.csv", text)
        out_folder = tmp_path / "out" / "deep"
        code, out, err = run("compare", "--data", path, *COLUMNS, *QUICK, "--out", out_folder)
        assert code == 2 and out == ""
        assert named in err and err.count("\n") == 1 and ("log.csv" in err or "filters" in err)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["compare", "--data", "nowhere.csv", *COLUMNS], "no such file"),
            (["compare", "--data", "log.csv"], "log.csv: there is no such file"),
            (["compare", "log.csv", "--data", "log.csv"], "FILE and --data both name a whole log"),
            (["compare", "--data", "log.csv", "--format", "movielens", "--columns", "a,b,c"], "layout is fixed"),
            (["compare", "--train", "log.csv", *COLUMNS], "only one of --train and --test"),
            (["compare", "--data", "log.csv", "--train", "log.csv", *COLUMNS], "--data excludes --train"),
            (["compare", "--data", "log.csv", "--dataset", "synthetic", *COLUMNS], "--dataset excludes files"),
            (["compare", *COLUMNS], "no file"),
            (["compare", "--train", "a.csv", "--test", "b.csv", *COLUMNS, "--filters", "1,2,1"], "used as they are"),
            (["compare", "--train", "a.csv", "--test", "b.csv", *COLUMNS, "--test-share", ".5"], "used as they are"),
            (["compare", "--models", "asars"], "asars_time_user"),
            (["compare", "--parameters", "nowhere"], "not a folder of parameter files"),
            (["compare", "--parameters", "."], "gru4rec.json"),
            (["compare", "--seeds", "0"], "at least 1"),
            (["compare", "--seeds", "2", "--seed", "4294967295"], "largest seed"),
            (["compare", "--models", ","], "at least one name"),
            (["compare", "--epochs", "0"], "at least 1"),
            (["compare", "--seed", "-1"], "whole number"),
            (["compare", "--dwell", "sometimes"], "observed"),
            (["compare", "--filters", "1,2"], "three numbers"),
            (["compare", "--test-share", "1.5"], "between 0 and 1"),
            (["compare", "--session-gap", "nan"], "positive number"),
            (["compare", "--max-sequence-length", "1"], "at least 2"),
            (["compare", "--columns"], "expected one argument"),
            (["repare"], "repare"),
            ([], "required"),
        ],
    )
    def test_a_wrong_option(self, arguments, named, tmp_path, run, monkeypatch):
        monkeypatch.chdir(tmp_path)
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and named in err and err.count("\n") == 1
        assert not list(tmp_path.iterdir())

    def test_a_file_whose_columns_have_no_usual_names(self, tmp_path, run):
        path = write(tmp_path / "log.csv", "who,item,time\na,x,1\n")
        code, _, err = run("compare", path, "--out", tmp_path / "out")
        assert code == 2 and err.count("\n") == 1 and not (tmp_path / "out").exists()
        assert "no column has a usual name for the user or session; it has who, item, time" in err
        assert "give --columns USER,ITEM,TIME" in err

    def test_a_folder_that_cannot_be_written(self, log, tmp_path, run):
        blocked = write(tmp_path / "a file", "kept")
        for place in (blocked, blocked / "below"):
            code, out, err = run("compare", "--data", log, *COLUMNS, *QUICK, "--out", place)
            assert code == 2 and out == "" and "cannot write there" in err and err.count("\n") == 1
        assert blocked.read_text() == "kept"

    def test_what_stood_there_before_stays_when_a_run_fails(self, tmp_path, run):
        path = write(tmp_path / "log.csv", "user,item,time\na,x,1\na,y,5\n")
        before = write(tmp_path / "results.json", "before")
        code, _, _ = run("compare", "--data", path, *COLUMNS, "--out", tmp_path)
        assert (
            code == 2 and before.read_text() == "before" and sorted(os.listdir(tmp_path)) == ["log.csv", "results.json"]
        )

    def test_an_interrupt_leaves_nothing(self, log, tmp_path, run, monkeypatch):
        def interrupted(*arguments, **settings):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli_compare, "compare", interrupted)
        code, _, err = run("compare", "--data", log, *COLUMNS, *QUICK, "--out", tmp_path / "out")
        assert code == 130 and "interrupted" in err and not (tmp_path / "out").exists()

    def test_an_interrupt_says_that_finished_runs_are_kept(self, log, tmp_path, run, monkeypatch):
        train = comparison.train_and_test

        def stopped(settings, *arguments):
            if settings.representation != "gru4rec":
                raise KeyboardInterrupt
            return train(settings, *arguments)

        out = tmp_path / "out"
        arguments = ["compare", "--data", log, *COLUMNS, *QUICK, "--out", out]
        monkeypatch.setattr(comparison, "train_and_test", stopped)
        code, _, err = run(*arguments)
        assert code == 130 and err.count("\n") == 1
        assert f"kept in {out / 'runs'}: the same command continues from there" in err
        assert os.listdir(out) == ["runs"] and os.listdir(out / "runs") == ["gru4rec-seed0.npz"]
        monkeypatch.setattr(comparison, "train_and_test", train)
        assert run(*arguments)[0] == 0 and (out / "results.json").exists()

    def test_a_gpu_that_is_not_there(self, log, tmp_path, run, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        code, _, err = run("compare", "--data", log, *COLUMNS, *QUICK, "--use-cuda", "--out", tmp_path / "out")
        assert code == 2 and "has no GPU" in err and err.count("\n") == 1 and not (tmp_path / "out").exists()

    def test_a_test_part_from_within_the_training_time_is_told(self, log, tmp_path, run):
        parts = ["--train", log, "--test", log]
        code, out, _ = run("compare", *parts, *COLUMNS, *QUICK, "--out", tmp_path)
        assert code == 0 and "100.0% of the test events precede the last training event" in out

    def test_on_a_large_catalogue_the_loss_samples_unless_a_parameter_file_says_otherwise(
        self, log, tmp_path, run, monkeypatch
    ):
        monkeypatch.setattr(settings_module, "LARGE_CATALOGUE", 5)
        write_settings(tmp_path / "gru4rec.json", NetSettings("gru4rec", embedding_dim=8))
        models = ["--models", "gru4rec,asars_user_cat", "--epochs", "1", "--parameters", tmp_path]
        code, _, err = run("compare", "--data", log, *COLUMNS, *models, "--out", tmp_path / "out")
        assert code == 0 and "the loss of asars_user_cat is sampled_cross_entropy" in err
        found = json.loads((tmp_path / "out" / "results.json").read_text())["models"]
        losses = {name: model["settings"]["loss"] for name, model in found.items()}
        assert losses == {"gru4rec": "cross_entropy", "asars_user_cat": "sampled_cross_entropy"}

    def test_a_run_that_diverges_is_one_line(self, log, tmp_path, run, monkeypatch):
        wild = NetSettings("asars_time_user", optimizer="adam", learning_rate=1e30)
        monkeypatch.setattr(cli_options, "settings_of", lambda name: wild)
        code, _, err = run("compare", "--data", log, *COLUMNS, *QUICK, "--out", tmp_path / "out")
        assert code == 2 and "lower learning_rate" in err and err.count("\n") == 1


def test_it_starts_without_the_optional_packages():
    """Regression: optuna and matplotlib were once imported with the command line, which then failed as a whole."""
    blocked = ("optuna", "matplotlib", "pyarrow")
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); from spotlight_asars import cli; "
    code += "cli.main(['--version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("spotlight-asars ")
