"""Means of weights over the latest epochs."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from spotlight_asars.sequence.training.callbacks import WeightAveraging


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
