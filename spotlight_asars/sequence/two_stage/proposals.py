"""The first stage: members propose candidates, which get features for the second."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.non_neural.prefixes import Histories, Prefixes, blocks_of
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.two_stage.features import CandidateFeatures

CELLS_A_BLOCK = 2**21  # probabilities and features worked on at a time: 8 MiB of float32 for each member
CELLS_A_CANDIDATE = 32  # about its number of features
LOWEST = 1e-6  # lower bound of a member's probability, before its logarithm
LOWEST_MEAN = 1e-9  # of the mixture


@dataclass(frozen=True)
class TwoStageStates:
    """What each target is scored from: every member's states, and the prefix. A slice is such an object too."""

    members: tuple
    prefixes: Prefixes

    def __len__(self) -> int:
        return len(self.prefixes)

    def __getitem__(self, chosen: slice) -> "TwoStageStates":
        return TwoStageStates(tuple(states[chosen] for states in self.members), self.prefixes[chosen])


@dataclass(frozen=True)
class Candidates:
    """
    The candidates of some targets.

    Attributes
    ----------
    base : float32 tensor of shape (targets, num_items - 1)
        Logarithms of all items' probabilities by the mixture of the members.
    items : int64 tensor of shape (targets, candidates)
        The best items by `base`, best first; item i is number i - 1.
    features : float32 tensor of shape (targets, candidates, features)
    """

    base: Tensor
    items: Tensor
    features: Tensor

    def ranked(self, scores: Tensor) -> Tensor:
        """Return scores of all items, (targets, num_items - 1): the candidates' own, at least 1, above all others."""
        return self.base.scatter(1, self.items, scores - scores.min(dim=1, keepdim=True).values + 1.0)


class Proposals:
    """
    The candidates that fitted members propose: the best items by a mixture of their probabilities.

    Parameters
    ----------
    systems : list of Recommender
        Fitted members.
    features : CandidateFeatures
        Of the same training part.
    candidates : int
        Number of candidates of each target, at most all items.
    weights : list of float, optional
        Shares of the members in the mixture, with a sum of 1; by default all are equal.
    """

    def __init__(
        self,
        systems: Sequence[Recommender],
        features: CandidateFeatures,
        candidates: int,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.systems, self.features = tuple(systems), features
        self.weights = [1.0 / len(systems)] * len(systems) if weights is None else list(weights)
        self._num_items, self._candidates = features.num_items, min(candidates, features.num_items - 1)

    def states(self, sequences: SessionSequences) -> TwoStageStates:
        """Return what each target is scored from, in the order of rows, then of time."""
        states = tuple(system.target_states(sequences) for system in self.systems)
        return TwoStageStates(states, Prefixes.before_targets(sequences))

    def blocks(self, states: TwoStageStates) -> Iterator[slice]:
        """Yield slices of targets to be worked on together."""
        cells = self._num_items + CELLS_A_CANDIDATE * self._candidates + states.prefixes.costs  # (targets,)
        return blocks_of(cells, CELLS_A_BLOCK)

    def of(self, states: TwoStageStates) -> Candidates:
        """Return the candidates of a block of targets."""
        return self.among(self._scores(states), states.prefixes)

    def probabilities_of(self, states: TwoStageStates, items: Tensor) -> Tensor:
        """Return each member's probability of one item a target, int64 (targets,): float64, (targets, members)."""
        found = torch.empty(len(states), len(self.systems), dtype=torch.float64)
        for block in self.blocks(states):
            shares = self._probabilities(self._scores(states[block]))
            found[block] = torch.cat([share.gather(1, items[block, None] - 1) for share in shares], dim=1).double()
        return found

    def _scores(self, states: TwoStageStates) -> list[Tensor]:
        return [system.item_scores(part) for system, part in zip(self.systems, states.members, strict=True)]

    def _probabilities(self, scores: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            return [system.as_probabilities(one).cpu() for system, one in zip(self.systems, scores, strict=True)]

    def among(self, scores: Sequence[Tensor], histories: Histories) -> Candidates:
        """
        Return the candidates of some targets, whose members' scores are known.

        Parameters
        ----------
        scores : list of float32 tensors of shape (targets, num_items - 1)
            Of all items, by each member.
        histories : Histories
            The events before the targets.
        """
        shares = self._probabilities(scores)
        mixture = sum(weight * share for weight, share in zip(self.weights, shares, strict=True))
        base = mixture.clamp(min=LOWEST_MEAN).log()
        best = base.topk(self._candidates, dim=1)
        own = [share.gather(1, best.indices).clamp(min=LOWEST).log() for share in shares]
        surest = [share.amax(dim=1) for share in shares]  # (targets,) each
        return Candidates(base, best.indices, self.features.of(histories, best.indices, [*own, best.values], surest))


def mixture_weights(probabilities: Tensor, equal_share: float = 0.5, rounds: int = 50) -> list[float]:
    """
    Return the weights of a mixture's members with the highest likelihood, by expectation-maximisation.

    Parameters
    ----------
    probabilities : float64 tensor of shape (targets, members)
        Of what happened, by each member.
    equal_share : float, optional
        Share of the weight that all members get equally: one that is seldom the likeliest still has candidates of its
        own to propose.
    rounds : int, optional
        Of expectation-maximisation.

    Returns
    -------
    list of float
        A weight a member, not negative, with a sum of 1.
    """
    members = probabilities.shape[1]
    weights = torch.full((members,), 1.0 / members, dtype=torch.float64)
    for _ in range(rounds if len(probabilities) else 0):
        parts = weights * (probabilities + LOWEST_MEAN)  # (targets, members)
        weights = (parts / parts.sum(dim=1, keepdim=True)).mean(dim=0)  # (members,)
    return (equal_share / members + (1.0 - equal_share) * weights).tolist()
