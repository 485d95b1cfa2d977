"""The baselines: numbers computed by hand, slow loops in float64, and what each can and cannot learn."""

import math

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.channels import ITEM, NUM_CHANNELS, SESSION_START, TARGET, TIME, UNKNOWN_TIME, USER
from spotlight_asars.layers.basic import running_sum
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.baselines import WaveNetNet, YouTubeDNNNet
from spotlight_asars.sequence.representations.factorization import BPRMFNet, FPMCNet, TimeSVDNet
from spotlight_asars.sequence.representations.scoring import target_states

NETS = [BPRMFNet, FPMCNet, TimeSVDNet, YouTubeDNNNet, WaveNetNet]
USER_NETS = [BPRMFNet, FPMCNet, TimeSVDNet, YouTubeDNNNet]
DAY = 86_400


def events_of(items, user=0, seconds=None):
    """One row of events: (1, time, channel)."""
    events = np.zeros((1, len(items), NUM_CHANNELS), dtype=np.int64)
    events[0, :, ITEM], events[0, :, USER] = items, user
    events[0, :, TIME] = UNKNOWN_TIME if seconds is None else seconds
    events[0, :1, SESSION_START] = 1
    return torch.from_numpy(events)


def some_events(seed=0, batch=3, time=9):
    """Random rows of known users; one event's time is unknown."""
    random_state = np.random.RandomState(seed)
    rows = [
        events_of(random_state.randint(1, 12, time), 1 + row % 3, random_state.randint(0, 3 * DAY, time).cumsum())
        for row in range(batch)
    ]
    events = torch.cat(rows)  # (batch, time, channel)
    events[0, 3, TIME] = UNKNOWN_TIME
    return events


def net_of(kind, **settings):
    """Return a float64 net with large weights, so that every part matters; padding rows are zero."""
    torch.manual_seed(0)
    net = kind(12, 6, num_users=4, **settings).double().eval()
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
    return torch.cat([before, final[:, :, None]], dim=2).permute(0, 2, 1)  # (batch, time + 1, dim)


def put(weight, values):
    with torch.no_grad():
        weight.copy_(torch.tensor(values, dtype=weight.dtype).view_as(weight))


def scores_of(net, events):
    """Scores of all items after the last event, (items - 1,)."""
    with torch.no_grad():
        return net.score_shared(net.user_representation(events)[1])[0]


def check(found, expected, tolerance=1e-6):
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), atol=tolerance, rtol=0)


