"""What is known of a candidate item at the moment of a recommendation."""

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.binning import UNKNOWN_BIN
from spotlight_asars.interactions import SessionSequences
from spotlight_asars.rows import ITEM, TARGET, TIME, UNKNOWN_TIME, flat_positions
from spotlight_asars.sequence.memory import Moments

NEAREST = 4  # the newest events of the session whose items are told apart by their place
SECONDS_A_DAY = 86_400.0
HALF_LIVES = (1.0, 3.0)  # days, of recent popularity


class CandidateFeatures:
    """
    Features of candidates for some targets, from the session so far, its user's earlier ones and a training part.

    Of a candidate: its popularity, over all and lately; whether it is the item of one of the newest events, how often
    it stands in the session, for how long it was dwelt on there, how often in the user's earlier sessions. Of the
    session, the same for all candidates: its length, whether its last events repeat, how popular its last item is,
    how long the event before the last was dwelt on.

    Parameters
    ----------
    sequences : SessionSequences
        The training part.
    dwell : {'known', 'observed'}
        Whether the newest event's dwell may be looked at.
    """

    def __init__(self, sequences: SessionSequences, dwell: str) -> None:
        self._dwell = dwell
        self._num_bins = sequences.binning.num_bins
        targets = sequences.events[sequences.events[:, TARGET] != 0]
        items, seconds = targets[:, ITEM], targets[:, TIME].astype(np.float64)
        age = np.where(seconds == UNKNOWN_TIME, 0.0, (seconds.max(initial=0.0) - seconds) / SECONDS_A_DAY)
        weights = [np.ones(len(items)), *(0.5 ** (age / half_life) for half_life in HALF_LIVES)]
        counts = [np.bincount(items, weight, minlength=sequences.num_items) for weight in weights]
        self._popularity = torch.from_numpy(np.log(np.stack(counts, axis=1) + 0.1)).float()  # (num_items, 3)

    def of(self, moments: Moments, candidates: Tensor, given: list[Tensor], summary: list[Tensor]) -> Tensor:
        """
        All features of candidates.

        Parameters
        ----------
        moments : Moments
            Of the targets.
        candidates : int64 tensor of shape (targets, candidates)
            Item i as number i - 1.
        given : list of tensors of shape (targets, candidates)
            Further features of the candidates.
        summary : list of tensors of shape (targets,)
            Further features of the targets.

        Returns
        -------
        float32 tensor of shape (targets, candidates, features)
        """
        places = candidates.shape[1]
        own = [*given, *self._popularity[candidates + 1].unbind(dim=2), *self._in_session(moments, candidates)]
        shared = [one[:, None].expand(-1, places) for one in (*summary, *self._of_session(moments))]
        order = torch.arange(places).expand(len(candidates), -1)
        return torch.stack([*own, *shared, order], dim=2).float()

    def _in_session(self, moments: Moments, candidates: Tensor) -> list[Tensor]:
        shape = (len(moments), int(self._popularity.shape[0]))
        event, target, position = flat_positions(moments.begin, moments.end - moments.begin)
        lag = (moments.end - moments.begin)[target] - position
        items = moments.items[event].astype(np.int64)
        bins = np.maximum(moments.bins[event] - UNKNOWN_BIN, 0) / self._num_bins
        if self._dwell == "known":
            bins[lag == 1] = 0.0
        chosen = candidates + 1  # (targets, candidates)

        def spread(where: np.ndarray, values: np.ndarray) -> Tensor:
            table = torch.zeros(shape)
            key = torch.from_numpy(target[where] * shape[1] + items[where])
            return (
                table.view(-1).index_add_(0, key, torch.from_numpy(values[where]).float()).view(shape).gather(1, chosen)
            )

        ones = np.ones(len(event))
        nearest = [spread(lag == place, ones) for place in range(1, NEAREST + 1)]
        count, dwelt = spread(lag > 0, ones), spread(lag > 0, bins)
        event, target, _ = flat_positions(moments.row_begin, moments.begin - moments.row_begin)
        items, ones = moments.items[event].astype(np.int64), np.ones(len(event))
        earlier = spread(ones > 0, ones)
        return [*nearest, (count > 0).float(), count.log1p(), dwelt, earlier.log1p()]

    def _of_session(self, moments: Moments) -> list[Tensor]:
        length = moments.end - moments.begin
        last, before, third = (moments.items[np.maximum(moments.end - back, moments.begin)] for back in (1, 2, 3))
        bins = np.maximum(moments.bins[np.maximum(moments.end - 2, moments.begin)] - UNKNOWN_BIN, 0) / self._num_bins
        columns = (
            np.log(np.maximum(length, 1)),
            (last == before) & (length > 1),
            (last == third) & (length > 2),
            np.where(length > 1, bins, 0.0),
            moments.begin > moments.row_begin,
        )
        popular = self._popularity[torch.from_numpy(last.astype(np.int64)), 0]
        return [popular, *(torch.from_numpy(np.asarray(column, dtype=np.float32)) for column in columns)]
