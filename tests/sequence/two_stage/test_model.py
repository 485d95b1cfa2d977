"""TwoStageRanker: what it learns, what it must not look at, and the edges where there is nothing to learn."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from spotlight_asars.cross_validation import time_based_split
from spotlight_asars.datasets.synthetic.log import generate_sessions
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.interactions.channels import DWELL, ITEM, TARGET
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSKNN
from spotlight_asars.sequence.non_neural.prefixes import Prefixes
from spotlight_asars.sequence.non_neural.rules import Popularity, SequentialRules
from spotlight_asars.sequence.two_stage import proposals
from spotlight_asars.sequence.two_stage.model import Member, TwoStageRanker
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.state import constructor_arguments

MEMORY, RULES, NEIGHBOURS = (
    Member(lambda epochs, system=one: system()) for one in (SessionMemory, SequentialRules, VSKNN)
)
NET = Member(lambda epochs: ASARSSequenceModel(embedding_dim=4, n_iter=epochs, batch_size=8, random_state=0), 2)


def scores_of(fitted, rows):
    return fitted.item_scores(fitted.target_states(rows))


class Fixed:
    """A member that gives the same probabilities to every target."""

    dwell = None

    def __init__(self, probabilities):
        self.probabilities = torch.tensor(probabilities)  # (num_items - 1,)

    def fit(self, rows):
        return self

    def target_states(self, rows):
        return torch.zeros(rows.num_targets)

    def item_scores(self, states):
        return self.probabilities.expand(len(states), -1)

    def as_probabilities(self, scores):
        return scores


class Curve:
    """A net whose weight is the number of its epochs, and that knows every target with one weight alone."""

    dwell = None

    def __init__(self, epochs, best):
        self.epochs, self.best, self.net, self.ran = epochs, best, nn.Linear(1, 1, bias=False), 0

    def fit(self, rows, callbacks=()):
        self._num_items = rows.num_items
        for epoch in range(1, self.epochs + 1):
            self.ran = epoch
            assert epoch == 1 or self.net.weight.item() == epoch - 1, "a callback left other weights"
            nn.init.constant_(self.net.weight, epoch)
            if any(callback(self, SimpleNamespace(epoch=epoch - 1)) for callback in callbacks):
                break
        return self

    def target_states(self, rows):
        return torch.from_numpy(rows.events[rows.events[:, TARGET] != 0, ITEM].astype(np.int64) - 1)

    def item_scores(self, states):
        known = nn.functional.one_hot(states, self._num_items - 1).float()
        return known if self.net.weight.item() == self.best else torch.full_like(known, 0.1)

    def as_probabilities(self, scores):
        return scores


class TestQuality:
    def test_better_than_its_best_member(self):
        """Rules and neighbours know no dwell; the ranking knows which items were dwelt on, and their places."""
        log = generate_sessions(num_users=200, num_items=300, num_categories=15, random_state=0).log
        split = time_based_split(SessionInteractions.from_log(log), 0.25)
        rows = to_session_sequences(split.train)
        test = to_session_sequences(split.test, history=split.train, binning=rows.binning, gap_binning=rows.gap_binning)
        fitted = TwoStageRanker([RULES, NEIGHBOURS]).fit(rows)
        own, *members = (metrics(rank_targets(one, test))["mrr@20"] for one in (fitted, *fitted.systems))
        assert own > max(members) + 0.005
        # The control: without what was learned, the order of the mean probabilities is no better than the best member.
        fitted.fitted_ranking = RankingNets()
        assert metrics(rank_targets(fitted, test))["mrr@20"] < own - 0.005


class TestFit:
    def test_defaults(self):
        defaults = {name: one.default for name, one in inspect.signature(TwoStageRanker).parameters.items()}
        expected = {"dwell": "known", "candidates": 60, "late_share": 0.3, "late_targets": 12_000, "patience": 3}
        expected |= {"averaged_epochs": 3}
        assert expected.items() <= defaults.items()
        assert constructor_arguments(TwoStageRanker([MEMORY]).ranking).items() >= {"nets": 3, "hidden_dim": 16}.items()

    def test_same_seed_same_bits_whatever_came_before(self, chain_rows):
        rows = chain_rows()
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = TwoStageRanker([NET, MEMORY], ranking=RankingNets(epochs=2)).fit(rows)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        np.random.rand()
        again = TwoStageRanker([NET, MEMORY], ranking=RankingNets(epochs=2)).fit(chain_rows(seed=5)).fit(rows)
        assert torch.equal(scores_of(first, rows), scores_of(again, rows))
        assert first.member_epochs == again.member_epochs and first.member_epochs[1] is None
        other = TwoStageRanker([NET, MEMORY], ranking=RankingNets(epochs=2), random_state=1).fit(rows)
        assert not torch.equal(scores_of(first, rows), scores_of(other, rows))

    def test_a_fit_that_fails_leaves_the_earlier_one(self, chain_rows, refuses):
        rows = chain_rows()
        fitted = TwoStageRanker([MEMORY], ranking=RankingNets(epochs=1)).fit(rows)
        before = scores_of(fitted, rows)
        refuses(lambda: fitted.fit(SessionSequences(np.array([[1, 2]]))), "too few sessions")
        assert torch.equal(scores_of(fitted, rows), before)

    @pytest.mark.parametrize(
        ("best", "patience", "ran", "kept"), [(3, 3, 6, 3), (3, 1, 2, 1), (1, 2, 3, 1), (9, 9, 9, 9)]
    )
    def test_nets_are_kept_as_they_were_best(self, chain_rows, best, patience, ran, kept):
        fitted, early, whole = self.fitted_curves(chain_rows, best, patience=patience, averaged_epochs=1)
        assert (early.epochs, early.ran, early.net.weight.item()) == (9, ran, kept)
        assert (whole.epochs, whole.ran, whole.net.weight.item()) == (kept, kept, kept)
        assert fitted.member_epochs == (kept,) and fitted.systems == (whole,)

    @pytest.mark.parametrize(
        ("averaged_epochs", "best", "kept"),
        [(3, 3, 4), (3, 7, 8), (3, 1, 1), (3, 1.5, 2), (2, 4.5, 5), (9, 3, 5)],  # weights after epochs are 1, 2, ...
    )
    def test_nets_have_the_mean_of_their_latest_weights(self, chain_rows, averaged_epochs, best, kept):
        fitted, early, whole = self.fitted_curves(chain_rows, best, patience=9, averaged_epochs=averaged_epochs)
        assert (early.ran, early.net.weight.item()) == (9, best)
        assert (whole.ran, whole.net.weight.item()) == (kept, best)
        assert fitted.member_epochs == (kept,)

    @staticmethod
    def fitted_curves(chain_rows, best, **settings):
        """The ranking, its member as fitted on the earlier sessions, and as fitted on all."""
        made = []

        def new(epochs):
            made.append(Curve(epochs, best))
            return made[-1]

        fitted = TwoStageRanker([Member(new, 9)], ranking=RankingNets(epochs=1), **settings).fit(chain_rows(users=6))
        return fitted, *made

    def test_members_are_fitted_on_earlier_sessions_first(self, chain_rows):
        fitted_on = []

        class Noting(SessionMemory):
            def fit(self, rows):
                fitted_on.append(rows.num_targets)
                return super().fit(rows)

        rows = chain_rows()
        TwoStageRanker([Member(lambda epochs: Noting())], ranking=RankingNets(epochs=1), late_share=0.25).fit(rows)
        assert fitted_on == [rows.num_targets * 3 / 4, rows.num_targets]

    @pytest.mark.parametrize(("late_targets", "learned_from"), [(1000, 120), (60, 60), (40, 40)])
    def test_many_targets_move_the_split(self, chain_rows, late_targets, learned_from):
        fitted_on = []

        class Noting(SessionMemory):
            def fit(self, rows):
                fitted_on.append(rows.num_targets)
                return super().fit(rows)

        rows = chain_rows()
        TwoStageRanker([Member(lambda epochs: Noting())], late_targets=late_targets).fit(rows)
        assert fitted_on == [rows.num_targets - learned_from, rows.num_targets]

    def test_wrong_input_is_refused(self, refuses, chain_rows):
        refuses(lambda: TwoStageRanker([]), "no members")
        refuses(lambda: TwoStageRanker([MEMORY], dwell="none"), "dwell is 'none'")
        refuses(lambda: TwoStageRanker([MEMORY], candidates=0), "candidates is 0")
        refuses(lambda: TwoStageRanker([MEMORY], late_targets=0), "late_targets is 0")
        refuses(lambda: RankingNets(nets=1.5), "nets is 1.5")
        refuses(lambda: TwoStageRanker([MEMORY], late_share=1.0), "late_share is 1.0", "between 0 and 1")
        refuses(lambda: Member(SessionMemory, 0), "epochs is 0")
        refuses(lambda: TwoStageRanker([MEMORY]).target_states(chain_rows()), "TwoStageRanker is not fitted yet")
        peeping = TwoStageRanker([MEMORY, Member(lambda epochs: SessionMemory("observed"))])
        refuses(lambda: peeping.fit(chain_rows()), "dwell='observed'", "'known'")
        fitted = TwoStageRanker([MEMORY], ranking=RankingNets(epochs=1)).fit(chain_rows())
        refuses(lambda: fitted.target_states(SessionSequences(np.array([[1, 99]]))), "100 ids of items")


class TestScores:
    def test_candidates_stand_above_all_others(self, chain_rows):
        rows = chain_rows()
        fitted = TwoStageRanker([MEMORY, RULES], candidates=5, ranking=RankingNets(epochs=1)).fit(rows)
        scores = scores_of(fitted, rows)
        assert scores.dtype == torch.float32 and scores.shape == (rows.num_targets, 24)
        shares = [one.item_probabilities(one.target_states(rows)) for one in fitted.systems]
        mean = sum(weight * share for weight, share in zip(fitted.weights, shares, strict=True))
        best = mean.topk(5, dim=1).indices
        np.testing.assert_array_equal((scores >= 1).sum(dim=1), 5)
        assert (scores.gather(1, best) >= 1).all()
        others = scores < 1
        torch.testing.assert_close(scores[others], mean.clamp(min=1e-9).log()[others])

    def test_blocks_move_nothing(self, chain_rows, monkeypatch):
        rows = chain_rows(users=10)
        fitted = TwoStageRanker([NET, MEMORY], ranking=RankingNets(epochs=1)).fit(rows)
        states = fitted.target_states(rows)
        whole = fitted.item_scores(states)
        torch.testing.assert_close(fitted.item_scores(states[5:9]), whole[5:9], atol=1e-5, rtol=1e-5)
        assert fitted.item_scores(states[:0]).shape == (0, 24)
        monkeypatch.setattr(proposals, "CELLS_A_BLOCK", 1)
        torch.testing.assert_close(fitted.item_scores(states), whole, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("dwell", ["known", "observed"])
    def test_nothing_that_comes_later(self, dwell_rows, dwell):
        rows = dwell_rows(60)
        members = [Member(lambda epochs: SessionMemory(dwell)), RULES]
        fitted = TwoStageRanker(members, dwell, ranking=RankingNets(epochs=2)).fit(rows)
        whole = scores_of(fitted, rows)
        newest_moved = 0
        ends = Prefixes.before_targets(rows).end[:30]
        for place, end in enumerate(ends):
            changed = dwell_rows(60)
            changed.events[end:, ITEM] = changed.events[end:, ITEM] % 19 + 1
            changed.events[end:, DWELL] = 1
            torch.testing.assert_close(scores_of(fitted, changed)[place], whole[place], atol=1e-5, rtol=1e-5)
            changed.events[end - 1, DWELL] = changed.events[end - 1, DWELL] % (rows.binning.num_bins - 1) + 1
            newest_moved += not torch.allclose(scores_of(fitted, changed)[place], whole[place], atol=1e-5)
        assert newest_moved == 0 if dwell == "known" else newest_moved > len(ends) / 4


class TestNothingToLearn:
    def test_no_target_is_a_candidate(self):
        """Of items 1 to 4 the members propose 3 and 4, and nobody goes there: the mean probabilities decide."""
        rows = SessionSequences(np.array([[1, 2], [2, 1]] * 5), num_items=5)
        member = Member(lambda epochs: Fixed([0.1, 0.2, 0.3, 0.4]))
        fitted = TwoStageRanker([member], candidates=2).fit(rows)
        expected = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(10, -1)
        torch.testing.assert_close(scores_of(fitted, rows), expected)

    def test_some_targets_are_no_candidate_and_a_single_one_is(self):
        rows = SessionSequences(np.array([[1, 3]] + [[1, 2]] * 8 + [[1, 3]]), num_items=5)
        member = Member(lambda epochs: Fixed([0.1, 0.2, 0.3, 0.4]))
        scores = scores_of(TwoStageRanker([member], candidates=2).fit(rows), rows)
        assert torch.isfinite(scores).all() and (scores[:, 2:] >= 1).all()

    @pytest.mark.parametrize("candidates", [1, 60])
    def test_a_single_item_and_a_single_candidate(self, candidates):
        for items in ([[1, 1]] * 5, [[1, 2], [2, 1]] * 5):
            rows = SessionSequences(np.array(items))
            fitted = TwoStageRanker([MEMORY, Member(lambda epochs: Popularity())], candidates=candidates).fit(rows)
            scores = scores_of(fitted, rows)
            assert scores.shape == (len(rows), rows.num_items - 1) and torch.isfinite(scores).all()

    def test_a_target_without_a_session_before_it(self):
        targets = np.ones((8, 3), dtype=bool)
        rows = SessionSequences(np.array([[1, 2, 3], [2, 3, 1]] * 4), targets=targets)
        scores = scores_of(TwoStageRanker([MEMORY, RULES]).fit(rows), rows)
        assert torch.isfinite(scores).all()
        torch.testing.assert_close(scores[0], scores[3])  # neither looks at its own item