class TestByHand:
    def test_bpr_mf(self):
        net = BPRMFNet(3, 2, num_users=2).eval()
        put(net.item_embeddings.weight, [[0, 0], [1, 2], [3, -1]])
        put(net.item_biases.weight, [0, 0.5, 0.25])
        put(net.user_embeddings.weight, [[0, 0], [2, 1]])
        check(scores_of(net, events_of([1, 2], user=1)), [2 + 2 + 0.5, 6 - 1 + 0.25])
        check(scores_of(net, events_of([1, 2])), [0.5, 0.25])
        check(scores_of(net, torch.tensor([[0, 2, 1]])), [0.5, 0.25])

    def test_fpmc(self):
        """Half of an item's dimensions multiply the last item, the other half the user."""
        net = FPMCNet(3, 4, num_users=2).eval()
        put(net.item_embeddings.weight, [[0, 0, 0, 0], [1, 2, 3, 4], [-1, 0, 1, 2]])
        put(net.item_biases.weight, [0, 0.5, 0.25])
        put(net.user_embeddings.weight, [[0, 0], [2, 1]])
        put(net.last_item_embeddings.weight, [[0, 0], [5, 7], [1, -1]])
        chain = [1 * 1 + 2 * -1, -1 * 1]  # after item 2
        check(scores_of(net, events_of([1, 2], user=1)), [chain[0] + 6 + 4 + 0.5, chain[1] + 2 + 2 + 0.25])
        check(scores_of(net, events_of([1, 2])), [chain[0] + 0.5, chain[1] + 0.25])
        check(states_of(net, events_of([1, 2], user=1))[0, 0], [0, 0, 2, 1])  # before any event

    def test_youtube_dnn(self):
        net = YouTubeDNNNet(3, 1, layers=1, num_users=2, user_dim=1, hidden_dim=2).eval()
        put(net.item_embeddings.weight, [0, 2, 6])
        put(net.user_embeddings.weight, [0, 10])
        put(net.projection[0].weight, [[1, 1], [-1, 0.1]])  # over [mean ; user]
        put(net.projection[0].bias, [0, 3])
        put(net.projection[2].weight, [1, 2])
        put(net.projection[2].bias, [0.5])
        # The means are 0, 2, 4: relu(0 + 10), relu(0 + 1 + 3); relu(2 + 10), relu(-2 + 1 + 3); and relu(14), relu(0).
        check(states_of(net, events_of([1, 2], user=1))[0, :, 0], [10 + 8 + 0.5, 12 + 4 + 0.5, 14 + 0.5])
        check(states_of(net, events_of([1, 2]))[0, :, 0], [0 + 6 + 0.5, 2 + 2 + 0.5, 4 + 0.5])

    def test_wavenet(self):
        """One block of one channel: z_1 = tanh(2) sigmoid(1), z_2 = tanh(2 * 3 - 1) sigmoid(3)."""
        net = WaveNetNet(3, 1, depth=1, kernel=2).eval()
        put(net.item_embeddings.weight, [0, 1, 3])
        put(net.entry.weight, [1])
        put(net.entry.bias, [0])
        put(net.blocks[0].gated.weight, [[-1, 2], [0, 1]])  # the older tap, then the newest
        put(net.blocks[0].gated.bias, [0, 0])
        put(net.blocks[0].skip.weight, [10])
        put(net.blocks[0].skip.bias, [1])
        put(net.exit.weight, [1])
        put(net.exit.bias, [-2])
        put(net.projection.weight, [0.5])
        put(net.projection.bias, [0.25])
        # 10 * .704763 + 1 - 2 = 6.047626, and 10 * .952488 + 1 - 2 = 8.523... ; each halved, and .25 more.
        check(states_of(net, events_of([1, 2]))[0, :, 0], [0.25, 3.273816, 4.512438], 2e-5)

    def test_time_svd(self):
        net = TimeSVDNet(3, 1, num_users=2).eval()
        put(net.item_embeddings.weight, [0, 2, 3])
        put(net.item_biases.weight, [0, 0.5, 0.25])
        put(net.implicit_embeddings.weight, [0, 1, 5])
        put(net.user_embeddings.weight, [[0, 0, 0, 0], [7, 0.5, 11, 0.1]])  # p, a, b, c
        put(net.period_biases.weight, [0, 10, 20, 30, 40, 50, 60, 70])
        events = events_of([1, 2], user=1, seconds=[2 * DAY, 34 * DAY])  # a Wednesday, then a Sunday
        # dev(32 days) = 32 ** .4 = 4; two events: (1 + 5) / sqrt(2) = 4.2426407.
        state = 7 + 0.5 * 4 + 4.2426407 + 70
        check(scores_of(net, events), [2 * state + 0.5 + 11 + 0.4, 3 * state + 0.25 + 11 + 0.4], 1e-4)
        check(states_of(net, events)[0, :2], [[7, 11], [7 + 1 + 30, 11]])
        check(states_of(net, events_of([1, 2]))[0], [[0, 0], [1, 0], [4.2426407, 0]], 1e-5)

    def test_time_svd_by_the_hour(self):
        net = TimeSVDNet(3, 1, period="hour").eval()
        put(net.implicit_embeddings.weight, [0, 0, 0])
        put(net.period_biases.weight, list(range(25)))
        states = states_of(net, events_of([1, 2, 1], seconds=[0, 5 * 3600, UNKNOWN_TIME]))
        check(states[0, :, 0], [0, 1, 6, 0])


