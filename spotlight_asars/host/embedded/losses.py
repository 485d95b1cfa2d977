"""
Losses of the scores of observed (positive) and sampled (negative) items.

A loss ``loss(positive_predictions, negative_predictions, mask=None)`` returns a scalar tensor, the mean over all
entries, or over those where the mask is true. It is NaN if the mask is all false.
"""

import torch


def _mean(loss: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return loss.mean()
    if mask.shape != loss.shape and mask.numel() == loss.numel():
        # (batch, 1) and (batch,) would broadcast to (batch, batch).
        mask = mask.reshape(loss.shape)
    weights = mask.float()
    return (loss * weights).sum() / weights.sum()


def pointwise_loss(
    positive_predictions,
    negative_predictions,
    mask=None,
):
    """
    Return the pointwise loss 1 - s(r+) + s(r-), with s the logistic function.

    Parameters
    ----------
    positive_predictions, negative_predictions : torch.Tensor of one shape
        Scores.
    mask : torch.Tensor, optional
        True (or 1) for entries that count.
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
    Return the pairwise loss 1 - s(r+ - r-), with s the logistic function: BPR without the usual logarithm.

    Parameters
    ----------
    positive_predictions, negative_predictions : torch.Tensor of one shape
        Scores.
    mask : torch.Tensor, optional
        True (or 1) for entries that count.
    """
    return _mean(1.0 - torch.sigmoid(positive_predictions - negative_predictions), mask)


def hinge_loss(
    positive_predictions,
    negative_predictions,
    mask=None,
):
    """
    Return the pairwise hinge loss max(0, 1 + r- - r+).

    Parameters
    ----------
    positive_predictions, negative_predictions : torch.Tensor of one shape
        Scores.
    mask : torch.Tensor, optional
        True (or 1) for entries that count.
    """
    # clamp, because relu's gradient at the corner is 0 and not 1.
    violation = torch.clamp(negative_predictions - positive_predictions + 1.0, min=0.0)
    return _mean(violation, mask)


def adaptive_hinge_loss(
    positive_predictions,
    negative_predictions,
    mask=None,
):
    """
    Return the hinge loss against the highest-scored of several negatives.

    Parameters
    ----------
    positive_predictions : torch.Tensor
        Scores.
    negative_predictions : torch.Tensor of shape (negatives, *positive_predictions.shape)
        Scores of the negatives of each positive.
    mask : torch.Tensor, optional
        True (or 1) for entries that count.
    """
    highest = torch.max(negative_predictions, dim=0).values  # (batch, time)
    if highest.numel() == positive_predictions.numel():
        highest = highest.reshape(positive_predictions.shape)
    return hinge_loss(positive_predictions, highest, mask=mask)
