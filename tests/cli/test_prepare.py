"""The command line's `prepare`, and its file as the log of another command."""

import json

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.datasets.prepared import LogOnDisk


@pytest.fixture
def log(tmp_path):
    """24 users with 10 sessions of 3 of 12 items."""
    draw = np.random.RandomState(0)
    times = np.arange(10)[:, None] * 43_200 + draw.randint(1, 300, size=(24, 10, 3)).cumsum(axis=2)
    items = (draw.randint(12, size=(24, 10, 1)) + np.arange(3)) % 12
    frame = pd.DataFrame(
        {"user": np.repeat(np.arange(24), 30), "item": items.ravel(), "time": times.ravel() + 1_400_000_000}
    )
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    return path


FORMAT = ("--format", "csv", "--columns", "user,item,time")


def test_a_prepared_log_goes_where_the_log_goes(run, log, tmp_path):
    code, out, err = run("prepare", "--data", log, *FORMAT, "--out", tmp_path / "new" / "log.h5", "--quiet")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "events 720  users 24  items 12  sessions 240"
    for number in (1, 2):
        path = tmp_path / "shards" / f"{number}.h5"
        assert run("prepare", "--data", log, *FORMAT, "--out", path, "--shard", f"{number}/2")[0] == 0
    options = ("--models", "popularity", "--quiet", "--out", tmp_path / "out")
    found = []
    for data in ((log, *FORMAT), (tmp_path / "new" / "log.h5",), (tmp_path / "shards",)):
        assert run("compare", "--data", *data, *options)[0] == 0
        results = json.loads((tmp_path / "out" / "results.json").read_text())
        mrr = pytest.approx(results["models"]["popularity"]["mrr@20"], rel=1e-12)
        found.append({**results["dataset"], "name": None, "mrr": mrr.expected if found else mrr})
        (tmp_path / "out" / "results.json").unlink()
    assert found[1] == found[0] and found[2] == found[0]


def test_several_files_are_one_log(run, log, tmp_path):
    lines = log.read_text().splitlines(keepends=True)
    parts = [tmp_path / "1.csv", tmp_path / "2.csv"]
    for part, body in zip(parts, (lines[1:300], lines[300:]), strict=True):
        part.write_text(lines[0] + "".join(body))
    for name, data in (("one.h5", [log]), ("two.h5", parts)):
        assert run("prepare", "--data", *data, *FORMAT, "--out", tmp_path / name)[0] == 0
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert len(LogOnDisk(tmp_path / "one.h5")) == 720


def test_out_may_not_be_one_of_the_files_that_are_read(run, log, tmp_path, monkeypatch):
    """The log was replaced by what was prepared from it."""
    monkeypatch.chdir(tmp_path)
    before = log.read_bytes()
    (tmp_path / "link").symlink_to(log)
    for out in (log, "log.csv", "link"):
        code, _, err = run("prepare", "--data", log, *FORMAT, "--out", out)
        assert code == 2 and err.count("\n") == 1 and "--out: " in err and "would replace" in err
    assert log.read_bytes() == before and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--format", "movielens", "--behaviours", "pv"], ["--behaviours does not apply"]),
        ([*FORMAT, "--shard", "3/2"], ["'3/2'", "from 1 to N"]),
        ([*FORMAT, "--shard", "two"], ["'two'", "K/N"]),
        (["--format", "csv", "--columns", "user,item,date"], ["no column 'date'"]),
    ],
)
def test_wrong_input_is_told_in_a_line(run, log, tmp_path, arguments, parts):
    code, out, err = run("prepare", "--data", log, *arguments, "--out", tmp_path / "log.h5")
    assert code == 2 and out == "" and err.count("\n") == 1
    for part in parts:
        assert part in err
    assert not (tmp_path / "log.h5").exists()
