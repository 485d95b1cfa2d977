"""Negatives of a mini-batch, shared or of each target's own: against loops, exact shares, and in a model."""

import warnings

import numpy as np
import pytest
import torch

from spotlight_asars.interactions.channels import ITEM, NUM_CHANNELS, TARGET, USER
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.losses import LOSSES, cross_entropy_loss
from spotlight_asars.sampling import PopularitySampler, SeenItems
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.representations.scoring import TargetStates
from spotlight_asars.sequence.training import negatives as negatives_module
from spotlight_asars.sequence.training.negatives import LocalNegatives, SharedNegatives


class Table(torch.nn.Module):
    """The least that scores by a dot product."""

    def __init__(self, num_items, dim=3):
        super().__init__()
        torch.manual_seed(0)
        self.item_embeddings = torch.nn.Embedding(num_items, dim)
        self.item_biases = torch.nn.Embedding(num_items, 1)

    def forward(self, states, items):
        return (self.item_embeddings(items[:, 0]) * states).sum(dim=1) + self.item_biases(items[:, 0])[:, 0]


def rows_of(*rows):
    """Rows of equal length, of whose events each is a target."""
    events = torch.ones(len(rows), len(rows[0]), NUM_CHANNELS, dtype=torch.long)  # (batch, time, channel)
    events[:, :, ITEM] = torch.tensor(rows)
    return events


def rows_of_one(items):
    """Each target in a row of its own."""
    return rows_of(*([item] for item in items))


def targets_of(items, dim=3, events=None):
    torch.manual_seed(1)
    events = rows_of(items) if events is None else events
    return TargetStates(events, torch.randn(len(items), dim), torch.tensor(items))


def draws(monkeypatch, *items):
    """Let the sampler draw these."""
    monkeypatch.setattr(PopularitySampler, "draw", lambda sampler, samples, generator=None: torch.tensor(items))


POPULARITY = torch.tensor([0, 6, 2, 0, 1, 7])


