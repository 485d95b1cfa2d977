"""What is particular to each net: dwell rules, users, scope, residual, options."""

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, ITEM, NUM_CHANNELS, SESSION_START, USER
from spotlight_asars.sequence.representations.asars import (
    AsarsTimeAttNet,
    AsarsTimeCatNet,
    AsarsTimeUserNet,
    AsarsUserAttNet,
    AsarsUserCatNet,
)
from spotlight_asars.sequence.representations.baselines import GRU4RecNet
from spotlight_asars.sequence.representations.options import NetOptions
from spotlight_asars.sequence.representations.session_net import SessionNet

TIME_NETS = [AsarsTimeAttNet, AsarsTimeUserNet]
EVERYTHING = {"dwell_input": True, "dwell_weight": True, "recency": True}
# Each way in which a net reads dwell, with the layers and the restarts that the newest event's state has to pass.
DWELL_NETS = [
    pytest.param(kind, {"recurrent": recurrent, **options}, id=f"{kind.__name__}-{recurrent}-{','.join(options)}")
    for recurrent in ("lstm", "gru")
    for kind, options in [
        *((kind, options) for kind in (AsarsTimeCatNet, *TIME_NETS) for options in ({}, {"hidden_scope": "session"})),
        *((AsarsTimeAttNet, {name: True}) for name in EVERYTHING),
        *((kind, EVERYTHING) for kind in TIME_NETS),
        *((AsarsTimeUserNet, {**EVERYTHING, "attention": form, "scope": "session"}) for form in ("linear", "dense")),
        (AsarsTimeUserNet, {**EVERYTHING, "scope": "session", "hidden_scope": "session", "residual": False}),
    ]
]


def net_of(kind, seed=0, **settings):
    """Return a net with weights large enough that attention matters."""
    torch.manual_seed(seed)
    settings = {"num_users": 4, "num_dwell_bins": 9, "hidden_dim": 6, "user_dim": 3, "dwell_dim": 5, **settings}
    net = kind(20, 7, **settings).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(0.0, 0.7)
    return net


def events_of(batch=3, time=8, seed=0):
    random_state = np.random.RandomState(seed)
    events = np.zeros((batch, time, NUM_CHANNELS), dtype=np.int64)
    events[..., ITEM] = random_state.randint(1, 20, size=(batch, time))
    events[..., DWELL] = random_state.randint(2, 9, size=(batch, time))
    events[..., SESSION_START] = random_state.rand(batch, time) < 0.3
    events[:, 0, SESSION_START] = 1
    events[..., USER] = random_state.randint(1, 4, size=(batch, 1))
    return torch.from_numpy(events)


def states(net, events):
    with torch.no_grad():
        before, final = net.user_representation(events)
    return torch.cat([before, final[:, :, None]], dim=2)  # (batch, dim, time + 1)


@pytest.mark.parametrize(("kind", "options"), DWELL_NETS)
class TestDwellRules:
    def test_known_is_observed_with_the_newest_dwell_unknown(self, kind, options):
        """State t under 'known' equals that of an 'observed' net on the prefix with its last dwell unknown."""
        known, observed = net_of(kind, dwell="known", **options), net_of(kind, dwell="observed", **options)
        events = events_of()
        found = states(known, events)
        for end in range(1, 9):
            prefix = events[:, :end].clone()
            prefix[:, -1, DWELL] = UNKNOWN_BIN
            torch.testing.assert_close(found[:, :, end], states(observed, prefix)[:, :, -1], atol=1e-5, rtol=1e-5)

    def test_the_time_of_the_next_event_moves_nothing_under_known(self, kind, options):
        net, events = net_of(kind, dwell="known", **options), events_of()
        moved = events.clone()
        moved[:, 4, DWELL] = 10 - moved[:, 4, DWELL]  # seen only once event 5 has happened
        first, second = states(net, events), states(net, moved)
        assert torch.equal(first[:, :, :6], second[:, :, :6])
        assert not torch.allclose(first[:, :, 6:], second[:, :, 6:], atol=1e-3)

    def test_the_newest_dwell_counts_under_observed(self, kind, options):
        net, events = net_of(kind, dwell="observed", **options), events_of()
        moved = events.clone()
        moved[:, 4, DWELL] = 10 - moved[:, 4, DWELL]
        first, second = states(net, events), states(net, moved)
        assert torch.equal(first[:, :, :5], second[:, :, :5])
        assert not torch.allclose(first[:, :, 5], second[:, :, 5], atol=1e-3)


@pytest.mark.parametrize("kind", TIME_NETS)
class TestAttention:
    def test_without_the_residual_only_the_attended_state_is_left(self, kind):
        net, wide = net_of(kind, residual=False), net_of(kind, residual=True)
        assert wide.projection.in_features - net.projection.in_features == 6

    def test_attention_by_session_forgets_the_sessions_before(self, kind):
        """Without the hidden state, events before the session start have no effect."""
        events = events_of(batch=1)
        events[0, :, SESSION_START] = torch.tensor([1, 0, 0, 1, 0, 0, 0, 0])
        scoped = net_of(kind, scope="session", residual=False)
        hidden = torch.randn(1, 8, 6, generator=torch.Generator().manual_seed(0))
        changed = hidden.clone()
        changed[:, :3] += 1.0
        with torch.no_grad():
            first, second = scoped.mix(hidden, hidden, events, None), scoped.mix(changed, changed, events, None)
        torch.testing.assert_close(first[:, 3:], second[:, 3:])
        assert not torch.allclose(first[:, :3], second[:, :3])


