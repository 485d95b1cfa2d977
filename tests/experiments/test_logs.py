"""From a choice of log to its parts."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.cross_validation import SupportFilters
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.logs import LogChoice, prepare_log, tied_share
from spotlight_asars.experiments.training import PeakMemory, parts_of
from spotlight_asars.interactions.sessions import SessionInteractions


def csv_choice(path, **settings):
    return LogChoice(
        data=path,
        log_format="csv",
        read_options={"columns": "user,item,time"},
        filters=SupportFilters(1, 2, 1),
        **settings,
    )


@pytest.fixture
def log(tmp_path):
    frame = pd.DataFrame(
        {
            "user": np.repeat(["a", "b", "c", "d", "e"], 4),
            "item": [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 9, 1, 2, 3, 1, 2],
            "time": np.repeat(np.arange(10) * 10_000, 2) + np.tile([0, 60], 10),
        }
    )
    path = tmp_path / "log.csv"
    frame.to_csv(path, index=False)
    return path


class TestPrepareLog:
    def test_counts_and_shares(self, log):
        """Ten sessions of two events; the last two are test, of a user whom the training part has not seen."""
        with pytest.raises(InputError, match="no test session"):
            prepare_log(csv_choice(log))
        frame = pd.read_csv(log)
        frame.loc[16:17, "user"] = "a"
        frame.to_csv(log, index=False)
        prepared = prepare_log(csv_choice(log))
        assert prepared.dataset["train"] == {"events": 16, "users": 4, "items": 4, "sessions": 8}
        assert prepared.dataset["test"] == {"events": 2, "users": 1, "items": 2, "sessions": 1}
        assert prepared.dataset["events"] == 18 and prepared.dataset["sessions"] == 9
        assert prepared.protocol["dropped_test_events"] == 0.5
        assert prepared.protocol["dropped_test_sessions"] == 0.5
        assert prepared.protocol["boundary"] == 70_060.0

    def test_a_log_that_is_no_log_names_its_file(self, tmp_path):
        path = tmp_path / "log.csv"
        path.write_text("item,time\n1,2\n2,3\n")
        choice = LogChoice(data=path, log_format="csv", read_options={"columns": "-,item,time"})
        with pytest.raises(InputError, match="session"):
            prepare_log(choice)

    def test_the_simulator_has_users_with_history(self):
        prepared = prepare_log(LogChoice())
        assert prepared.dataset["name"] == "synthetic"
        assert prepared.dataset["users"] > 450 and prepared.dataset["events"] > 30_000
        assert prepared.protocol["dropped_test_events"] < 0.05

    def test_another_seed_is_another_log(self):
        first, second = (prepare_log(LogChoice(seed=seed)).split.train for seed in (0, 1))
        assert len(first) != len(second) or (first.item_ids != second.item_ids).any()

    def test_an_unknown_format(self, log):
        with pytest.raises(InputError, match="movielens"):
            prepare_log(LogChoice(data=log, log_format="excel"))


def test_tied_share_counts_events_of_equal_time_in_a_session():
    log = SessionInteractions(
        np.array([1, 1, 1, 1, 2]), np.array([1, 2, 3, 4, 5]), timestamps=np.array([5.0, 5.0, 6.0, 7.0, 5.0])
    )
    assert tied_share(log) == 2 / 5


class TestParts:
    def test_validation_comes_from_the_training_part_only(self, log):
        frame = pd.read_csv(log).replace({"item": 9}, 3)
        frame["user"] = "a"
        frame.to_csv(log, index=False)
        prepared = prepare_log(csv_choice(log))
        parts = parts_of(prepared.split, 200)
        assert parts.fitting.num_targets + parts.validation.num_targets == parts.train.num_targets == 8
        assert parts.test.num_targets == 2
        # The bins and the ids of the rows that choose the number of epochs know nothing of the validation part.
        assert parts.validation.binning is parts.fitting.binning
        assert parts.validation.num_items == parts.fitting.num_items


def test_peak_memory_sees_what_a_block_takes():
    with PeakMemory() as small:
        pass
    with PeakMemory() as large:
        block = np.ones(40_000_000)
    assert large.mib - small.mib > 200 and block[0] == 1
