"""Prepared logs: the same events, sessions and rows as the log in memory, whole or in shards, or no file at all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.datasets import prepare as preparing
from spotlight_asars.datasets import prepared
from spotlight_asars.datasets.prepare import GrowingVocabulary, prepare
from spotlight_asars.datasets.prepared import LogOnDisk, shard_files
from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sequences import to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.implicit import ASARSSequenceModel

COLUMNS = ("user_ids", "item_ids", "timestamps", "session_ids")
ROWS = ("offsets", "user_ids", "session_ids", "events", "targets_a_row", "target_counts", "lengths")


def simulated(events=3000, users=120, seed=0):
    draw = np.random.RandomState(seed)
    return pd.DataFrame(
        {
            "user": draw.randint(users, size=events) * 7,
            "item": draw.zipf(1.3, size=events) % 300,
            "timestamp": draw.randint(400_000, size=events) * 1.0,
        }
    )


def in_blocks(log, size):
    return [log.iloc[begin : begin + size].reset_index(drop=True) for begin in range(0, len(log), size)]


def assert_same(one, other, names):
    for name in names:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.fixture
def small_groups(monkeypatch):
    """Treat the log as if it were large: few users per file, few events per group and block."""
    monkeypatch.setattr(preparing, "OWNERS_PER_FILE", 8)
    monkeypatch.setattr(preparing, "GROUP_EVENTS", 200)
    monkeypatch.setattr(prepared, "BLOCK_EVENTS", 150)


def test_arrays_by_hand(tmp_path):
    log = pd.DataFrame({"user": ["b", "a", "b", "b"], "item": [5, 6, 7, 5], "timestamp": [9000.0, 100.0, 50.0, 9010.0]})
    counts = prepare([log], tmp_path / "log.h5")
    assert str(counts) == "events 4  users 2  items 3  sessions 3"
    found = LogOnDisk(tmp_path / "log.h5")
    assert found.counts == counts and len(found) == 4
    assert found.session_offsets.tolist() == [0, 1, 3, 4] and found.session_users.tolist() == [1, 1, 2]
    items, times = found.events_at(np.arange(4))
    assert items.tolist() == [3, 1, 1, 2] and times.tolist() == [50.0, 9000.0, 9010.0, 100.0]
    assert found.item_vocabulary.raw_ids.tolist() == [5, 6, 7]
    assert found.user_vocabulary.raw_ids.tolist() == ["b", "a"]


@pytest.mark.parametrize("size", [1, 37, 1000, 5000])
def test_events_are_those_of_the_log_in_memory(tmp_path, small_groups, size):
    log = simulated()
    prepare(in_blocks(log, size), tmp_path / "log.h5")
    found, expected = LogOnDisk(tmp_path / "log.h5").interactions(), SessionInteractions.from_log(log)
    assert_same(found, expected, COLUMNS)
    assert found.item_vocabulary == expected.item_vocabulary and found.user_vocabulary == expected.user_vocabulary
    assert (found.num_items, found.num_users) == (expected.num_items, expected.num_users)


@pytest.mark.filterwarnings("ignore:a session id of the log has events half a day")
def test_sessions_of_their_own(tmp_path, small_groups):
    log = simulated().assign(session=np.random.RandomState(1).randint(300, size=3000))
    prepare(in_blocks(log, 500), tmp_path / "log.h5")
    assert_same(LogOnDisk(tmp_path / "log.h5").interactions(), SessionInteractions.from_log(log), COLUMNS)


@pytest.mark.filterwarnings("ignore:a session id of the log has events half a day")
def test_a_log_without_users(tmp_path, small_groups):
    log = simulated().rename(columns={"user": "session"})
    prepare(in_blocks(log, 500), tmp_path / "log.h5")
    found = LogOnDisk(tmp_path / "log.h5")
    interactions = found.interactions()
    assert found.user_vocabulary is None and found.num_users == 1 and not interactions.user_ids.any()
    expected = log.groupby("session", sort=False)  # sessions in order of appearance
    for number, (_, events) in enumerate(expected):
        events = events.sort_values("timestamp", kind="stable")
        here = interactions.session_ids == number
        assert found.item_vocabulary.inverse(interactions.item_ids[here]).tolist() == events["item"].tolist()
        assert interactions.timestamps[here].tolist() == events["timestamp"].tolist()
    rows = to_session_sequences(interactions, 6, 2)
    assert_same(found.rows(6, 2, rows.binning, rows.gap_binning), rows, ROWS)


class TestRows:
    @pytest.fixture
    def both(self, tmp_path, small_groups):
        log = simulated()
        prepare(in_blocks(log, 700), tmp_path / "log.h5")
        rows = to_session_sequences(SessionInteractions.from_log(log), 12, 5)
        return LogOnDisk(tmp_path / "log.h5"), rows

    def test_rows_are_those_of_the_log_in_memory(self, both):
        log, expected = both
        rows = log.rows(12, 5, expected.binning, expected.gap_binning)
        assert_same(rows, expected, ROWS)
        assert rows.num_targets == expected.num_targets and len(rows) == len(expected)

    def test_any_rows_in_any_order(self, both):
        log, expected = both
        rows = log.rows(12, 5, expected.binning, expected.gap_binning)
        draw = np.random.RandomState(3)
        for size in (1, 2, 7, 40):
            some = draw.randint(len(expected), size=size)
            np.testing.assert_array_equal(rows.padded_events(some), expected.padded_events(some))
            assert_same(rows.rows(some), expected.rows(some), ("events", "session_ids", "user_ids", "offsets"))
            shares = np.linspace(0.0, 0.999, len(some))
            np.testing.assert_array_equal(rows.times_in(some, shares), expected.times_in(some, shares))
        assert "events" not in vars(rows)  # what was asked for is all that was read

    def test_bins_are_fitted_a_block_at_a_time(self, both):
        log, expected = both
        rows = log.rows(12, 5)
        for name in ("binning", "gap_binning"):
            found, wanted = getattr(rows, name), getattr(expected, name)
            assert found.num_bins == wanted.num_bins and found.low == wanted.low
            assert found.width == pytest.approx(wanted.width, rel=1e-12)

    def test_a_model_learns_the_same_from_them(self, both):
        log, expected = both
        rows = log.rows(12, 5, expected.binning, expected.gap_binning)
        options = {"loss": "bpr_max", "sampling": "shared", "num_negative_samples": 8}
        losses = [
            ASARSSequenceModel(n_iter=1, embedding_dim=4, random_state=0, **options).fit(one).epoch_records[0].loss
            for one in (rows, expected)
        ]
        assert losses[0] == losses[1]
        assert "events" not in vars(rows)


class TestShards:
    def test_together_they_are_the_log(self, tmp_path, small_groups):
        log = simulated()
        for number in (1, 2, 3):
            prepare(in_blocks(log, 400), tmp_path / f"{number}.h5", shard=(number, 3))
        (tmp_path / "other.h5").write_bytes(b"no prepared log")
        assert [path.name for path in shard_files(tmp_path)] == ["1.h5", "2.h5", "3.h5"]
        found = LogOnDisk(tmp_path)
        expected = SessionInteractions.from_log(log)
        assert (found.counts.events, found.counts.sessions) == (len(log), expected.num_sessions)
        interactions = found.interactions()

        def in_raw_ids(interactions):
            users = interactions.user_vocabulary.inverse(interactions.user_ids)
            items = interactions.item_vocabulary.inverse(interactions.item_ids)
            first = np.flatnonzero(np.diff(interactions.session_ids, prepend=-1))
            starts = interactions.timestamps[first][interactions.session_ids]
            order = np.argsort(users, kind="stable")
            return [column[order].tolist() for column in (users, items, interactions.timestamps, starts)]

        assert in_raw_ids(interactions) == in_raw_ids(expected)
        rows = to_session_sequences(interactions, 12, 5)
        assert_same(found.rows(12, 5, rows.binning, rows.gap_binning), rows, ROWS)

    @given(st.lists(st.sampled_from([str(k) for k in range(-3, 12)] + ["007", "a", "é"]), min_size=2), st.data())
    @settings(deadline=None)
    def test_a_user_is_in_one_part_whatever_type_a_block_took_him_for(self, users, data):
        cut = data.draw(st.integers(1, len(users) - 1))

        def typed(texts):
            is_whole = all(text == str(int(text)) for text in texts if text.lstrip("-").isdigit()) and all(
                text.lstrip("-").isdigit() for text in texts
            )
            return pd.Series([int(text) for text in texts] if is_whole else texts, dtype=None if is_whole else object)

        whole, parts = typed(users), [typed(users[:cut]), typed(users[cut:])]
        expected = preparing.shard_of(whole, 4).tolist()
        assert [one for part in parts for one in preparing.shard_of(part, 4)] == expected

    def test_shards_that_do_not_belong_together(self, tmp_path, refuses):
        log = simulated(200)
        for name in ("a", "b"):
            prepare([log], tmp_path / f"{name}.h5")
        refuses(lambda: LogOnDisk(tmp_path), "a user is in two of", "a.h5", "b.h5")
        prepare([log], tmp_path / "b.h5", session_gap=60.0)
        refuses(lambda: LogOnDisk(tmp_path), "b.h5", "other settings than", "a.h5")


@pytest.mark.parametrize(("columns", "gap"), [(["user"], 60.0), (["session"], np.inf), (["user", "session"], np.inf)])
def test_a_prepared_log_keeps_whether_its_sessions_are_its_own(columns, gap, tmp_path):
    log = pd.DataFrame({"user": ["u", "u"], "session": ["s", "s"], "item": ["a", "b"], "timestamp": [0.0, 9_000.0]})
    prepare([log[[*columns, "item", "timestamp"]]], tmp_path / "log.h5", session_gap=60.0)
    found = LogOnDisk(tmp_path / "log.h5")
    assert found.session_gap == found.interactions().session_gap == found.rows().session_gap == gap
    assert found.counts.sessions == (2 if gap == 60.0 else 1)


@given(st.lists(st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["a", "b", "007"])), min_size=1), min_size=1))
@settings(deadline=None)
def test_a_growing_vocabulary_is_that_of_the_whole(blocks):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spotlight_asars.datasets.prepare.FEWEST_NEW", 2)
        blocks = [
            pd.Series(block if all(type(one) is int for one in block) else [str(one) for one in block], dtype=None)
            for block in blocks
        ]
        growing = GrowingVocabulary()
        numbers = np.concatenate([growing.number(block.astype(object) if block.dtype != "int64" else block)
                                  for block in blocks])  # fmt: skip
    texts = [one for block in blocks for one in block]
    if any(type(one) is str for one in texts):
        texts = [str(one) for one in texts]
    vocabulary, expected = Vocabulary.fit(texts)
    assert growing.vocabulary() == vocabulary
    np.testing.assert_array_equal(numbers, expected)


def test_ids_that_differ_after_a_zero_byte_are_two(tmp_path):
    """No text file holds one; a Parquet file may."""
    users = [f"u\0{letter}" for letter in "abcdefgh"]
    log = pd.DataFrame({"user": users, "item": ["i\0a", "i\0b", "i"] * 2 + ["i\0c", "i"]})
    log = log.assign(timestamp=np.arange(8.0)).astype({"user": object, "item": object})
    prepare(in_blocks(log, 3), tmp_path / "log.h5")
    found, expected = LogOnDisk(tmp_path / "log.h5").interactions(), SessionInteractions.from_log(log)
    assert_same(found, expected, COLUMNS)
    assert found.item_vocabulary.raw_ids.tolist() == ["i\0a", "i\0b", "i", "i\0c"]
    (tmp_path / "shards").mkdir()
    for number in (1, 2):
        prepare(in_blocks(log, 3), tmp_path / "shards" / f"{number}.h5", shard=(number, 2))
    assert sorted(LogOnDisk(tmp_path / "shards").interactions().user_vocabulary.raw_ids) == users


class TestFiles:
    def test_the_same_log_gives_the_same_bytes_and_nothing_else_stays(self, tmp_path, small_groups):
        log = simulated(500)
        for name in ("a.h5", "b.h5"):
            prepare(in_blocks(log, 100), tmp_path / name)
        assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]

    def test_a_fault_in_the_log_leaves_what_was_there(self, tmp_path, refuses):
        path = tmp_path / "log.h5"
        prepare([simulated(50)], path)
        before = path.read_bytes()

        def broken():
            yield simulated(50)
            raise InputError("line 51 is wrong")

        refuses(lambda: prepare(broken(), path), "line 51")
        refuses(lambda: prepare([], path), "no event")
        refuses(lambda: prepare([simulated(50).drop(columns="user")], path), "neither a column")
        refuses(lambda: prepare([simulated(50), simulated(50).assign(session=1)], path), "prepare them apart")
        refuses(lambda: prepare([simulated(50)], path, session_gap=0), "session_gap is 0")
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
        refuses(lambda: prepare([simulated(50)], tmp_path / "none" / "log.h5"), "cannot be written")

    def test_a_file_that_is_not_whole_is_refused(self, tmp_path, refuses):
        path = tmp_path / "log.h5"
        prepare([simulated(50)], path)
        content = path.read_bytes()
        for end in (1, 300, 512, 600, len(content) - 1):
            path.write_bytes(content[:end])
            refuses(lambda: LogOnDisk(path), "log.h5")
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        refuses(lambda: LogOnDisk(path), "checksum", "prepare the log again")
        refuses(lambda: LogOnDisk(tmp_path / "none.h5"), "none.h5", "give a file that prepare wrote")
        refuses(lambda: LogOnDisk([]), "no prepared file")


KILL = """
import os, random, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_prepare import in_blocks, simulated
from spotlight_asars.datasets import prepare as preparing
from spotlight_asars.datasets.prepared import LogOnDisk

