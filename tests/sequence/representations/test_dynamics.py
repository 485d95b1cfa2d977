"""Temporal dynamics: numbers computed by hand, a slow loop in float64, unknown times, and what is learned."""

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import (
    DWELL,
    ITEM,
    NUM_CHANNELS,
    SESSION_START,
    TARGET,
    TIME,
    UNKNOWN_TIME,
    USER,
)
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.dynamics import (
    AsarsDynamicsNet,
    DecayedGRU,
    UserTerms,
    days_of_pause,
    days_since_first,
    deviation,
)
from spotlight_asars.sequence.representations.scoring import target_states

DAY = 86_400


def events_of(items, seconds, starts, dwell, user=0):
    """One row of events: (1, time, channel)."""
    events = np.zeros((1, len(items), NUM_CHANNELS), dtype=np.int64)
    for channel, values in ((ITEM, items), (TIME, seconds), (SESSION_START, starts), (DWELL, dwell), (USER, user)):
        events[0, :, channel] = values
    return torch.from_numpy(events)


def some_events(seed=0, batch=4, time=10):
    """Return random rows of users 0 to 3 with gaps of hours to days and some unknown times."""
    random_state = np.random.RandomState(seed)
    rows = []
    for row in range(batch):
        starts = random_state.rand(time) < 0.4
        gaps = np.where(starts, random_state.randint(3600, 5 * DAY, time), random_state.randint(1, 60, time))
        dwell = random_state.randint(1, 9, time)
        rows.append(events_of(random_state.randint(1, 12, time), gaps.cumsum(), starts, dwell, row))
    events = torch.cat(rows)  # (batch, time, channel)
    events[1, 4, TIME] = UNKNOWN_TIME
    events[2, :2, TIME] = UNKNOWN_TIME
    return events


def net_of(**settings):
    """Return a float64 net with large weights, so that every part matters; padding rows are zero."""
    torch.manual_seed(0)
    net = AsarsDynamicsNet(12, 6, num_users=4, num_dwell_bins=9, **settings).double().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.normal_(0.0, 0.5)
        for module in net.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[0] = 0.0
    return net


def states_of(net, events):
    with torch.no_grad():
        before, final = net.user_representation(events)
    return torch.cat([before, final[:, :, None]], dim=2).permute(0, 2, 1)  # (batch, time + 1, dim + 1)


def put(weight, values):
    with torch.no_grad():
        weight.copy_(torch.tensor(values, dtype=weight.dtype).view_as(weight))


def check(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), atol=tolerance, rtol=0)


class TestTimes:
    def test_deviation(self):
        check(deviation(torch.tensor([0.0, 1.0, 32.0, -32.0, 0.5])), [0.0, 1.0, 4.0, -4.0, 0.757858])

    def test_days_since_the_first_known_time(self):
        unknown = UNKNOWN_TIME
        for seconds, days in (
            ([DAY, 2 * DAY, unknown, 4 * DAY], [0, 1, 0, 3]),
            ([unknown, 2 * DAY, 5 * DAY, DAY], [0, 0, 3, -1]),
            ([unknown, unknown], [0, 0]),
            ([], []),
        ):
            zeros = [0] * len(seconds)
            assert days_since_first(events_of(zeros, seconds, zeros, zeros))[0].tolist() == days

    def test_a_pause_counts_at_the_session_start_behind_it(self):
        unknown = UNKNOWN_TIME
        for seconds, starts, days in (
            ([0, 2 * DAY, 3 * DAY, 7 * DAY], [1, 0, 1, 1], [0, 0, 1, 4]),
            ([0, unknown, 3 * DAY, 7 * DAY], [1, 1, 1, 1], [0, 0, 0, 4]),
            ([5 * DAY, DAY], [1, 1], [0, 0]),
            ([], [], []),
        ):
            zeros = [0] * len(seconds)
            assert days_of_pause(events_of(zeros, seconds, starts, zeros))[0].tolist() == days

    def test_time_differences_are_exact_far_from_the_origin(self):
        events = events_of([1, 1], [-(2**31) + 1, 2**31 - 1], [1, 1], [1, 1])
        days = (2**32 - 2) / DAY
        assert days_since_first(events)[0].tolist() == [0.0, days] and days_of_pause(events)[0].tolist() == [0.0, days]


