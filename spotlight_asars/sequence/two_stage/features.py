"""Features of a candidate item at the time of a recommendation."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.errors import InputError
from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL_RULES, ITEM, TARGET
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.sequence.non_neural.prefixes import Histories
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import LARGEST, Array, Fields, Text, Whole
from spotlight_asars.serialization.state import SystemState

NEAREST = 4  # newest events of the session with a feature each
CLICKS_OF_NONE = 0.1  # added to counts before their logarithm


@register_kind("part")
class CandidateFeatures:
    """
    Features of each target's candidates, from the session so far, its user's earlier sessions and a training part.

    For each candidate: its popularity; whether it is the item of one of the newest events; its
    number of events and its dwell in the session; its number of events in the user's earlier sessions. For the session,
    equal for all candidates: its length, whether its last events repeat an item, the popularity of its last item, the
    dwell of the event before last.

    Dwell is a bin number as a share of all bins, 0 if unknown. Popularity is the logarithm of the item's number of
    targets in the training part.

    Parameters
    ----------
    sequences : SessionSequences
        The training part.
    dwell : {'known', 'observed'}
        Whether the newest event's dwell may be used ('observed').
    """

    def __init__(self, sequences: SessionSequences, dwell: str) -> None:
        self._dwell = dwell
        self._num_bins, self.num_items = sequences.binning.num_bins, sequences.num_items
        self._keep(np.zeros(self.num_items, dtype=np.int64))
        self.add(sequences)

    def _keep(self, counts: np.ndarray) -> None:
        """Keep the number of targets of each item: (num_items,)."""
        self._counts = counts
        self._popularity = torch.from_numpy(np.log(counts + CLICKS_OF_NONE)).float()  # (num_items,)

    def add(self, sequences: SessionSequences) -> None:
        """Add the targets of further rows, numbered alike, to the popularity."""
        items = sequences.events[sequences.events[:, TARGET] != 0, ITEM]
        self._keep(self._counts + np.bincount(items, minlength=self.num_items))

    def width(self, members: int) -> int:
        """Return the number of features of a candidate that this many members propose."""
        # The members' probabilities and the mixture's; each member's highest; and the rest as `of` lists them.
        return (members + 1) + 1 + NEAREST + 4 + members + 6 + 1

    def state(self) -> SystemState:
        """Return what was computed from the training part as data; see ``SystemState``."""
        fitted = {"dwell": self._dwell, "num_bins": self._num_bins, "num_items": self.num_items}
        return SystemState(fitted=fitted, arrays={"counts": self._counts})

    @classmethod
    def from_state(cls, state: SystemState) -> "CandidateFeatures":
        """
        Return equal features.

        Raises
        ------
        InputError
            If the state is not one of features, or was made by release 0.1.0.
        """
        if "places" in state.arrays:
            raise InputError("its candidates have the features of release 0.1.0, which are others now: fit it anew")
        known = {"dwell": Text(DWELL_RULES), "num_bins": Whole(1), "num_items": Whole(1)}
        Fields(known).check("features", state.fitted)
        counts = Array("iu", (state.fitted["num_items"],), 0, LARGEST)
        Fields({"counts": counts}).check("features", state.arrays)
        features = cls.__new__(cls)  # the constructor needs the training part
        features._dwell, features._num_bins = state.fitted["dwell"], state.fitted["num_bins"]
        features.num_items = state.fitted["num_items"]
        features._keep(state.arrays["counts"])
        return features

    def of(self, histories: Histories, candidates: Tensor, given: list[Tensor], summary: list[Tensor]) -> Tensor:
        """
        Return all features of the candidates.

        Parameters
        ----------
        histories : Histories
            Of the targets; they offer at least `NEAREST` newest events.
        candidates : int64 tensor of shape (targets, candidates)
            Item i as number i - 1, best first, no item twice for a target.
        given : list of tensors of shape (targets, candidates)
            Further features of the candidates.
        summary : list of tensors of shape (targets,)
            Further features of the targets.

        Returns
        -------
        float32 tensor of shape (targets, candidates, features)
            Those given; popularity; 4 of the newest events; presence, count and dwell in the session, and count in
            earlier sessions; the summary; 6 of the session; and the candidate's place.
        """
        places = candidates.shape[1]
        newest = _Newest.of(histories, self._shares_of_bins)
        own = [*given, self._popularity[candidates + 1]]
        own += self._in_session(histories, candidates, newest)
        shared = [one[:, None].expand(-1, places) for one in (*summary, *self._of_session(histories, newest))]
        order = torch.arange(places).expand(len(candidates), -1)
        return torch.stack([*own, *shared, order], dim=2).float()

    def _in_session(self, histories: Histories, candidates: Tensor, newest: "_Newest") -> list[Tensor]:
        """Return features from the events of this and earlier sessions: (targets, candidates) each."""
        nearest = [candidates + 1 == item[:, None] for item in torch.from_numpy(newest.items.T)]
        places = _CandidatePlaces(candidates, self.num_items)
        target, item, count, dwell = histories.session_items()
        place, entry = places.of(target, item)
        count, dwelt = places.sums(place, count[entry]), places.sums(place, dwell[entry] / self._num_bins)
        if self._dwell == "observed":
            dwelt += nearest[0] * torch.from_numpy(newest.shares[:, 0].astype(np.float32))[:, None]
        target, item, earlier = histories.earlier_items()
        place, entry = places.of(target, item)
        return [*nearest, (count > 0).float(), count.log1p(), dwelt, places.sums(place, earlier[entry]).log1p()]

    def _of_session(self, histories: Histories, newest: "_Newest") -> list[Tensor]:
        """Return the features that all candidates share: (targets,) each."""
        last, before, third = newest.items.T[:3]
        columns = (
            np.log(np.maximum(histories.lengths, 1)),
            (last == before) & (before != PADDING_ITEM),
            (last == third) & (third != PADDING_ITEM),
            newest.shares[:, 1],
            histories.has_earlier,
        )
        popular = self._popularity[torch.from_numpy(last)]
        return [popular, *(torch.from_numpy(column.astype(np.float32)) for column in columns)]

    def _shares_of_bins(self, bins: np.ndarray) -> np.ndarray:
        return np.maximum(bins - UNKNOWN_BIN, 0) / self._num_bins


@dataclass(frozen=True)
class _Newest:
    """The newest events of each session, the newest first; 0 where there is none: (targets, NEAREST) each."""

    items: np.ndarray
    shares: np.ndarray  # of all dwell bins

    @classmethod
    def of(cls, histories: Histories, shares_of_bins: Callable[[np.ndarray], np.ndarray]) -> "_Newest":
        found = histories.newest_events(NEAREST)
        items = np.zeros((len(histories), NEAREST), dtype=np.int64)  # PADDING_ITEM
        shares = np.zeros((len(histories), NEAREST))
        items[found.target, found.lag - 1] = found.item
        shares[found.target, found.lag - 1] = shares_of_bins(found.bin)
        return cls(items, shares)


class _CandidatePlaces:
    """Finds the place of an item among the candidates of a target, by bisection."""

    def __init__(self, candidates: Tensor, num_items: int) -> None:
        self._shape, self._num_items = tuple(candidates.shape), num_items
        items, order = (candidates + 1).sort(dim=1)  # (targets, candidates) both
        first = torch.arange(len(items))[:, None]  # (targets, 1)
        self._keys = (first * num_items + items).reshape(-1).numpy()  # ascending
        self._flat = (first * candidates.shape[1] + order).reshape(-1).numpy()

    def of(self, target: np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the entries whose item is a candidate of their target, and which entries these are."""
        wanted = target * self._num_items + items
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found = np.flatnonzero(self._keys[at] == wanted) if len(self._keys) else at
        return self._flat[at[found]], found

    def sums(self, place: np.ndarray, values: np.ndarray) -> Tensor:
        """Sum values by place: float32, (targets, candidates)."""
        total = np.bincount(place, values, minlength=self._shape[0] * self._shape[1])
        return torch.from_numpy(total.reshape(self._shape)).float()
