"""``asars_two_stage``: candidates from several recommenders, ranked by a net from features of the session."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from spotlight_asars.cross_validation import split_rows_by_time
from spotlight_asars.errors import InputError, check_choice, check_share, check_whole
from spotlight_asars.interactions.channels import DWELL_RULES, ITEM, TARGET
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.sequence.non_neural.prefixes import Prefixes, blocks_of
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.recommender.fitted import Numbering
from spotlight_asars.sequence.training.callbacks import EarlyStopping, WeightAveraging
from spotlight_asars.sequence.training.resuming import random_numbers_kept
from spotlight_asars.sequence.two_stage.features import CandidateFeatures
from spotlight_asars.sequence.two_stage.ranker import Ranker, ranker_from
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Fields, ListOf, Maybe, Part, Whole, check_settings
from spotlight_asars.serialization.state import SystemState, constructor_arguments, plain_and_code
from spotlight_asars.serialization.weights import weights_of

CELLS_A_BLOCK = 2**21  # probabilities and features worked on at a time: 8 MiB of float32 for each member
CELLS_A_CANDIDATE = 32  # about its number of features
MOST_RANKED = 100_000  # targets that the ranking is learned from, evenly spread over all of them
LOWEST = 1e-6  # lower bound of a member's probability, before its logarithm
LOWEST_MEAN = 1e-9  # of the members' mean


@dataclass(frozen=True)
class Member:
    """
    A recommender that proposes candidates.

    Attributes
    ----------
    new : callable
        Takes a number of epochs and returns an unfitted Recommender.
    epochs : int or None
        The most epochs to try, for an ``ASARSSequenceModel``; None for a system without epochs.
    """

    new: Callable[[int], Recommender]
    epochs: int | None = None

    def __post_init__(self) -> None:
        if self.epochs is not None:
            check_whole("epochs", self.epochs)


@dataclass(frozen=True)
class TwoStageStates:
    """What each target is scored from: every member's states, and the prefix. A slice is such an object too."""

    members: tuple
    prefixes: Prefixes

    def __len__(self) -> int:
        return len(self.prefixes)

    def __getitem__(self, chosen: slice) -> "TwoStageStates":
        return TwoStageStates(tuple(states[chosen] for states in self.members), self.prefixes[chosen])


def _made_anew(template: Recommender, by_epochs: bool, epochs: int) -> Recommender:
    """Return an unfitted copy of a system, for this many epochs if it is trained by epochs."""
    system = deepcopy(template)
    if by_epochs:
        system.n_iter = epochs
    return system


class _Proposals:
    """The candidates that fitted members propose, and their features."""

    def __init__(self, systems: Sequence[Recommender], features: CandidateFeatures, candidates: int) -> None:
        self.systems, self.features = tuple(systems), features
        self._num_items, self._candidates = features.num_items, min(candidates, features.num_items - 1)

    def states(self, sequences: SessionSequences) -> TwoStageStates:
        """Return what each target is scored from, in the order of rows, then of time."""
        states = tuple(system.target_states(sequences) for system in self.systems)
        return TwoStageStates(states, Prefixes.before_targets(sequences))

    def blocks(self, states: TwoStageStates) -> Iterator[slice]:
        """Yield slices of targets to be worked on together."""
        events = states.prefixes.end - states.prefixes.row_begin  # (targets,)
        cells = self._num_items + CELLS_A_CANDIDATE * self._candidates + events  # (targets,)
        return blocks_of(cells, CELLS_A_BLOCK)

    def of(self, states: TwoStageStates) -> tuple[Tensor, Tensor, Tensor]:
        """
        Return the candidates of a block of targets.

        Returns
        -------
        (base, candidates, features) : tensors
            Logarithms of the members' mean probabilities, (targets, num_items - 1); places of the candidates there,
            best first, (targets, candidates); their features, (targets, candidates, features).
        """
        with torch.no_grad():
            shares = [
                system.item_probabilities(part).cpu() for system, part in zip(self.systems, states.members, strict=True)
            ]
        base = (sum(shares) / len(shares)).clamp(min=LOWEST_MEAN).log()
        best = base.topk(self._candidates, dim=1)
        own = [share.gather(1, best.indices).clamp(min=LOWEST).log() for share in shares]
        summary = [part for share in shares for part in (_entropy(share), share.amax(dim=1))]  # (targets,) each
        features = self.features.of(states.prefixes, best.indices, [*own, best.values], summary)
        return base, best.indices, features


