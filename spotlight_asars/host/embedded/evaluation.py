"""Mean reciprocal ranks of held-out items."""

from typing import Any

import numpy as np

# Stands for "ranked last" in place of the score of an item that does not take part.
_EXCLUDED = -np.finfo(np.float32).max


def _mean_reciprocal_rank(scores: np.ndarray, targets: np.ndarray) -> np.floating:
    """
    Give the mean of 1 / rank over the targets; equal scores share their mean rank.

    Parameters
    ----------
    scores : array of float, (num_items,)
        The higher, the better. One NaN makes the result NaN.
    targets : array of int, (num_targets,)
        Ids of the held-out items.
    """
    if np.isnan(scores).any():
        return np.float64(np.nan)
    target_scores = scores[targets][:, None]  # (targets, 1)
    higher = (scores > target_scores).sum(axis=1)  # (targets,)
    equal = (scores == target_scores).sum(axis=1)  # (targets,), the target itself among them
    return (1.0 / (higher + (equal + 1) / 2)).mean()


def mrr_score(model, test, train=None):
    """
    Score a factorization model: for each user with test items, the mean reciprocal rank of these.

    Parameters
    ----------
    model : object with ``predict(user_id)`` giving scores (num_items,)
        A fitted model.
    test : Interactions
        Held-out pairs.
    train : Interactions, optional
        Pairs whose items are ranked last for their user.

    Returns
    -------
    numpy.ndarray of float64, (users in test,)
        In ascending order of user ids.
    """
    test_matrix = test.tocsr()
    train_matrix = None if train is None else train.tocsr()

    scores_of_users = []
    for user_id in np.flatnonzero(np.diff(test_matrix.indptr)).tolist():
        scores = np.array(model.predict(user_id))  # (items,), a copy because entries are overwritten
        if train_matrix is not None and user_id < train_matrix.shape[0]:
            scores[_row(train_matrix, user_id)] = _EXCLUDED
        scores_of_users.append(_mean_reciprocal_rank(scores, _row(test_matrix, user_id)))

    return np.array(scores_of_users)


def _row(matrix: Any, index: int) -> np.ndarray:
    return matrix.indices[matrix.indptr[index] : matrix.indptr[index + 1]]


def sequence_mrr_score(model, test, exclude_preceding=False):
    """
    Score a sequence model: for each row, the reciprocal rank of its last item given those before it.

    Parameters
    ----------
    model : object with ``predict(sequence)`` giving scores (num_items,)
        A fitted model.
    test : SequenceInteractions
        Held-out sequences.
    exclude_preceding : bool
        Rank the items that already occur in the row, and the padding, last.

    Returns
    -------
    numpy.ndarray of float64, (num_sequences,)
    """
    reciprocal_ranks = []
    for row in test.sequences:
        preceding, target = row[:-1], row[-1:]
        scores = np.array(model.predict(preceding))  # (items,), a copy because entries are overwritten
        if exclude_preceding:
            scores[preceding] = _EXCLUDED
        reciprocal_ranks.append(_mean_reciprocal_rank(scores, target))

    return np.array(reciprocal_ranks)
