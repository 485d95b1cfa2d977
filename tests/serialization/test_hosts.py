"""Model files written under one host and read under the other, and ``torch.save``."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from spotlight_asars import host
from spotlight_asars.host.resolution import resolve
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSTAN
from spotlight_asars.sequence.non_neural.rules import SequentialRules
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.models import load_model, save_model

pytestmark = pytest.mark.filterwarnings("ignore:a user has seen every item:UserWarning")

NETS = ["pooling", "cnn", "lstm", "asars_time_user", "asars_dynamics", "gru4rec", "time_svd"]
SEQUENCE = [3, 1, 4, 1, 5]
# The other process loads models, scores, fits the unfitted ones, and saves them again.
OTHER = """
import sys
from pathlib import Path
import numpy as np, torch
from spotlight_asars import host
from spotlight_asars.serialization import load_model, save_model
torch.set_num_threads(1)
folder = Path(sys.argv[1])
assert host.NAME == sys.argv[2], host.NAME
rows = host.SequenceInteractions(np.load(folder / "rows.npy"), num_items=9)
for path in folder.glob("*.h5"):
    model = load_model(path)
    if model.num_items is None:
        model.fit(rows)
    np.save(path.with_suffix(".npy"), model.predict([3, 1, 4, 1, 5]))
    save_model(model, path.with_suffix(".back"))
"""


def other_host():
    """The other host if it is installed, else the same one in another process."""
    other = "embedded" if host.NAME == "spotlight" else "spotlight"
    try:
        return resolve({"SPOTLIGHT_ASARS_HOST": other}).name
    except ImportError:
        return host.NAME


@pytest.mark.once
def test_files_go_from_host_to_host(tmp_path, make_model):
    random_state = np.random.RandomState(1)
    items = random_state.randint(1, 9, size=(12, 6))
    np.save(tmp_path / "rows.npy", items)
    rows = host.SequenceInteractions(items, num_items=9)
    models = {}
    for name in NETS:
        models[name] = make_model(name, loss="bpr", n_iter=1).fit(rows)
        save_model(models[name], tmp_path / f"{name}.h5")
        models[f"{name}_unfitted"] = make_model(name, loss="bpr", n_iter=1)
        save_model(models[f"{name}_unfitted"], tmp_path / f"{name}_unfitted.h5")
        models[f"{name}_unfitted"].fit(rows)
    package = Path(__file__).parents[2]
    path = os.pathsep.join([str(package), *filter(None, sys.path)])
    name = other_host()
    environment = {**os.environ, "SPOTLIGHT_ASARS_HOST": name, "PYTHONPATH": path}
    command = [sys.executable, "-c", OTHER, tmp_path, name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name, model in models.items():
        scores = model.predict(SEQUENCE)
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), scores, err_msg=name)
        np.testing.assert_array_equal(load_model(tmp_path / f"{name}.back").predict(SEQUENCE), scores, err_msg=name)


class TestTorchSave:
    """Spotlight's users pickle the whole model."""

    def again(self, model, tmp_path):
        torch.save(model, tmp_path / "model.pt")
        return torch.load(tmp_path / "model.pt", weights_only=False)

    @pytest.mark.parametrize("representation", NETS)
    def test_nets(self, representation, rows, make_model, tmp_path, assert_alike):
        model = make_model(representation).fit(rows)
        loaded = self.again(model, tmp_path)
        assert_alike(model, loaded, rows)
        assert_alike(model.fit(rows), loaded.fit(rows), rows)

    def test_others(self, rows, tmp_path, assert_alike):
        members = [Member(_rules), Member(_memory)]
        for system in (
            SequentialRules(),
            VSTAN(),
            SessionMemory(),
            TwoStageRanker(members, ranking=RankingNets(nets=1, epochs=1)),
        ):
            assert_alike(system.fit(rows), self.again(system, tmp_path), rows)

    def test_the_safe_loader_takes_weights_only(self, rows, make_model, tmp_path):
        """By default ``torch.load`` refuses objects, because creating them runs code."""
        torch.save(make_model().fit(rows), tmp_path / "model.pt")
        with pytest.raises(Exception, match="weights_only"):
            torch.load(tmp_path / "model.pt")

    def test_a_model_from_a_file(self, rows, make_model, tmp_path, assert_alike):
        ranker = TwoStageRanker(
            [Member(lambda epochs: make_model(n_iter=epochs), 1)], ranking=RankingNets(nets=1, epochs=1)
        ).fit(rows)
        save_model(ranker, tmp_path / "model.h5")
        loaded = load_model(tmp_path / "model.h5")
        assert_alike(ranker, self.again(loaded, tmp_path), rows)


def _rules(epochs):
    return SequentialRules()


def _memory(epochs):
    return SessionMemory(rounds=1)
