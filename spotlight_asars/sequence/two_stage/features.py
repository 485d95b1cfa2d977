"""Features of a candidate item at the time of a recommendation."""

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL_RULES, ITEM, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.rows import flat_positions
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.times import SECONDS_PER_DAY
from spotlight_asars.sequence.non_neural.prefixes import Prefixes
from spotlight_asars.sequence.training.catalogue import catalogue_places
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Fields, Text, Whole
from spotlight_asars.serialization.state import SystemState

NEAREST = 4  # newest events of the session with a feature each
NEAREST_IN_CATALOGUE = 3  # newest events from which the distance in the catalogue is measured
HALF_LIVES = (1.0, 3.0)  # of recent popularity, in days
CLICKS_OF_NONE = 0.1  # added to counts before their logarithm


@register_kind("part")
class CandidateFeatures:
    """
    Features of each target's candidates, from the session so far, its user's earlier sessions and a training part.

    For each candidate: its popularity, overall and recent; whether it is the item of one of the newest events; its
    number of events and its dwell in the session; its number of events in the user's earlier sessions; its distance
    from the newest items in the order of raw ids (``catalogue.py``). For the session, equal for all candidates: its
    length, whether its last events repeat an item, the popularity of its last item, the dwell of the event before last.

    Dwell is a bin number as a share of all bins, 0 if unknown. Popularity is the logarithm of the item's number of
    targets in the training part; recent popularity weighs each by its age at the part's last known time.

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
        targets = sequences.events[sequences.events[:, TARGET] != 0]
        items, seconds = targets[:, ITEM], targets[:, TIME].astype(np.float64)
        # UNKNOWN_TIME is the smallest value: it is the maximum only if no time is known.
        age = np.where(seconds == UNKNOWN_TIME, 0.0, (seconds.max(initial=UNKNOWN_TIME) - seconds) / SECONDS_PER_DAY)
        weights = [np.ones(len(items)), *(0.5 ** (age / half_life) for half_life in HALF_LIVES)]
        counts = [np.bincount(items, weight, minlength=self.num_items) for weight in weights]
        self._popularity = torch.from_numpy(np.log(np.stack(counts, axis=1) + CLICKS_OF_NONE)).float()  # (num_items, 3)
        places = catalogue_places(sequences)
        self._places = np.zeros(self.num_items, dtype=np.int64) if places is None else places

    def state(self) -> SystemState:
        """Return what was computed from the training part as data; see ``SystemState``."""
        fitted = {"dwell": self._dwell, "num_bins": self._num_bins, "num_items": self.num_items}
        return SystemState(fitted=fitted, arrays={"popularity": self._popularity.numpy(), "places": self._places})

    @classmethod
    def from_state(cls, state: SystemState) -> "CandidateFeatures":
        """
        Return equal features.

        Raises
        ------
        InputError
            If the state is not one of features.
        """
        known = {"dwell": Text(DWELL_RULES), "num_bins": Whole(1), "num_items": Whole(1)}
        Fields(known).check("features", state.fitted)
        items, least = state.fitted["num_items"], -float(np.finfo(np.float32).max)
        popularity, places = Array("f", (items, 1 + len(HALF_LIVES)), least), Array("i", (items,), 0, items)
        Fields({"popularity": popularity, "places": places}).check("features", state.arrays)
        features = cls.__new__(cls)  # the constructor needs the training part
        features._dwell, features._num_bins = state.fitted["dwell"], state.fitted["num_bins"]
        features.num_items = state.fitted["num_items"]
        features._popularity = torch.from_numpy(state.arrays["popularity"])
        features._places = state.arrays["places"]
        return features

    def of(self, prefixes: Prefixes, candidates: Tensor, given: list[Tensor], summary: list[Tensor]) -> Tensor:
        """
        Return all features of the candidates.

        Parameters
        ----------
        prefixes : Prefixes
            Of the targets.
        candidates : int64 tensor of shape (targets, candidates)
            Item i as number i - 1, best first, no item twice for a target.
        given : list of tensors of shape (targets, candidates)
            Further features of the candidates.
        summary : list of tensors of shape (targets,)
            Further features of the targets.

        Returns
        -------
        float32 tensor of shape (targets, candidates, features)
            Those given; 3 of popularity; 4 of the newest events; presence, count and dwell in the session, and count in
            earlier sessions; 3 of the catalogue; the summary; 6 of the session; and the candidate's place.
        """
        places = candidates.shape[1]
        own = [*given, *self._popularity[candidates + 1].unbind(dim=2), *self._in_session(prefixes, candidates)]
        own += self._in_catalogue(prefixes, candidates)
        shared = [one[:, None].expand(-1, places) for one in (*summary, *self._of_session(prefixes))]
        order = torch.arange(places).expand(len(candidates), -1)
        return torch.stack([*own, *shared, order], dim=2).float()

    def _in_session(self, prefixes: Prefixes, candidates: Tensor) -> list[Tensor]:
        """Return features from the events of this and earlier sessions: (targets, candidates) each."""
        places = _CandidatePlaces(candidates, self.num_items)
        event, target, _ = flat_positions(prefixes.begin, prefixes.end - prefixes.begin)
        place, event, target = places.of(target, prefixes.events.items[event], event)
        lag = prefixes.end[target] - event
        bins = self._shares_of_bins(prefixes.events.bins[event])
        if self._dwell == "known":
            bins[lag == 1] = 0.0
        nearest = [places.sums(place, lag == near) for near in range(1, NEAREST + 1)]
        count, dwelt = places.sums(place, np.ones(len(place))), places.sums(place, bins)

        event, target, _ = flat_positions(prefixes.row_begin, prefixes.begin - prefixes.row_begin)
        place, _, _ = places.of(target, prefixes.events.items[event], event)
        earlier = places.sums(place, np.ones(len(place)))
        return [*nearest, (count > 0).float(), count.log1p(), dwelt, earlier.log1p()]

    def _in_catalogue(self, prefixes: Prefixes, candidates: Tensor) -> list[Tensor]:
        """Return log distances from the newest items, the largest if there is none: (targets, candidates) each."""
        places, distances = self._places[candidates.numpy() + 1], []  # (targets, candidates)
        for back in range(1, NEAREST_IN_CATALOGUE + 1):
            event = prefixes.end - back  # (targets,)
            near = self._places[prefixes.events.items[np.maximum(event, 0)]]
            apart = np.abs(places - near[:, None])
            apart[event < prefixes.begin] = self.num_items
            distances.append(torch.from_numpy(np.log1p(apart).astype(np.float32)))
        return distances

    def _of_session(self, prefixes: Prefixes) -> list[Tensor]:
        """Return the features that all candidates share: (targets,) each."""
        length = prefixes.end - prefixes.begin
        # If the session has too few events, any valid index will do: the value is not used.
        last, before, third = (prefixes.events.items[np.maximum(prefixes.end - back, 0)] for back in (1, 2, 3))
        bins = self._shares_of_bins(prefixes.events.bins[np.maximum(prefixes.end - 2, 0)])
        columns = (
            np.log(np.maximum(length, 1)),
            (last == before) & (length > 1),
            (last == third) & (length > 2),
            np.where(length > 1, bins, 0.0),
            prefixes.begin > prefixes.row_begin,
        )
        last = np.where(length > 0, last, PADDING_ITEM).astype(np.int64)
        popular = self._popularity[torch.from_numpy(last), 0]
        return [popular, *(torch.from_numpy(column.astype(np.float32)) for column in columns)]

    def _shares_of_bins(self, bins: np.ndarray) -> np.ndarray:
        return np.maximum(bins - UNKNOWN_BIN, 0) / self._num_bins


class _CandidatePlaces:
    """Finds the place of an item among the candidates of a target, by bisection."""

    def __init__(self, candidates: Tensor, num_items: int) -> None:
        self._shape, self._num_items = tuple(candidates.shape), num_items
        items, order = (candidates + 1).sort(dim=1)  # (targets, candidates) both
        first = torch.arange(len(items))[:, None]  # (targets, 1)
        self._keys = (first * num_items + items).reshape(-1).numpy()  # ascending
        self._flat = (first * candidates.shape[1] + order).reshape(-1).numpy()

    def of(self, target: np.ndarray, items: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return place, event and target of the events whose item is a candidate of their target."""
        wanted = target * self._num_items + items
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        found = self._keys[at] == wanted
        return self._flat[at[found]], event[found], target[found]

    def sums(self, place: np.ndarray, values: np.ndarray) -> Tensor:
        """Sum values by place: float32, (targets, candidates)."""
        total = np.bincount(place, values, minlength=self._shape[0] * self._shape[1])
        return torch.from_numpy(total.reshape(self._shape)).float()
