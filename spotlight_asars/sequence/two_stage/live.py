"""Live sessions of two stages: every member takes its own steps, and the ranking reads the newest events."""

import hashlib
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.sequence.non_neural.live import append_newest, live_histories, newest_carry, with_newest_bin
from spotlight_asars.sequence.online.events import Carry
from spotlight_asars.sequence.online.protocols import LiveSteps
from spotlight_asars.sequence.online.seen_items import SessionItems
from spotlight_asars.sequence.two_stage.features import NEAREST
from spotlight_asars.sequence.two_stage.proposals import Candidates, Proposals
from spotlight_asars.sequence.two_stage.ranker import RankingNets
from spotlight_asars.serialization.weights import digest_of

_NEWEST = "newest"  # whose carry the ranking reads


class TwoStageSteps:
    """
    The ``LiveSteps`` of a two-stage ranker.

    The carry holds each member's under ``member_0.``, ``member_1.``, ..., and the newest events under ``newest.``.

    Parameters
    ----------
    proposals : Proposals
        Of the fitted members.
    ranked : callable
        Takes Candidates and returns the scores of all items, (targets, num_items - 1).
    ranking : RankingNets
        Fitted.
    """

    needs_tallies = True

    def __init__(self, proposals: Proposals, ranked: Callable[[Candidates], Tensor], ranking: RankingNets) -> None:
        self._proposals, self._ranked, self._ranking = proposals, ranked, ranking
        steps = [system.live_steps() for system in proposals.systems]
        self._members: dict[str, LiveSteps] = {f"member_{place}": one for place, one in enumerate(steps)}

    def initial_carry(self, sessions: int) -> Carry:
        """Return the carry before the first event."""
        parts = {name: steps.initial_carry(sessions) for name, steps in self._members.items()}
        return _joined({**parts, _NEWEST: newest_carry(sessions, NEAREST)})

    def update_item(self, carry: Carry, events: np.ndarray) -> Carry:
        """Return the entries that change when the newest events are observed, their dwell unknown."""
        parts = {name: steps.update_item(_part(carry, name), events) for name, steps in self._members.items()}
        return _joined({**parts, _NEWEST: append_newest(_part(carry, _NEWEST), events)})

    def update_dwell(self, carry: Carry, events: np.ndarray) -> Carry:
        """Return the entries that change when the dwell of the newest events becomes known."""
        parts = {name: steps.update_dwell(_part(carry, name), events) for name, steps in self._members.items()}
        return _joined({**parts, _NEWEST: {"bins": with_newest_bin(_part(carry, _NEWEST)["bins"], events)}})

    def scores(self, carry: Carry, events: np.ndarray, seen: SessionItems, rows: np.ndarray) -> np.ndarray:
        """Return the scores of all items: (sessions, num_items - 1)."""
        scores = [
            torch.from_numpy(steps.scores(_part(carry, name), events, seen, rows))
            for name, steps in self._members.items()
        ]
        histories = live_histories(_part(carry, _NEWEST), events, seen, rows)
        return self._ranked(self._proposals.among(scores, histories)).numpy()

    def check_current(self) -> None:
        """Raise an InputError if a member has changed so that the carry no longer fits it."""
        for steps in self._members.values():
            steps.check_current()

    def digest(self) -> str:
        """Return a digest of all that a saved carry depends on; the ranking's weights are among it."""
        found = hashlib.sha256(self._digest_of_ranking.encode())
        for steps in self._members.values():
            found.update(steps.digest().encode())
        return found.hexdigest()

    @cached_property
    def _digest_of_ranking(self) -> str:
        return "".join(digest_of(ranker) for ranker in self._ranking.fitted)


def _joined(parts: dict[str, Carry]) -> Carry:
    """Return the carries of all parts as one."""
    return {f"{part}.{name}": array for part, carry in parts.items() for name, array in carry.items()}


def _part(carry: Carry, part: str) -> Carry:
    """Return one part's carry."""
    begin = f"{part}."
    return {name.removeprefix(begin): array for name, array in carry.items() if name.startswith(begin)}
