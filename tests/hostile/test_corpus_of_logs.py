"""A fixed corpus of hostile tables, through sessions, rows, systems and the command line."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars import cli
from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.evaluation import rank_targets
from spotlight_asars.experiments.settings import Training
from spotlight_asars.experiments.systems import settings_of
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.rules import SequentialRules

LONG = "é" * 5_000  # 10 kB


def log_of(**columns):
    events = max(len(column) for column in columns.values() if not np.isscalar(column))
    return pd.DataFrame(
        {"user": [1] * events, "item": range(1, events + 1), "timestamp": np.arange(events) * 9.0, **columns}
    )


REFUSED = {
    "NaN": (log_of(timestamp=[0.0, np.nan]), "event 1 is nan"),
    "infinite": (log_of(timestamp=[0.0, np.inf]), "event 1 is inf"),
    "milliseconds": (log_of(timestamp=[1.5e12, 1.5e12 + 9e3]), "timestamp_unit='ms'"),
    "microseconds": (log_of(timestamp=[1.5e15, 1.5e15 + 9e6]), "timestamp_unit='us'"),
    "no item": (log_of(item=["a", None]), "leave the event out"),
    "lists as ids": (log_of(item=[["a"], ["b"]]), "cannot be numbered"),
    "empty": (log_of(item=[], timestamp=[], user=[]), "no events"),
    "times of text": (log_of(timestamp=["1", "2"]), "give numbers, in seconds"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, refuses):
    log, part = REFUSED[name]
    refuses(lambda: SessionInteractions.from_log(log), part)


KEPT = {
    "negative times": log_of(timestamp=[-90.0, -50.0, -10.0]),
    "reversed times": log_of(timestamp=[90.0, 50.0, 10.0]),
    "all times equal": log_of(timestamp=[7.0] * 6),
    "ids of mixed types": log_of(item=[1, "1", 2.5, (1, "a"), "2.5"], user=["u", "u", "u", "u", "u"]),
    "id 0": log_of(item=[0, 5, 0], user=[0, 0, 0]),
    "unicode and long ids": log_of(item=[LONG, "\u2028", "😀", "a\0b", LONG], user=[LONG] * 5),
    "duplicated rows": pd.concat([log_of(item=[3, 4])] * 3),
    "users of one event": log_of(user=[1, 2, 3, 4, 4]),
}


@pytest.mark.parametrize("name", KEPT)
def test_nothing_is_lost(name):
    log = KEPT[name].reset_index(drop=True)
    sessions = SessionInteractions.from_log(log)
    back = sessions.to_log()
    expected = sorted(zip(map(repr, log["user"]), map(repr, log["item"]), log["timestamp"], strict=True))
    assert sorted(zip(map(repr, back["user"]), map(repr, back["item"]), back["timestamp"], strict=True)) == expected
    rows = to_session_sequences(sessions)
    assert rows.lengths.sum() == len(log) and rows.num_targets == len(log) - sessions.num_sessions
    for system in (SequentialRules(), SessionMemory("known"), ASARSSequenceModel(n_iter=1, embedding_dim=4)):
        if rows.num_items == 2 and isinstance(system, ASARSSequenceModel):
            continue  # one item has no negatives
        system.fit(rows)
        ranks = rank_targets(system, rows).ranks
        assert ((ranks >= 1) & (ranks <= rows.num_items - 1)).all()
        items = log["item"].tolist()[:2]
        answer = system.recommend([items], k=9, return_scores=True)[0]
        assert np.isfinite([score for _, score in answer]).all() and len(answer) == rows.num_items - 1


def test_ids_that_python_tells_apart_are_apart_and_no_others():
    numbers = SessionInteractions.from_log(log_of(item=[7, "7", 7.0, np.int64(7), "7 "])).item_ids
    assert numbers.tolist() == [1, 2, 1, 1, 3]


def test_an_empty_test_part_is_named(refuses):
    one = SessionInteractions.from_log(log_of(item=[1, 2, 3]))
    refuses(lambda: time_based_split(one, 0.2), "give")


def test_a_session_of_a_million_events():
    events, draw = 1_000_000, np.random.RandomState(0)
    items = draw.randint(1, 500, size=events)
    log = SessionInteractions(np.ones(events, dtype=np.int64), items, timestamps=np.arange(events, dtype=np.float64))
    rows = to_session_sequences(log)
    assert log.num_sessions == 1 and rows.lengths.max() == 200 and rows.num_targets == events - 1
    rules = SequentialRules().fit(rows)
    ranks = rank_targets(rules, rows.rows(np.arange(50))).ranks
    assert np.isfinite(ranks).all()


def test_the_command_line_ends_with_2_and_one_line(tmp_path, capsys):
    for name, (log, _) in REFUSED.items():
        if name in ("lists as ids", "times of text"):
            continue
        path = tmp_path / "log.csv"
        log.to_csv(path, index=False)
        columns = ["--format", "csv", "--columns", "user,item,timestamp", "--timestamp-unit", "s"]
        code = cli.main(["train", "--data", str(path), *columns, "--out", str(tmp_path / "model.h5")])
        error = capsys.readouterr().err.strip()
        assert code == 2 and len(error.splitlines()) == 1 and "log.csv" in error, (name, error)
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]  # nothing half-written


@pytest.mark.parametrize("name", ["gru4rec", "asars_time_user", "vstan", "asars_memory"])
def test_hundreds_of_times_the_same_item(name):
    """One item, many events: nothing to learn, and nothing that breaks."""
    rows = to_session_sequences(SessionInteractions.from_log(log_of(item=[5] * 300)))
    system = settings_of(name).new_system(rows, Training(epochs=1))
    system.fit(rows)
    assert rank_targets(system, rows).ranks.tolist() == [1.0] * rows.num_targets
