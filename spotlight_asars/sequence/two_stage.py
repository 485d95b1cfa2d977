"""``asars_two_stage``: candidates from several systems, ranked anew by what the session tells of each of them."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import metrics, rank_targets
from spotlight_asars.interactions import SessionSequences, as_session_sequences
from spotlight_asars.rows import ITEM, TARGET
from spotlight_asars.sequence.candidate_features import CandidateFeatures
from spotlight_asars.sequence.implicit import ASARSSequenceModel
from spotlight_asars.sequence.memory import Moments
from spotlight_asars.sequence.row_split import split_rows_by_time

BLOCK_CELLS = 2**21  # probabilities of one member worked on at a time
LOWEST = 1e-6  # of a probability, before its logarithm


@dataclass(frozen=True)
class Member:
    """
    A system that proposes candidates.

    Attributes
    ----------
    new : callable
        From the number of epochs to a system not yet fitted.
    epochs : int or None
        The most epochs to try, for a net; None for a system that is fitted at once.
    """

    new: Callable[[int], object]
    epochs: int | None = None


@dataclass(frozen=True)
class TwoStageStates:
    """What each target is scored from: the states of every member, and the moment; it can be sliced."""

    members: tuple
    moments: Moments

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, chosen: slice) -> "TwoStageStates":
        return TwoStageStates(tuple(states[chosen] for states in self.members), self.moments[chosen])


class Ranker(nn.Module):
    """A score for each candidate from its features: a linear part, and one hidden layer beside it."""

    def __init__(self, features: int, hidden_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.linear = nn.Linear(features, 1, bias=False)
        self.hidden = nn.Sequential(
            nn.Linear(features, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, hidden_dim), nn.ReLU()
        )
        self.output = nn.Linear(hidden_dim, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation from features of shape (targets, candidates, features)."""
        self.mean.copy_(features.mean(dim=(0, 1)))
        self.deviation.copy_(features.std(dim=(0, 1)).clamp(min=1e-6))

    def forward(self, features: Tensor) -> Tensor:
        """(targets, candidates, features) to (targets, candidates)."""
        features = (features - self.mean) / self.deviation
        return (self.linear(features) + self.output(self.hidden(features)))[:, :, 0]