class TestAgainstLoops:
    @pytest.mark.parametrize("window", [None, 1, 3, 20])
    def test_youtube_dnn(self, window):
        net, events = net_of(YouTubeDNNNet, layers=2, window=window, user_dim=3, hidden_dim=5), some_events()
        found = states_of(net, events)
        table, users = net.item_embeddings.weight, net.user_embeddings.weight
        for row in range(3):
            for step in range(10):
                newest = events[row, :step, ITEM].tolist()[-(window or step) :] if step else []
                mean = sum((table[item] for item in newest), torch.zeros(6).double()) / max(1, len(newest))
                state = torch.cat([mean, users[events[row, 0, USER]]])
                for layer in (net.projection[0], net.projection[2]):
                    state = (layer.weight @ state + layer.bias).clamp(min=0.0)
                state = net.projection[4].weight @ state + net.projection[4].bias
                torch.testing.assert_close(found[row, step], state.detach())

    @pytest.mark.parametrize(("kernel", "depth", "hidden_dim"), [(2, 3, 6), (3, 3, 4), (2, 1, 6)])
    def test_wavenet(self, kernel, depth, hidden_dim):
        net, events = net_of(WaveNetNet, kernel=kernel, depth=depth, hidden_dim=hidden_dim), some_events()
        found = states_of(net, events)
        weights = {name: weight.detach().numpy() for name, weight in net.named_parameters()}
        for row in range(3):
            expected = wavenet_by_loop(weights, events[row, :, ITEM].numpy(), kernel, depth)
            np.testing.assert_allclose(found[row], expected, atol=1e-10)

    def test_time_svd(self):
        net, events = net_of(TimeSVDNet), some_events()
        found = states_of(net, events)
        dim, implicit = 6, net.implicit_embeddings.weight.detach()
        for row in range(3):
            user = net.user_embeddings.weight[events[row, 0, USER]].detach()
            state, first, total = torch.cat([user[:dim], user[2 * dim : 2 * dim + 1]]), None, torch.zeros(dim).double()
            torch.testing.assert_close(found[row, 0], state)
            for step in range(9):
                total = total + implicit[events[row, step, ITEM]]
                seconds, age, weekday = int(events[row, step, TIME]), 0.0, 0
                if seconds != UNKNOWN_TIME:
                    first = seconds if first is None else first
                    age, weekday = ((seconds - first) / DAY) ** 0.4, seconds // DAY % 7 + 1
                vector = user[:dim] + user[dim : 2 * dim] * age + total / math.sqrt(step + 1)
                vector = vector + net.period_biases.weight[weekday].detach()
                constant = user[2 * dim] + user[2 * dim + 1] * age
                torch.testing.assert_close(found[row, step + 1], torch.cat([vector, constant[None]]))

    @pytest.mark.parametrize("window", [None, 1, 2, 4, 5, 9])
    def test_running_sum(self, window):
        values = torch.arange(1.0, 6.0)[None, :, None]
        expected = [sum(range(max(1, end + 1 - (window or end)), end + 1)) for end in range(1, 6)]
        check(running_sum(values, window)[0, :, 0], expected)
        assert running_sum(values[:, :0], window).shape == (1, 0, 1)


