"""Logs of JSON lines: events, and sessions with their events."""

import gzip

import pandas as pd
import pytest

from spotlight_asars.datasets import FORMATS, read_json_lines

OTTO = (
    '{"session": 7, "events": [{"aid": 30, "ts": 1661724000000, "type": "clicks"}, {"aid": 31, "ts": 1661724060500}]}\n'
    "\n"
    '{"session": 8, "events": [{"aid": 30, "ts": 1661724000001, "type": "orders"}]}\n'
)


def written(tmp_path, text, name="log.jsonl"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["otto.jsonl", "otto.jsonl.gz"])
def test_sessions_with_their_events(tmp_path, name):
    log = read_json_lines(written(tmp_path, OTTO, name), "-,aid,ts,session", "ms")
    expected = pd.DataFrame(
        {"item": [30, 31, 30], "timestamp": [1661724000.0, 1661724060.5, 1661724000.001], "session": [7, 7, 8]}
    )
    pd.testing.assert_frame_equal(log, expected)


def test_events(tmp_path):
    text = '{"user": "a", "item": 1, "time": "2022-08-28T22:00:00Z", "more": [1]}\n'
    text += '{"item": 2, "user": "b", "time": "2022-08-29 UTC"}'
    log = FORMATS["jsonl"].read(written(tmp_path, text), columns="user,item,time", timestamp_unit="iso")
    assert log.to_dict("list") == {"user": ["a", "b"], "item": [1, 2], "timestamp": [1661724000.0, 1661731200.0]}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[1, 2]", "it is no object"),
        ('{"user": 1', "this is no event in JSON"),
        ('{"events": 3}', "its events are no list of objects"),
        ('{"events": [3]}', "its events are no list of objects"),
        ('{"user": 1, "item": 2}', "an event needs a number or text for 'time' and has only 'user', 'item'"),
        ('{"user": 1, "item": null, "time": 1}', "for 'item' and has 'None' there"),
        ('{"user": 1, "item": [2], "time": 1}', "for 'item' and has '[2]' there"),
        ('{"user": true, "item": 2, "time": 1}', "for 'user' and has 'True' there"),
        ('{"user": "", "item": 2, "time": 1}', "for 'user' and has '' there"),
        ("[" * 100_000, "this is no event in JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, refuses, line, told):
    path = written(tmp_path, '{"user": 1, "item": 2, "time": 1661724000}\n' + line + "\n")
    refuses(lambda: read_json_lines(path, "user,item,time"), f"{path}, line 2: ", told)


def test_a_wrong_time_is_named(tmp_path, refuses):
    path = written(tmp_path, '{"user": 1, "item": 2, "time": "2022-08-28"}\n{"user": 1, "item": 2, "time": "soon"}\n')
    refuses(lambda: read_json_lines(path, "user,item,time", "iso"), "line 2: 'time' is 'soon'")
    refuses(lambda: read_json_lines(path, "user,item,time"), "column 'time': the timestamps are of type")


def test_no_event(tmp_path, refuses):
    refuses(lambda: read_json_lines(written(tmp_path, '{"events": []}\n'), "user,item,time"), "the file has no event")