class TwoStageRanker:
    """
    Two stages, as large recommenders have them (Covington et al. 2016): candidate generation, then ranking.

    The members, ASARS nets beside the time-weighted memory and nearest neighbours, are fitted on the earlier sessions
    of the training part; a small net learns from the later ones to rank their candidates, by the probability that
    each member gives a candidate, by when and for how long it was looked at in the session, its popularity, and what
    is known of the session. The members are then fitted anew on the whole training part.

    Parameters
    ----------
    members : list of Member
    dwell : {'known', 'observed'}
    candidates : int, optional
        How many items, the best by the members' mean probability, are ranked anew; the others follow in that order.
    late_share : float, optional
        Share of the sessions that the ranking is learned from.
    hidden_dim, epochs, learning_rate, weight_decay, batch_size : optional
        Of the ranking nets.
    rankers : int, optional
        Ranking nets that differ in their random start; their scores are averaged.
    patience : int, optional
        Epochs without a better MRR@20 on the later sessions after which a net among the members is not fitted on.
    random_state : int, optional
    """

    num_items: int | None = None

    def __init__(
        self,
        members: Sequence[Member],
        dwell: str = "known",
        candidates: int = 60,
        late_share: float = 0.3,
        hidden_dim: int = 16,
        epochs: int = 8,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-3,
        batch_size: int = 128,
        rankers: int = 3,
        patience: int = 3,
        random_state: int = 0,
    ) -> None:
        if not members:
            raise InputError("there are no members: give at least one system that proposes candidates")
        if candidates < 1 or rankers < 1 or not 0 < late_share < 1:
            raise InputError("candidates and rankers are at least 1, and late_share lies between 0 and 1")
        self._members, self.dwell = tuple(members), dwell
        self._candidates, self._late_share = candidates, late_share
        self._hidden_dim, self._epochs, self._learning_rate = hidden_dim, epochs, learning_rate
        self._weight_decay, self._batch_size, self._num_rankers = weight_decay, batch_size, rankers
        self._patience, self._random_state = patience, random_state

    def fit(self, sequences: SessionSequences) -> "TwoStageRanker":
        """Fit members and ranking on a training part; an earlier one is forgotten."""
        sequences = as_session_sequences(sequences)
        early, late = split_rows_by_time(sequences, self._late_share)
        self.num_items = sequences.num_items
        fitted, epochs = zip(*(self._fit_early(member, early, late) for member in self._members), strict=True)
        self.systems, self.member_epochs = fitted, epochs
        self._features = CandidateFeatures(early, self.dwell)
        self._fit_rankers(late)
        self.systems = tuple(
            member.new(count or 1).fit(sequences) for member, count in zip(self._members, epochs, strict=True)
        )
        self._features = CandidateFeatures(sequences, self.dwell)
        return self

    def _fit_early(self, member: Member, early: SessionSequences, late: SessionSequences) -> tuple[object, int | None]:
        """The member as it is best on the later sessions, and after how many epochs."""
        system = member.new(member.epochs or 1)
        if member.epochs is None:
            return system.fit(early), None
        found, best = [], {}

        def measure(model: ASARSSequenceModel, record: object) -> bool:
            found.append(metrics(rank_targets(model, late), (20,))["mrr@20"])
            if np.argmax(found) == len(found) - 1:
                best.update(deepcopy(model._net.state_dict()))
            return bool(len(found) - 1 - np.argmax(found) >= self._patience)

        system.fit(early, callbacks=[measure])
        system._net.load_state_dict(best)
        return system, int(np.argmax(found)) + 1

    def _fit_rankers(self, late: SessionSequences) -> None:
        """Learn to put the target first among its candidates, where it is one of them."""
        wanted = torch.from_numpy(late.events[late.events[:, TARGET] != 0, ITEM].astype(np.int64))  # (targets,)
        parts = []
        states = self.target_states(late)
        for begin in range(0, len(states), self._block):
            block = slice(begin, begin + self._block)
            _, candidates, features = self._propose(states[block])
            hit = candidates == wanted[block, None] - 1  # (targets, candidates)
            inside = hit.any(dim=1)
            parts.append((features[inside], hit[inside].int().argmax(dim=1)))
        features, place = (torch.cat(part) for part in zip(*parts, strict=True))
        self._rankers = []
        for number in range(self._num_rankers):
            generator = torch.Generator().manual_seed(self._random_state * self._num_rankers + number)
            self._rankers.append(self._fit_ranker(features, place, generator))

    def _fit_ranker(self, features: Tensor, place: Tensor, generator: torch.Generator) -> Ranker:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31 - 1, (1,), generator=generator)))
            ranker = Ranker(features.shape[2], self._hidden_dim)
        ranker.standardise(features)
        optimizer = torch.optim.Adam(ranker.parameters(), lr=self._learning_rate, weight_decay=self._weight_decay)
        for _ in range(self._epochs):
            for batch in torch.randperm(len(place), generator=generator).split(self._batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(ranker(features[batch]), place[batch]).backward()
                optimizer.step()
        return ranker.eval()

    @property
    def _block(self) -> int:
        """Targets worked on at a time."""
        return max(1, BLOCK_CELLS // self.num_items)

    def target_states(self, sequences: SessionSequences) -> TwoStageStates:
        """What each target is scored from, in the order of rows, then of time."""
        if self.num_items is None:
            raise InputError("TwoStageRanker is not fitted yet: call fit first")
        sequences = as_session_sequences(sequences)
        states = tuple(system.target_states(sequences) for system in self.systems)
        return TwoStageStates(states, Moments.before_targets(sequences))

    def item_scores(self, states: TwoStageStates) -> Tensor:
        """Scores of items 1, 2, ...; float32, (targets, num_items - 1)."""
        blocks = [states[begin : begin + self._block] for begin in range(0, len(states), self._block)]
        return torch.cat([self._score(block) for block in blocks]) if blocks else torch.empty(0, self.num_items - 1)

    def _score(self, states: TwoStageStates) -> Tensor:
        base, candidates, features = self._propose(states)
        with torch.no_grad():
            ranked = torch.stack([ranker(features) for ranker in self._rankers]).mean(dim=0)
        # Candidates stand above all others, whose logarithms of a mean probability are at most 0.
        ranked = ranked - ranked.min(dim=1, keepdim=True).values + 1.0
        return base.scatter(1, candidates, ranked)

    def _propose(self, states: TwoStageStates) -> tuple[Tensor, Tensor, Tensor]:
        """Mean log-probabilities (targets, items - 1), candidates' places there (targets, candidates), features."""
        with torch.no_grad():
            shares = [
                system.item_probabilities(part) for system, part in zip(self.systems, states.members, strict=True)
            ]
        base = (sum(shares) / len(shares)).clamp(min=LOWEST * 1e-3).log()
        count = min(self._candidates, base.shape[1])
        best = base.topk(count, dim=1)
        own = [share.gather(1, best.indices).clamp(min=LOWEST).log() for share in shares]
        summary = [part for share in shares for part in (_entropy(share), share.amax(dim=1))]  # (targets,) each
        features = self._features.of(states.moments, best.indices, [*own, best.values], summary)
        return base, best.indices, features


def _entropy(shares: Tensor) -> Tensor:
    return -(shares * shares.clamp(min=1e-9).log()).sum(dim=1)
