"""Finished runs on disk: what decides them, what is taken, and what becomes of damaged files."""

from dataclasses import replace

import numpy as np
import pytest

from spotlight_asars.experiments.comparison.runs import Job, RunFolder, determinants, log_fingerprint
from spotlight_asars.experiments.settings import CountingSettings, NetSettings, Training

JOB = Job("gru4rec", NetSettings("gru4rec"), Training(epochs=4, seed=2))
COUNTS = {"name": "tiny", "events": 12}


def decided(job=JOB, dataset=COUNTS, events="abc", length=200):
    return determinants(job, dataset, events, length)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs")


class TestDeterminants:
    def test_the_same_run_has_the_same(self):
        options = {"context": ("hour", "weekday")}
        first, second = (replace(JOB, settings=NetSettings("gru4rec", representation_options=options)),) * 2
        assert decided(first) == decided(second)

    @pytest.mark.parametrize(
        ("changed", "where"),
        [
            ({"job": replace(JOB, settings=NetSettings("gru4rec", learning_rate=0.1))}, "settings"),
            ({"job": replace(JOB, training=Training(epochs=5, seed=2))}, "training"),
            ({"job": replace(JOB, training=Training(epochs=4, seed=3))}, "training"),
            ({"job": replace(JOB, training=Training(epochs=4, seed=2, dwell="observed"))}, "training"),
            ({"job": replace(JOB, twin=True)}, "twin"),
            ({"dataset": {**COUNTS, "events": 13}}, "log"),
            ({"events": "abd"}, "log"),
            ({"length": 100}, "rows"),
        ],
    )
    def test_what_changes_them(self, changed, where):
        before, after = decided(), decided(**changed)
        assert [name for name in before if before[name] != after[name]] == [where]

    def test_the_code_and_the_threads_count(self, monkeypatch):
        before = decided()
        monkeypatch.setattr("spotlight_asars.experiments.comparison.runs.code_fingerprint", lambda: "other")
        monkeypatch.setattr("torch.get_num_threads", lambda: 99)
        after = decided()
        assert [name for name in before if before[name] != after[name]] == ["package", "machine"]

    def test_seeds_and_epochs_do_not_decide_what_counts(self):
        job = Job("vsknn", CountingSettings("vsknn"), Training(epochs=4, seed=2))
        assert decided(job) == decided(replace(job, training=Training(epochs=9, seed=3)))

    def test_the_dwell_rule_decides_for_systems_without_a_net_too(self):
        """Regression: a kept run under 'known' was taken for one under 'observed'."""
        job = Job("asars_memory", CountingSettings("asars_memory"), Training(epochs=4, seed=2))
        assert decided(job) != decided(replace(job, training=Training(epochs=4, seed=2, dwell="observed")))

    def test_a_log_is_told_by_its_events(self, tiny_log):
        split = tiny_log.split
        before = log_fingerprint(split)
        assert before == log_fingerprint(split)
        later = split.test.select(slice(None))
        later.timestamps = later.timestamps + (np.arange(len(later)) == 3)
        assert before != log_fingerprint(replace(split, test=later))
        assert before != log_fingerprint(replace(split, test=split.train, train=split.test))


class TestRunFolder:
    def test_a_kept_run_is_taken_as_it_was(self, folder, run_of):
        run = run_of([1.0, 2.5, 1 / 3 + 1, 400.0], peak_memory_mib=1 / 3)
        folder.keep(JOB, run, decided())
        found, remark = RunFolder(folder.path).take(JOB, decided())
        assert found.figures == run.figures and "gru4rec-seed2.npz" in remark
        np.testing.assert_array_equal(found.ranks.ranks, run.ranks.ranks)
        np.testing.assert_array_equal(found.ranks.session_ids, run.ranks.session_ids)

    def test_nothing_is_made_before_the_first_run(self, folder):
        assert folder.take(JOB, decided()) == (None, "") and not folder.path.exists() and folder.kept == 0

    def test_each_run_has_its_file(self, folder, run_of):
        for job in (JOB, replace(JOB, twin=True), replace(JOB, system="mine/new")):
            folder.keep(job, run_of([1, 2]), decided(job))
        names = sorted(path.name for path in folder.path.iterdir())
        assert names == ["gru4rec-seed2-twin.npz", "gru4rec-seed2.npz", "mine%2Fnew-seed2.npz"] and folder.kept == 3

    def test_a_run_of_something_else_is_not_taken(self, folder, run_of):
        folder.keep(JOB, run_of([1, 2]), decided())
        found, remark = folder.take(JOB, decided(events="other", length=100))
        assert found is None and "another rows and log: running again" in remark

    @pytest.mark.parametrize("cut", [0, 10, -30])
    def test_a_damaged_file_is_told_and_left_out(self, cut, folder, run_of):
        folder.keep(JOB, run_of([1, 2]), decided())
        path = folder.path / JOB.file_name
        path.write_bytes(path.read_bytes()[:cut])
        found, remark = folder.take(JOB, decided())
        assert found is None and "is damaged" in remark and "\n" not in remark

    def test_any_flipped_byte_is_seen_or_harmless(self, folder, run_of):
        run = run_of([1, 2, 3, 4])
        folder.keep(JOB, run, decided())
        path = folder.path / JOB.file_name
        whole = path.read_bytes()
        for place in range(0, len(whole), 23):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
            found, _ = folder.take(JOB, decided())
            assert found is None or (found.figures == run.figures and (found.ranks.ranks == run.ranks.ranks).all())

    @pytest.mark.parametrize(
        "wrong",
        [
            {"ranks": np.array([1.0, np.nan])},
            {"ranks": np.array([1.0, 0.0])},
            {"ranks": np.array([1.0])},
            {"about": np.array("{}")},
            {"about": np.array([{"a pickle": "is refused"}], dtype=object)},
        ],
    )
    def test_wrong_contents(self, wrong, folder, run_of):
        folder.keep(JOB, run_of([1, 2]), decided())
        path = folder.path / JOB.file_name
        with np.load(path) as found:
            np.savez(path, **{**found, **wrong})
        found, remark = folder.take(JOB, decided())
        assert found is None and "is damaged" in remark

    def test_a_file_in_its_place(self, tmp_path, refuses):
        (tmp_path / "runs").write_text("")
        refuses(lambda: RunFolder(tmp_path / "runs"), "not a folder", "--out")
