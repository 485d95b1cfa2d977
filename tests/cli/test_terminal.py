"""The command line at a terminal and in scripts: control characters, closed streams, negative ids, strict JSON."""

import json
import math
import os
import shlex
import subprocess
import sys

import pandas as pd
import pytest

from spotlight_asars.cli import compare as cli_compare
from spotlight_asars.cli.options import say, show
from spotlight_asars.cli.requests import Answers
from spotlight_asars.errors import InputError, printable
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.sequence.recommender.explaining import Explanation
from spotlight_asars.serialization.models import load_model, save_model

COLOUR, TITLE = "\x1b[31mred", "\x1b]0;owned\x07x\ny"
COLUMNS = ["--format", "csv", "--columns", "user,item,time"]


def rules_of(items):
    """Sequential rules fitted on sessions of these items, in order."""
    log = pd.DataFrame({"user": ["u", "u", "v", "v"] * 2, "item": items * 4, "timestamp": [0.0, 5.0] * 4})
    return SequentialRules().fit(to_session_sequences(SessionInteractions.from_log(log)))


@pytest.fixture
def rules(tmp_path):
    """A model file of :func:`rules_of`."""

    def make(items):
        save_model(rules_of(items), tmp_path / "rules.h5")
        return ["--model-file", tmp_path / "rules.h5"]

    return make


class TestControlCharacters:
    def test_explain_escapes_ids(self, rules, run):
        model = rules([COLOUR, TITLE])
        code, out, err = run("explain", *model, "--items", f"{COLOUR},{TITLE},\x1b[2J", "--user", "\x1b[8m")
        assert code == 0 and "\x1b" not in out + err and "\x07" not in out
        assert r"\x1b[31mred" in out and r"\x1b]0;owned\x07x\ny" in out and r"\x1b[2J" in out and r"\x1b[8m" in err
        assert len(out.splitlines()) == 6  # about the item, the header, three events, no attention

    def test_an_explanation_escapes_ids_in_python_too(self):
        assert "\x1b" not in str(rules_of([COLOUR, TITLE]).explain([COLOUR, TITLE], attention=False))

    def test_written_to(self, log, tmp_path, run):
        out_file = tmp_path / f"{COLOUR}.h5"
        code, out, err = run("train", "--data", log, *COLUMNS, "--model", "popularity", "--out", out_file, "--quiet")
        assert code == 0 and out_file.exists() and "\x1b" not in out + err
        assert f"written to {tmp_path}/\\x1b[31mred.h5" in out

    @pytest.mark.parametrize(
        "arguments",
        [
            ["explain", "--items", "1", "--model-file", COLOUR],
            ["train", "--data", TITLE, *COLUMNS],
            ["train", "log.csv", "--no-such-option", COLOUR],
            ["train", "--epochs", TITLE],
            ["train", "--models\x1b[2J"],
        ],
    )
    def test_errors(self, arguments, run):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and "\x1b" not in err and r"\x1b" in err and err.count("\n") == 1

    def test_what_is_escaped(self):
        assert printable("Ünïcode 日本 a b") == "Ünïcode 日本 a b"
        assert printable("a\tb\n\u202e\udcff\x9b") == r"a\tb\n\u202e\udcff\x9b"
        assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


def test_negative_ids_and_times(rules, run):
    """Regression: `--items -3,-4` was read as an option."""
    model = rules([-3, -4])
    history = ["--items", "-3,-4", "--times", "-5,-.5", "--now", "-0.25", "--item", "-4", "--user", "-7"]
    code, out, _ = run("explain", *model, *history, "--json")
    found = json.loads(out)
    assert code == 0 and found["item"] == -4
    assert [(row["item"], row["timestamp"]) for row in found["events"]] == [(-3, -5.0), (-4, -0.5)]
    code, _, err = run("explain", *model, "--items", "--times", "0,1")
    assert code == 2 and "--items: expected one argument" in err


def test_a_session_gap_is_seconds_or_a_duration(log, tmp_path, run):
    for gap in ("1800", "30min"):
        assert run("prepare", "--data", log, *COLUMNS, "--session-gap", gap, "--out", tmp_path / f"{gap}.h5")[0] == 0
    assert (tmp_path / "1800.h5").read_bytes() == (tmp_path / "30min.h5").read_bytes()


def test_the_seed_says_that_threads_matter(run):
    for command in ("train", "compare", "tune"):
        assert "same number of threads" in " ".join(run(command, "--help")[1].split())


