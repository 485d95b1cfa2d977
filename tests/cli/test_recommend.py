"""The command line's `recommend`: one history, and live events on standard input."""

import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from spotlight_asars import cli
from spotlight_asars.cli.requests import Answers, known_id
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.sequence.online.durable import DurableUsers
from spotlight_asars.sequence.online.users import LiveUsers
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


def nested(levels):
    found = 1
    for _ in range(levels):
        found = [found]
    return found


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

    def test_a_signal_waits_while_the_state_is_saved(self, files, call, tmp_path, monkeypatch):
        close = DurableUsers.close

        def interrupted(self):
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            close(self)

        monkeypatch.setattr(DurableUsers, "close", interrupted)
        code, _, err = call("--model-file", files.net, "--state", tmp_path / "live.h5", lines=[event(103, "a", 0)])
        assert code == 0 and "1 sessions saved" in err and (tmp_path / "live.h5").exists()

    def test_a_second_signal_does_not_tear_an_event(self, files, call, tmp_path, monkeypatch):
        answer = Answers.of_line

        def interrupted(self, line):
            for _ in range(2):
                signal.raise_signal(signal.SIGTERM)
            return answer(self, line)

        monkeypatch.setattr(Answers, "of_line", interrupted)
        code, answers, _ = call("--model-file", files.net, "--state", tmp_path / "live.h5", lines=[event(103, "a", 0)])
        assert code == 130 and len(answers) == 1

    def test_events_wait_while_the_disk_is_full(self, files, call, tmp_path, monkeypatch):
        """Regression: a full disk ended the server."""
        write = os.write

        def full(file, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        recommend = DurableUsers.recommend

        def then_empty(self, key, *arguments, **choice):
            if key == ("user", 104):
                monkeypatch.setattr(os, "write", write)
            return recommend(self, key, *arguments, **choice)

        monkeypatch.setattr(os, "write", full)
        monkeypatch.setattr(DurableUsers, "recommend", then_empty)
        state = ["--model-file", files.net, "--state", tmp_path / "live.h5", "-k", "1"]
        code, answers, err = call(*state, "--quiet", lines=[event(103, "a", 0), event(104, "a", 0)])
        assert code == 0 and [answer["kept"] for answer in answers] == [False, False]
        assert "the journal cannot be written (No space left on device)" in err and "written again" in err
        code, answers, _ = call(*state, lines=[{"user": 103}, {"user": 104}])
        assert code == 0 and len(answers) == 2 and "kept" not in answers[0]

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


class TestEveryLine:
    """Regression: one line of 500 nested lists ended the process, and with it every session."""

    @pytest.mark.parametrize(
        ("line", "named"),
        [
            ({"user": nested(500), "item": "a", "timestamp": 1}, "lists in more than 8 levels"),
            ({"user": 1, "item": nested(9), "timestamp": 1}, "lists in more than 8 levels"),
            ({"items": [nested(500)]}, "lists in more than 8 levels"),
            ({"user": {"a": nested(900)}, "item": "a", "timestamp": 1}, "more than 256 characters"),
            ({"user": {"a": 1}, "item": "a", "timestamp": 1}, "give text or a number"),
            ('{"user": ' + "9" * 5_000 + ', "item": "a", "timestamp": 1}\n', "not JSON"),
            (event("x" * 300, "a", 1), "user has more than 256 characters"),
            (event(1, list(range(200)), 1), "item has more than 256 characters"),
            ({"session": "x" * 300, "item": "a", "timestamp": 1}, "session has more than 256 characters"),
            ({"items": ["a"] * 10_001}, "10,001 items, more than 10,000"),
            (event(1, "x" * 2**20, 1), "longer than 1,048,576 bytes"),
            ('{"user": Infinity, "item": "a", "timestamp": 1}\n', "give text or a number"),
            ('{"user": 1e999, "item": "a", "timestamp": 1}\n', "give text or a number"),
            ({"user": 1, "x" * 10_000: 2}, "unknown key 'xxx"),
            (event(1, "a", 1, k=10**30), None),
            ({"user": 1, "end": True, "item": "a"}, 'give {"user": ..., "end": true}'),
            ({"user": 1, "reset": False}, 'give {"user": ..., "reset": true}'),
            ({"user": 1, "reset": True, "end": True}, "without anything else"),
        ],
    )
    def test_is_answered_or_told(self, files, call, line, named):
        code, answers, _ = call("--model-file", files.net, "-k", "2", lines=[event(2, "a", 0), line, event(2, "b", 9)])
        assert code == (0 if named is None else 1) and len(answers) == 3
        assert named is None or (answers[1]["line"] == 2 and named in answers[1]["error"])
        assert len(json.dumps(answers[1])) < 500
        session = files.model.session(2)
        session.observe("a", 0)
        session.observe("b", 9)
        assert answers[2] == {"user": 2, "items": session.recommend(2)}

    @pytest.mark.parametrize("error", [RuntimeError("what\nnow"), MemoryError(), RecursionError("deep")])
    def test_an_error_of_any_kind_is_told(self, files, call, monkeypatch, error):
        recommend = LiveUsers.recommend

        def failing(self, key, *arguments, **choice):
            if key == ("user", "bad"):
                raise error
            return recommend(self, key, *arguments, **choice)

        monkeypatch.setattr(LiveUsers, "recommend", failing)
        code, answers, _ = call("--model-file", files.net, lines=[event("bad", "a", 0), event(2, "b", 9)])
        assert code == 1 and answers[0]["error"].startswith(f"cannot be answered: {type(error).__name__}")
        assert "now" not in answers[0]["error"] and answers[1]["user"] == 2

    def test_a_session_that_is_no_id_changes_nothing(self, files, call):
        """Regression: the user's events were forgotten before the answer failed."""
        lines = [event(1, "a", 0), {"user": 1, "session": float("inf"), "reset": True}, {"user": 1}]
        _, answers, _ = call("--model-file", files.net, lines=lines)
        assert "session is Infinity" in answers[1]["error"] and answers[2]["user"] == 1

    def test_only_from_and_never_from(self, files, call):
        lines = [{**event(1, "a", 0), "candidates": ["b", "c", "?"], "exclude": ["c"]}]
        lines += [{"user": 1, "exclude": ["b"]}, {"items": ["a"], "candidates": ["c"]}]
        code, answers, _ = call("--model-file", files.net, "-k", "99", lines=lines)
        assert code == 0 and answers[0]["items"] == ["b"] and answers[2]["items"] == ["c"]
        assert "b" not in answers[1]["items"] and "c" in answers[1]["items"]

    def test_a_request_stays_within_what_the_command_allows(self, files, call):
        lines = [{**event(1, "a", 0), "candidates": ["b", "c"]}, {"user": 1, "candidates": ["c"]}]
        code, answers, _ = call("--model-file", files.net, "--candidates", "a,b", lines=lines)
        assert code == 0 and [answer["items"] for answer in answers] == [["b"], []]

    @pytest.mark.parametrize("wrong", [{"candidates": ["?"]}, {"candidates": "b"}, {"exclude": [{}]}, {"exclude": 3}])
    def test_a_wrong_choice_changes_nothing(self, files, call, wrong):
        lines = [{**event(1, "a", 0), **wrong}, {"user": 1}]
        code, answers, _ = call("--model-file", files.net, lines=lines)
        assert code == 1 and "error" in answers[0] and "has no events yet" in answers[1]["error"]

    def test_an_infinite_score_is_null(self, files, call, monkeypatch):
        monkeypatch.setattr(LiveUsers, "recommend", lambda *arguments, **choice: [("a", float("inf"))])
        code, answers, _ = call("--model-file", files.net, "--scores", lines=[event(1, "a", 0)])
        assert code == 0 and answers == [{"user": 1, "items": ["a"], "scores": [None]}]

    def test_limits_are_options(self, files, call):
        lines = [event("x" * 20, "a", 0), {"items": ["a", "b"]}, event(1, "y" * 200, 0), event(1, "a", 0)]
        limits = ["--longest-id", "12", "--longest-history", "1", "--longest-line", "100"]
        _, answers, _ = call("--model-file", files.net, *limits, lines=lines)
        for answer, named in zip(answers, ["--longest-id", "--longest-history", "--longest-line"], strict=False):
            assert named in answer["error"]
        assert answers[3]["user"] == 1

    def test_old_items_are_forgotten(self, files, call):
        lines = [event(1, item, place) for place, item in enumerate("abcdefghabcdefgh")]
        _, answers, _ = call("--model-file", files.net, "--exclude-seen", "--most-items", "2", lines=lines)
        assert {"a", "b"} <= set(answers[-1]["items"]) and not {"g", "h"} & set(answers[-1]["items"])


class TestTimeAndPeople:
    def test_a_time_ahead_of_the_clock_is_refused(self, files, call, monkeypatch):
        """Regression: one event far in the future blocked its user for good."""
        monkeypatch.setattr("time.time", lambda: 1000.0)
        lines = [event(1, "a", 1301), event(1, "a", 1300), event(2, "a", 1000)]
        _, answers, _ = call("--model-file", files.net, lines=lines)
        assert "301 seconds ahead of this machine's clock, more than 300" in answers[0]["error"]
        assert [answer["user"] for answer in answers[1:]] == [1, 2]
        code, *_ = call("--model-file", files.net, "--most-ahead", "inf", lines=[event(1, "a", 10**10)])
        assert code == 0
        code, *_ = call("--model-file", files.net, "--most-ahead", "0", lines=[event(1, "a", 1001)])
        assert code == 1

    def test_a_reset_user_begins_anew(self, files, call):
        lines = [event(103, "a", 50), {"user": 103, "reset": True}, {"user": 103, "reset": True}, {"user": 103}]
        lines += [event(103, "b", 9), {"session": "new", "reset": True}]
        _, answers, _ = call("--model-file", files.net, "-k", "3", lines=lines)
        assert answers[1] == answers[2] == {"user": 103, "reset": True}
        assert "has no events yet" in answers[3]["error"] and answers[5] == {"session": "new", "reset": True}
        session = files.model.session(103)
        session.observe("b", 9)
        assert answers[4] == {"user": 103, "items": session.recommend(3)}

    def test_an_ended_session_is_followed_by_the_users_next_one(self, files, call):
        lines = [event(103, "a", 50), {"user": 103, "end": True}, event(103, "b", 51)]
        _, answers, _ = call("--model-file", files.net, "--scores", lines=lines)
        assert answers[1] == {"user": 103, "end": True}
        session = files.model.session(103)
        session.observe("a", 50)
        session.observe("b", 51, new_session=True)
        wanted = session.recommend(20, return_scores=True)
        assert answers[2]["items"] == [item for item, _ in wanted]
        assert answers[2]["scores"] == pytest.approx([score for _, score in wanted], abs=1e-6)

    def test_a_duplicate_is_answered_and_not_added(self, files, call):
        lines = [event(103, "a", 50), event(103, "b", 60), event(103, "b", 60), event(103, "c", 60)]
        code, answers, _ = call("--model-file", files.net, "-k", "3", lines=lines)
        assert code == 0 and answers[2] == {**answers[1], "duplicate": True} and "duplicate" not in answers[3]
        session = files.model.session(103)
        for item, seconds in [("a", 50), ("b", 60), ("c", 60)]:
            session.observe(item, seconds)
        assert answers[3]["items"] == session.recommend(3)

    def test_a_late_event_is_told_and_not_added(self, files, call):
        lines = [event(103, "a", 50), event(103, "b", 49), {"user": 103}]
        code, answers, _ = call("--model-file", files.net, "-k", "3", lines=lines)
        assert code == 1 and answers[1]["error"].endswith("give events oldest first; this one is left out")
        assert answers[2] == answers[0]


class TestNewModel:
    @pytest.fixture
    def newer(self, files, tmp_path):
        model = load_model(files.net)
        draw = np.random.RandomState(1)
        model.fit(SessionSequences(draw.randint(1, 11, size=(9, 4)), **{
            name: getattr(model, name)
            for name in ("num_items", "num_users", "item_vocabulary", "user_vocabulary", "binning", "gap_binning")
        }))  # fmt: skip
        save_model(model, tmp_path / "newer.h5")
        return tmp_path / "newer.h5"

    def test_replay_or_fresh(self, files, newer, call, tmp_path):
        lines = [event(103, "a", 50), event(103, "b", 60)]
        state = ["--state", tmp_path / "live.h5"]
        call("--model-file", files.net, *state, lines=lines)
        code, _, err = call("--model-file", newer, *state)
        assert code == 2 and "--new-model" in err and err.count("\n") == 1
        _, wanted, _ = call("--model-file", newer, lines=[*lines, {"user": 103}])
        code, (answer,), _ = call("--model-file", newer, *state, "--new-model", "replay", lines=[{"user": 103}])
        assert code == 0 and answer == wanted[-1]
        _, answers, _ = call("--model-file", files.net, *state, "--new-model", "fresh", lines=[{"user": 103}])
        assert "has no events yet" in answers[0]["error"]


@pytest.fixture
def heeded_signals():
    """Signals that a background job ignores, and its processes with it, have their effect again."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def served(files, tmp_path, heeded_signals):
    """Start `recommend --state` in a process with these redirections, and give it one event once it runs."""
    running = []

    def start(redirected="", **streams):
        command = f"exec {shlex.quote(sys.executable)} -m spotlight_asars recommend --model-file {files.net}"
        command += f" --state {tmp_path / 'live.h5'} -k 2 {redirected}"
        running.append(subprocess.Popen(["bash", "-c", command], text=True, **{
            **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE), **streams
        }))  # fmt: skip
        if running[-1].stdin is not None:
            running[-1].stdin.write(json.dumps(event(103, "a", 0)) + "\n")
            running[-1].stdin.flush()
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def kept(files, call, tmp_path):
    """Whether the event of `served` is in the state."""

    def is_kept():
        session = files.model.session(103)
        session.observe("a", 0)
        code, answers, _ = call("--model-file", files.net, "--state", tmp_path / "live.h5", "-k", "2",
                                lines=[{"user": 103}])  # fmt: skip
        return code == 0 and answers == [{"user": 103, "items": session.recommend(2)}]

    return is_kept


@pytest.mark.once
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL])
def test_in_a_process_answers_come_at_once_and_a_signal_keeps_the_state(served, kept, number):
    running = served()
    assert json.loads(running.stdout.readline())["user"] == 103  # while standard input is still open
    running.send_signal(number)
    _, err = running.communicate()
    assert running.returncode == (130 if number != signal.SIGKILL else -9), err
    assert number == signal.SIGKILL or "1 sessions saved" in err
    assert kept()


@pytest.mark.once
def test_a_second_process_is_told_of_the_first(served, kept):
    first = served()
    first.stdout.readline()
    second = served()
    _, err = second.communicate()
    assert second.returncode == 2 and f"process {first.pid} is serving these sessions" in err and err.count("\n") == 1
    first.communicate()
    assert kept()


@pytest.mark.once
@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [
        (">/dev/full", 2, "standard input or output has failed (No space left on device)"),
        (">&-", 0, "1 sessions saved"),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("> >(exec 0<&-; exec sleep 1)", 0, "1 sessions saved"),
    ],
    ids=["full output", "closed output", "closed errors", "full errors", "broken pipe"],
)
def test_streams_that_fail_cost_no_event(served, kept, redirected, code, told):
    """Regression: a full standard output lost the state, and a closed one had answers written into the next file."""
    running = served(redirected)
    out, err = running.communicate()
    assert running.returncode == code and told in err and err.count("\n") == bool(told), err
    assert "Traceback" not in err and (redirected.startswith(">") or json.loads(out)["user"] == 103)
    assert kept()


@pytest.mark.once
def test_closed_standard_input_is_empty(served, tmp_path):
    running = served("<&-", stdin=None)
    out, err = running.communicate()
    assert (running.returncode, out) == (0, "") and "0 lines" in err and os.listdir(tmp_path) == ["live.h5"]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [("12", 12), (12, 12), (13, "13"), ("13", "13"), ("012", "012"), ("x", "x"), (True, True), (("12",), ("12",))],
)
def test_the_spelling_that_is_known(found, wanted):
    assert known_id(found, Vocabulary([12, "13"])) == wanted
    assert type(known_id(found, Vocabulary([12, "13"]))) is type(wanted)