@pytest.mark.parametrize("kind", [AsarsUserCatNet, AsarsUserAttNet, AsarsTimeUserNet])
class TestUsers:
    def test_users_move_the_scores(self, kind):
        net, events = net_of(kind), events_of()
        other = events.clone()
        other[:, :, USER] = events[:, :, USER] % 3 + 1
        assert not torch.allclose(states(net, events), states(net, other), atol=1e-3)

    def test_a_user_counts_before_his_first_event(self, kind):
        events = events_of()
        events[:, :, USER] = torch.tensor([1, 1, 2])[:, None]
        start = states(net_of(kind), events)[:, :, 0]
        assert torch.equal(start[0], start[1]) and not torch.allclose(start[0], start[2], atol=1e-3)


class TestSwitchedOff:
    def test_anonymous_user_cat_is_the_plain_recurrent_net(self):
        """Without users, the net equals an LSTM and a linear layer."""
        plain, net = net_of(SessionNet), net_of(AsarsUserCatNet)
        with torch.no_grad():
            net.user_embeddings.weight[0] = 0.0  # as trained: the padding row
            for name, weight in plain.named_parameters():
                if not name.startswith("projection"):
                    weight.copy_(dict(net.named_parameters())[name])
            plain.projection.weight.copy_(net.projection.weight[:, :6])
            plain.projection.bias.copy_(net.projection.bias)
        events = events_of()
        events[:, :, USER] = 0
        torch.testing.assert_close(states(net, events), states(plain, events), atol=1e-6, rtol=1e-6)

    def test_the_plain_net_is_an_lstm_over_embeddings(self):
        net, events = net_of(SessionNet), events_of()
        lstm = torch.nn.LSTM(7, 6, batch_first=True)
        lstm.load_state_dict(net.recurrent.state_dict())
        with torch.no_grad():
            expected = net.projection(lstm(net.item_embeddings(events[:, :, ITEM]))[0])  # (batch, time, dim)
        torch.testing.assert_close(states(net, events)[:, :, 1:], expected.permute(0, 2, 1))

    @pytest.mark.parametrize("kind", [AsarsUserCatNet, AsarsUserAttNet, AsarsTimeAttNet, AsarsTimeUserNet])
    @pytest.mark.parametrize("recurrent", ["lstm", "gru"])
    def test_every_net_begins_as_the_plain_recurrent_net(self, kind, recurrent):
        """Before the first optimizer step, the state is the newest hidden state alone."""
        torch.manual_seed(0)
        net = kind(20, 7, num_users=4, num_dwell_bins=9, hidden_dim=7, recurrent=recurrent).eval()
        events = events_of()
        with torch.no_grad():
            expected = net.recurrent(net.item_embeddings(events[:, :, ITEM]))  # (batch, time, dim)
        torch.testing.assert_close(states(net, events)[:, :, 1:], expected.permute(0, 2, 1))
        without = kind(20, 7, num_users=4, num_dwell_bins=9, hidden_dim=7, residual=False)
        assert isinstance(net.projection, torch.nn.Linear)
        if kind is not AsarsUserCatNet:
            assert (without.projection.weight != 0).all(), "there is no newest state to pass on"

    def test_gru4rec_has_no_layer_between_where_sizes_agree(self):
        torch.manual_seed(0)
        net = GRU4RecNet(20, 7).eval()
        events = events_of()
        gru = torch.nn.GRU(7, 7, batch_first=True)
        gru.load_state_dict(net.recurrent.state_dict())
        with torch.no_grad():
            expected = gru(net.item_embeddings(events[:, :, ITEM]))[0]
        torch.testing.assert_close(states(net, events)[:, :, 1:], expected.permute(0, 2, 1))
        assert not any(name.startswith("projection") for name, _ in net.named_parameters())


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"scope": "day"}, "sequence, session"),
            ({"attention": "square"}, "linear, dense"),
            ({"recurrent": "rnn"}, "lstm, gru"),
            ({"dropout": 1.0}, "dropout is 1.0"),
            ({"hidden_dropout": -0.1}, "hidden_dropout is -0.1"),
            ({"hidden_dim": 0}, "hidden_dim is 0"),
            ({"projection_scale": 0.0}, "projection_scale is 0.0: give more than 0"),
            ({"hiden_dim": 3}, "hidden_dim, user_dim"),
            ({"hidden_scope": "day"}, "hidden_scope is 'day': choose one of sequence, session"),
            ({"context": ("hour", "month")}, "context is 'month': choose one of session_gap, session_duration, hour"),
        ],
    )
    def test_a_wrong_option_names_the_right_ones(self, options, named):
        with pytest.raises(ValueError, match=named):
            NetOptions.of(options)

    def test_a_wrong_dwell_rule_names_the_right_ones(self):
        with pytest.raises(ValueError, match="observed, known"):
            SessionNet(5, dwell="guessed")

    def test_sizes_default_to_the_papers(self):
        options = NetOptions()
        assert (options.hidden_dim, options.user_dim, options.dwell_dim, options.dropout) == (100, 32, 16, 0.5)
        assert AsarsTimeUserNet(5).embedding_dim == 64

    def test_dropout_acts_in_training_only(self):
        net = net_of(AsarsTimeUserNet, dropout=0.5)
        events = events_of()
        assert torch.equal(states(net, events), states(net, events))
        net.train()
        assert not torch.equal(states(net, events), states(net, events))

    def test_an_item_embedding_can_be_given(self):
        layer = torch.nn.Embedding(20, 7)
        assert GRU4RecNet(20, 7, item_embedding_layer=layer).item_embeddings is layer