class TestShared:
    def test_scores_equal_the_loop_and_a_target_is_no_negative_of_its_own(self, monkeypatch):
        draws(monkeypatch, 5, 1, 1, 2)
        net, targets = Table(6), targets_of([1, 2, 1])
        scores = SharedNegatives(POPULARITY, 4, 0.5).score(net, targets, corrected=False)
        assert scores.shape == (7, 3)
        for row, item in enumerate([1, 2, 1, 5, 1, 1, 2]):
            for target, own in enumerate([1, 2, 1]):
                by_hand = net.item_embeddings.weight[item] @ targets.states[target] + net.item_biases.weight[item, 0]
                if item == own:
                    assert scores[row, target] == -torch.inf
                else:
                    torch.testing.assert_close(scores[row, target], by_hand)

    def test_of_many_targets_some_are_shared_each_as_often_as_another(self, monkeypatch):
        """Regression: all by all, a mini-batch of long rows took gigabytes."""
        draws(monkeypatch, 4)
        targets = targets_of([1, 2, 5, 3, 2, 1])
        shared = SharedNegatives(POPULARITY, 1, 0.5, most_targets=2)
        pairs = []
        monkeypatch.setattr(
            negatives_module, "score_shared_items", lambda net, states, items: pairs.append(items) or torch.zeros(6, 3)
        )
        torch.manual_seed(0)
        for _ in range(600):
            is_own = shared.score(None, targets, corrected=False) == -torch.inf
            assert is_own.shape == (3, 6) and pairs[-1][2] == 4
            np.testing.assert_array_equal(is_own, pairs[-1][:, None] == targets.items)
        counts = np.bincount(torch.cat([items[:2] for items in pairs]), minlength=6)
        # 2 of 6 places: an item that stands once is drawn 200 times, one that stands twice 400 times, of 600
        assert np.abs(counts - [0, 400, 400, 200, 0, 200]).max() < 4 * (400 / 3) ** 0.5

    def test_few_targets_are_all_shared_and_nothing_is_drawn_for_them(self, monkeypatch):
        draws(monkeypatch, 5)
        net, targets = Table(6), targets_of([1, 2, 1])
        torch.manual_seed(0)
        before = torch.get_rng_state()
        bounded, unbounded = (
            SharedNegatives(POPULARITY, 1, 0.5, most_targets=most).score(net, targets, corrected=True)
            for most in (3, 1000)
        )
        assert torch.equal(bounded, unbounded) and torch.equal(torch.get_rng_state(), before)

    def test_as_many_as_asked_for_by_the_power_of_popularity(self, monkeypatch):
        seen = []
        original = PopularitySampler.draw

        def spy(sampler, samples, generator=None):
            seen.append(original(sampler, samples, generator))
            return seen[-1]

        monkeypatch.setattr(PopularitySampler, "draw", spy)
        torch.manual_seed(0)
        scores = SharedNegatives(POPULARITY, 9000, 0.0).score(Table(6), targets_of([1, 2]), corrected=False)
        assert scores.shape == (9002, 2)
        counts = np.bincount(seen[0], minlength=6)
        assert counts[[0, 3]].tolist() == [0, 0] and np.abs(counts[[1, 2, 4, 5]] - 2250).max() < 4 * 2250**0.5

    def test_the_correction_by_hand(self, monkeypatch):
        """Less the log of the expected number among the negatives; the target's own chance to be among them on top."""
        draws(monkeypatch, 5, 4)
        net, targets = Table(6), targets_of([1, 2, 5, 1], events=rows_of([1, 2], [5, 1]))
        negatives = SharedNegatives(POPULARITY, 2, 0.5)
        plain, corrected = (negatives.score(net, targets, corrected=value) for value in (False, True))
        popularity = POPULARITY.numpy().astype(np.float64)
        drawn = np.sqrt(popularity) / np.sqrt(popularity).sum()
        expected = 2 * drawn + 2 * popularity / 16  # two draws, and two targets of the other row
        in_row = [0, 0, 1, 1]
        for place, item in enumerate([1, 2, 5, 1, 5, 4]):
            for target, own in enumerate([1, 2, 5, 1]):
                chance = 1 - np.exp(-expected[own])
                by_hand = plain[place, target].item() - np.log(expected[item]) + np.log(chance)
                if place < 4 and in_row[place] == in_row[target]:
                    by_hand = -np.inf
                assert corrected[place, target].item() == pytest.approx(by_hand, abs=1e-5)

    def test_the_part_of_a_process_is_corrected_as_in_the_whole(self, monkeypatch):
        draws(monkeypatch, 5, 4)
        net, whole = Table(6), targets_of([1, 2, 5, 1, 4, 2], events=rows_of([1, 2], [5, 1], [4, 2]))
        negatives, own = SharedNegatives(POPULARITY, 2, 0.5), slice(2, 6)
        part = TargetStates(whole.events, whole.states[own], whole.items[own], own)
        found = negatives.score(net, part, corrected=True)
        torch.testing.assert_close(found, negatives.score(net, whole, corrected=True)[:, own])

    def test_one_row_alone_has_only_what_is_drawn(self, monkeypatch):
        draws(monkeypatch, 5, 1)
        scores = SharedNegatives(POPULARITY, 2, 0.5).score(Table(6), targets_of([1, 2, 1]), corrected=True)
        assert torch.isneginf(scores[:3]).all()
        assert torch.isneginf(scores[3:]).tolist() == [[False] * 3, [True, False, True]]
        assert torch.isfinite(cross_entropy_loss(torch.zeros(3), scores))

    def test_many_negatives_make_it_the_full_softmax(self):
        """
        Regression: the target too was divided by its expected number, so it faded as the samples grew.

        Its score then rose without end wherever an item followed in half of the cases.
        """
        net = Table(6)
        torch.manual_seed(2)
        items = [1, 2, 1, 5, 4, 2, 5, 5]
        targets = targets_of(items, events=rows_of_one(items))
        scores = net.item_biases(targets.items)[:, 0] + (net.item_embeddings(targets.items) * targets.states).sum(dim=1)
        negative = SharedNegatives(POPULARITY, 60_000, 0.5).score(net, targets, corrected=True)
        sampled = cross_entropy_loss(scores, negative)
        possible = torch.tensor([1, 2, 4, 5])  # what has popularity
        every = targets.states @ net.item_embeddings(possible).T + net.item_biases(possible)[:, 0]
        full = (every.logsumexp(dim=1) - scores).mean()
        torch.testing.assert_close(sampled, full, rtol=0.01, atol=0.01)
        for weight in net.parameters():
            found, wanted = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (sampled, full))
            torch.testing.assert_close(found, wanted, rtol=0.0, atol=0.01)

    @pytest.mark.parametrize(("samples", "batch", "most"), [(50, 30, 1024), (2, 3, 1024), (5, 30, 4)])
    def test_the_corrected_loss_learns_the_probabilities(self, samples, batch, most):
        """One state for all; each item's softmax becomes the share of the targets that it is."""
        probability = torch.tensor([0.0, 0.6, 0.2, 0.15, 0.05])
        net = Table(5)
        torch.nn.init.zeros_(net.item_biases.weight)
        negatives = SharedNegatives(probability * 1000, samples, 0.5, most)
        optimizer = torch.optim.Adam(net.item_biases.parameters(), lr=0.05)
        torch.manual_seed(0)
        learnt, steps = torch.zeros(4), 600
        for step in range(steps):
            items = torch.multinomial(probability, batch, replacement=True)
            targets = TargetStates(rows_of_one(items.tolist()), torch.zeros(batch, 3), items)
            loss = cross_entropy_loss(net.item_biases(items)[:, 0], negatives.score(net, targets, corrected=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= steps // 2:
                learnt += net.item_biases.weight[1:, 0].softmax(dim=0).detach() / (steps // 2)
        torch.testing.assert_close(learnt, probability[1:], rtol=0.0, atol=0.06)

    def test_a_target_that_never_was_one_before_is_finite(self):
        """Regression: validation rows hold such items, and log 0 made their loss infinite."""
        net, targets = Table(6), targets_of([3, 1], events=rows_of_one([3, 1]))
        scores = SharedNegatives(POPULARITY, 4, 0.5).score(net, targets, corrected=True)
        negatives_of_the_other = scores[0, 1]
        assert torch.isfinite(negatives_of_the_other)
        assert torch.isfinite(cross_entropy_loss(torch.zeros(2), scores))

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_mini_batch_of_one_item_gives_no_gradient_that_is_no_number(self, loss, monkeypatch):
        draws(monkeypatch, 2)
        net, targets = Table(6), targets_of([2, 2])
        positive = net.item_biases(targets.items)[:, 0]
        value = LOSSES[loss](positive, SharedNegatives(POPULARITY, 1, 0.5).score(net, targets, corrected=False))
        gradients = torch.autograd.grad(value, list(net.parameters()), allow_unused=True, materialize_grads=True)
        assert torch.isfinite(value) and all(torch.isfinite(gradient).all() for gradient in gradients)


class TestLocal:
    def test_scores_and_correction_equal_the_loop(self, monkeypatch):
        events = torch.zeros(2, 3, NUM_CHANNELS, dtype=torch.long)
        events[:, :, ITEM] = torch.tensor([[0, 1, 2], [2, 3, 3]])
        events[:, :, TARGET] = torch.tensor([[0, 0, 1], [0, 1, 1]])
        events[:, :, USER] = torch.tensor([[0, 1, 1], [2, 2, 2]])
        drawn = torch.tensor([[[9, 9, 3], [9, 1, 4]], [[9, 9, 5], [9, 4, 1]]])  # (negatives, batch, time)
        asked = []

        def sample(items, users, seen, samples):
            asked.append((items.tolist(), users.tolist(), samples))
            return drawn, 0

        monkeypatch.setattr(negatives_module, "sample_local_items", sample)
        log = [1, 2, 1, 4, 2, 3, 3, 5, 5]  # of user 1, then of user 2
        seen = SeenItems(np.array([1] * 4 + [2] * 5), np.array(log), num_users=3, num_items=10)
        net, targets = Table(10), targets_of([2, 3, 3], events=events)
        plain, corrected = (LocalNegatives(seen, 2).score(net, targets, corrected=value) for value in (False, True))
        assert asked == [([[0, 1, 2], [2, 3, 3]], [1, 2], 2)] * 2
        assert plain.shape == (2, 3)
        # Nine events, of which the first user may draw 3, 3, 5 and 5, and the second 1, 1 and 4.
        expected = [{3: 2 * 2 / 4, 5: 2 * 2 / 4}, {1: 2 * 2 / 3, 4: 2 * 1 / 3}, {1: 2 * 2 / 3, 4: 2 * 1 / 3}]
        for place, items in enumerate([[3, 1, 4], [5, 4, 1]]):
            for target, item in enumerate(items):
                score = net.item_embeddings.weight[item] @ targets.states[target] + net.item_biases.weight[item, 0]
                torch.testing.assert_close(plain[place, target], score)
                torch.testing.assert_close(corrected[place, target], score - np.log(expected[target][item]))

    @pytest.mark.parametrize("histories", [{}, {2: 1, 1: 2, 4: 2}, {2: 1, 3: 1, 4: 1, 5: 1}])
    def test_many_negatives_make_it_the_softmax_over_what_the_user_has_not_seen(self, histories):
        """
        Regression: the loss grew with the number of draws, and popular targets weighed more.

        The log holds the mini-batch twice, and `histories` names the user of each item of the second time. In the last
        case user 1 has seen all of it, and falls back on item 6, which is in no log.
        """
        net, items, users = Table(7), [1, 2, 1, 5, 4, 2, 5, 3], [1, 2, 0, 0, 0, 0, 0, 0]
        events = rows_of_one(items)
        events[:, 0, USER] = torch.tensor(users)
        owners = [0] * 8 + [histories.get(item, 0) for item in items]
        seen = SeenItems(np.array(owners), np.array(items * 2), num_users=3, num_items=7)
        targets = targets_of(items, events=events)
        positive = net(targets.states, targets.items[:, None])  # (targets,)
        with warnings.catch_warnings(action="ignore"):
            negative = LocalNegatives(seen, 8_000).score(net, targets, corrected=True)
        softmax = []
        for state, item, user in zip(targets.states, items, users, strict=True):
            own = [one for one in histories if histories[one] == user and user]
            left = [one for one in range(1, 6) if one not in own and one != item] or [6]
            scores = net(state.expand(len(left) + 1, 3), torch.tensor([item, *left])[:, None])
            softmax.append(scores.logsumexp(dim=0) - scores[0])
        found, wanted = cross_entropy_loss(positive, negative), torch.stack(softmax).mean()
        torch.testing.assert_close(found, wanted, rtol=0.0, atol=0.02)
        for weight in net.parameters():
            slopes = (torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in (found, wanted))
            torch.testing.assert_close(*slopes, rtol=0.0, atol=0.02)

    @pytest.mark.parametrize(("samples", "batch"), [(5, 2), (50, 5), (5, 30)])
    def test_the_corrected_loss_learns_the_probabilities(self, samples, batch):
        """One state for all; corrected by the share within the mini-batch, small ones would overrate rare items."""
        probability = torch.tensor([0.0, 0.6, 0.2, 0.15, 0.05])
        net = Table(5)
        torch.nn.init.zeros_(net.item_biases.weight)
        log = np.repeat(np.arange(5), [0, 60, 20, 15, 5])
        negatives = LocalNegatives(SeenItems(np.zeros(100, dtype=int), log, 1, 5), samples)
        optimizer = torch.optim.Adam(net.item_biases.parameters(), lr=0.05)
        torch.manual_seed(0)
        learnt, steps = torch.zeros(4), 600
        with warnings.catch_warnings(action="ignore"):  # two rows are often of one item
            for step in range(steps):
                items = torch.multinomial(probability, batch, replacement=True)
                events = rows_of_one(items.tolist())
                events[:, :, USER] = 0
                targets = TargetStates(events, torch.zeros(batch, 3), items)
                loss = cross_entropy_loss(net.item_biases(items)[:, 0], negatives.score(net, targets, corrected=True))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if step >= steps // 2:
                    learnt += net.item_biases.weight[1:, 0].softmax(dim=0).detach() / (steps // 2)
        torch.testing.assert_close(learnt, probability[1:], rtol=0.0, atol=0.06)

    def test_its_fallback_is_said_once(self):
        events = torch.zeros(1, 2, NUM_CHANNELS, dtype=torch.long)
        events[:, :, ITEM], events[:, 1, TARGET] = torch.tensor([[1, 2]]), 1
        seen = SeenItems(np.array([0]), np.array([3]), num_users=1, num_items=4)
        negatives = LocalNegatives(seen, 3)
        with pytest.warns(UserWarning, match="every item of the mini-batch") as told:
            for _ in range(2):
                negatives.score(Table(4), targets_of([2], events=events), corrected=False)
        assert len(told) == 1


def model_of(loss="bpr_max", **settings):
    settings = {"n_iter": 3, "batch_size": 8, "random_state": 0, "sampling": "shared", **settings}
    return ASARSSequenceModel(loss, **{"representation": "gru4rec", **settings})


def negatives_of(model, rows):
    return model.trainer.objective.negatives(rows, model.num_items, model.num_users, model.trainer.device)


class TestModel:
    @pytest.mark.parametrize("loss", ["bpr_max", "top1_max", "sampled_cross_entropy"])
    def test_it_learns_the_chain(self, loss, chain_rows):
        options = {"representation_options": {"dropout": 0.0}, "sampling": {"kind": "shared", "alpha": 0.5}}
        model = model_of(loss, n_iter=20, learning_rate=0.02, num_negative_samples=16, **options).fit(chain_rows())
        ranks = [int((scores[1:] > scores[item % 24 + 1]).sum()) + 1 for item, scores in self.after_each(model)]
        assert np.mean(ranks) <= 1.1

    @staticmethod
    def after_each(model):
        return [(item, model.predict([item])) for item in range(1, 25)]

    @pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "cross_entropy"])
    def test_every_loss_that_samples_falls(self, loss, chain_rows):
        model = model_of(loss, n_iter=6, num_negative_samples=8, representation_options={"dropout": 0.0})
        losses = [record.loss for record in model.fit(chain_rows()).epoch_records]
        assert losses[-1] < losses[0]

    def test_the_popularity_is_that_of_the_targets(self, chain_rows):
        rows = chain_rows()
        model = model_of(sampling={"kind": "shared", "alpha": 1.0}).fit(rows)
        negatives = negatives_of(model, rows)
        counts = np.bincount(rows.sequences[rows.targets], minlength=25)
        shares = negatives.sampler.log_share(torch.arange(25)).exp()
        np.testing.assert_allclose(shares, counts / counts.sum(), atol=1e-6)

    def test_options_reach_the_sampler(self, chain_rows):
        rows = chain_rows()
        model = model_of(sampling={"kind": "shared", "alpha": 0.0}, num_negative_samples=7)
        uniform = negatives_of(model.fit(rows), rows)
        np.testing.assert_allclose(uniform.sampler.log_share(torch.arange(1, 25)).exp(), 1 / 24, atol=1e-6)
        assert uniform.num_negative_samples == 7
        assert isinstance(negatives_of(model_of(sampling="local").fit(rows), rows), LocalNegatives)

    def test_validation_rows_may_have_items_that_never_were_targets(self):
        rows = SessionSequences(np.array([[4, 1, 2], [4, 2, 1]] * 4), num_items=5)
        validation = SessionSequences(np.array([[1, 2, 4]]), num_items=5)
        model = model_of("sampled_cross_entropy", n_iter=2).fit(rows, validation=validation)
        assert all(np.isfinite(record.validation_loss) for record in model.epoch_records)

    def test_same_seed_same_bits(self, chain_rows):
        rows = chain_rows()
        first, second = (model_of().fit(rows).predict([1, 2]) for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_a_net_that_scores_one_by_one_is_refused(self, chain_rows):
        """Regression: it failed in the midst of fitting, with an attribute that the net has not."""

        class OneByOne(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.table = torch.nn.Embedding(25, 3)

        with pytest.raises(ValueError, match=r"OneByOne cannot: choose 'local'"):
            model_of(representation=OneByOne()).fit(chain_rows())

    @pytest.mark.parametrize(
        ("settings", "named"),
        [
            ({"sampling": "globally"}, "sampling is 'globally': choose one of local, shared"),
            ({"sampling": {"beta": 1.0}}, "no option 'beta': choose from kind, alpha, most_targets"),
            (
                {"sampling": {"kind": "local", "alpha": 1.0}},
                "alpha and most_targets are options of 'shared' sampling",
            ),
            (
                {"sampling": {"kind": "shared", "most_targets": -1}},
                "most_targets is -1: give a whole number of at least 0",
            ),
            (
                {"sampling": {"kind": "shared", "most_targets": 1.5}},
                "most_targets is 1.5: give a whole number of at least 0",
            ),
            ({"loss": "cross_entropy"}, "'cross_entropy' scores all items; choose 'sampled_cross_entropy'"),
        ],
    )
    def test_a_wrong_choice_names_the_right_ones(self, settings, named):
        with pytest.raises(ValueError, match=named):
            model_of(**settings)
