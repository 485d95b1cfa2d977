"""The command line's `train`: one model file, from the whole log or a part; killed, stopped, and asked for nonsense."""

import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from spotlight_asars.cross_validation import rows_of, time_based_split
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.experiments import settings as settings_module
from spotlight_asars.experiments.settings import NetSettings, Training, write_settings
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.training.trainer import TrainingStep
from spotlight_asars.serialization.models import load_model

ROOT = Path(__file__).parents[2]
# For a process of its own: this package, wherever it starts.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
COLUMNS = ["--format", "csv", "--columns", "user,item,time"]
SMALL = NetSettings(
    "gru4rec",
    embedding_dim=8,
    batch_size=2,
    batch_events=1,
    representation_options={"hidden_dim": 8, "dropout": 0.3},
)


@pytest.fixture
def small(tmp_path):
    write_settings(tmp_path / "gru4rec.json", SMALL)
    return ["--model", "gru4rec", "--parameters", tmp_path / "gru4rec.json"]


def weights(path):
    return {name: weight.numpy() for name, weight in load_model(path).net.state_dict().items()}


def same_weights(one, other):
    first, second = weights(one), weights(other)
    return set(first) == set(second) and all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("option", ["--out", "--checkpoint"])
@pytest.mark.parametrize("name", ["log.csv", "link.csv", "gru4rec.json"])
def test_out_may_not_be_what_is_read(log, small, tmp_path, run, option, name):
    """The log was replaced by the model that was trained on it."""
    (tmp_path / "link.csv").symlink_to("log.csv")
    before = (tmp_path / name).read_bytes()
    code, out, err = run("train", "--data", log, *COLUMNS, *small, option, tmp_path / name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{option}: " in err and "would replace" in err
    assert (tmp_path / name).read_bytes() == before


def test_on_a_large_catalogue_the_loss_samples_unless_a_parameter_file_says_otherwise(
    log, small, tmp_path, run, monkeypatch
):
    monkeypatch.setattr(settings_module, "LARGE_CATALOGUE", 20)
    arguments = ["--data", log, *COLUMNS, "--filters", "1,2,1", "--epochs", "1", "--out", tmp_path / "model.h5"]
    code, _, err = run("train", *arguments, "--model", "asars_user_cat")
    assert code == 0 and "25 items are too many" in err
    assert load_model(tmp_path / "model.h5").loss == "sampled_cross_entropy"
    code, _, err = run("train", *arguments, *small)
    assert code == 0 and "too many" not in err
    assert load_model(tmp_path / "model.h5").loss == "cross_entropy"


def test_the_whole_log_is_the_default(log, small, tmp_path, run):
    out = tmp_path / "deep" / "model.h5"
    arguments = ["--data", log, *COLUMNS, "--filters", "1,2,1", *small, "--epochs", "2", "--out", out]
    code, printed, err = run("train", *arguments)
    assert code == 0 and "the whole log; at least 1 events per item" in printed and "epochs" in err
    assert "480 events, 12 users, 25 items, 120 sessions, of 480 events read" in printed
    assert re.search(r"2 epochs, [\d,]+ events/s, training loss \d", printed) and f"written to {out}" in printed
    model = load_model(out)
    assert len(model.epoch_records) == 2 and model.num_items == 26 and model.num_users == 13
    assert len(model.recommend([3, 4], timestamps=[0, 20], user=7, k=5)) == 5


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_on_a_terminal_what_was_read_is_told_once(quiet, log, tmp_path, run, monkeypatch):
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    arguments = ["--data", log, *COLUMNS, "--filters", "1,2,1", "--model", "popularity", "--out", tmp_path / "model.h5"]
    code, printed, err = run("train", *arguments, *quiet)
    assert code == 0 and (printed + err).count("480 events read") == 1


def test_a_test_share_is_held_back(log, tmp_path, run):
    arguments = ["--data", log, *COLUMNS, "--filters", "1,2,1", "--test-share", ".25", "--model", "popularity"]
    code, printed, err = run("train", *arguments, "--quiet", "--out", tmp_path / "model.h5")
    assert (code, err) == (0, "") and "the earliest 0.75 of the sessions" in printed
    assert "fitted, " in printed and "360 events, 12 users, 25 items, 90 sessions" in printed
    frame = pd.read_csv(log)
    early = frame[frame.time < frame.time.min() + 7.5 * 43_200]  # 90 of the 120 sessions end first
    clicks = load_model(tmp_path / "model.h5").state().arrays["clicks"].sum()
    assert clicks == 360 and abs(len(early) - 360) <= 48


def test_a_training_part_is_taken_as_it_is_and_no_test_file_opened(log, tmp_path, run):
    arguments = ["--train", log, "--test", tmp_path / "nowhere.csv", *COLUMNS, "--model", "vsknn"]
    code, printed, _ = run("train", *arguments, "--quiet", "--out", tmp_path / "model.h5")
    assert code == 0 and "(as given)" in printed


def test_validation_finds_the_epochs_and_then_all_is_fitted(log, small, tmp_path, run):
    arguments = ["train", "--train", log, *COLUMNS, *small, "--quiet"]
    out = tmp_path / "model.h5"
    code, printed, _ = run(*arguments, "--epochs", "4", "--validation", "0.2", "--out", out)
    assert code == 0
    found = re.search(r"validation on the latest 0\.2 of the sessions, 72 targets: MRR@20 (0\.\d+), Recall@20", printed)
    epochs = len(load_model(out).epoch_records)
    values = validation_mrr(log)
    assert epochs == int(np.argmax(values)) + 1 and found[1] == f"{max(values):.4f}"
    again = tmp_path / "again.h5"
    assert run(*arguments, "--epochs", epochs, "--out", again)[0] == 0
    assert same_weights(out, again)  # the number of epochs is all that the validation has left


def validation_mrr(log):
    """MRR@20 after each of up to four epochs on all but the latest fifth of the sessions, by hand."""
    whole = SessionInteractions.from_log(pd.read_csv(log).rename(columns={"time": "timestamp"}))
    fitting, validation = rows_of(time_based_split(whole, 0.2), 200)
    values = []
    model = SMALL.new_system(fitting, Training(epochs=4))
    model.fit(fitting, callbacks=[lambda *_: values.append(metrics(rank_targets(model, validation), (20,))["mrr@20"])])
    return values


def test_a_system_that_counts_is_validated_once(log, tmp_path, run):
    arguments = ["--train", log, *COLUMNS, "--model", "vsknn", "--validation", "0.2", "--out", tmp_path / "model.h5"]
    code, printed, err = run("train", *arguments)
    assert code == 0 and "sessions, 72 targets" in printed and "fitting on all sessions" in err


# The command line in a process that is killed in the midst of fitting: once it has written its fifth checkpoint, it
# kills itself, or the second process of its job, whose id stands in a file.
KILLED = """
import os, signal, sys
from pathlib import Path
from spotlight_asars import cli
from spotlight_asars.serialization import checkpoints

second, write, written = Path(__file__).with_suffix(".second"), checkpoints.write_sealed, []
if os.environ.get("RANK") == "1":
    second.write_text(str(os.getpid()))

def write_and_kill(*arguments):
    write(*arguments)
    written.append(1)
    if len(written) == 5:
        os.kill(int(second.read_text()) if "RANK" in os.environ else os.getpid(), signal.SIGKILL)

checkpoints.write_sealed = write_and_kill
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def killed(tmp_path_factory):
    """A script like ``-m spotlight_asars`` that is killed after its fifth checkpoint."""
    script = tmp_path_factory.mktemp("killed") / "killed.py"
    script.write_text(KILLED)
    return script


@pytest.mark.once
def test_killed_and_begun_again_it_comes_to_the_same_weights(log, small, tmp_path, run, killed):
    checkpoint, out, whole = (tmp_path / name for name in ("fit.h5", "model.h5", "whole.h5"))
    arguments = ["train", "--train", log, *COLUMNS, *small, "--epochs", "12", "--validation", "0.2", "--quiet"]
    with_checkpoint = ["--out", out, "--checkpoint", checkpoint, "--checkpoint-minutes", "0"]
    command = [sys.executable, str(killed), *map(str, arguments), *map(str, with_checkpoint)]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    search = tmp_path / "fit.h5.validation"
    assert search.exists() and not out.exists()
    code, _, _ = run(*arguments, *with_checkpoint)
    assert code == 0 and not search.exists() and not checkpoint.exists()
    assert run(*arguments, "--out", whole)[0] == 0
    assert same_weights(out, whole)
    assert sorted(os.listdir(tmp_path)) == ["gru4rec.json", "log.csv", "model.h5", "whole.h5"]


@pytest.mark.once
class TestTorchrun:
    """Real jobs of two processes."""

    def job(self, log, small, *arguments, epochs=4, program=("-m", "spotlight_asars")):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]
        train = ["train", "--train", log, *COLUMNS, *small, "--epochs", epochs, *arguments]
        done = subprocess.run(
            [*command, *map(str, train)], capture_output=True, env=ENVIRONMENT, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def test_comes_to_the_weights_of_one_process_and_writes_once(self, log, small, tmp_path, run):
        out, whole = tmp_path / "model.h5", tmp_path / "whole.h5"
        validation = ["--validation", "0.2", "--checkpoint"]
        code, printed, err = self.job(log, small, *validation, tmp_path / "fit.h5", "--out", out)
        assert code == 0, err
        assert printed.count("written to") == 1 and err.count("fitting on all sessions") == 1
        alone = ["train", "--train", log, *COLUMNS, *small, "--epochs", 4, *validation, tmp_path / "fit.h5"]
        assert run(*alone, "--out", whole, "--quiet")[0] == 0
        assert sorted(os.listdir(tmp_path)) == ["gru4rec.json", "log.csv", "model.h5", "whole.h5"]
        ours, theirs = (load_model(path).net.state_dict() for path in (out, whole))
        for name, weight in theirs.items():
            torch.testing.assert_close(ours[name], weight, rtol=1e-2, atol=1e-3, msg=name)

    def test_a_killed_process_ends_the_job_and_the_same_command_goes_on(self, log, small, tmp_path, killed):
        out, whole, checkpoint = (tmp_path / name for name in ("model.h5", "whole.h5", "fit.h5"))
        arguments = ["--quiet", "--out", out, "--checkpoint", checkpoint, "--checkpoint-minutes", "0"]
        code, _, err = self.job(log, small, *arguments, epochs=30, program=[str(killed)])
        assert code == 1 and checkpoint.exists() and not out.exists(), err
        assert "Signal 9 (SIGKILL)" in err  # torchrun's own report; ours may come too late for it
        code, _, err = self.job(log, small, *arguments, epochs=30)
        assert code == 0 and not checkpoint.exists(), err
        code, _, err = self.job(log, small, "--quiet", "--out", whole, epochs=30)
        assert code == 0, err
        assert same_weights(out, whole)

    def test_wrong_input_is_told_in_one_line_of_each(self, log, small, tmp_path):
        code, _, err = self.job(tmp_path / "none.csv", small, "--quiet")
        assert code == 1
        assert f"spotlight-asars: {tmp_path / 'none.csv'}: there is no such file" in err
        assert 'File "' + str(ROOT / "spotlight_asars") not in err  # no traceback of ours


def test_ctrl_c_keeps_what_was_fitted_and_says_how_to_go_on(log, small, tmp_path, run, monkeypatch):
    arguments = ["train", "--train", log, *COLUMNS, *small, "--epochs", "3", "--quiet", "--out"]
    whole, out, checkpoint = (tmp_path / name for name in ("whole.h5", "model.h5", "fit.h5"))
    run(*arguments, whole)
    take, batches = TrainingStep.measure, []

    def stopped(*parts, **keywords):
        batches.append(1)
        if len(batches) == 9:
            signal.raise_signal(signal.SIGINT)
        return take(*parts, **keywords)

    monkeypatch.setattr(TrainingStep, "measure", stopped)
    code, printed, err = run(*arguments, out, "--checkpoint", checkpoint)
    assert code == 130 and printed == "" and err.count("\n") == 1 and len(batches) == 9
    assert f"kept in {checkpoint}: the same command continues" in err and not out.exists()
    assert run(*arguments, out, "--checkpoint", checkpoint)[0] == 0
    assert same_weights(out, whole) and not checkpoint.exists()
    assert len(batches) == 3 * 6 + 2 * 5  # 6 an epoch, none twice; and each command tries its parameter file


def test_ctrl_c_without_a_checkpoint_leaves_nothing(log, small, tmp_path, run, monkeypatch):
    monkeypatch.setattr(TrainingStep, "measure", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    arguments = ["train", "--train", log, *COLUMNS, *small, "--quiet", "--out", tmp_path / "deep" / "model.h5"]
    code, _, err = run(*arguments)
    assert code == 130 and "nothing was written" in err and not (tmp_path / "deep").exists()


def test_another_log_under_the_same_checkpoint_is_told(log, small, tmp_path, run, monkeypatch):
    arguments = ["train", *COLUMNS, *small, "--epochs", "1", "--quiet", "--out", tmp_path / "model.h5"]
    arguments += ["--checkpoint", tmp_path / "fit.h5"]
    monkeypatch.setattr("spotlight_asars.cli.train.save_model", lambda *parts: signal.raise_signal(signal.SIGINT))
    assert run(*arguments, "--train", log)[0] == 130 and (tmp_path / "fit.h5").exists()
    monkeypatch.undo()
    frame = pd.read_csv(log)
    frame[:-4].to_csv(tmp_path / "shorter.csv", index=False)
    code, _, err = run(*arguments, "--train", tmp_path / "shorter.csv")
    assert code == 2 and "on other rows" in err and "start over" in err and err.count("\n") == 1


def test_figures_that_went_astray_are_told(log, small, tmp_path, run, monkeypatch):
    arguments = ["train", "--train", log, *COLUMNS, *small, "--epochs", "3", "--validation", "0.2", "--quiet"]
    arguments += ["--out", tmp_path / "model.h5", "--checkpoint", tmp_path / "fit.h5"]
    monkeypatch.setattr("spotlight_asars.cli.train.save_model", lambda *parts: signal.raise_signal(signal.SIGINT))
    assert run(*arguments)[0] == 130
    figures = tmp_path / "fit.h5.validation.json"
    for content, named in (("[]", "figures are missing"), ("{", "cannot be read")):
        figures.write_text(content)
        code, _, err = run(*arguments)
        assert code == 2 and str(figures) in err and named in err and err.count("\n") == 1


def test_a_checkpoint_that_cannot_be_written_costs_one_line(log, small, tmp_path, run, monkeypatch):
    def full(*_):
        raise InputError("fit.h5: cannot be written (No space left on device)")

    monkeypatch.setattr("spotlight_asars.serialization.checkpoints.write_sealed", full)
    arguments = ["train", "--train", log, *COLUMNS, *small, "--epochs", "2", "--quiet", "--out", tmp_path / "model.h5"]
    with warnings.catch_warnings(action="default"):
        code, _, err = run(*arguments, "--checkpoint", tmp_path / "fit.h5")
    assert code == 0 and err.count("\n") == 1 and err.startswith("spotlight-asars: fitting continues")
    assert "No space left" in err and (tmp_path / "model.h5").exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--test", "log.csv", *COLUMNS], "nothing to train on"),
        (["--train", "nowhere.csv", *COLUMNS], "no such file"),
        (["--model", "asars"], "--model: there is no system 'asars'"),
        (["--model", "vsknn", "--checkpoint", "fit.h5"], "not trained by epochs"),
        (["--checkpoint-minutes", "1"], "needs --checkpoint"),
        (["--checkpoint", "model.h5"], "name the same file"),
        (["--checkpoint-minutes", "-1"], "minutes of at least 0"),
        (["--validation", "1"], "between 0 and 1"),
        (["--out", "."], "is a folder"),
        (["--parameters", "nowhere.json"], "not a parameter file"),
        (["--data", "log.csv", "--train", "log.csv", *COLUMNS], "--data excludes --train"),
    ],
)
def test_a_wrong_option(arguments, named, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("train", *arguments)
    assert code == 2 and out == "" and named in err and err.count("\n") == 1, err
    assert not list(tmp_path.iterdir())
