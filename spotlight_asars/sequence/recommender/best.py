"""The best items of each request, from the scores of all."""

from collections.abc import Iterator

import numpy as np

_GROUPS_A_PLACE = 8  # so that few of the best k fall into one group


def best_items(scores: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers and scores of the k best items of each request, best first, without -inf; (requests, items - 1)."""
    for row in scores:
        # Only scores that reach the k-th best need sorting. The k-th best of the maxima of some groups is a lower bound
        # on it, and mostly a close one.
        groups = min(len(row), _GROUPS_A_PLACE * k)
        best = np.maximum.reduce(row[: len(row) // groups * groups].reshape(-1, groups))  # (groups,)
        last = max(groups - k, 0)
        best.partition(last)
        found = (row >= best[last]).nonzero()[0]
        values = row[found]
        order = (-values).argsort(kind="stable")[:k]
        found, values = found[order], values[order]
        if not len(values) or values[-1] == -np.inf:
            found, values = found[values > -np.inf], values[values > -np.inf]
        yield found + 1, values
