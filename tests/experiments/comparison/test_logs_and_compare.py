"""From a choice of log to its parts, and what the comparison does with them."""

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.cross_validation import SupportFilters
from spotlight_asars.errors import InputError
from spotlight_asars.experiments.logs import LogChoice, prepare_log, tied_share
from spotlight_asars.experiments.settings import CountingSettings, NetSettings, Settings, write_settings
from spotlight_asars.experiments.systems import DEFAULT_SYSTEMS, settings_in, settings_of, system_names
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


class TestSettings:
    @pytest.mark.parametrize("name", system_names())
    def test_every_system_has_some(self, name):
        assert isinstance(settings_of(name), Settings)

    @pytest.mark.parametrize(
        ("name", "has_users", "reads_dwell"),
        [
            ("bpr_mf", True, False),
            ("gru4rec", False, False),
            ("asars_user_att", True, False),
            ("asars_user_cat", True, False),
            ("asars_time_att", False, True),
            ("asars_time_cat", False, True),
            ("asars_time_user", True, True),
            ("asars_dynamics", True, True),
            ("vsknn", False, False),
            ("asars_memory", False, True),
            ("asars_two_stage", True, True),
        ],
    )
    def test_which_have_users_and_which_read_dwell(self, name, has_users, reads_dwell):
        settings = settings_of(name)
        assert (settings.has_users, settings.reads_dwell) == (has_users, reads_dwell)

    def test_a_net_of_the_host_knows_items_alone(self):
        assert not NetSettings("lstm").has_users and not NetSettings("lstm").reads_dwell

    def test_an_unknown_net(self):
        with pytest.raises(ValueError, match="gru4rec"):
            settings_of("gru")

    def test_the_default_systems_exist(self):
        assert set(DEFAULT_SYSTEMS) <= set(system_names())


class TestSettingsInAFolder:
    def test_those_that_have_a_file(self, tmp_path):
        small = NetSettings("gru4rec", embedding_dim=8, representation_options={"hidden_dim": 8})
        few = CountingSettings("vsknn", {"k": 7})
        write_settings(tmp_path / "gru4rec.json", small)
        write_settings(tmp_path / "vsknn.json", few)
        write_settings(tmp_path / "stan.json", CountingSettings("stan"))
        assert settings_in(tmp_path, ["gru4rec", "asars_user_cat", "vsknn"]) == {"gru4rec": small, "vsknn": few}

    def test_no_folder_and_no_file(self, tmp_path, refuses):
        refuses(lambda: settings_in(tmp_path / "nowhere", ["gru4rec"]), "nowhere", "not a folder")
        refuses(lambda: settings_in(tmp_path, ["gru4rec"]), "gru4rec.json")

    @pytest.mark.parametrize(
        "wrong",
        [
            NetSettings("gru"),
            NetSettings("gru4rec", optimizer="sgd"),
            NetSettings("gru4rec", loss="least squares"),
            NetSettings("gru4rec", representation_options={"hidden_dim": "100"}),
            CountingSettings("knn"),
            CountingSettings("vsknn", {"neighbours": 5}),
        ],
    )
    def test_values_that_make_no_system_are_told_before_any_training(self, wrong, tmp_path, refuses):
        write_settings(tmp_path / "gru4rec.json", wrong)
        refuses(lambda: settings_in(tmp_path, ["gru4rec"]), "gru4rec.json", "no working system")


def test_peak_memory_sees_what_a_block_takes():
    with PeakMemory() as small:
        pass
    with PeakMemory() as large:
        block = np.ones(40_000_000)
    assert large.mib - small.mib > 200 and block[0] == 1
