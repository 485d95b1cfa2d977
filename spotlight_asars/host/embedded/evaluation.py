"""Mean reciprocal rank of held-out items."""

from typing import Any

import numpy as np

# Replaces the score of an excluded item, so that it is ranked last.
_EXCLUDED = -np.finfo(np.float32).max


def _mean_reciprocal_rank(scores: np.ndarray, targets: np.ndarray) -> np.floating:
    """
    Return the mean of 1 / rank over the targets; equal scores share their mean rank.

    Parameters
    ----------
    scores : array of float, (num_items,)
        If one is NaN, so is the result.
    targets : array of int, (num_targets,)
        Ids of held-out items.
    """
    if np.isnan(scores).any():
        return np.float64(np.nan)
    target_scores = scores[targets][:, None]  # (targets, 1)
    higher = (scores > target_scores).sum(axis=1)  # (targets,)
    equal = (scores == target_scores).sum(axis=1)  # (targets,), including the target itself
    return (1.0 / (higher + (equal + 1) / 2)).mean()


def mrr_score(model, test, train=None):
    """
    Return the mean reciprocal rank of the test items of each user, for a factorization model.

    Parameters
    ----------
    model : object whose ``predict(user_id)`` returns scores (num_items,)
        A fitted model.
    test : Interactions
        Held-out pairs.
    train : Interactions, optional
        Pairs whose items are ranked last for the user.

    Returns
    -------
    numpy.ndarray of float64, (users in test,)
        In ascending order of user id.
    """
    test_matrix = test.tocsr()
    train_matrix = None if train is None else train.tocsr()

    scores_of_users = []
    for user_id in np.flatnonzero(np.diff(test_matrix.indptr)).tolist():
        scores = np.array(model.predict(user_id))  # (items,), copied because entries are overwritten
        if train_matrix is not None and user_id < train_matrix.shape[0]:
            scores[_row(train_matrix, user_id)] = _EXCLUDED
        scores_of_users.append(_mean_reciprocal_rank(scores, _row(test_matrix, user_id)))

    return np.array(scores_of_users)


def _row(matrix: Any, index: int) -> np.ndarray:
    return matrix.indices[matrix.indptr[index] : matrix.indptr[index + 1]]


def sequence_mrr_score(model, test, exclude_preceding=False):
    """
    Return the reciprocal rank of the last item of each row given the preceding ones, for a sequence model.

    Parameters
    ----------
    model : object whose ``predict(sequence)`` returns scores (num_items,)
        A fitted model.
    test : SequenceInteractions
        Held-out sequences.
    exclude_preceding : bool
        Rank items that already occur in the row, and the padding, last.

    Returns
    -------
    numpy.ndarray of float64, (num_sequences,)
    """
    reciprocal_ranks = []
    for row in test.sequences:
        preceding, target = row[:-1], row[-1:]
        scores = np.array(model.predict(preceding))  # (items,), copied because entries are overwritten
        if exclude_preceding:
            scores[preceding] = _EXCLUDED
        reciprocal_ranks.append(_mean_reciprocal_rank(scores, target))

    return np.array(reciprocal_ranks)
