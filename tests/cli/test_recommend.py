"""The command line's `recommend`: one history, and live events on standard input."""

import io
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from spotlight_asars import cli
from spotlight_asars.cli.requests import Answers, known_id
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.serialization.models import load_model, save_model, save_sessions


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A net and counted rules of a log with users 100, 101, ... and items 'a' to 'i' and 7, as model files."""
    draw = np.random.RandomState(0)
    items = np.array([*"abcdefghi", 7], dtype=object)[draw.randint(10, size=120)]
    times = np.tile(np.arange(6) * 30.0, 20)
    log = pd.DataFrame({"user": np.repeat(np.arange(100, 120), 6), "item": items, "timestamp": times})
    rows = to_session_sequences(SessionInteractions.from_log(log))
    net = ASARSSequenceModel(embedding_dim=6, n_iter=1, random_state=0, representation_options={"hidden_dim": 6})
    folder = tmp_path_factory.mktemp("files")
    save_model(net.fit(rows), folder / "net.h5")
    save_model(SequentialRules().fit(rows), folder / "rules.h5")
    return SimpleNamespace(net=folder / "net.h5", rules=folder / "rules.h5", model=load_model(folder / "net.h5"))


@pytest.fixture
def call(capsys, monkeypatch):
    """Call `recommend` with lines on standard input; gives the exit code, the answers and standard error."""

    def run(*arguments, lines=()):
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        content = text.encode("utf-8", "surrogateescape")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        try:
            code = cli.main(["recommend", *map(str, arguments)])
        except SystemExit as stopped:
            code = stopped.code
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def event(user, item, timestamp, **more):
    return {"user": user, "item": item, "timestamp": timestamp, **more}


class TestOneHistory:
    @pytest.mark.parametrize("system", ["net", "rules"])
    def test_it_answers_as_the_model(self, files, system, call):
        path = getattr(files, system)
        code, (answer,), err = call(
            "--model-file", path, "--items", "a, b,7", "--times", "0,20,65", "--user", "103", "-k", "4", "--scores",
            "--now", "70",
        )  # fmt: skip
        assert (code, err) == (0, "")
        wanted = load_model(path).recommend(
            ["a", "b", 7], timestamps=[0, 20, 65], user=103, k=4, now=70, return_scores=True
        )
        assert answer == {"user": "103", "items": [one for one, _ in wanted], "scores": [one for _, one in wanted]}

    def test_without_times_and_what_was_seen(self, files, call):
        _, (answer,), _ = call("--model-file", files.net, "--items", "a,b", "--exclude-seen", "-k", "99")
        assert answer == {"items": files.model.recommend(["a", "b"], k=99, exclude_seen=True)}
        assert len(answer["items"]) == 8

    def test_where_the_state_cannot_be_kept(self, files, call):
        code, answers, err = call("--model-file", files.net, "--state", files.net / "live.h5")
        assert code == 2 and not answers and err.endswith("choose another folder with --state\n")

    def test_a_user_who_is_not_known_is_told(self, files, call):
        code, (answer,), err = call("--model-file", files.net, "--items", "a", "--user", "nobody", "-k", "2")
        assert code == 0 and answer == {"user": "nobody", "items": files.model.recommend(["a"], k=2)}
        assert err == "spotlight-asars: the model does not know the user 'nobody' and treats them as new\n"

    def test_what_is_not_known_is_told(self, files, call):
        code, (answer,), err = call("--model-file", files.net, "--items", "zebra,8", "-k", "1")
        assert (code, err) == (0, "") and answer["unknown"] == ["zebra", "8"] and len(answer["items"]) == 1

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            (["--items", "a,b", "--times", "0"], "2 items and 1 timestamps"),
            (["--items", "a,b", "--times", "9,0"], "run backwards"),
            (["--items", "a", "--times", "soon"], "'soon' is not a number"),
            (["--items", "a", "--times", "5", "--now", "4"], "now lies before"),
            (["--items", "a", "--times", "nan"], "finite"),
            (["--user", "103"], "--user needs --items"),
            (["--times", "0"], "--times needs --items"),
            (["--items", "a", "--state", "live.h5"], "without --items"),
            (["--state-minutes", "1"], "needs --state"),
            (["-k", "0"], "at least 1"),
        ],
    )
    def test_wrong_options(self, files, arguments, named, call, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        code, answers, err = call("--model-file", files.net, *arguments)
        assert code == 2 and not answers and named in err and err.count("\n") == 1, err
        assert not os.listdir(tmp_path)


class TestLive:
    def test_each_user_has_a_session_of_his_own(self, files, call):
        lines = [
            event(103, "a", 0),
            {"session": "x", "item": 7, "timestamp": 1},
            event(104, "b", 2, k=2),
            event(103, "c", 40),
            {"user": 103, "now": 60},
        ]
        code, answers, err = call("--model-file", files.net, "-k", "3", "--scores", lines=lines)
        assert code == 0 and "5 lines" in err and "0 invalid" in err
        one, other, nobody = files.model.session(103), files.model.session(104), files.model.session()
        one.observe("a", 0)
        nobody.observe(7, 1)
        other.observe("b", 2)
        wanted = [one.recommend(3, return_scores=True), nobody.recommend(3, return_scores=True)]
        wanted.append(other.recommend(2, return_scores=True))
        one.observe("c", 40)
        wanted += [one.recommend(3, return_scores=True), one.recommend(3, now=60, return_scores=True)]
        whose = [("user", 103), ("session", "x"), ("user", 104), ("user", 103), ("user", 103)]
        for answer, (name, key), scored in zip(answers, whose, wanted, strict=True):
            assert answer[name] == key and answer["items"] == [item for item, _ in scored]
            assert answer["scores"] == pytest.approx([score for _, score in scored], abs=1e-5)

    def test_either_spelling_of_an_id(self, files, call):
        lines = [event("103", "a", 0), event(103, "7", 9), event(103, 8, 10)]
        _, answers, _ = call("--model-file", files.net, "-k", "4", lines=lines)
        session = files.model.session(103)
        session.observe("a", 0)
        session.observe(7, 9)
        assert answers[1]["items"] == answers[2]["items"] == session.recommend(4)
        assert "unknown" not in answers[1] and answers[2]["unknown"] == [8]

    def test_a_user_s_session_has_a_name(self, files, call):
        """Another name begins a new session however short the pause, the same name goes on however long it is."""
        events = [("a", 0, "s"), ("b", 9_000, "s"), ("c", 9_010, "t")]
        lines = [event(103, item, time, session=name) for item, time, name in events]
        items, times, names = (list(column) for column in zip(*events, strict=True))
        lines.append({"user": 103, "items": items, "timestamps": times, "sessions": names})
        code, answers, _ = call("--model-file", files.net, "-k", "4", "--scores", lines=lines)
        session = files.model.session(103)
        session.observe("a", 0)
        session.observe("b", 9_000, new_session=False)
        session.observe("c", 9_010, new_session=True)
        wanted = session.recommend(4, return_scores=True)
        assert code == 0 and answers[2]["session"] == "t"
        for answer in answers[2:]:
            assert answer["items"] == [item for item, _ in wanted]
            assert answer["scores"] == pytest.approx([score for _, score in wanted], abs=1e-5)
        options = ["--items", "a,b,c", "--times", "0,9000,9010", "--sessions", "s,s,t", "--user", "103"]
        assert call("--model-file", files.net, "-k", "4", *options)[1][0]["items"] == answers[3]["items"]

    def test_a_bad_line_is_told_and_the_next_is_read(self, files, call):
        bad = [
            ("oops\n", "not JSON"),
            ("[1,\n", "at character 5"),
            ("[1]\n", "not a JSON object"),
            ("\udcff{\n", "not JSON"),
            ("[" * 100_000 + "\n", "not JSON"),
            ({"user": 999}, "user 999 has no events yet"),
            ({"item": "a", "timestamp": 0}, "give user, or session"),
            ({"user": 1, "session": {}, "item": "a", "timestamp": 0}, "session is {}: give text or a number"),
            ({"user": 103, "item": "a"}, "the item has no timestamp"),
            ({"user": 103, "timestamp": 3}, "the timestamp has no item"),
            (event(103, "a", "soon"), "seconds since 1970"),
            (event(103, "a", True), "seconds since 1970"),
            (event(103, "a", 10**400), "finite"),
            (event(103, "a", 1e30), "not a time in any unit"),
            ('{"user": 103, "item": "a", "timestamp": NaN}\n', "finite"),
            (event(103, "a", 1.5e12), "which looks like ms: give seconds"),
            (event(103, {"id": 1}, 5), "give text or a number"),
            (event({"id": 1}, "a", 5), "give text or a number"),
            (event(103, "a", 5, when=3), "unknown key 'when'"),
            (event(103, "a", 5, k=0), "at least 1"),
            (event(103, "a", 5, now=4), "now lies before"),
            ({"items": "a"}, "must be lists"),
            ({"items": ["a"], "timestamps": [1, 2]}, "1 items and 2 timestamps"),
            ({"items": ["a"], "sessions": "s"}, "must be lists"),
            ({"items": ["a"], "sessions": []}, "1 items and 0 sessions"),
            ({"items": ["a"], "item": "a"}, "unknown key 'item'"),
        ]
        lines = [event(103, "a", 0), *(line for line, _ in bad), "\n", event(103, "b", 9)]
        lines += [event(103, "c", 8)]
        code, answers, err = call("--model-file", files.net, "-k", "4", lines=lines)
        assert code == 1 and f"{len(bad) + 1} invalid" in err
        for number, (answer, (_, named)) in enumerate(zip(answers[1:-2], bad, strict=True), start=2):
            assert answer["line"] == number and named in answer["error"] and "\n" not in answer["error"], answer
        session = files.model.session(103)
        session.observe("a", 0)
        session.observe("b", 9)
        assert answers[-2] == {"user": 103, "items": session.recommend(4)}  # no bad line has left a trace
        assert "time runs backwards: user 103 has an event at 9.0, this one is at 8.0" in answers[-1]["error"]

    def test_whole_histories_are_answered_by_any_model(self, files, call):
        lines = [{"items": ["a", "b"], "timestamps": [0, 9], "user": 104, "k": 2}, {"items": []}, event(1, "a", 0)]
        code, answers, _ = call("--model-file", files.rules, lines=lines)
        rules = load_model(files.rules)
        assert code == 0
        assert answers[0] == {"user": 104, "items": rules.recommend(["a", "b"], [0, 9], 104, k=2)}
        assert answers[1] == {"items": rules.recommend([])}
        assert answers[2] == {"user": 1, "items": rules.recommend(["a"], [0])}

    def test_live_events_need_a_model_with_live_sessions(self, files, call, monkeypatch):
        monkeypatch.setattr(SequentialRules, "has_live_sessions", False)
        code, (answer,), _ = call("--model-file", files.rules, lines=[event(1, "a", 0)])
        assert code == 1 and "SequentialRules has no live sessions" in answer["error"]


class TestState:
    def test_a_later_run_goes_on(self, files, call, tmp_path):
        state = tmp_path / "deep" / "live.h5"
        lines = [event(user, item, 9 * step) for step, (user, item) in enumerate(["1a", "2b", "1c", "1d", "2e"])]
        _, whole, _ = call("--model-file", files.net, "--scores", lines=lines)
        options = ["--model-file", files.net, "--scores", "--state", state]
        code, first, err = call(*options, lines=lines[:3])
        assert code == 0 and f"2 sessions saved in {state}" in err
        _, second, _ = call(*options, "--state-minutes", "0", lines=lines[3:])
        assert first + second == whole

    def test_ctrl_c_between_lines_keeps_it(self, files, call, tmp_path, monkeypatch):
        state, answer = tmp_path / "live.h5", Answers.of_line

        def interrupted(self, line):
            signal.raise_signal(signal.SIGINT)
            return answer(self, line)

        monkeypatch.setattr(Answers, "of_line", interrupted)
        lines = [event(103, "a", 0), event(103, "b", 9)]
        code, answers, err = call("--model-file", files.net, "--state", state, lines=lines)
        assert code == 130 and len(answers) == 1 and "interrupted; 1 lines" in err and "1 sessions saved" in err
        monkeypatch.undo()
        _, (again,), _ = call("--model-file", files.net, "--state", state, lines=[{"user": 103}])
        assert again == answers[0]

    def test_a_file_of_something_else(self, files, call, tmp_path, monkeypatch):
        save_sessions(files.model.session(), tmp_path / "one.h5")
        for path, named in [
            (files.net, "not live sessions"),
            (tmp_path / "one.h5", "not written by recommend --state"),
        ]:
            code, answers, err = call("--model-file", files.net, "--state", path, lines=[event(1, "a", 0)])
            assert code == 2 and not answers and named in err and err.count("\n") == 1
        monkeypatch.setattr(SequentialRules, "has_live_sessions", False)
        code, _, err = call("--model-file", files.rules, "--state", tmp_path / "new.h5")
        assert code == 2 and "has no live sessions" in err and not (tmp_path / "new.h5").exists()

    def test_the_most_users(self, files, call):
        lines = [event(1, "a", 0), event(2, "a", 1), {"user": 1}]
        code, answers, _ = call("--model-file", files.net, "--most-users", "1", lines=lines)
        assert code == 1 and "user 1 has no events yet" in answers[2]["error"]


@pytest.mark.once
def test_in_a_process_answers_come_at_once_and_sigterm_keeps_the_state(files, tmp_path):
    command = [sys.executable, "-m", "spotlight_asars", "recommend", "--state", str(tmp_path / "live.h5")]
    command += ["--model-file", str(files.net)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        running.stdin.write(json.dumps(event(103, "a", 0)) + "\n")
        running.stdin.flush()
        assert json.loads(running.stdout.readline())["user"] == 103  # while standard input is still open
        running.terminate()
        _, err = running.communicate()
    assert running.returncode == 130 and "1 sessions saved" in err and (tmp_path / "live.h5").exists()


@pytest.mark.parametrize(
    ("found", "wanted"),
    [("12", 12), (12, 12), (13, "13"), ("13", "13"), ("012", "012"), ("x", "x"), (True, True), (("12",), ("12",))],
)
def test_the_spelling_that_is_known(found, wanted):
    assert known_id(found, Vocabulary([12, "13"])) == wanted
    assert type(known_id(found, Vocabulary([12, "13"]))) is type(wanted)
