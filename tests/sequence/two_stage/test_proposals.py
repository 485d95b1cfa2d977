"""The weights of the mixture that proposes candidates, and its candidates, against slow loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spotlight_asars.sequence.non_neural.memory import SessionMemory
from spotlight_asars.sequence.non_neural.neighbours import VSKNN
from spotlight_asars.sequence.two_stage.features import CandidateFeatures
from spotlight_asars.sequence.two_stage.proposals import Proposals, mixture_weights


class TestMixtureWeights:
    def test_the_likeliest_of_two_members(self):
        """One in four targets is certain by the first member, the others by the second."""
        probabilities = torch.tensor([[1.0, 0.0]] + [[0.0, 1.0]] * 3, dtype=torch.float64)
        np.testing.assert_allclose(mixture_weights(probabilities, equal_share=0.0), [0.25, 0.75], atol=1e-6)
        np.testing.assert_allclose(mixture_weights(probabilities, equal_share=0.4), [0.35, 0.65], atol=1e-6)

    def test_against_a_grid(self):
        probabilities = torch.rand(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        grid = np.linspace(0, 1, 2001)
        likelihood = [sum(math.log(w * a + (1 - w) * b) for a, b in probabilities.tolist()) for w in grid]
        found = mixture_weights(probabilities, equal_share=0.0, rounds=5000)
        assert found[0] == pytest.approx(grid[int(np.argmax(likelihood))], abs=2e-3)

    @given(st.integers(0, 6), st.integers(1, 5), st.floats(0.0, 1.0), st.integers(0, 99))
    def test_weights_are_shares(self, targets, members, equal_share, seed):
        draw = torch.Generator().manual_seed(seed)
        probabilities = torch.rand(targets, members, dtype=torch.float64, generator=draw)
        probabilities[torch.rand(targets, members, generator=draw) < 0.5] = 0.0  # many members have no evidence
        found = mixture_weights(probabilities, equal_share)
        assert sum(found) == pytest.approx(1.0)
        assert min(found) >= equal_share / members - 1e-12


class TestProposals:
    @pytest.fixture
    def proposals(self, chain_rows):
        rows = chain_rows(users=10)
        members = [SessionMemory(rounds=1).fit(rows), VSKNN().fit(rows)]
        return Proposals(members, CandidateFeatures(rows, "known"), 5, [0.3, 0.7]), rows

    def test_candidates_are_the_best_of_the_mixture(self, proposals):
        proposals, rows = proposals
        states = proposals.states(rows)
        found = proposals.of(states)
        shares = [one.item_probabilities(part) for one, part in zip(proposals.systems, states.members, strict=True)]
        mixture = (0.3 * shares[0] + 0.7 * shares[1]).clamp(min=1e-9)
        torch.testing.assert_close(found.base, mixture.log())
        assert found.items.shape == (rows.num_targets, 5)
        torch.testing.assert_close(mixture.gather(1, found.items), mixture.topk(5, dim=1).values)
        width = proposals.features.width(2)
        assert found.features.shape == (rows.num_targets, 5, width)
        torch.testing.assert_close(found.features[:, :, 0], shares[0].gather(1, found.items).clamp(min=1e-6).log())
        torch.testing.assert_close(found.features[:, :, 2], found.base.gather(1, found.items))

    def test_probabilities_of_one_item_a_target(self, proposals):
        proposals, rows = proposals
        states = proposals.states(rows)
        items = torch.arange(rows.num_targets) % 24 + 1
        found = proposals.probabilities_of(states, items)
        for place, (system, part) in enumerate(zip(proposals.systems, states.members, strict=True)):
            shares = system.item_probabilities(part)
            wanted = torch.stack([row[item - 1] for row, item in zip(shares, items, strict=True)])
            torch.testing.assert_close(found[:, place], wanted.double())
