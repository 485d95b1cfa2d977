"""The command line's `explain`: the table, JSON, the plot, models without attention, and wrong input."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.serialization.models import load_model, save_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Model files of a net and of sequential rules, fitted on a log with users 100, 101, ... and items 0 to 9."""
    draw = np.random.RandomState(0)
    times = np.tile(np.arange(6) * 30.0, 20)
    log = pd.DataFrame({"user": np.repeat(np.arange(100, 120), 6), "item": draw.randint(10, size=120)})
    rows = to_session_sequences(SessionInteractions.from_log(log.assign(timestamp=times)))
    net = ASARSSequenceModel(embedding_dim=6, n_iter=1, random_state=0, representation_options={"hidden_dim": 6})
    path = tmp_path_factory.mktemp("files")
    save_model(net.fit(rows), path / "net.h5")
    save_model(SequentialRules().fit(rows), path / "rules.h5")
    return path


HISTORY = ["--items", "3,99,7", "--times", "0,20,65", "--user", "103"]


def test_a_table(folder, run):
    code, out, err = run("explain", "--model-file", folder / "net.h5", *HISTORY)
    wanted = str(load_model(folder / "net.h5").explain([3, "99", 7], [0, 20, 65], user=103))
    assert (code, err) == (0, "") and out == wanted + "\n" and "attention" in out


@pytest.mark.once
def test_nobody_reads_it(folder):
    command = [sys.executable, "-m", "spotlight_asars", "explain", "--model-file", str(folder / "net.h5"), *HISTORY]
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_what_the_model_does_not_know_carries_nothing(folder, run):
    arguments = ["--model-file", folder / "net.h5", "--items", "3,99,7", "--user", "nobody"]
    code, out, err = run("explain", *arguments, "--json")
    found = json.loads(out)
    assert code == 0 and found["events"][1]["fall"] == 0.0 and found["events"][1]["score_without"] == found["score"]
    assert "does not know the user 'nobody'" in err and err.count("\n") == 1
    assert run("explain", *arguments)[1].startswith(f"item {found['item']}: rank 1, score ")


def test_json_and_a_plot(folder, tmp_path, run):
    pytest.importorskip("matplotlib")
    plot = tmp_path / "why.png"
    arguments = ["--model-file", folder / "net.h5", *HISTORY, "--item", "4", "--json", "--plot", plot]
    code, out, err = run("explain", *arguments)
    assert (code, err) == (0, "")
    found = json.loads(out)
    wanted = load_model(folder / "net.h5").explain([3, "99", 7], [0, 20, 65], user=103, item=4)
    assert (found["item"], found["rank"], found["score"]) == (4, wanted.rank, wanted.score)
    assert [row["item"] for row in found["events"]] == [3, "99", 7]
    assert found["events"][1]["attention"] is None
    assert found["events"][0]["attention"] + found["events"][2]["attention"] == pytest.approx(1.0)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_model_without_attention(folder, run):
    code, out, _ = run("explain", "--model-file", folder / "rules.h5", *HISTORY)
    assert code == 0 and "the score falls alone" in out and "score_without" in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "give --items"),
        (["--items", ","], "give --items"),
        (["--items", "3,4", "--times", "0"], "2 items and 1 timestamps"),
        (["--items", "3", "--item", "x"], "'x' is not known"),
        (["--items", "3", "--plot", "nowhere/why.png"], "cannot be written"),
        (
            ["--items", "3", "--plot", "why.jpg"],
            "--plot why.jpg: the plot is a PNG file: give a name",
        ),
    ],
)
def test_wrong_input(folder, arguments, named, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("explain", "--model-file", folder / "net.h5", *arguments)
    assert code == 2 and out == "" and named in err and err.count("\n") == 1, err