def wavenet_by_loop(weights, items, kernel, depth):
    """Return states after 0, 1, ... events, (time + 1, dim), by explicit loops."""

    def sigmoid(value):
        return 1.0 / (1.0 + np.exp(-value))

    def pointwise(name, signal):
        return [weights[f"{name}.weight"][:, :, 0] @ column + weights[f"{name}.bias"] for column in signal]

    signal = pointwise("entry", [weights["item_embeddings.weight"][item] for item in items])
    channels = len(signal[0])
    skips = [np.zeros(channels) for _ in signal]
    for place in range(depth):
        taps, passed = weights[f"blocks.{place}.gated.weight"], []
        for step in range(len(signal)):
            total = weights[f"blocks.{place}.gated.bias"].copy()
            for tap in range(kernel):
                source = step - (kernel - 1 - tap) * 2**place
                if source >= 0:
                    total += taps[:, :, tap] @ signal[source]
            passed.append(np.tanh(total[:channels]) * sigmoid(total[channels:]))
        skips = [skip + new for skip, new in zip(skips, pointwise(f"blocks.{place}.skip", passed), strict=True)]
        if place < depth - 1:
            added = pointwise(f"blocks.{place}.residual", passed)
            signal = [column + new for column, new in zip(signal, added, strict=True)]
    out = [np.zeros(channels), *np.maximum(0, pointwise("exit", [np.maximum(0, skip) for skip in skips]))]
    return np.array([weights["projection.weight"] @ column + weights["projection.bias"] for column in out])


class TestWhatCounts:
    @pytest.mark.parametrize(("kernel", "depth", "seen"), [(2, 5, 32), (3, 2, 7)])
    def test_wavenet_sees_as_far_as_it_says(self, kernel, depth, seen):
        net = net_of(WaveNetNet, kernel=kernel, depth=depth)
        events = some_events(batch=1, time=40)
        for back, counts in ((seen - 1, True), (seen, False)):
            changed = events.clone()
            changed[0, 39 - back, ITEM] = events[0, 39 - back, ITEM] % 11 + 1
            same = torch.equal(states_of(net, changed)[:, -1], states_of(net, events)[:, -1])
            assert same is not counts

    def test_wavenet_begins_with_states_of_unit_size(self):
        """With torch's initialization states varied by only a few thousandths between items."""
        torch.manual_seed(0)
        net = WaveNetNet(12, 64).eval()
        net.projection = torch.nn.Identity()
        spread = states_of(net, some_events())[:, 1:].std(dim=(0, 1)).mean()
        assert 0.3 < spread < 3.0

    @pytest.mark.parametrize("kind", [BPRMFNet, FPMCNet, YouTubeDNNNet, WaveNetNet])
    def test_times_count_for_time_svd_alone(self, kind):
        net, events = net_of(kind), some_events()
        moved = events.clone()
        moved[:, :, TIME] = UNKNOWN_TIME
        assert torch.equal(states_of(net, moved), states_of(net, events))

    @pytest.mark.parametrize("kind", USER_NETS)
    def test_users_count_and_an_anonymous_one_is_nobody(self, kind):
        net, events = net_of(kind), some_events()
        other, nobody = events.clone(), events.clone()
        other[:, :, USER] = events[:, :, USER] % 3 + 1
        nobody[:, :, USER], nobody[:, :, TIME] = 0, UNKNOWN_TIME
        assert not torch.allclose(states_of(net, other), states_of(net, events), atol=1e-3)
        assert torch.equal(states_of(net, nobody), states_of(net, events[:, :, ITEM]))  # items alone

    @pytest.mark.parametrize("kind", NETS)
    def test_rows_without_events(self, kind):
        net = net_of(kind)
        for empty in (torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 3, dtype=torch.long)):
            states = states_of(net, empty)
            assert states.shape[:2] == (2, empty.shape[1] + 1) and states.isfinite().all()
        assert states_of(net, torch.zeros(2, 0, NUM_CHANNELS, dtype=torch.long)).shape[1] == 1

    @pytest.mark.parametrize("kind", NETS)
    def test_padding_and_what_is_behind_move_nothing(self, kind):
        net, events = net_of(kind), some_events()
        padded = torch.cat([torch.zeros_like(events[:, :4]), events], dim=1)
        torch.testing.assert_close(states_of(net, padded)[:, 4:], states_of(net, events))
        torch.testing.assert_close(states_of(net, events[:, :5]), states_of(net, events)[:, :6])
        torch.testing.assert_close(states_of(net, events[:1]), states_of(net, events)[:1])


