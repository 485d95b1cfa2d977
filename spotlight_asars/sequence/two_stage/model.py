"""``asars_two_stage``: candidates from several recommenders, ranked by a net from features of the session."""

from collections.abc import Callable, Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.cross_validation import split_rows_by_time, without_unseen_items
from spotlight_asars.errors import InputError, check_choice, check_share, check_whole
from spotlight_asars.host import Interactions, SequenceInteractions
from spotlight_asars.interactions.channels import DWELL_RULES, ITEM, TARGET
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.sequence.non_neural.new_events import new_rows
from spotlight_asars.sequence.online.sessions import LiveSession
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.recommender.fitted import Numbering
from spotlight_asars.sequence.training.callbacks import EarlyStopping, WeightAveraging
from spotlight_asars.sequence.training.resuming import random_numbers_kept
from spotlight_asars.sequence.two_stage.features import CandidateFeatures
from spotlight_asars.sequence.two_stage.live import TwoStageSteps
from spotlight_asars.sequence.two_stage.proposals import Candidates, Proposals, TwoStageStates, mixture_weights
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Fields, ListOf, Maybe, Number, Part, Whole, check_settings
from spotlight_asars.serialization.state import SystemState, constructor_arguments, plain_and_code


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


def _made_anew(template: Recommender, by_epochs: bool, epochs: int) -> Recommender:
    """Return an unfitted copy of a system, for this many epochs if it is trained by epochs."""
    system = deepcopy(template)
    if by_epochs:
        system.n_iter = epochs
    return system


