"""The command line's `tune`: end to end on a small log, each kind of wrong input, and a stop on the way."""

import json

import pytest

from spotlight_asars.cli import tune as cli_tune

pytest.importorskip("optuna")

COLUMNS = ["--format", "csv", "--columns", "user,item,time"]
QUICK = ["--models", "vsknn,gru4rec", "--trials", "2", "--epochs", "1"]


def test_what_it_finds_goes_into_a_comparison(log, tmp_path, run):
    folder = tmp_path / "found"
    arguments = ["--data", log, *COLUMNS, "--filters", "1,2,1"]
    code, out, err = run("tune", *arguments, *QUICK, "--out", folder)
    assert code == 0 and "vsknn: trial 1 of 2, complete" in err and "gru4rec: trial 2 of 2" in err
    assert {path.name for path in folder.iterdir()} == {"trials.csv", "trials.journal", "vsknn.json", "gru4rec.json"}
    about = json.loads((folder / "gru4rec.json").read_text())["about"]
    row = next(line for line in out.splitlines() if line.startswith("gru4rec"))
    assert f"{about['validation_mrr@20']:.4f}" in row and about["log"] == "log.csv"
    assert f"--parameters {folder}" in out
    code, _, err = run(
        "compare", *arguments, "--models", "vsknn,gru4rec", "--epochs", "1", "--quiet",
        "--parameters", folder, "--out", tmp_path / "results",
    )  # fmt: skip
    assert code == 0, err
    models = json.loads((tmp_path / "results" / "results.json").read_text())["models"]
    assert models["gru4rec"]["settings_from"] == str(folder / "gru4rec.json")


def test_a_search_can_begin_with_the_settings_of_another(log, tmp_path, run):
    begun, out = tmp_path / "begun", tmp_path / "out"
    begun.mkdir()
    (begun / "vsknn.json").write_text(json.dumps({"kind": "counting", "system": "vsknn", "options": {"k": 321}}))
    arguments = ["--train", log, *COLUMNS, "--models", "vsknn,stan", "--trials", "1", "--quiet", "--out", out]
    code, printed, err = run("tune", *arguments, "--parameters", begun)
    assert (code, err) == (0, "") and "initial" in printed
    assert json.loads((out / "vsknn.json").read_text())["options"] == {"k": 321}
    assert json.loads((out / "stan.json").read_text())["options"] == {}
    code, _, err = run("tune", *arguments, "--parameters", tmp_path / "nowhere")
    assert code == 2 and "nowhere: not a folder of parameter files" in err


def test_the_training_part_alone_is_enough(log, tmp_path, run):
    code, out, err = run(
        "tune", "--train", log, *COLUMNS, "--models", "stan", "--trials", "1", "--quiet", "--out", tmp_path
    )
    assert (code, err) == (0, "") and "stan" in out and (tmp_path / "stan.json").exists()


def test_a_stop_says_what_is_kept_and_how_to_go_on(log, tmp_path, run, monkeypatch):
    def interrupted(log, name, *arguments, **settings):
        if name == "gru4rec":
            raise KeyboardInterrupt
        return real(log, name, *arguments, **settings)

    real = cli_tune.tune
    monkeypatch.setattr(cli_tune, "tune", interrupted)
    arguments = ["tune", "--data", log, *COLUMNS, "--filters", "1,2,1", *QUICK, "--quiet", "--out", tmp_path]
    code, out, err = run(*arguments)
    assert code == 130 and out == "" and err.count("\n") == 1
    assert str(tmp_path / "trials.csv") in err and "continues" in err and (tmp_path / "vsknn.json").exists()
    monkeypatch.setattr(cli_tune, "tune", real)
    assert run(*arguments)[0] == 0 and (tmp_path / "gru4rec.json").exists()


def test_a_stop_before_the_first_trial_leaves_nothing(log, tmp_path, run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_tune, "training_log", interrupted)
    code, _, err = run("tune", "--data", log, *COLUMNS, *QUICK, "--out", tmp_path / "out")
    assert code == 130 and "nothing was written" in err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--train", "nowhere.csv", *COLUMNS], "no such file"),
        (["--test", "log.csv", *COLUMNS], "nothing to train on"),
        (["--data", "log.csv", "--train", "log.csv", *COLUMNS], "--data excludes --train"),
        (["--train", "log.csv", *COLUMNS, "--filters", "1,2,1"], "used as they are"),
        (["--models", "asars"], "asars_time_user"),
        (["--trials", "0"], "at least 1"),
        (["--timeout", "0"], "positive number"),
        (["--dwell", "sometimes"], "observed"),
    ],
)
def test_a_wrong_option(arguments, named, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("tune", *arguments)
    assert code == 2 and out == "" and named in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_optuna(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spotlight_asars.experiments.tuning.search.optuna", None)
    code, out, err = run("tune")
    assert code == 2 and out == "" and "pip install optuna" in err and err.count("\n") == 1
