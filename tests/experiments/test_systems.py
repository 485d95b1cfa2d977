"""The systems of a comparison: their default settings, and settings from a folder."""

import pytest

from spotlight_asars.experiments.settings import CountingSettings, NetSettings, Settings, write_settings
from spotlight_asars.experiments.systems import DEFAULT_SYSTEMS, settings_in, settings_of, system_names


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