@register_kind("model")
class TwoStageRanker(Recommender):
    """
    Candidate generation, then ranking, as in large recommender systems (Covington et al. 2016).

    The members, such as ASARS nets, the transition memory and nearest neighbours, are fitted on the earlier sessions of
    the training part. On the later sessions their weights in a mixture are fitted, by likelihood, and small nets learn
    to rank the candidates of this mixture: from each member's probability of a candidate, its events and dwell in the
    session, its popularity, and features of the session. The members are then refitted on the whole training part.

    Parameters
    ----------
    members : list of Member
    dwell : {'known', 'observed'}
    candidates : int, optional
        Number of items that are ranked, the best by the mixture of the members; the others follow in that order.
    late_share : float, optional
        Largest share of the sessions, the latest, from which the ranking is learned.
    late_targets : int, optional
        About how many targets these sessions have at most.
    ranking : RankingNets, optional
        The nets of the second stage; a copy of them is fitted.
    patience : int, optional
        Number of epochs without a better MRR@20 on the later sessions after which a member net stops.
    averaged_epochs : int, optional
        Number of last epochs over which the weights of a member net are averaged (Izmailov et al. 2018): the measured
        curve of the epochs becomes smoother, and its best epoch fits the larger part better.
    random_state : int, optional
        Seed of the ranking nets; the members have their own.

    Attributes
    ----------
    members : tuple of Member
    systems : tuple
        The members' systems, fitted on the whole training part.
    fitted_ranking : RankingNets
        Without any fitted net, the mixture of the members ranks.
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
        late_targets: int = 12_000,
        ranking: RankingNets | None = None,
        patience: int = 3,
        averaged_epochs: int = 3,
        random_state: int = 0,
    ) -> None:
        if not members:
            raise InputError("there are no members: give at least one recommender that proposes candidates")
        check_choice("dwell", dwell, DWELL_RULES)
        whole = {"candidates": candidates, "late_targets": late_targets}
        whole |= {"patience": patience, "averaged_epochs": averaged_epochs}
        for name, value in whole.items():
            check_whole(name, value)
        check_share("late_share", late_share)
        self.members, self.dwell = tuple(members), dwell
        self.ranking = RankingNets() if ranking is None else ranking
        self._candidates, self._late_share, self._late_targets = candidates, late_share, late_targets
        self._patience, self._averaged_epochs, self._random_state = patience, averaged_epochs, random_state

    @property
    def has_users(self) -> bool:
        """Whether a fitted member learns about users; False before the first fit."""
        return self.is_fitted and any(system.has_users for system in self.systems)

    @property
    def has_live_sessions(self) -> bool:
        """Whether all fitted members have live sessions; False before the first fit."""
        return self.is_fitted and all(system.has_live_sessions for system in self.systems)

    def fit(self, sequences: SessionSequences) -> "TwoStageRanker":
        """Fit members and ranking on a training part, and forget any earlier one once all is fitted."""
        with random_numbers_kept():  # the host seeds torch globally when it makes a net
            return self._fit(as_session_sequences(sequences))

    def _fit(self, sequences: SessionSequences) -> "TwoStageRanker":
        early, late = self._earlier_and_later(sequences)
        found = [self._fit_early(member, early, late) for member in self.members]
        systems, epochs = zip(*found, strict=True)
        weights, ranking = self._fit_second_stage(systems, CandidateFeatures(early, self.dwell), late)
        systems = [
            self._fit_whole(member, count, sequences) for member, count in zip(self.members, epochs, strict=True)
        ]
        self.member_epochs, self.systems, self.fitted_ranking = epochs, tuple(systems), ranking
        self._proposals = Proposals(systems, CandidateFeatures(sequences, self.dwell), self._candidates, weights)
        self.keep_numbering(sequences)
        return self

    def _earlier_and_later(self, sequences: SessionSequences) -> tuple[SessionSequences, SessionSequences]:
        """Split off the latest sessions, from which the ranking is learned."""
        early, late = split_rows_by_time(sequences, self._late_share)
        if late.num_targets > self._late_targets:
            # On a large log few sessions are enough, and items of a short life are better learned from newer ones.
            early, late = split_rows_by_time(sequences, self._late_share * self._late_targets / late.num_targets)
        late = without_unseen_items(late, early)
        if not late.num_targets:
            raise InputError("the latest sessions have only items that the earlier ones lack: give a longer log")
        return early, late

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

    def _fit_second_stage(
        self, systems: Sequence[Recommender], known: CandidateFeatures, late: SessionSequences
    ) -> tuple[list[float], RankingNets]:
        """Return the weights of the members, and nets that rank the target first among its candidates."""
        proposals = Proposals(systems, known, self._candidates)
        states = proposals.states(late)
        wanted = torch.from_numpy(late.events[late.events[:, TARGET] != 0, ITEM].astype(np.int64))  # (targets,)
        weights = mixture_weights(proposals.probabilities_of(states, wanted))
        return weights, self._fit_ranking(Proposals(systems, known, self._candidates, weights), states, wanted)

    def _fit_ranking(self, proposals: Proposals, states: TwoStageStates, wanted: Tensor) -> RankingNets:
        """Return ranking nets; without any if no target is a candidate."""
        ranking, features, places = deepcopy(self.ranking), [], []
        for block in proposals.blocks(states):
            found = proposals.of(states[block])
            hit = found.items == wanted[block, None] - 1  # (targets, candidates)
            inside = hit.any(dim=1)
            features.append(found.features[inside])
            places.append(hit[inside].int().argmax(dim=1))
        features, places = torch.cat(features), torch.cat(places)
        if not len(places) or features.shape[1] == 1:  # no target is a candidate, or there is only one candidate
            return ranking
        return ranking.fit(features, places, self._random_state)

    def partial_fit(self, sequences: SequenceInteractions | Interactions) -> "TwoStageRanker":
        """
        Add new events of known items to the members that can take them, and to the items' popularity.

        Nets, and the ranking, stay as they are; live sessions go on. See ``NonNeuralRecommender.partial_fit``.

        Raises
        ------
        InputError
            If the ranker is not fitted, an item is unknown, or rows are numbered otherwise.
        """
        self.check_fitted()
        rows = new_rows(self, sequences)
        for system in self.systems:
            if hasattr(system, "partial_fit"):
                system.partial_fit(rows)
        self._proposals.features.add(rows)
        return self

    @property
    def weights(self) -> list[float]:
        """Weights of the members in the mixture that proposes candidates; they sum to 1."""
        return list(self._proposals.weights)

    def target_states(self, sequences: SessionSequences) -> TwoStageStates:
        """Return what each target is scored from, in the order of rows, then of time."""
        sequences = self.checked_rows(sequences)
        return self._proposals.states(sequences)

    def item_scores(self, states: TwoStageStates) -> Tensor:
        """
        Return scores of items 1, 2, ...

        Candidates score at least 1; the others, below them, the logarithm of their probability by the mixture.

        Returns
        -------
        float32 tensor of shape (targets, num_items - 1)
        """
        self.check_fitted()
        scores = torch.empty(len(states), self.num_items - 1)
        for block in self._proposals.blocks(states):
            scores[block] = self._ranked(self._proposals.of(states[block]))
        return scores

    def _ranked(self, found: Candidates) -> Tensor:
        if not self.fitted_ranking.fitted:
            return found.base
        return found.ranked(self.fitted_ranking.scores(found.features))

    def session(self, user: Hashable = None) -> LiveSession:
        """
        Return a live session: ``observe(item, timestamp)`` and ``recommend(k)``, equal to :meth:`recommend`.

        Parameters
        ----------
        user : raw id, optional
            None or an unknown one is anonymous.
        """
        return LiveSession(self, user)

    def live_steps(self) -> TwoStageSteps:
        """Return the steps of live sessions."""
        self.check_fitted()
        if not self.has_live_sessions:
            return super().live_steps()
        return TwoStageSteps(self._proposals, self._ranked, self.fitted_ranking)

    def state(self) -> SystemState:
        """Return the ranker and its members as data; each member is kept as the system that it makes."""
        arguments = constructor_arguments(self, "members", "ranking")
        settings, code = plain_and_code({**arguments, "members": [one.epochs for one in self.members]})
        with random_numbers_kept():  # the host seeds torch globally when it makes a net
            parts = {f"member_{place}": self._new(one, one.epochs) for place, one in enumerate(self.members)}
        parts["ranking"] = self.ranking
        if not self.is_fitted:
            return SystemState(settings, code, parts=parts)
        numbering = Numbering.of(self)
        parts |= {f"system_{place}": system for place, system in enumerate(self.systems)}
        parts |= {"features": self._proposals.features, "fitted_ranking": self.fitted_ranking, **numbering.parts()}
        fitted = {"member_epochs": list(self.member_epochs), "weights": self._proposals.weights}
        return SystemState(settings, code, {**numbering.fitted(), **fitted}, parts=parts)

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
        Fields({**dict.fromkeys(of_members, Part(Recommender)), "ranking": Part(RankingNets)}).check("parts", parts)
        members = [
            Member(partial(_made_anew, parts[f"member_{place}"], epochs is not None), epochs)
            for place, epochs in enumerate(settings.pop("members"))
        ]
        made = cls(members, ranking=parts["ranking"], **settings)
        if state.fitted is not None:
            made._keep_state(state)
        return made

    def _keep_state(self, state: SystemState) -> None:
        """Become fitted by the state of a ranker with these members."""
        parts, count = state.parts, len(self.members)
        self.keep_numbering(Numbering.from_state(state))
        fitted = {"member_epochs": ListOf(Maybe(Whole(1)), count), "weights": ListOf(Number(0.0, 1.0), count)}
        Fields(fitted).check("ranker", state.fitted)
        of_systems = [f"system_{place}" for place in range(count)]
        own = {"features": Part(CandidateFeatures), "fitted_ranking": Part(RankingNets)}
        Fields({**dict.fromkeys(of_systems, Part(Recommender)), **own}).check("parts", parts)
        systems, features = [parts[name] for name in of_systems], parts["features"]
        if any(part.num_items != self.num_items for part in (*systems, features)):
            raise InputError("its parts have another number of items than the ranker")
        parts["fitted_ranking"].check_width(features.width(count))
        self.systems, self.member_epochs = tuple(systems), tuple(state.fitted["member_epochs"])
        self.fitted_ranking = parts["fitted_ranking"]
        self._proposals = Proposals(systems, features, self._candidates, state.fitted["weights"])