class TestLayers:
    def test_user_terms_begin_as_an_embedding_and_zeros(self):
        torch.manual_seed(0)
        weight = UserTerms(2000, 16, 5).weight
        assert (weight[0] == 0).all() and (weight[:, 16:] == 0).all()
        assert abs(weight[1:, :16].std().item() - 0.25) < 0.01

    def test_without_pauses_it_is_a_gru(self):
        torch.manual_seed(0)
        layer, inputs = DecayedGRU(3, 4).double(), torch.randn(2, 7, 3).double()
        put(layer.fading, [1.0, -1.0, 2.0, 0.0])
        expected = layer.gru(inputs)[0]
        assert torch.equal(layer(inputs), expected) and torch.equal(layer(inputs, torch.zeros(2, 7)), expected)
        some = torch.zeros(2, 7).double()
        some[0, 5] = 1.0  # the loop over time runs, and the other row, and what was before, are as they were
        found = layer(inputs, some)
        torch.testing.assert_close(found[1], expected[1])
        torch.testing.assert_close(found[0, :5], expected[0, :5])
        assert not torch.allclose(found[0, 5:], expected[0, 5:], atol=1e-3)

    def test_half_is_left_after_a_day_and_nothing_after_ages(self):
        torch.manual_seed(0)
        layer, inputs = DecayedGRU(3, 4).double(), torch.randn(1, 2, 3).double()
        after_one = layer(inputs)[:, 0]
        day = layer(inputs, torch.tensor([[0.0, 1.0]]).double())[0, 1]
        torch.testing.assert_close(day, layer.gru(inputs[:, 1:], after_one[None] / 2)[0][0, 0])
        ages = layer(inputs, torch.tensor([[0.0, 1e4]]).double())[0, 1]
        torch.testing.assert_close(ages, layer.gru(inputs[:, 1:])[0][0, 0])


class TestByHand:
    @pytest.fixture
    def net(self):
        """
        Return a net of one dimension. Both gates are 1/2 and the candidate is ``tanh(x + h)``, x = 1 for both items.

        h_1 = tanh(1) / 2 = .3807971; after a day it has halved, h = .1903985, and
        h_2 = tanh(1 + .1903985) / 2 + h / 2 = .5105505. Without the gap it would be .6309632.
        """
        net = AsarsDynamicsNet(3, 1, num_users=2, num_dwell_bins=5).eval()
        put(net.item_embeddings.weight, [0, 1, 1])
        put(net.item_biases.weight, [0, 0.5, 0.25])
        put(net.user_embeddings.weight, [[0, 0, 0], [2, 3, 0.5]])  # e_u, b_u, alpha_u - 1
        put(net.dwell_biases.weight, [0, 10, 20, 30, 40])
        gru = net.recurrent.gru
        for weight, values in ((gru.weight_ih_l0, [0, 0, 1]), (gru.weight_hh_l0, [0, 0, 2])):
            put(weight, values)  # reset, update, candidate
        put(gru.bias_ih_l0, [0, 0, 0])
        put(gru.bias_hh_l0, [0, 0, 0])
        return net

    def events(self, user, seconds=(0, DAY)):
        return events_of([1, 2], seconds, [1, 1], [2, 3], user)

    def test_a_user(self, net):
        interest = [0.0, 0.3807971, 0.5105505]
        bins = [0, 0, 20]  # 'known': the bin of the event before the newest
        expected = [[2 + 1.5 * h + v, 3 + 1.5 * age] for h, v, age in zip(interest, bins, [0, 0, 1], strict=True)]
        check(states_of(net, self.events(1))[0], expected)

    def test_the_newest_dwell_counts_under_observed(self, net):
        net.dwell = "observed"
        expected = [[2, 3], [2 + 1.5 * 0.3807971 + 20, 3], [2 + 1.5 * 0.5105505 + 30, 4.5]]
        check(states_of(net, self.events(1))[0], expected)

    def test_an_anonymous_user(self, net):
        check(states_of(net, self.events(0))[0], [[0, 0], [0.3807971, 0], [0.5105505 + 20, 1]])

    def test_unknown_times_let_nothing_fade(self, net):
        for seconds in ((0, UNKNOWN_TIME), (UNKNOWN_TIME, 0), (UNKNOWN_TIME, UNKNOWN_TIME)):
            check(states_of(net, self.events(0, seconds))[0], [[0, 0], [0.3807971, 0], [0.6309632 + 20, 0]])

    def test_scores(self, net):
        state = torch.tensor([[2.0, 3.0], [4.0, -1.0]])
        with torch.no_grad():
            check(net.score_shared(state), [[2.5 + 3, 2.25 + 3], [4.5 - 1, 4.25 - 1]])
            check(net.score_shared(state, torch.tensor([2])), [[5.25], [3.25]])
            check(net.score(state, torch.tensor([2, 1])), [5.25, 3.5])
            check(net.score(state, torch.tensor([[2, 1], [1, 1]])), [[5.25, 3.5], [5.5, 3.5]])
            check(net(state[:, :, None], torch.tensor([[2], [1]])), [[5.25], [3.5]])


