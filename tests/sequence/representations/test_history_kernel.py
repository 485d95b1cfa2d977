"""The history kernel: features by hand, evidence by a slow loop, and its part of a score."""

import math

import numpy as np
import pytest
import torch

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, ITEM, NUM_CHANNELS, SESSION_START, TIME, UNKNOWN_TIME
from spotlight_asars.sequence.representations.asars import AsarsTimeAttNet
from spotlight_asars.sequence.representations.baselines import GRU4RecNet
from spotlight_asars.sequence.representations.history_kernel import FEATURES, REACH, HistoryKernel
from spotlight_asars.sequence.representations.pointer import HistoryStates

BINS = 6
POSITIONS = [7, 12, 0, 9]  # of targets in rows 0, 1, 2, 2, none of them where a session begins but the third


def random_events(rows=3, time=12, items=5, seed=0):
    draw = np.random.RandomState(seed)
    events = torch.zeros(rows, time, NUM_CHANNELS, dtype=torch.long)
    events[:, :, ITEM] = torch.from_numpy(draw.randint(1, items + 1, size=(rows, time)))
    events[:, :, DWELL] = torch.from_numpy(draw.randint(1, BINS, size=(rows, time)))
    events[:, :, SESSION_START] = torch.from_numpy(draw.rand(rows, time) < 0.3)
    events[:, 0, SESSION_START] = 1
    events[:, :, TIME] = torch.from_numpy(np.cumsum(draw.choice([0, 1, 50, 4000, 10**6], size=(rows, time)), axis=1))
    events[0, :3] = 0  # padding
    events[0, 3, SESSION_START] = 1
    events[-1, 2, TIME] = UNKNOWN_TIME
    return events


def kernel_of(features=FEATURES, dwell="known"):
    kernel = HistoryKernel(features, BINS, dwell).double()
    torch.manual_seed(0)
    for table in kernel.tables.values():
        table.weight.data.normal_()
    return kernel


def evidence_by_loop(kernel, row, end):
    """Return the evidence of each item after `end` events of a row, by the definition."""
    events = [event.tolist() for event in row[:end] if event[ITEM] != 0][-REACH:]
    if not events:
        return {}
    newest = len(events) - 1
    session = max(place for place, event in enumerate(events) if event[SESSION_START] or place == 0)
    found = {}
    for place, event in enumerate(events):
        bins = {
            "distance": min(int(math.log2(newest - place + 1)), 11),
            "dwell": UNKNOWN_BIN if place == newest and kernel.dwell == "known" else event[DWELL],
            "place": 0 if place == newest else (1 if place >= session else 2),
            "follow": 0,
            "age": 0,
        }
        if place and events[place - 1][ITEM] == events[newest][ITEM]:
            two = place > 1 and newest and events[place - 2][ITEM] == events[newest - 1][ITEM]
            bins["follow"] = 1 + (not event[SESSION_START]) + 2 * two
        if UNKNOWN_TIME not in (event[TIME], events[newest][TIME]):
            bins["age"] = int(math.log2(events[newest][TIME] - event[TIME] + 1)) + 1
        weight = sum(table.weight[bins[name], 0].item() for name, table in kernel.tables.items())
        found[event[ITEM]] = found.get(event[ITEM], 0.0) + math.exp(weight)
    return {item: math.log1p(total) for item, total in found.items()}


@pytest.mark.parametrize("dwell", ["known", "observed"])
@pytest.mark.parametrize("features", [FEATURES, *((name,) for name in FEATURES)])
def test_evidence_is_that_of_a_slow_loop(features, dwell):
    events, kernel = random_events(), kernel_of(features, dwell)
    # After each event but those before a session, whose first event is never predicted.
    is_predicted = torch.cat([events[:, :, SESSION_START] == 0, torch.ones(3, 1, dtype=torch.bool)], dim=1)
    row, position = is_predicted.nonzero(as_tuple=True)
    states = HistoryStates.before(torch.zeros(len(row), 1), events, row, position)
    target, item, evidence = (one.detach() for one in kernel(states, 6))
    found = {(int(t), int(i)): float(e) for t, i, e in zip(target, item, evidence, strict=True)}
    wanted = {
        (number, one): value
        for number, (r, p) in enumerate(zip(row.tolist(), position.tolist(), strict=True))
        for one, value in evidence_by_loop(kernel, events[r], p).items()
    }
    assert found == pytest.approx(wanted, abs=1e-12)


