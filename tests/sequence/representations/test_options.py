"""Options of the nets against plain loops: restarts at sessions, users' attention, dwell weights, recency."""

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.binning import UNKNOWN_BIN
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
from spotlight_asars.sequence.representations.asars import (
    AsarsTimeAttNet,
    AsarsTimeCatNet,
    AsarsTimeUserNet,
    AsarsUserAttNet,
    AsarsUserCatNet,
)
from spotlight_asars.sequence.representations.context import CONTEXTS
from spotlight_asars.sequence.representations.scoring import (
    final_states,
    score_all_items,
    score_items,
    states_at_targets,
)
from spotlight_asars.sequence.representations.session_net import SessionNet

ATTENTION_NETS = [AsarsUserAttNet, AsarsTimeAttNet, AsarsTimeUserNet]
NETS = [SessionNet, AsarsUserCatNet, AsarsTimeCatNet, *ATTENTION_NETS]
TIME_NETS = [AsarsTimeAttNet, AsarsTimeUserNet]
EVERYTHING = {"dwell_input": True, "dwell_weight": True, "recency": True}


def net_of(kind, seed=0, **settings):
    """Return a float64 net with large weights, so that every part matters; padding rows are zero."""
    torch.manual_seed(seed)
    settings = {"num_users": 4, "num_dwell_bins": 9, "hidden_dim": 6, "user_dim": 3, "dwell_dim": 5, **settings}
    net = kind(20, 7, num_gap_bins=5, **settings).double().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(0.0, 0.7)
        for module in net.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[0] = 0.0
    return net


def events_of(batch=3, time=9, seed=0):
    random_state = np.random.RandomState(seed)
    events = np.zeros((batch, time, NUM_CHANNELS), dtype=np.int64)
    events[..., ITEM] = random_state.randint(1, 20, size=(batch, time))
    events[..., DWELL] = random_state.randint(2, 9, size=(batch, time))
    events[..., SESSION_START] = random_state.rand(batch, time) < 0.3
    events[:, 0, SESSION_START] = 1
    events[..., SESSION_GAP_BIN] = random_state.randint(1, 5, size=(batch, time)) * events[..., SESSION_START]
    events[..., TIME] = random_state.randint(1, 9000, size=(batch, time)).cumsum(axis=1)
    events[..., USER] = random_state.randint(1, 4, size=(batch, 1))
    return torch.from_numpy(events)


def states(net, events):
    """(batch, time + 1, dim)"""
    with torch.no_grad():
        before, final = net.user_representation(events)
    return torch.cat([before, final[:, :, None]], dim=2).transpose(1, 2)


@pytest.mark.parametrize("dwell", ["known", "observed"])
@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
@pytest.mark.parametrize("kind", NETS)
class TestHiddenScope:
    @staticmethod
    def scoped(kind, dwell, recurrent):
        more = EVERYTHING if kind in TIME_NETS else {"recency": True}
        scopes = {"hidden_scope": "session", "scope": "session"}
        return net_of(kind, dwell=dwell, recurrent=recurrent, context=CONTEXTS, **more, **scopes)

    def test_equals_rows_of_single_sessions(self, kind, recurrent, dwell):
        net, events = self.scoped(kind, dwell, recurrent), events_of()
        found = states(net, events)
        for row, marks in enumerate(events[:, :, SESSION_START].tolist()):
            begins = [step for step, mark in enumerate(marks) if mark]
            assert len(begins) > 1
            for begin, end in zip(begins, [*begins[1:], len(marks)], strict=True):
                alone = states(net, events[row : row + 1, begin:end])[0, 1:]
                torch.testing.assert_close(found[row, begin + 1 : end + 1], alone, rtol=0, atol=1e-10)

    def test_what_came_before_a_session_does_not_count_and_does_by_default(self, kind, recurrent, dwell):
        events = events_of(batch=1)
        events[0, :, SESSION_START] = torch.tensor([1, 0, 0, 0, 1, 0, 0, 1, 0])
        changed = events.clone()
        changed[0, :4, ITEM] = changed[0, :4, ITEM] % 19 + 1
        changed[0, :4, DWELL] = 10 - changed[0, :4, DWELL]
        net = self.scoped(kind, dwell, recurrent)
        first, second = states(net, events), states(net, changed)
        assert torch.equal(first[:, 5:], second[:, 5:])
        assert (first[:, 1:5] - second[:, 1:5]).abs().amax(dim=2).min() > 1e-3
        plain = net_of(kind, dwell=dwell, recurrent=recurrent)
        assert (states(plain, events)[:, 5] - states(plain, changed)[:, 5]).abs().max() > 1e-3