class TestTraining:
    @pytest.mark.parametrize("kind", NETS)
    @pytest.mark.parametrize("sparse", [False, True])
    def test_gradients_reach_every_parameter(self, kind, sparse):
        torch.manual_seed(0)
        net = kind(12, 6, num_users=4, sparse=sparse)
        events = some_events(seed=1)
        before, _ = net.user_representation(events)
        weights = torch.arange(1.0, 28.0).view(3, 9)
        (net(before, events[:, :, ITEM]).sigmoid() * weights).sum().backward()
        for name, weight in net.named_parameters():
            table = any(weight is module.weight for module in net.modules() if isinstance(module, torch.nn.Embedding))
            gradient = weight.grad
            assert gradient is not None, name
            assert gradient.is_sparse == (sparse and table), name
            assert (gradient.to_dense() != 0).any(), name

    @pytest.mark.parametrize(
        ("kind", "options", "named"),
        [
            (YouTubeDNNNet, {"layers": 0}, "layers is 0"),
            (YouTubeDNNNet, {"window": 0}, "window is 0"),
            (YouTubeDNNNet, {"layers": 1.5}, "layers is 1.5"),
            (WaveNetNet, {"depth": 0}, "depth is 0"),
            (WaveNetNet, {"kernel": 1}, "kernel is 1"),
            (TimeSVDNet, {"period": "year"}, "weekday, hour"),
            (BPRMFNet, {"user_dim": 3}, "user_dim is 3 and embedding_dim 8"),
            (TimeSVDNet, {"user_dim": 3}, "user_dim is 3 and embedding_dim 8"),
            (FPMCNet, {"user_dim": 8}, "user_dim is 8 and embedding_dim 8"),
            (WaveNetNet, {"layers": 2}, "no net option is called 'layers'"),
        ],
    )
    def test_a_wrong_option_is_told(self, kind, options, named):
        with pytest.raises(ValueError, match=named):
            kind(5, 8, **options)

    def test_fpmc_shares_the_embedding_as_asked(self):
        net = FPMCNet(5, 7, user_dim=2)
        assert net.last_item_embeddings.embedding_dim == 5 and net.user_embeddings.embedding_dim == 2
        assert FPMCNet(5, 7).user_embeddings.embedding_dim == 3


class TestLearning:
    """On a ring of 24 items, each followed by the next; guessing scores .157, the mean of 1/1 to 1/24."""

    @pytest.fixture
    def mrr(self, chain_rows):
        rows = chain_rows()
        test = chain_rows(seed=1, binning=rows.binning)

        def measure(representation, **options):
            settings = {"n_iter": 25, "batch_size": 8, "learning_rate": 0.02, "random_state": 0}
            options = {"dropout": 0.0, **options}
            model = ASARSSequenceModel("cross_entropy", representation, representation_options=options, **settings)
            model.fit(rows)
            scores = model.item_scores(target_states(model.net, test, 8))  # (targets, items)
            events = torch.from_numpy(test.padded_events(np.arange(len(test))))
            target = events[:, :, ITEM][events[:, :, TARGET] != 0][:, None] - 1  # (targets, 1)
            own = scores.gather(1, target)
            return (1.0 / (1.0 + (scores > own).sum(dim=1) + ((scores == own).sum(dim=1) - 1) / 2)).mean().item()

        return measure

    @pytest.mark.parametrize("representation", ["wavenet_cnn", "fpmc"])
    def test_nets_that_know_the_order(self, mrr, representation):
        assert mrr(representation) > 0.85

    def test_bags_of_items(self, mrr):
        """Without order the next item is one of a few; a window of one item gives the order."""
        assert mrr("youtube_dnn", window=1) > 0.85
        assert mrr("youtube_dnn") > 0.35
        assert mrr("time_svd") > 0.35

    def test_no_sequence_no_better_than_a_guess(self, mrr):
        """The control: users' other rows are at other places of the ring, so user embeddings cannot help."""
        assert mrr("bpr_mf") < 0.25
