"""What settings make of the rows that a system is for."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spotlight_asars import SessionSequences
from spotlight_asars.experiments import settings as settings_module
from spotlight_asars.experiments.settings import NetSettings, Training


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
    assert sparse._sparse
    assert not model(replace(settings, optimizer="adam"))._sparse
    assert not model(NetSettings(name, loss="cross_entropy"))._sparse  # whose gradients are of all items anyway
    monkeypatch.setattr(settings_module, "LARGE_CATALOGUE", 10**9)
    dense = model(settings)
    assert not dense._sparse
    for one in (sparse, dense):
        one.fit(rows)
    for name, weight in dense._net.state_dict().items():
        torch.testing.assert_close(sparse._net.state_dict()[name], weight, rtol=1e-4, atol=1e-6)
