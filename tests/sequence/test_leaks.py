"""Under dwell='known' no net looks at a time that comes after the moment of its prediction."""

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    NUM_CHANNELS,
    SESSION_GAP_BIN,
    SESSION_START,
    TARGET,
    TIME,
    USER,
)
from spotlight_asars.sequence.representations.context import CONTEXTS
from spotlight_asars.sequence.representations.registry import representation_factory, representation_names
from spotlight_asars.sequence.representations.scoring import score_all_items, states_at_targets

NUM_ITEMS, NUM_BINS = 20, 9
TIMELESS = ("bpr_mf", "fpmc")  # look at no time at all
POINTERLESS = ("asars_dynamics", "time_svd")
EVERYTHING = {"context": CONTEXTS, "dwell_input": True, "dwell_weight": True, "recency": True}
OPTIONS = [
    EVERYTHING,
    {**EVERYTHING, "scope": "session"},
    {**EVERYTHING, "scope": "session", "hidden_scope": "session", "pointer": True},
    {**EVERYTHING, "attention": "dense", "residual": False},
]


def net_of(name, options, recurrent="lstm", dwell="known"):
    torch.manual_seed(0)
    options = dict(options) if name == "asars_dynamics" else {**options, "recurrent": recurrent}
    if name in POINTERLESS:
        options.pop("pointer", None)
    sizes = {"num_users": 4, "num_dwell_bins": NUM_BINS, "num_gap_bins": NUM_BINS}
    net = representation_factory(name)(NUM_ITEMS, 8, dwell=dwell, **sizes, **options).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(0.0, 0.7)
    return net


def events_of(batch=3, time=9, seed=0):
    """Left-padded rows of some sessions, an event every few hours."""
    random_state = np.random.RandomState(seed)
    events = np.zeros((batch, time, NUM_CHANNELS), dtype=np.int64)
    events[..., ITEM] = random_state.randint(1, NUM_ITEMS, size=(batch, time))
    events[..., DWELL] = random_state.randint(1, NUM_BINS, size=(batch, time))
    events[..., SESSION_START] = random_state.rand(batch, time) < 0.4
    events[..., SESSION_GAP_BIN] = random_state.randint(1, NUM_BINS, size=(batch, time)) * events[..., SESSION_START]
    events[..., TIME] = random_state.randint(1, 20_000, size=(batch, time)).cumsum(axis=1) + 10**8
    events[..., USER] = np.arange(batch)[:, None]
    events[0, :2] = 0
    return torch.from_numpy(events)


def later_from(events, target):
    """
    The target event comes at another time, and with it all that follow.

    Its time is the end of the dwell on the event before it, and of the pause where it begins a session.
    """
    moved = events.clone()
    shift = torch.arange(1, events.shape[1] - target + 1) * 40_000
    moved[:, target:, TIME] += shift
    moved[:, target:, SESSION_GAP_BIN] = (moved[:, target:, SESSION_GAP_BIN] % (NUM_BINS - 1) + 1) * (
        events[:, target:, SESSION_START]
    )
    moved[:, target - 1 :, DWELL] = moved[:, target - 1 :, DWELL] % (NUM_BINS - 1) + 1
    moved[events[:, :, ITEM] == 0] = 0
    return moved


def scores_before(net, events):
    """Scores of all items before each event, (batch, time, items)."""
    everywhere = events.clone()
    everywhere[:, :, TARGET] = 1
    with torch.no_grad():
        states, _ = states_at_targets(net, everywhere)
        return score_all_items(net, states, NUM_ITEMS).view(*events.shape[:2], -1)


@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: ",".join(map(str, options.values())))
@pytest.mark.parametrize("name", representation_names())
def test_the_time_of_the_next_event_and_all_after_it_moves_no_score_before_it(name, options, recurrent):
    net, events = net_of(name, options, recurrent), events_of()
    before = scores_before(net, events)
    for target in range(1, 9):
        after = scores_before(net, later_from(events, target))
        assert torch.equal(after[:, : target + 1], before[:, : target + 1])
        if name not in TIMELESS and target < 8:  # the control: it does move what comes after
            rows = events[:, target, ITEM] != 0
            assert (after[rows, target + 1] - before[rows, target + 1]).abs().amax(dim=1).min() > 1e-5


@pytest.mark.parametrize("name", ["asars_time_att", "asars_time_cat", "asars_time_user", "asars_dynamics"])
def test_under_observed_the_newest_dwell_does(name):
    """The control of the whole: the paper's protocol looks at the time of the next event."""
    net, events = net_of(name, EVERYTHING, "gru", dwell="observed"), events_of()
    before = scores_before(net, events)
    for target in range(3, 9):
        after = scores_before(net, later_from(events, target))
        assert torch.equal(after[:, :target], before[:, :target])
        assert (after[:, target] - before[:, target]).abs().max() > 1e-4


@pytest.mark.parametrize("name", POINTERLESS)
def test_a_pointer_is_refused_where_states_hold_terms_of_their_own(name):
    """Regression: it failed only at the first batch, with the shapes of two matrices."""
    with pytest.raises(ValueError, match="pointer cannot be used with"):
        representation_factory(name)(NUM_ITEMS, 8, pointer=True)
