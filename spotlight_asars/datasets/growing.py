"""A vocabulary that grows with the log, a block of raw ids at a time."""

import numpy as np
import pandas as pd

from spotlight_asars.datasets._table import in_one_type
from spotlight_asars.vocabulary import Vocabulary

FEWEST_NEW = 1 << 16


class GrowingVocabulary:
    """
    Numbers raw ids 1, 2, ... in order of first appearance, as ``Vocabulary.fit`` would for all blocks at once.

    New ids are first kept apart: the hash table of the many known ones is made anew only when these have become a
    quarter more, so that the cost of an id does not grow with their number.
    """

    def __init__(self) -> None:
        self._known: pd.Index | None = None
        self._new: pd.Index | None = None

    def __len__(self) -> int:
        return 0 if self._known is None else len(self._known) + len(self._new)

    def number(self, raw_ids: pd.Series) -> np.ndarray:
        """Numbers of a block's raw ids, which are integers or text; int32, shape (events,)."""
        codes, distinct = pd.factorize(raw_ids)
        distinct = pd.Index(distinct)
        if self._known is None:
            self._known = self._new = distinct[:0]
        self._known, self._new, distinct = in_one_type([self._known, self._new, distinct])
        numbers = self._known.get_indexer(distinct) + 1  # (distinct,)
        missing = np.flatnonzero(numbers == 0)
        found = self._new.get_indexer(distinct[missing])
        numbers[missing] = np.where(found >= 0, len(self._known) + 1 + found, 0)
        unseen = missing[found < 0]
        numbers[unseen] = len(self) + 1 + np.arange(len(unseen))
        self._new = self._new.append(distinct[unseen])
        if len(self._new) > len(self._known) // 4 + FEWEST_NEW:
            self._known, self._new = self._known.append(self._new), self._new[:0]
        return numbers.astype(np.int32)[codes]

    def vocabulary(self) -> Vocabulary:
        """All ids so far."""
        ids = self._known.append(self._new)
        return Vocabulary(ids.to_numpy())