def _entropy(shares: Tensor) -> Tensor:
    """Return the entropy of each target's probabilities: (targets,)."""
    return -(shares * shares.clamp(min=1e-9).log()).sum(dim=1)


@register_kind("model")
class TwoStageRanker(Recommender):
    """
    Candidate generation, then ranking, as in large recommender systems (Covington et al. 2016).

    The members, such as ASARS nets, the transition memory and nearest neighbours, are fitted on the earlier sessions of
    the training part. On the later sessions a small net learns to rank their candidates, from each member's probability
    of a candidate, its events and dwell in the session, its popularity, and features of the session. The members are
    then refitted on the whole training part.

    Parameters
    ----------
    members : list of Member
    dwell : {'known', 'observed'}
    candidates : int, optional
        Number of items that are ranked, the best by the members' mean probability; the others follow in that order.
    late_share : float, optional
        Share of the sessions, the latest, from which the ranking is learned.
    hidden_dim, epochs, learning_rate, weight_decay, batch_size : optional
        Of the ranking nets.
    rankers : int, optional
        Number of ranking nets, which differ in their random initialisation; their scores are averaged.
    patience : int, optional
        Number of epochs without a better MRR@20 on the later sessions after which a member net stops.
    averaged_epochs : int, optional
        Number of last epochs over which the weights of a member net are averaged (Izmailov et al. 2018).
    random_state : int, optional
        Seed of the ranking nets; the members have their own.

    Attributes
    ----------
    members : tuple of Member
    systems : tuple
        The members' systems, fitted on the whole training part.
    ranking_nets : list of Ranker
        Their scores are averaged; an empty list ranks by the members' mean probability.
    member_epochs : tuple of int or None
        Number of epochs of each member.
    """

    reads_dwell = True
    is_random = True

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
        averaged_epochs: int = 3,
        random_state: int = 0,
    ) -> None:
        if not members:
            raise InputError("there are no members: give at least one recommender that proposes candidates")
        check_choice("dwell", dwell, DWELL_RULES)
        whole = {"candidates": candidates, "hidden_dim": hidden_dim, "epochs": epochs, "batch_size": batch_size}
        whole |= {"rankers": rankers, "patience": patience, "averaged_epochs": averaged_epochs}
        for name, value in whole.items():
            check_whole(name, value)
        check_share("late_share", late_share)
        self.members, self.dwell = tuple(members), dwell
        self._candidates, self._late_share = candidates, late_share
        self._hidden_dim, self._epochs, self._learning_rate = hidden_dim, epochs, learning_rate
        self._weight_decay, self._batch_size, self._num_rankers = weight_decay, batch_size, rankers
        self._patience, self._averaged_epochs, self._random_state = patience, averaged_epochs, random_state

    @property
    def has_users(self) -> bool:
        """Whether a fitted member learns about users; False before the first fit."""
        return self.is_fitted and any(system.has_users for system in self.systems)

    def fit(self, sequences: SessionSequences) -> "TwoStageRanker":
        """Fit members and ranking on a training part, and forget any earlier one once all is fitted."""
        with random_numbers_kept():  # the host seeds torch globally when it makes a net
            return self._fit(as_session_sequences(sequences))

    def _fit(self, sequences: SessionSequences) -> "TwoStageRanker":
        early, late = split_rows_by_time(sequences, self._late_share)
        found = [self._fit_early(member, early, late) for member in self.members]
        systems, epochs = zip(*found, strict=True)
        rankers = self._fit_rankers(_Proposals(systems, CandidateFeatures(early, self.dwell), self._candidates), late)
        systems = [
            self._fit_whole(member, count, sequences) for member, count in zip(self.members, epochs, strict=True)
        ]
        self._proposals = _Proposals(systems, CandidateFeatures(sequences, self.dwell), self._candidates)
        self.systems, self.member_epochs, self.ranking_nets = tuple(systems), epochs, rankers
        self.keep_numbering(sequences)
        return self

    def _parameters(self) -> dict[str, object]:
        """Constructor arguments; `rankers` is kept as `_num_rankers`, since `ranking_nets` are the nets."""
        return {**constructor_arguments(self, "rankers"), "rankers": self._num_rankers}

    def state(self) -> SystemState:
        """Return the ranker and its members as data; each member is kept as the system that it makes."""
        settings, code = plain_and_code({**self._parameters(), "members": [one.epochs for one in self.members]})
        with random_numbers_kept():  # the host seeds torch globally when it makes a net
            parts = {f"member_{place}": self._new(one, one.epochs) for place, one in enumerate(self.members)}
        if not self.is_fitted:
            return SystemState(settings, code, parts=parts)
        numbering = Numbering.of(self)
        parts |= {f"system_{place}": system for place, system in enumerate(self.systems)}
        parts |= {**numbering.parts(), "features": self._proposals.features}
        fitted = {**numbering.fitted(), "member_epochs": list(self.member_epochs)}
        rankers = {str(place): weights_of(ranker) for place, ranker in enumerate(self.ranking_nets)}
        return SystemState(settings, code, fitted, {"rankers": rankers}, parts)

    @classmethod
    def from_state(cls, state: SystemState) -> "TwoStageRanker":
        """
        Return an equal ranker; the global random state of torch is unchanged.

        Raises
        ------
        InputError
            If the state is not one of a ranker.
        """
        settings, parts = dict(state.settings), state.parts
        check_settings(cls, {name: value for name, value in settings.items() if name != "members"})
        epochs_of = settings.get("members")
        ListOf(Maybe(Whole(1))).check("members", epochs_of)
        of_members = [f"member_{place}" for place in range(len(epochs_of))]
        of_systems = [f"system_{place}" for place in range(len(epochs_of))] if state.fitted is not None else []
        Fields(dict.fromkeys([*of_members, *of_systems], Part(Recommender))).check("parts", parts)
        members = [
            Member(partial(_made_anew, parts[f"member_{place}"], epochs is not None), epochs)
            for place, epochs in enumerate(settings.pop("members"))
        ]
        ranking = cls(members, **settings)
        if state.fitted is not None:
            ranking.keep_numbering(Numbering.from_state(state))
            fitted = {"member_epochs": ListOf(Maybe(Whole(1)), len(members))}
            Fields(fitted).check("ranker", state.fitted)
            Fields({"features": Part(CandidateFeatures)}).check("parts", parts)
            for part in (*(parts[name] for name in of_systems), parts["features"]):
                if part.num_items != ranking.num_items:
                    raise InputError("its parts have another number of items than the ranker")
            ranking.member_epochs = tuple(state.fitted["member_epochs"])
            ranking.systems = tuple(parts[f"system_{place}"] for place in range(len(members)))
            ranking._proposals = _Proposals(ranking.systems, parts["features"], ranking._candidates)
            Fields({"rankers": Fields({})}).check("arrays", state.arrays)
            saved = state.arrays["rankers"]
            ranking.ranking_nets = [ranker_from(saved[str(place)], ranking._hidden_dim) for place in range(len(saved))]
        return ranking

    def _new(self, member: Member, epochs: int | None) -> Recommender:
        system = member.new(1 if epochs is None else epochs)
        if system.dwell not in (None, self.dwell):
            raise InputError(
                f"a member was made with dwell={system.dwell!r} and the ranking with {self.dwell!r}: give both the same"
            )
        return system

    def _fit_early(
        self, member: Member, early: SessionSequences, late: SessionSequences
    ) -> tuple[Recommender, int | None]:
        """Return the member fitted on the earlier sessions, at its best on the later ones, and its number of epochs."""
        system = self._new(member, member.epochs)
        if member.epochs is None:
            return system.fit(early), None
        stopping = EarlyStopping(late, self._patience, WeightAveraging(self._averaged_epochs))
        system.fit(early, callbacks=[stopping])
        system.net.load_state_dict(stopping.best_weights)
        return system, stopping.best_epoch + 1

    def _fit_whole(self, member: Member, epochs: int | None, sequences: SessionSequences) -> Recommender:
        """Return the member fitted on the whole training part, for the number of epochs found before."""
        system = self._new(member, epochs)
        if epochs is None:
            return system.fit(sequences)
        averaging = WeightAveraging(self._averaged_epochs)
        system.fit(sequences, callbacks=[averaging])
        system.net.load_state_dict(averaging.mean())
        return system

    def _fit_rankers(self, proposals: _Proposals, late: SessionSequences) -> list[Ranker]:
        """Fit nets that rank the target first among its candidates; none if no target is a candidate."""
        states = proposals.states(late)
        thinned = slice(None, None, -(-len(states) // MOST_RANKED))
        wanted = torch.from_numpy(late.events[late.events[:, TARGET] != 0, ITEM].astype(np.int64))  # (targets,)
        states, wanted = states[thinned], wanted[thinned]
        features, places = [], []
        for block in proposals.blocks(states):
            _, candidates, known = proposals.of(states[block])
            hit = candidates == wanted[block, None] - 1  # (targets, candidates)
            inside = hit.any(dim=1)
            features.append(known[inside])
            places.append(hit[inside].int().argmax(dim=1))
        features, places = torch.cat(features), torch.cat(places)
        if not len(places) or features.shape[1] == 1:  # no target is a candidate, or there is only one candidate
            return []
        first = self._random_state * self._num_rankers
        generators = [torch.Generator().manual_seed(first + number) for number in range(self._num_rankers)]
        return [self._fit_ranker(features, places, generator) for generator in generators]

    def _fit_ranker(self, features: Tensor, places: Tensor, generator: torch.Generator) -> Ranker:
        torch.manual_seed(int(torch.randint(2**31 - 1, (1,), generator=generator)))
        ranker = Ranker(features.shape[2], self._hidden_dim)
        ranker.standardise(features)
        optimizer = torch.optim.Adam(ranker.parameters(), lr=self._learning_rate, weight_decay=self._weight_decay)
        for _ in range(self._epochs):
            for batch in torch.randperm(len(places), generator=generator).split(self._batch_size):
                optimizer.zero_grad()
                nn.functional.cross_entropy(ranker(features[batch]), places[batch]).backward()
                optimizer.step()
        return ranker

    def target_states(self, sequences: SessionSequences) -> TwoStageStates:
        """Return what each target is scored from, in the order of rows, then of time."""
        sequences = self.checked_rows(sequences)
        return self._proposals.states(sequences)

    def item_scores(self, states: TwoStageStates) -> Tensor:
        """
        Return scores of items 1, 2, ...

        Candidates score at least 1; the others, below them, the logarithm of the members' mean probability.

        Returns
        -------
        float32 tensor of shape (targets, num_items - 1)
        """
        self.check_fitted()
        scores = torch.empty(len(states), self.num_items - 1)
        for block in self._proposals.blocks(states):
            scores[block] = self._score(states[block])
        return scores

    def _score(self, states: TwoStageStates) -> Tensor:
        base, candidates, features = self._proposals.of(states)
        if not self.ranking_nets:
            return base
        with torch.no_grad():
            ranked = torch.stack([ranker(features) for ranker in self.ranking_nets]).mean(dim=0)
        ranked = ranked - ranked.min(dim=1, keepdim=True).values + 1.0
        return base.scatter(1, candidates, ranked)