class TestStrictJSON:
    """Infinity and NaN are not JSON: other languages' readers refuse them."""

    def test_explain(self, rules, run, monkeypatch):
        events = pd.DataFrame({"item": ["a"], "attention": [math.nan], "fall": [-math.inf]})
        monkeypatch.setattr(SequentialRules, "explain", lambda *_, **__: Explanation("a", math.inf, 1, events))
        out = run("explain", *rules(["a", "b"]), "--items", "a", "--json")[1]
        expected = {"item": "a", "attention": None, "fall": None}
        assert json.loads(out, parse_constant=pytest.fail) == {
            "item": "a",
            "score": None,
            "rank": 1,
            "events": [expected],
        }

    def test_scores_of_recommend(self, monkeypatch):
        model = rules_of(["a", "b"])
        monkeypatch.setattr(SequentialRules, "recommend", lambda *_, **__: [[("a", math.inf), ("b", 1.0)]])
        assert Answers(model, 2, with_scores=True).of({"items": ["a"]})["scores"] == [None, 1.0]

    def test_results(self, log, tmp_path, run, monkeypatch):
        original = cli_compare.compare

        def compared(*arguments):
            found = original(*arguments)
            found["protocol"]["boundary"] = math.inf
            return found

        monkeypatch.setattr(cli_compare, "compare", compared)
        models = ["--models", "popularity", "--filters", "1,2,1"]
        assert run("compare", "--data", log, *COLUMNS, *models, "--out", tmp_path, "--quiet")[0] == 0
        found = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
        assert found["protocol"]["boundary"] is None


def shell(arguments, redirection, folder):
    """Return the exit code, standard output and standard error of a call, with streams closed by the shell."""
    command = f"{shlex.quote(sys.executable)} -m spotlight_asars {shlex.join(map(str, arguments))} {redirection}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=folder, env=environment)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.once
class TestClosedStreams:
    EXPLAIN = ("explain", "--items", "a", "--model-file", "rules.h5")

    def test_standard_output(self, rules, tmp_path):
        """Regression: a closed standard output ended in an AttributeError; it is as one that nobody reads."""
        rules(["a", "b"])
        assert shell(self.EXPLAIN, ">&-", tmp_path) == (141, "", "")
        assert shell(["--help"], ">&-", tmp_path) == (141, "", "")

    def test_standard_error(self, rules, tmp_path):
        """Regression: messages for a closed standard error were printed on standard output."""
        rules(["a", "b"])
        code, out, _ = shell([*self.EXPLAIN, "--user", "nobody", "--json"], "2>&-", tmp_path)
        assert code == 0 and json.loads(out)["item"] in ("a", "b")
        assert shell([*self.EXPLAIN, "--item", "x"], "2>&-", tmp_path) == (2, "", "")

    def test_standard_input(self, rules, tmp_path):
        """Regression: a closed standard input ended in an AttributeError; it is as an empty one."""
        rules(["a", "b"])
        assert shell(["recommend", "--model-file", "rules.h5", "--quiet"], "<&-", tmp_path) == (0, "", "")

    @pytest.mark.parametrize("redirection", [">&-", "<&- >&- 2>&-"])
    def test_files_do_not_take_the_place_of_a_stream(self, log, tmp_path, redirection):
        """Regression: the model file was opened as standard output, and C libraries could print into it."""
        train = ["train", "--data", log, *COLUMNS, "--model", "popularity", "--filters", "1,2,1"]
        code, out, err = shell([*train, "--out", "model.h5"], redirection, tmp_path)
        assert (code, out) == (141, "") and load_model(tmp_path / "model.h5").is_fitted
        assert ("popularity on log.csv" in err) == ("2>&-" not in redirection)

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
    @pytest.mark.parametrize("command", ["explain", "recommend"])
    def test_a_full_disk_is_one_line(self, command, rules, tmp_path):
        rules(["a", "b"])
        code, _, err = shell([command, *self.EXPLAIN[1:]], ">/dev/full", tmp_path)
        assert code == 2 and err.count("\n") == 1 and "standard output cannot be written (No space left" in err


class Full:
    """A stream on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self):
        pass

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)


def test_a_line_of_progress_that_cannot_be_printed_is_dropped(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Full())
    say("a line")


def test_a_result_that_cannot_be_printed_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(InputError, match=r"standard output cannot be written \(No space left on device\)"):
        show("a result")