def states_by_loop(net, events):
    """Return states after 0, 1, ... events of one row, (time + 1, dim + 1), one event at a time."""
    weight = {name: value.detach().numpy() for name, value in net.named_parameters()}
    dim, user = net.embedding_dim, weight["user_embeddings.weight"][events[0, USER]]
    hidden = np.zeros(net.options.hidden_dim)
    to_items = weight.get("to_items.weight", np.eye(len(hidden)))
    first, states = None, [np.append(user[:dim], user[dim])]
    for step, event in enumerate(events):
        age, seconds = 0.0, event[TIME]
        if seconds != UNKNOWN_TIME:
            first = seconds if first is None else first
            age = ((seconds - first) / DAY) ** 0.4
        if step and event[SESSION_START] and UNKNOWN_TIME not in (seconds, events[step - 1, TIME]):
            pause = (seconds - events[step - 1, TIME]) / DAY
            hidden = hidden * np.exp(-np.log1p(np.exp(weight["recurrent.fading"])) * pause**0.4)
        hidden = gru_step(weight, weight["item_embeddings.weight"][event[ITEM]], hidden)
        newest = step if net.dwell == "observed" else step - 1
        dwell = weight["dwell_biases.weight"][events[newest, DWELL]] if newest >= 0 else 0.0
        alpha = 1.0 + user[dim + 1]
        states.append(np.append(user[:dim] + alpha * to_items @ hidden + dwell, user[dim] + alpha * age))
    return np.array(states)


def gru_step(weight, inputs, hidden):
    wanted = weight["recurrent.gru.weight_ih_l0"] @ inputs + weight["recurrent.gru.bias_ih_l0"]
    past = weight["recurrent.gru.weight_hh_l0"] @ hidden + weight["recurrent.gru.bias_hh_l0"]
    (reset, update, new), (past_reset, past_update, past_new) = wanted.reshape(3, -1), past.reshape(3, -1)
    reset, update = (1.0 / (1.0 + np.exp(-gate)) for gate in (reset + past_reset, update + past_update))
    return (1.0 - update) * np.tanh(new + reset * past_new) + update * hidden


class TestTheNet:
    @pytest.mark.parametrize("dwell", ["known", "observed"])
    @pytest.mark.parametrize("hidden_dim", [6, 4])
    def test_against_a_loop(self, dwell, hidden_dim):
        net, events = net_of(dwell=dwell, hidden_dim=hidden_dim), some_events()
        found = states_of(net, events)
        for row in range(4):
            np.testing.assert_allclose(found[row], states_by_loop(net, events[row].numpy()), atol=1e-10)

    def test_known_is_observed_with_a_dwell_of_the_event_before(self):
        known, observed = net_of(dwell="known"), net_of(dwell="observed")
        events = some_events()
        later = events.clone()
        later[:, 1:, DWELL] = events[:, :-1, DWELL]
        later[:, 0, DWELL] = 0
        assert torch.equal(states_of(known, events), states_of(observed, later))
        moved = events.clone()
        moved[:, -1, DWELL] = UNKNOWN_BIN
        assert torch.equal(states_of(known, events), states_of(known, moved))

    def test_items_alone_are_a_gru_over_their_embeddings(self):
        net, items = net_of(), some_events()[:, :, ITEM]
        found = states_of(net, items)
        with torch.no_grad():
            hidden = net.recurrent.gru(net.item_embeddings(items))[0]
        expected = hidden.clone()
        expected[:, 1:] += net.dwell_biases.weight[UNKNOWN_BIN].detach()
        torch.testing.assert_close(found[:, 1:, :-1], expected)
        assert (found[:, 0] == 0).all() and (found[:, :, -1] == 0).all()

    def test_scope_of_a_session_forgets_the_sessions_before(self):
        net, events = net_of(hidden_scope="session"), some_events()
        events[:, :, SESSION_START] = torch.tensor([1, 0, 0, 1, 0, 0, 1, 0, 0, 0])
        changed = events.clone()
        changed[:, :6, ITEM] = events[:, :6, ITEM] % 11 + 1
        before, after = states_of(net, events), states_of(net, changed)
        torch.testing.assert_close(after[:, 7:], before[:, 7:])
        assert not torch.allclose(after[:, 6], before[:, 6], atol=1e-3)
        across = net_of()
        assert not torch.allclose(states_of(across, changed)[:, 7:], states_of(across, events)[:, 7:], atol=1e-3)

    def test_what_is_behind_and_beside_moves_nothing(self):
        net, events = net_of(), some_events()
        whole = states_of(net, events)
        for end in range(1, 10):
            torch.testing.assert_close(states_of(net, events[:, :end]), whole[:, : end + 1])
        for row in range(4):
            torch.testing.assert_close(states_of(net, events[row : row + 1]), whole[row : row + 1])
        padded = torch.cat([events[:, :3], torch.zeros_like(events), events[:, 3:]], dim=1)
        torch.testing.assert_close(states_of(net, padded)[:, -8:], whole[:, -8:])

    def test_rows_without_events(self):
        net = net_of()
        for empty in (torch.zeros(2, 0, NUM_CHANNELS), torch.zeros(2, 3, NUM_CHANNELS), torch.zeros(2, 0)):
            assert (states_of(net, empty.long()) == 0).all()

    def test_users_taken_for_anonymous_in_training(self):
        """User dropout drops the bias and the evolution with the embedding."""
        net, events = net_of(user_dropout=0.99, dropout=0.0), some_events()
        nobody = events.clone()
        nobody[:, :, USER] = 0
        torch.manual_seed(0)
        assert torch.equal(states_of(net.train(), events), states_of(net.eval(), nobody))

    @pytest.mark.parametrize("sparse", [False, True])
    def test_gradients_reach_every_parameter(self, sparse):
        torch.manual_seed(0)
        net = AsarsDynamicsNet(12, 6, num_users=4, num_dwell_bins=9, hidden_dim=5, sparse=sparse)
        events = some_events(seed=1)
        before, _ = net.user_representation(events)
        (net(before, events[:, :, ITEM]).sigmoid() * torch.arange(1.0, 41.0).view(4, 10)).sum().backward()
        for name, weight in net.named_parameters():
            assert weight.grad is not None and (weight.grad.to_dense() != 0).any(), name
            assert weight.grad.is_sparse == (sparse and name.split(".")[0].endswith(("embeddings", "biases"))), name
        assert (net.user_embeddings.weight.grad.to_dense()[1:, 6:] != 0).all()  # b_u and alpha_u of each user
        assert (net.recurrent.fading.grad != 0).all()

    @pytest.mark.parametrize(
        ("options", "named"),
        [({"user_dim": 3}, "user_dim is 3 and embedding_dim 8"), ({"recurrent": "lstm"}, "recurrent is 'lstm'")],
    )
    def test_a_wrong_option_is_told(self, options, named):
        with pytest.raises(ValueError, match=named):
            AsarsDynamicsNet(5, 8, **options)