def test_it_begins_as_the_logarithm_of_counts():
    events = torch.ones(1, 6, NUM_CHANNELS, dtype=torch.long)
    events[0, :, ITEM] = torch.tensor([2, 1, 2, 2, 3, 1])
    states = HistoryStates.before(torch.zeros(1, 1), events, torch.tensor([0]), torch.tensor([6]))
    target, item, evidence = HistoryKernel(FEATURES, BINS, "known")(states, 6)
    assert target.tolist() == [0, 0, 0] and item.tolist() == [1, 2, 3]
    np.testing.assert_allclose(evidence.detach(), np.log([3, 4, 2]), rtol=1e-6)


def test_what_followed_the_newest_item_before():
    events = torch.zeros(1, 6, NUM_CHANNELS, dtype=torch.long)
    events[0, :, ITEM] = torch.tensor([4, 1, 2, 4, 1, 3])
    events[0, 0, SESSION_START] = 1
    kernel = HistoryKernel(("follow",), BINS, "known").double()
    kernel.tables["follow"].weight.data[:, 0] = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0])
    states = HistoryStates.before(torch.zeros(1, 1), events, torch.tensor([0]), torch.tensor([5]))  # after 4 1 2 4 1
    _, item, evidence = kernel(states, 5)
    assert dict(zip(item.tolist(), evidence.detach().round().tolist(), strict=True)) == {1: 1.0, 2: 40.0, 4: 1.0}


def test_older_events_than_its_reach_do_not_count():
    items = torch.randint(1, 4, (1, REACH + 50), generator=torch.Generator().manual_seed(0))
    events = torch.zeros(1, REACH + 50, NUM_CHANNELS, dtype=torch.long)
    events[:, :, ITEM] = items
    kernel, end = kernel_of(), torch.tensor([REACH + 50])
    whole = kernel(HistoryStates.before(torch.zeros(1, 1), events, torch.tensor([0]), end), 5)
    cut = kernel(HistoryStates.before(torch.zeros(1, 1), events[:, 50:], torch.tensor([0]), end - 50), 5)
    for one, other in zip(whole, cut, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", [GRU4RecNet, AsarsTimeAttNet])
def test_scores_have_the_evidence_times_the_gain(kind):
    torch.manual_seed(0)
    options = {"num_dwell_bins": BINS, "pointer": True, "hidden_dim": 4}
    net = kind(6, 4, history_kernel=FEATURES, **options).double().eval()
    net.history_kernel.load_state_dict(kernel_of().state_dict())
    events = random_events()
    row, position = torch.tensor([0, 1, 2, 2]), torch.tensor(POSITIONS)
    states = HistoryStates.before(torch.randn(4, 4 + 3 + 1, dtype=torch.float64), events, row, position)
    every = net.score_shared(states)  # (targets, items)
    gain = states.states[:, -1:].clone()
    states.states[:, -1] = 0.0
    added = (every - net.score_shared(states)) / gain
    for number, (r, p) in enumerate(zip(row.tolist(), position.tolist(), strict=True)):
        wanted = evidence_by_loop(net.history_kernel, events[r], p)
        np.testing.assert_allclose(added[number].tolist(), [wanted.get(item, 0.0) for item in range(1, 6)], atol=1e-12)


def test_one_item_each_is_scored_as_among_all_with_the_same_gradient():
    torch.manual_seed(0)
    net = AsarsTimeAttNet(6, 4, num_dwell_bins=BINS, pointer=True, history_kernel=FEATURES, hidden_dim=4).double()
    back = torch.randn(4, 4 + 3 + 1, dtype=torch.float64, requires_grad=True)
    places = HistoryStates.before(back, random_events(), torch.tensor([0, 1, 2, 2]), torch.tensor(POSITIONS))
    items = torch.tensor([3, 1, 5, 2])
    alone, every = net.score(places, items), net.score_shared(places).gather(1, items[:, None] - 1)[:, 0]
    some = net.score_shared(places, torch.tensor([2, 3, 1, 5])).gather(1, torch.tensor([[1], [2], [3], [0]]))[:, 0]
    torch.testing.assert_close(alone, every)
    torch.testing.assert_close(alone, some)
    weights = (back, net.history_kernel.tables["age"].weight, net.item_embeddings.weight)
    for one in weights:
        first, second = (torch.autograd.grad(s.sum(), one, retain_graph=True)[0] for s in (alone, every))
        torch.testing.assert_close(first, second)


def test_it_needs_a_pointer():
    with pytest.raises(InputError, match="history_kernel is part of the pointer"):
        GRU4RecNet(6, 4, history_kernel=("age",))


def test_unknown_features_are_named():
    with pytest.raises(InputError, match=r"'ages'.*age, distance, dwell, follow, place"):
        GRU4RecNet(6, 4, pointer=True, history_kernel=("ages",))
