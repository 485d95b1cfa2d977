"""How much the events of a history speak for their items: a learned kernel of age, distance, dwell and context."""

from types import MappingProxyType

import torch
from torch import Tensor, nn

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.host import ZeroEmbedding
from spotlight_asars.interactions.binning import UNKNOWN_BIN
from spotlight_asars.interactions.channels import DWELL, ITEM, SESSION_START, TIME, UNKNOWN_TIME
from spotlight_asars.layers.padding import entries_of
from spotlight_asars.sequence.representations.pointer import HistoryStates

# What an event of the history is weighed by, and the number of bins of each; dwell has the bins of the log.
_BINS = MappingProxyType({"age": 34, "distance": 12, "follow": 5, "place": 3})
FEATURES = ("age", "distance", "dwell", "follow", "place")
REACH = 128  # the newest events of a history that count


class HistoryKernel(nn.Module):
    """
    The evidence of a history for each of its items: ``log(1 + sum_k exp(w_k))`` over the events k of the item.

    ``w_k`` is the sum of one learned weight for each feature of the event. All begin at 0, so that the evidence begins
    as ``log(1 + count)``:

    - 'age': time from the event to the newest one, in powers of two of a second. A learned response to age is the
      triggering kernel of a self-exciting (Hawkes) process.
    - 'distance': number of events since, in powers of two.
    - 'dwell': dwell bin of the event.
    - 'follow': whether the event before it shows the newest item, within its session or not, and whether the one before
      that also matches; what followed the newest item before tends to follow it again.
    - 'place': whether it is the newest event, of its session, or of an earlier session.

    Only the newest ``REACH`` events of a history count.

    Parameters
    ----------
    features : tuple of str
        Any of FEATURES.
    num_dwell_bins : int
    dwell : {'observed', 'known'}
        Whether the newest event's dwell is known.
    """

    def __init__(self, features: tuple[str, ...], num_dwell_bins: int, dwell: str) -> None:
        super().__init__()
        sizes = {**_BINS, "dwell": num_dwell_bins}
        self.tables = nn.ModuleDict({name: ZeroEmbedding(sizes[name], 1) for name in features})
        self.dwell = dwell

    def forward(self, history: HistoryStates, num_items: int) -> tuple[Tensor, Tensor, Tensor]:
        """
        Return the evidence for all items of some histories.

        Parameters
        ----------
        history : HistoryStates
            Of some targets.
        num_items : int

        Returns
        -------
        (targets, items, evidence) : tensors of shape (found,)
            Each pair of target and item once, sorted.
        """
        begin = torch.maximum(history.row_begin, history.end - REACH)  # (targets,)
        target, place = entries_of((history.end - begin).clamp(min=0))  # (entries,) each
        event = begin[target] + place  # (entries,)
        item = history.events[event, ITEM]
        present = item != PADDING_ITEM
        if not present.all():
            target, event, item = target[present], event[present], item[present]
        features = _Features(history, target, event, begin)
        weights = sum(table(self._bins(name, features))[:, 0] for name, table in self.tables.items())  # (entries,)
        pair, owner = torch.unique(target * num_items + item, return_inverse=True)  # (found,), (entries,)
        total = weights.new_zeros(len(pair)).index_add(0, owner, weights.exp())
        return pair // num_items, pair % num_items, total.log1p()

    def _bins(self, name: str, features: "_Features") -> Tensor:
        bins = getattr(features, name)()
        if name == "dwell" and self.dwell == "known":
            return torch.where(features.is_newest, UNKNOWN_BIN, bins)
        return bins


class _Features:
    """The features of entries, pairs of a target and an event of its history; each method returns bins (entries,)."""

    def __init__(self, history: HistoryStates, target: Tensor, event: Tensor, begin: Tensor) -> None:
        self._events, self._event = history.events, event
        self._newest, self._oldest = history.end[target] - 1, begin[target]  # (entries,) each
        self._session_begin = history.begin[target]  # (entries,)
        self.is_newest = event == self._newest

    def age(self) -> Tensor:
        """Powers of two of the seconds up to the newest event; 0 if unknown."""
        now, then = self._events[self._newest, TIME], self._events[self._event, TIME]
        number = ((now - then).clamp(min=0) + 1).double().log2().long() + 1
        return torch.where((now == UNKNOWN_TIME) | (then == UNKNOWN_TIME), 0, number)

    def distance(self) -> Tensor:
        """Powers of two of the number of events since, itself included."""
        return (self._newest - self._event + 1).double().log2().long().clamp(max=_BINS["distance"] - 1)

    def dwell(self) -> Tensor:
        """Dwell bins."""
        return self._events[self._event, DWELL]

    def follow(self) -> Tensor:
        """0 if the newest item does not precede the event; else 1, plus 1 in a session, plus 2 if two items match."""
        items = self._events[:, ITEM]
        before, previous = (self._event - 1).clamp(min=0), (self._newest - 1).clamp(min=0)
        match = (self._event > self._oldest) & (items[before] == items[self._newest])
        in_session = match & (self._events[self._event, SESSION_START] == 0)
        two = match & (before > self._oldest) & (items[(before - 1).clamp(min=0)] == items[previous])
        return match.long() + in_session.long() + 2 * two.long()

    def place(self) -> Tensor:
        """0 for the newest event, 1 for others of the session, 2 for earlier ones."""
        return torch.where(self.is_newest, 0, torch.where(self._event >= self._session_begin, 1, 2))
