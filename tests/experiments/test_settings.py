"""What settings make of the rows that a system is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spotlight_asars.evaluation import rank_targets
from spotlight_asars.experiments import settings as settings_module
from spotlight_asars.experiments.settings import NetSettings, Training, TwoStageSettings
from spotlight_asars.experiments.systems import for_catalogue, settings_of, system_names
from spotlight_asars.experiments.tuning.spaces import settings_from, space_of, values_of
from spotlight_asars.interactions.sequences import SessionSequences


@pytest.mark.parametrize("name", ["gru4rec", "asars_time_user"])
def test_on_a_large_catalogue_sparse_steps_come_to_the_same_weights(name, monkeypatch):
    items = np.random.RandomState(0).randint(1, settings_module.LARGE_CATALOGUE + 1, size=(60, 5))
    rows = SessionSequences(items, num_items=settings_module.LARGE_CATALOGUE + 1)
    settings = NetSettings(
        name,
        loss="bpr_max",
        sampling="shared",
        num_negative_samples=8,
        sampling_options={"alpha": 0.5},
        embedding_dim=6,
    )

    def model(settings):
        return settings.new_system(rows, Training(epochs=2))

    sparse = model(settings)
    assert sparse.get_params()["sparse"]
    assert not model(replace(settings, optimizer="adam")).get_params()["sparse"]
    assert not model(NetSettings(name, loss="cross_entropy")).get_params()[
        "sparse"
    ]  # whose gradients are of all items anyway
    monkeypatch.setattr(settings_module, "LARGE_CATALOGUE", 10**9)
    dense = model(settings)
    assert not dense.get_params()["sparse"]
    for one in (sparse, dense):
        one.fit(rows)
    for name, weight in dense.net.state_dict().items():
        torch.testing.assert_close(sparse.net.state_dict()[name], weight, rtol=1e-4, atol=1e-6)


SAMPLED = {"loss": "sampled_cross_entropy", "sampling": "shared", "num_negative_samples": 2048}


class TestForCatalogue:
    def test_only_a_loss_over_all_items_gives_way_and_only_where_these_are_many(self):
        large = settings_module.LARGE_CATALOGUE + 1
        usual = {name: settings_of(name) for name in ("gru4rec", "gru4rec_bpr_max", "vsknn")}
        told = []
        assert for_catalogue(usual, large - 1, told.append) == usual and not told
        found = for_catalogue(usual, large, told.append)
        assert found == usual | {"gru4rec": replace(usual["gru4rec"], **SAMPLED, sampling_options={"alpha": 0.5})}
        (line,) = told
        assert line.startswith("10,000 items are too many") and "the loss of gru4rec is sampled_cross_entropy" in line

    def test_members_too(self):
        members = settings_of("asars_two_stage").for_catalogue(10**6).members
        assert [member.loss for member in members if isinstance(member, NetSettings)] == ["sampled_cross_entropy"]

    @pytest.mark.parametrize("name", system_names())
    def test_every_system_fits_and_ranks_with_it(self, name):
        settings = settings_of(name).for_catalogue(10**6)
        if isinstance(settings, TwoStageSettings):
            settings = replace(settings, members=settings.members[:1] + settings.members[-1:])
        sessions = (np.arange(40)[:, None] + np.arange(4)) % 9 + 1  # (sessions, time)
        rows = SessionSequences(sessions, np.arange(1, 41))
        ranks = rank_targets(settings.new_system(rows, Training(epochs=1)).fit(rows), rows)
        assert np.isfinite(ranks.ranks).all()

    def test_a_search_that_begins_there_never_scores_all_items(self):
        base = settings_of("gru4rec").for_catalogue(10**6)
        space = space_of(base)
        assert space[0].choices == ("sampled_cross_entropy", "bpr_max")
        assert settings_from(values_of(base, space), space, base) == base