def recurrent_states(layer, inputs):
    """Return hidden states by torch's own layer, (batch, time, hidden)."""
    plain = (torch.nn.LSTM if isinstance(layer, torch.nn.LSTM) else torch.nn.GRU)(
        layer.input_size, layer.hidden_size, batch_first=True
    )
    plain.double().load_state_dict(layer.state_dict())
    return plain(inputs)[0]


def attended(scores, hidden, segments):
    """Return the prefix-softmax mixture over each step's segment, (batch, time, hidden)."""
    mixed = torch.zeros_like(hidden)
    for row in range(len(hidden)):
        for step in range(hidden.shape[1]):
            past = [k for k in range(step + 1) if segments[row, k] == segments[row, step]]
            weights = np.exp([float(scores[row, k]) for k in past])
            for k, weight in zip(past, weights / weights.sum(), strict=True):
                mixed[row, step] += weight * hidden[row, k]
    return mixed


def assert_states(net, events, *parts):
    """Check that the state after each event is the last linear layer over these parts."""
    with torch.no_grad():
        expected = net.projection(torch.cat(parts, dim=2))
    torch.testing.assert_close(states(net, events)[:, 1:], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("scope", ["sequence", "session"])
@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
class TestByHand:
    @staticmethod
    def segments(scope, events):
        return events[:, :, SESSION_START].cumsum(dim=1) * (scope == "session")

    @pytest.mark.parametrize("recency", [False, True])
    def test_user_attention(self, recency, recurrent, scope):
        """Eq. 19, with the user beside it (Fig. 5)."""
        net, events = net_of(AsarsUserAttNet, scope=scope, recurrent=recurrent, recency=recency), events_of()
        with torch.no_grad():
            hidden = recurrent_states(net.recurrent, net.item_embeddings(events[:, :, ITEM]))
            users = net.user_embeddings(events[:, :, USER])  # (batch, time, user)
            scores = (torch.tanh(net.attention(hidden)) * users).sum(dim=2)
            scores = scores + (net.fading * torch.arange(9) if recency else 0.0)
        assert_states(net, events, attended(scores, hidden, self.segments(scope, events)), hidden, users)

    def test_anonymous_users_get_the_plain_mean(self, recurrent, scope):
        net, events = net_of(AsarsUserAttNet, scope=scope, recurrent=recurrent), events_of()
        events[:, :, USER] = 0
        segments = self.segments(scope, events)
        with torch.no_grad():
            hidden = recurrent_states(net.recurrent, net.item_embeddings(events[:, :, ITEM]))
        mean = torch.zeros_like(hidden)
        for row in range(3):
            for step in range(9):
                mean[row, step] = hidden[row, : step + 1][segments[row, : step + 1] == segments[row, step]].mean(dim=0)
        assert_states(net, events, mean, hidden, torch.zeros(3, 9, 3, dtype=torch.float64))

    @pytest.mark.parametrize("options", [{}, *({name: True} for name in EVERYTHING), EVERYTHING], ids=str)
    def test_time_attention(self, options, recurrent, scope):
        """Eq. 15 to 17, and each option's addition to the scores or the input."""
        net = net_of(AsarsTimeAttNet, dwell="observed", scope=scope, recurrent=recurrent, **options)
        events = events_of()
        with torch.no_grad():
            dwell = net.dwell_embeddings(events[:, :, DWELL])
            items = net.item_embeddings(events[:, :, ITEM])
            inputs = torch.cat([items, dwell], dim=2) if "dwell_input" in options else items
            hidden = recurrent_states(net.recurrent, inputs)
            keys = torch.tanh(net.attention(recurrent_states(net.time_recurrent, dwell)))
            scores = (keys * hidden).sum(dim=2)
            if "dwell_weight" in options:
                scores = scores + net.dwell_weights.weight[events[:, :, DWELL], 0]
            if "recency" in options:
                scores = scores + net.fading * torch.arange(9)
        assert_states(net, events, attended(scores, hidden, self.segments(scope, events)), hidden)

    def test_time_cat(self, recurrent, scope):
        net, events = net_of(AsarsTimeCatNet, dwell="observed", recurrent=recurrent), events_of()
        with torch.no_grad():
            parts = net.item_embeddings(events[:, :, ITEM]), net.dwell_embeddings(events[:, :, DWELL])
            hidden = recurrent_states(net.recurrent, torch.cat(parts, dim=2))
        assert_states(net, events, hidden)


@pytest.mark.parametrize("kind", ATTENTION_NETS)
class TestRecency:
    def test_a_positive_slope_puts_more_weight_on_newer_events(self, kind):
        """With equal scores the weights are a geometric series; a slope of zero gives the mean."""
        net, events = net_of(kind, recency=True, residual=False), events_of(batch=1, time=4)
        hidden = torch.eye(4, dtype=torch.float64)[None]
        net.attention_scores = lambda hidden, current, events, users: (torch.zeros(1, 4), torch.zeros(1, 4))
        with torch.no_grad():
            for slope, series in ((np.log(2.0), [1, 2, 4, 8]), (0.0, [1, 1, 1, 1]), (-np.log(2.0), [8, 4, 2, 1])):
                net.fading.fill_(slope)
                weights = net.mix(hidden, hidden, events, None)[0, -1]
                np.testing.assert_allclose(weights, np.array(series) / sum(series), atol=1e-6)

    def test_it_begins_with_no_slope_and_learns_one(self, kind):
        torch.manual_seed(0)
        net, events = kind(20, 7, recency=True, num_users=4, num_dwell_bins=9, residual=False), events_of()
        assert net.fading.item() == 0.0
        net.user_representation(events)[0].square().sum().backward()
        assert net.fading.grad.abs().item() > 0.0


@pytest.mark.parametrize("dwell", ["known", "observed"])
class TestDwellWeight:
    def test_a_weight_of_its_own_bin_lifts_an_event(self, dwell):
        """Of two events, one with a long dwell: its attention weight grows with the bin's weight."""
        net, events = net_of(AsarsTimeAttNet, dwell=dwell, dwell_weight=True, residual=False), events_of(1, 3)
        events[0, :, DWELL] = torch.tensor([2, 7, 2])
        hidden = torch.eye(3, dtype=torch.float64)[None]
        net.attention = torch.nn.Linear(6, 3).double()
        found = []
        with torch.no_grad():
            net.attention.weight.zero_(), net.attention.bias.zero_(), net.dwell_weights.weight.zero_()
            for weight in (0.0, np.log(3.0)):
                net.dwell_weights.weight[7] = weight
                found.append(net.mix(hidden, hidden, events, None)[0].numpy())
        np.testing.assert_allclose(found[0], [[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-10)
        # Under 'known' its dwell is unknown while it is the newest.
        middle = [1 / 4, 3 / 4, 0] if dwell == "observed" else [1 / 2, 1 / 2, 0]
        np.testing.assert_allclose(found[1], [[1, 0, 0], middle, [1 / 5, 3 / 5, 1 / 5]], atol=1e-10)

    def test_it_begins_at_zero(self, dwell):
        net = AsarsTimeAttNet(20, 7, dwell=dwell, dwell_weight=True, num_dwell_bins=9)
        assert not net.dwell_weights.weight.any()


SWITCHED_OFF = [
    (AsarsUserCatNet, {}),
    (AsarsTimeCatNet, {}),
    *((kind, {}) for kind in ATTENTION_NETS),
    *((kind, EVERYTHING) for kind in TIME_NETS),
]


@pytest.mark.parametrize("dwell", ["known", "observed"])
@pytest.mark.parametrize("recurrent", ["lstm", "gru"])
@pytest.mark.parametrize("hidden_scope", ["sequence", "session"])
@pytest.mark.parametrize(("kind", "options"), SWITCHED_OFF)
def test_with_dwell_user_and_attention_off_every_net_is_the_plain_one(kind, options, hidden_scope, recurrent, dwell):
    """Without users, dwell and weight on the attended state, the net equals the recurrent net to 1e-10."""
    settings = {"recurrent": recurrent, "dwell": dwell, "hidden_scope": hidden_scope}
    net, plain, events = net_of(kind, **settings, **options), net_of(SessionNet, **settings), events_of()
    events[:, :, USER], events[:, :, DWELL] = 0, UNKNOWN_BIN
    begin = 6 if kind in ATTENTION_NETS else 0  # [q_t ; h_t ; e_u] or [h_t ; e_u]
    with torch.no_grad():
        if hasattr(net, "dwell_embeddings"):
            net.dwell_embeddings.weight[UNKNOWN_BIN] = 0.0
        plain.item_embeddings.weight.copy_(net.item_embeddings.weight)
        for name, weight in plain.recurrent.named_parameters():
            theirs = dict(net.recurrent.named_parameters())[name]
            weight.copy_(theirs[:, :7] if name == "weight_ih_l0" else theirs)
        net.projection.weight[:, :begin] = 0.0
        plain.projection.weight.copy_(net.projection.weight[:, begin : begin + 6])
        plain.projection.bias.copy_(net.projection.bias)
    torch.testing.assert_close(states(net, events), states(plain, events), rtol=0, atol=1e-10)


def test_a_pointer_adds_the_weight_of_the_place_where_an_item_stands():
    """Against a loop: the newest item, other items of the session, items of earlier ones; the first that applies."""
    net, events = net_of(AsarsTimeUserNet, pointer=True), events_of(time=12)
    events[:, :, ITEM] = events[:, :, ITEM] % 5 + 1  # so that items come back
    events[0, :3] = 0
    starts = events[:, :, SESSION_START]
    events[:, :, TARGET] = (events[:, :, ITEM] != 0) & (starts == 0)
    with torch.no_grad():
        states, items = states_at_targets(net, events)
        ends = final_states(net, events)
        found = [score_all_items(net, one, 20) for one in (states, ends)]
        places = [*events[:, :, TARGET].nonzero().tolist(), *([row, 12] for row in range(3))]
        vectors = torch.cat([states.states, ends.states])
        plain = net.item_biases.weight[1:, 0] + vectors[:, :7] @ net.item_embeddings.weight[1:].T
    for (row, position), scores, vector, expected in zip(places, torch.cat(found), vectors, plain, strict=True):
        begin = max((step for step in range(position) if starts[row, step]), default=0)
        weights = {}
        for place, past in ((2, range(begin)), (1, range(begin, position)), (0, range(max(position - 1, 0), position))):
            weights |= {int(events[row, step, ITEM]): vector[7 + place] for step in past}
        weights.pop(0, None)
        assert weights or row == 0
        by_hand = expected.clone()
        for item, weight in weights.items():
            by_hand[item - 1] += weight
        torch.testing.assert_close(scores, by_hand, rtol=0, atol=1e-10)
    with torch.no_grad():
        some = torch.tensor([7, 2, 1, 5])
        torch.testing.assert_close(net.score_shared(states, some), found[0][:, some - 1], rtol=0, atol=1e-10)
        own = found[0].gather(1, items[:, None] - 1)[:, 0]
        torch.testing.assert_close(score_items(net, states, items), own, rtol=0, atol=1e-10)
