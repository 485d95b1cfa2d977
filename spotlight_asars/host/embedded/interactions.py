"""User-item interactions, as pairs and as padded sequences."""

import numpy as np
import scipy.sparse as sp
from numpy.lib.stride_tricks import sliding_window_view


class Interactions:
    """
    Pairs of user and item ids, with optional ratings, timestamps and weights.

    Parameters
    ----------
    user_ids, item_ids : array of int, (num_interactions,)
        Ids from 0. In sequences, item id 0 is the padding.
    ratings, timestamps, weights : array, (num_interactions,), optional
    num_users, num_items : int, optional
        Number of ids, 0 included; by default one more than the largest id.

    Raises
    ------
    ValueError
        If a column has another length, or an id is too large.
    """

    def __init__(
        self,
        user_ids,
        item_ids,
        ratings=None,
        timestamps=None,
        weights=None,
        num_users=None,
        num_items=None,
    ):
        self.user_ids = np.asarray(user_ids)
        self.item_ids = np.asarray(item_ids)
        self.ratings = None if ratings is None else np.asarray(ratings)
        self.timestamps = None if timestamps is None else np.asarray(timestamps)
        self.weights = None if weights is None else np.asarray(weights)

        self.num_users = num_users or int(self.user_ids.max() + 1)
        self.num_items = num_items or int(self.item_ids.max() + 1)

        self._check()

    def __repr__(self):
        return f"<Interactions dataset ({self.num_users} users x {self.num_items} items x {len(self)} interactions)>"

    def __len__(self):
        return len(self.user_ids)

    def _check(self):
        for kind, ids, limit in (
            ("user", self.user_ids, self.num_users),
            ("item", self.item_ids, self.num_items),
        ):
            if ids.size and ids.max() >= limit:
                raise ValueError(f"Maximum {kind} id greater than declared number of {kind}s.")

        columns = {
            "item IDs": self.item_ids,
            "ratings": self.ratings,
            "timestamps": self.timestamps,
            "weights": self.weights,
        }
        for name, column in columns.items():
            if column is not None and len(column) != len(self):
                raise ValueError(f"Invalid {name} dimensions: length must be equal to number of interactions")

    def tocoo(self):
        """Return a (num_users, num_items) COO matrix of the ratings, or of ones if there are none."""
        values = np.ones(len(self)) if self.ratings is None else self.ratings
        return sp.coo_matrix((values, (self.user_ids, self.item_ids)), shape=(self.num_users, self.num_items))

    def tocsr(self):
        """Return the matrix of `tocoo` in CSR form, with repeated pairs summed."""
        return self.tocoo().tocsr()

    def to_sequence(
        self,
        max_sequence_length=10,
        min_sequence_length=None,
        step_size=None,
    ):
        """
        Split each user's items, ordered by time, into left-padded windows.

        A user's first window ends with the last item, and each further window ends ``step_size`` items earlier. Users
        come in ascending order; items with equal timestamps keep their order.

        Parameters
        ----------
        max_sequence_length : int
            Width of a window; shorter windows are padded with zeros on the left.
        min_sequence_length : int, optional
            Drop windows with fewer items.
        step_size : int, optional
            Distance between the ends of consecutive windows; by default the width, so that windows do not overlap.

        Returns
        -------
        SequenceInteractions
            ``sequences`` (num_windows, max_sequence_length) and ``user_ids`` (num_windows,), both int32.

        Raises
        ------
        ValueError
            If there are no timestamps, an item id is 0, or a length or step is invalid.
        """
        if self.timestamps is None:
            raise ValueError("Cannot convert to sequences, timestamps not available.")
        if np.any(self.item_ids == 0):
            raise ValueError("0 is used as an item id, conflicting with the sequence padding value.")
        if step_size is None:
            step_size = max_sequence_length
        if max_sequence_length < 1 or step_size < 1:
            raise ValueError("max_sequence_length and step_size must be at least 1.")
        if min_sequence_length is not None and min_sequence_length > max_sequence_length:
            raise ValueError("min_sequence_length is greater than max_sequence_length: nothing would be left.")

        order = np.lexsort((self.timestamps, self.user_ids))
        users, starts, counts = np.unique(self.user_ids[order], return_index=True, return_counts=True)
        owner, ends = _window_ends(counts, step_size)

        if min_sequence_length is not None:
            long_enough = ends >= min_sequence_length
            owner, ends = owner[long_enough], ends[long_enough]

        items = self.item_ids[order].astype(np.int32)
        padded = np.concatenate([np.zeros(max_sequence_length, dtype=np.int32), items])
        # Row i holds the items before position i, over all users in turn; a copy, because entries are overwritten.
        windows = sliding_window_view(padded, max_sequence_length)[starts[owner] + ends]  # (windows, length)
        of_earlier_users = np.arange(max_sequence_length) < max_sequence_length - ends[:, None]  # (windows, length)
        windows[of_earlier_users] = 0

        return SequenceInteractions(windows, user_ids=users[owner].astype(np.int32), num_items=self.num_items)


def _window_ends(counts: np.ndarray, step_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the user's index of each window, and the number of the user's items before the window's end."""
    windows = -(-counts // step_size)  # rounded up, (users,)
    owner = np.repeat(np.arange(len(counts)), windows)  # (windows,)
    first_window = np.cumsum(windows) - windows  # (users,)
    rank = np.arange(len(owner)) - first_window[owner]  # (windows,), 0 for the user's last window
    return owner, counts[owner] - rank * step_size


class SequenceInteractions:
    """
    Sequences of item ids, one per row, padded with zeros on the left.

    Parameters
    ----------
    sequences : array of int, (num_sequences, max_sequence_length)
        Item ids. A third axis may hold further channels.
    user_ids : array of int, (num_sequences,), optional
        The user of each row.
    num_items : int, optional
        Number of item ids, 0 included; by default one more than the largest id.
    """

    def __init__(
        self,
        sequences,
        user_ids=None,
        num_items=None,
    ):
        self.sequences = sequences
        self.user_ids = user_ids
        self.max_sequence_length = sequences.shape[1]
        self.num_items = int(sequences.max()) + 1 if num_items is None else num_items

    def __repr__(self):
        num_sequences, sequence_length = self.sequences.shape[:2]
        return f"<Sequence interactions dataset ({num_sequences} sequences x {sequence_length} sequence length)>"
