"""Which items may be recommended: only some, or all but some."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.vocabulary import Vocabulary


@dataclass(frozen=True)
class AllowedItems:
    """
    Items that may be recommended; made once, it serves any number of requests to systems with the same items.

    Attributes
    ----------
    mask : bool array of shape (num_items - 1,)
        Of items 1, 2, ...
    """

    mask: np.ndarray

    @classmethod
    def of(
        cls,
        items: Vocabulary,
        candidates: "AllowedItems | Sequence[Hashable] | None" = None,
        exclude: Sequence[Hashable] = (),
    ) -> "AllowedItems | None":
        """
        Return the allowed items, None if all are.

        Parameters
        ----------
        items : Vocabulary
            Raw ids of a fitted system's items.
        candidates : list of raw ids, or AllowedItems, optional
            Only these are allowed; all by default. Unknown ids are ignored.
        exclude : list of raw ids, optional
            These are not. Unknown ids are ignored.

        Raises
        ------
        InputError
            If the ids are no list, or no candidate is known.
        """
        excluded = _numbers(items, "exclude", exclude)
        if candidates is None and not len(excluded):
            return None
        if isinstance(candidates, AllowedItems):
            mask = candidates.mask.copy()
        else:
            mask = np.full(len(items), candidates is None)
            if candidates is not None:
                wanted = _numbers(items, "candidates", candidates)
                if not len(wanted):
                    such = f", such as {next(iter(candidates))!r:.60}" if len(candidates) else ""
                    raise InputError(f"the model knows none of {len(candidates)} candidates{such}: give some it knows")
                mask[wanted - 1] = True
        mask[excluded - 1] = False
        return cls(mask)

    def leave(self, scores: np.ndarray) -> None:
        """Set the scores of all other items, (requests, num_items - 1), to -inf."""
        scores[:, ~self.mask] = -np.inf


def _numbers(items: Vocabulary, name: str, raw_ids: Sequence[Hashable]) -> np.ndarray:
    """Return the numbers of the known ids."""
    if isinstance(raw_ids, str) or not hasattr(raw_ids, "__len__"):
        raise InputError(f"{name} is {raw_ids!r:.60}: give a list of raw ids")
    found = items.transform(list(raw_ids)) if len(raw_ids) else np.zeros(0, dtype=np.int64)
    return found[found > 0]
