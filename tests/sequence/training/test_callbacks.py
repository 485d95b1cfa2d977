"""Weight averaging, and early stopping on held-out rows."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from spotlight_asars.errors import InputError
from spotlight_asars.sequence.training import callbacks
from spotlight_asars.sequence.training.callbacks import EarlyStopping, WeightAveraging


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


def after_epochs(latest, *values):
    net = Counting()
    for step, value in enumerate(values, start=1):
        with torch.no_grad():
            net.weight.copy_(torch.tensor(value))
        net.steps.fill_(step)
        latest.on_epoch_end(SimpleNamespace(net=net), None)
    return net


@pytest.mark.parametrize(("epochs", "expected"), [(1, [4.0, 10.0]), (2, [3.0, 9.0]), (3, [2.0, 6.0]), (9, [2.0, 6.0])])
def test_mean_of_the_latest_epochs(epochs, expected):
    latest = WeightAveraging(epochs)
    after_epochs(latest, [0.0, 0.0], [2.0, 8.0], [4.0, 10.0])
    mean = latest.mean()
    assert mean["weight"].tolist() == expected
    assert mean["steps"].item() == 3, "whole numbers are as in the latest epoch"


def test_the_net_has_them_while_it_is_open():
    latest = WeightAveraging(2)
    net = after_epochs(latest, [1.0, 1.0], [3.0, 5.0])
    with pytest.raises(KeyError), latest.applied_to(net) as weights:
        assert net.weight.tolist() == weights["weight"].tolist() == [2.0, 3.0]
        raise KeyError
    assert net.weight.tolist() == [3.0, 5.0]
    assert weights["weight"].tolist() == [2.0, 3.0], "what was given does not change with the net"


class Rising:
    """A system whose MRR@20 on the held-out rows is given for each epoch."""

    def __init__(self, values, monkeypatch):
        self.net, self._values = Counting(), iter(values)
        monkeypatch.setattr(callbacks, "rank_targets", lambda system, rows: range(5))
        monkeypatch.setattr(
            callbacks, "metrics", lambda ranks, cutoffs: dict.fromkeys(("mrr@20", "recall@20"), self.now)
        )
        self.now = None

    def epochs(self, callback):
        """The epochs until the callback ends fitting, or the values do."""
        for epoch, value in enumerate(self._values):
            self.now = value
            with torch.no_grad():
                self.net.weight.fill_(float(epoch))
            if callback.on_epoch_end(self, SimpleNamespace(epoch=epoch)):
                return epoch + 1
        return epoch + 1


@pytest.mark.parametrize(
    ("values", "patience", "ran", "best"),
    [
        ([0.1, 0.2, 0.2, 0.1], 2, 4, 1),  # of equal epochs the first is the best
        ([0.3, 0.2, 0.4, 0.1], 1, 2, 0),
        ([0.1, 0.2, 0.3], 1, 3, 2),
    ],
)
def test_early_stopping_waits_for_a_better_epoch(values, patience, ran, best, monkeypatch):
    stopping = EarlyStopping(None, patience)
    assert Rising(values, monkeypatch).epochs(stopping) == ran
    assert stopping.best_epoch == best
    assert stopping.best_figures == {"mrr@20": values[best], "recall@20": values[best], "targets": 5}


def test_early_stopping_keeps_the_best_mean_weights(monkeypatch):
    stopping = EarlyStopping(None, 3, averaging=WeightAveraging(2))
    system = Rising([0.1, 0.2, 0.3, 0.1], monkeypatch)
    system.epochs(stopping)
    assert stopping.best_weights["weight"].tolist() == [1.5, 1.5]  # the mean of epochs 1 and 2
    assert system.net.weight.tolist() == [3.0, 3.0], "the net has its own weights again"


def test_early_stopping_resumes_with_the_figures_of_its_file(tmp_path, monkeypatch):
    path = tmp_path / "figures.json"
    Rising([0.1, 0.5], monkeypatch).epochs(EarlyStopping(None, 2, path=path))
    resumed = EarlyStopping(None, 2, path=path)
    assert [figures["mrr@20"] for figures in resumed.figures] == [0.1, 0.5]
    system = Rising([], monkeypatch)
    system.now = 0.2
    assert resumed.on_epoch_end(system, SimpleNamespace(epoch=1)) is False  # the second epoch again: its figures go
    assert [figures["mrr@20"] for figures in resumed.figures] == [0.1, 0.2]
    with pytest.raises(InputError, match="figures are missing"):
        resumed.on_epoch_end(system, SimpleNamespace(epoch=4))
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        EarlyStopping(None, path=path)
