"""States together with the events before them, for nets with a pointer to items of the history."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spotlight_asars.host import PADDING_IDX as PADDING_ITEM
from spotlight_asars.interactions.channels import ITEM, SESSION_START
from spotlight_asars.layers.padding import entries_of

# Where in the history an item is, most recent first. An item that is in several places counts for the first of them.
PLACES = ("newest", "session", "earlier")


@dataclass(frozen=True)
class HistoryStates:
    """
    States of some targets, with a reference to the events before each; it can be sliced like a tensor.

    Attributes
    ----------
    states : tensor of shape (targets, dim)
    events : int64 tensor of shape (events, channel)
        Whole rows, one after the other; item 0 is padding.
    row_begin, begin, end : int64 tensors of shape (targets,)
        A target's history: events ``row_begin:begin`` are of earlier sessions, ``begin:end`` of its own session.
    """

    states: Tensor
    events: Tensor
    row_begin: Tensor
    begin: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, chosen: slice | Tensor) -> "HistoryStates":
        return HistoryStates(
            self.states[chosen], self.events, self.row_begin[chosen], self.begin[chosen], self.end[chosen]
        )

    @classmethod
    def before(cls, states: Tensor, events: Tensor, row: Tensor, position: Tensor) -> "HistoryStates":
        """
        Create the states before some positions of a batch.

        Parameters
        ----------
        states : tensor of shape (targets, dim)
        events : int64 tensor of shape (batch, time, channel)
        row, position : int64 tensors of shape (targets,)
            Positions of the targets; `position` may be `time`, after the last event.
        """
        batch, time = events.shape[:2]
        columns = torch.arange(time, device=events.device)
        begins = (columns * (events[:, :, SESSION_START] != 0)).cummax(dim=1).values if time else events[:, :, ITEM]
        begins = torch.cat([begins, begins[:, -1:]], dim=1) if time else begins.new_zeros(batch, 1)  # (batch, time + 1)
        row_begin = row * time
        return cls(states, events.flatten(0, 1), row_begin, row_begin + begins[row, position], row_begin + position)

    @classmethod
    def joined(cls, parts: list["HistoryStates"]) -> "HistoryStates":
        """Concatenate the states of several batches."""
        sizes = torch.tensor([0, *(len(part.events) for part in parts[:-1])]).cumsum(0).tolist()
        columns = [
            torch.cat([getattr(part, name) + size for part, size in zip(parts, sizes, strict=True)])
            for name in ("row_begin", "begin", "end")
        ]
        return cls(torch.cat([part.states for part in parts]), torch.cat([part.events for part in parts]), *columns)

    def places(self, num_items: int) -> tuple[Tensor, Tensor, Tensor]:
        """
        Find the items of each history and where they are in it; memory does not grow with the number of items.

        Returns
        -------
        (targets, items, places) : int64 tensors of shape (found,)
            Each pair of target and item once, without padding. A place is an index into PLACES.
        """
        entries = self._entries()
        target, item = (torch.cat(parts) for parts in zip(*entries, strict=True))  # (entries,) each
        place = torch.cat([torch.full_like(targets, number) for number, (targets, _) in enumerate(entries)])
        # The stable sort keeps the most recent place of each pair first.
        pair, order = (target * num_items + item).sort(stable=True)
        first = pair % num_items != PADDING_ITEM
        first[1:] &= pair[1:] != pair[:-1]
        pair = pair[first]  # (found,)
        return pair // num_items, pair % num_items, place[order[first]]

    def places_of(self, items: Tensor, num_items: int) -> Tensor:
        """
        Find where given items, of shape (..., targets), are in the histories.

        Returns
        -------
        int64 tensor of that shape
            An index into PLACES, or ``len(PLACES)`` if the item is not in the history.
        """
        numbers = torch.arange(len(self), device=items.device)
        wanted = (numbers * num_items + items).contiguous()  # (..., targets)
        places = torch.full_like(items, len(PLACES))
        for place, (target, item) in reversed(list(enumerate(self._entries()))):
            known = (target * num_items + item).sort().values
            if len(known):
                nearest = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
                places[known[nearest] == wanted] = place
        return places

    def _entries(self) -> list[tuple[Tensor, Tensor]]:
        """Return, for each of PLACES, targets and the items that their histories have there."""
        newest = torch.maximum(self.begin, self.end - 1)
        return [
            self._between(newest, self.end),
            self._between(self.begin, newest),
            self._between(self.row_begin, self.begin),
        ]

    def _between(self, begin: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        target, position = entries_of((end - begin).clamp(min=0))
        return target, self.events[begin[target] + position, ITEM]


def pairs_of_equals(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """
    Find all pairs of positions at which two tensors hold the same number.

    Parameters
    ----------
    first, second : int64 tensors of shape (n,) and (m,)

    Returns
    -------
    two int64 tensors of shape (pairs,)
        Positions in `first` and in `second`.
    """
    known, order = second.sort()
    begin = torch.searchsorted(known, first)  # (n,)
    counts = torch.searchsorted(known, first, right=True) - begin  # (n,)
    position, offset = entries_of(counts)  # (pairs,) each
    return position, order[begin[position] + offset]