class TestLearning:
    def test_a_chain(self, chain_rows):
        rows = chain_rows()
        test = chain_rows(seed=1, binning=rows.binning)
        assert reciprocal_ranks(fitted(rows), test).mean() > 0.85  # a guess gets .157

    def test_a_long_pause_ends_what_was_begun(self):
        """
        Items 1 and 2 determine the second item of the next session, unless the gap was long: then it is 5.

        The net has to learn how its state decays. The control has unknown times, so it cannot tell the two cases apart.
        """
        rows, blind = pause_rows(), pause_rows(known=False)
        events, right = torch.from_numpy(rows), torch.from_numpy(rows[:, -1, ITEM])
        found = []
        for given in (events, torch.from_numpy(blind)):
            torch.manual_seed(0)
            net = AsarsDynamicsNet(6, 16, dropout=0.0)
            optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
            for _ in range(150):
                optimizer.zero_grad()
                scores = net.score_shared(net.user_representation(given[:, :-1])[1])
                torch.nn.functional.cross_entropy(scores, right - 1).backward()
                optimizer.step()
            found.append((scores.argmax(dim=1) + 1 == right).double().mean().item())
        assert found[0] > 0.95 and found[1] < 0.8, found


def pause_rows(known=True):
    """Return rows of a session of one item, a gap of an hour or of 30 days, and a session of two items."""
    rows = []
    for place in range(40):
        first, long = 1 + place % 2, place // 2 % 2
        seconds = np.array([0, 3600 + 30 * DAY * long, 3610 + 30 * DAY * long])
        rows.append(
            events_of([first, 3, 5 if long else first], seconds if known else UNKNOWN_TIME, [1, 1, 0], UNKNOWN_BIN)
        )
    return torch.cat(rows).numpy()


def fitted(rows):
    settings = {"n_iter": 25, "batch_size": 8, "learning_rate": 0.02, "random_state": 0}
    options = {"dropout": 0.0}
    return ASARSSequenceModel("cross_entropy", "asars_dynamics", representation_options=options, **settings).fit(rows)


def reciprocal_ranks(model, rows):
    scores = model.item_scores(target_states(model.net, rows, 8))  # (targets, items)
    events = torch.from_numpy(rows.padded_events(np.arange(len(rows))))
    target = events[:, :, ITEM][events[:, :, TARGET] != 0][:, None] - 1  # (targets, 1)
    own = scores.gather(1, target)
    return 1.0 / (1.0 + (scores > own).sum(dim=1) + ((scores == own).sum(dim=1) - 1) / 2)
