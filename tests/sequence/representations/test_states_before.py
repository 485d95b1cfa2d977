"""States of a training step against those of all positions, and GRUs without padding against GRUs with it."""

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.channels import DWELL, ITEM, NUM_CHANNELS, SESSION_START, TIME, USER
from spotlight_asars.sequence.representations import session_net
from spotlight_asars.sequence.representations.registry import representation_factory, representation_names

SESSION = {"scope": "session", "hidden_scope": "session"}


def events_of(lengths, time):
    """Return left-padded rows of these lengths, each with one or more sessions."""
    random_state = np.random.RandomState(0)
    events = np.zeros((len(lengths), time, NUM_CHANNELS), dtype=np.int64)
    for row, length in zip(events, lengths, strict=True):
        own = row[time - length :]
        own[:, ITEM] = random_state.randint(1, 20, size=length)
        own[:, DWELL] = random_state.randint(1, 9, size=length)
        own[:, SESSION_START] = random_state.uniform(size=length) < 0.3
        own[:1, SESSION_START] = 1
        own[:, TIME] = random_state.randint(1, 9000, size=length).cumsum()
        own[:, USER] = random_state.randint(1, 4)
    return torch.from_numpy(events)


def net_of(name, **options):
    torch.manual_seed(0)
    net = representation_factory(name)(20, 6, num_users=4, num_dwell_bins=9, num_gap_bins=5, **options).double().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return net


def both(net, events, row, column):
    """Return the states before some events, computed either way, and the gradients of all weights."""
    ways = (net.states_before(events, row, column), net.user_representation(events)[0].permute(0, 2, 1)[row, column])
    upstream = torch.randn_like(ways[0])
    found = []
    for states in ways:
        net.zero_grad()
        (states * upstream).sum().backward()
        weights = {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}
        found.append((states, weights))
    return found


@pytest.mark.parametrize("name", representation_names())
@pytest.mark.parametrize("lengths", [[5, 2, 7, 1], [4, 4], [3, 0]], ids=str)
def test_states_and_gradients_are_those_of_all_positions(name, lengths):
    net, events = net_of(name), events_of(lengths, 7)
    row, column = (events[:, :, ITEM] != 0).nonzero(as_tuple=True)
    (states, weights), (others, other_weights) = both(net, events, row[::2], column[::2])
    torch.testing.assert_close(states, others, rtol=0, atol=1e-12)
    assert weights.keys() == other_weights.keys()
    for of, weight in weights.items():
        torch.testing.assert_close(weight, other_weights[of], rtol=0, atol=1e-10, msg=of)


@pytest.mark.parametrize("options", [{}, SESSION], ids=["by-row", "by-session"])
@pytest.mark.parametrize("name", ["gru4rec", "asars_time_att", "asars_time_cat"])
def test_a_gru_without_padding_is_one_with_it(monkeypatch, name, options):
    net = net_of(name, recurrent="gru", **options)
    events = events_of([9, 3, 1, 5], 9)
    row, column = (events[:, :, ITEM] != 0).nonzero(as_tuple=True)
    found = []
    for most in (-1.0, 1.0):
        monkeypatch.setattr(session_net, "MOST_PADDING", most)
        torch.manual_seed(0)
        found.append(both(net, events, row, column)[0])
    (states, weights), (others, other_weights) = found
    torch.testing.assert_close(states, others, rtol=0, atol=1e-12)
    assert weights.keys() == other_weights.keys()
    for of, weight in weights.items():
        torch.testing.assert_close(weight, other_weights[of], rtol=0, atol=1e-10, msg=of)


def test_some_states_are_picked_where_a_net_finishes_each_alone():
    net = net_of("gru4rec")
    seen = []
    net.projection.register_forward_hook(lambda layer, given, states: seen.append(states.shape))
    events = events_of([5, 2], 5)
    net.states_before(events, torch.tensor([0, 1]), torch.tensor([4, 4]))
    assert seen == [(2, 6)]
