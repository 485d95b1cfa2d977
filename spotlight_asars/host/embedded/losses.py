"""
Losses over the scores of observed (positive) and drawn (negative) items.

Each is ``loss(positive_predictions, negative_predictions, mask=None)`` and gives a scalar tensor: the mean
over all entries, or over those where the mask is true. An all-false mask gives NaN.
"""

import torch


def _mean(loss: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return loss.mean()
    if mask.shape != loss.shape and mask.numel() == loss.numel():
        # (batch, 1) beside (batch,) would broadcast to (batch, batch).
        mask = mask.reshape(loss.shape)
    weights = mask.float()
    return (loss * weights).sum() / weights.sum()


def pointwise_loss(
    positive_predictions,
    negative_predictions,
    mask=None,
):
    """
    Push each positive's probability to one and each negative's to zero: 1 - s(r+) + s(r-), s logistic.

    Parameters
    ----------
    positive_predictions, negative_predictions : torch.Tensor of one shape
        Scores.
    mask : torch.Tensor, optional
        True (or 1) where an entry counts.
    """
    missed = 1.0 - torch.sigmoid(positive_predictions)
    raised = torch.sigmoid(negative_predictions)
    return _mean(missed + raised, mask)


def bpr_loss(
    positive_predictions,
    negative_predictions,
    mask=None,
):
    """
    Pairwise ranking loss 1 - s(r+ - r-), s logistic: Spotlight's BPR, without the usual logarithm.

    Parameters
    ----------
    positive_predictions, negative_predictions : torch.Tensor of one shape
        Scores.
    mask : torch.Tensor, optional
        True (or 1) where an entry counts.
    """
    return _mean(1.0 - torch.sigmoid(positive_predictions - negative_predictions), mask)


def hinge_loss(
    positive_predictions,
    negative_predictions,
    mask=None,
):
    """
    Pairwise margin loss max(0, 1 + r- - r+).

    Parameters
    ----------
    positive_predictions, negative_predictions : torch.Tensor of one shape
        Scores.
    mask : torch.Tensor, optional
        True (or 1) where an entry counts.
    """
    # clamp and not relu: its gradient at the corner is one.
    violation = torch.clamp(negative_predictions - positive_predictions + 1.0, min=0.0)
    return _mean(violation, mask)


def adaptive_hinge_loss(
    positive_predictions,
    negative_predictions,
    mask=None,
):
    """
    Hinge loss against the highest of several negatives.

    Parameters
    ----------
    positive_predictions : torch.Tensor
        Scores.
    negative_predictions : torch.Tensor of shape (negatives, *positive_predictions.shape)
        Scores of the negatives drawn for each positive.
    mask : torch.Tensor, optional
        True (or 1) where an entry counts.
    """
    highest = torch.max(negative_predictions, dim=0).values  # (batch, time)
    if highest.numel() == positive_predictions.numel():
        highest = highest.reshape(positive_predictions.shape)
    return hinge_loss(positive_predictions, highest, mask=mask)