class Calls:
    def __init__(self, last=None):
        self.made, self.last = 0, last

    def __call__(self, *_):
        self.made += 1
        if self.made == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

folder = Path(sys.argv[1])
preparing.OWNERS_PER_FILE, preparing.GROUP_EVENTS = 64, 2000
log = in_blocks(simulated(20_000, 2000), 1000)
calls = Calls()
for name in ("first.h5", "whole.h5"):  # the first imports what the others have
    calls.made = 0
    sys.setprofile(calls)
    preparing.prepare(log, folder / name)
    sys.setprofile(None)
moments, kills, leftovers = random.Random(0), 0, 0
(folder / "killed").mkdir()
found = folder / "killed" / "log.h5"
for life in range(30):
    last = moments.randint(1, calls.made)
    process = os.fork()
    if not process:
        sys.setprofile(Calls(last))
        preparing.prepare(log, found)
        os._exit(0)
    kills += os.waitpid(process, 0)[1] == signal.SIGKILL
    leftovers += len(list((folder / "killed").iterdir())) > found.exists()
    if found.exists():  # whole, or not there
        assert len(LogOnDisk(found)) == 20_000
        assert found.read_bytes() == (folder / "whole.h5").read_bytes()
        found.unlink()
preparing.prepare(log, found)
assert found.read_bytes() == (folder / "whole.h5").read_bytes()
assert [path.name for path in (folder / "killed").iterdir()] == ["log.h5"]
assert kills > 20 and leftovers > 10, (kills, leftovers)
"""


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_killed_at_any_moment_it_leaves_a_whole_file_or_none(tmp_path):
    """A moment is a call that Python makes, so that it does not matter how fast the machine is."""
    root = Path(__file__).parent.parent.parent
    made = subprocess.run(
        [sys.executable, "-c", KILL, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True, text=True, cwd=root,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
