"""Item popularity drifts: shift the scores of a trained net from the popularity that it was trained on to today's."""

import numpy as np

from spotlight_asars.interactions.channels import ITEM, TARGET, TIME, UNKNOWN_TIME
from spotlight_asars.interactions.sequences import SessionSequences

# Time scales of forgetting, as shares of the time that the log covers.
SCALES = (1 / 3, 1 / 10, 1 / 30, 1 / 100, 1 / 300)
HELD_OUT_SHARE = 0.1  # of the targets, the latest, on which the scale is chosen
LEAST_GAIN = 0.5  # in the mean log-likelihood of a held-out target, in nats: items must come and go
_SMOOTHING = 0.5  # events added to each item


def recent_popularity(items: np.ndarray, times: np.ndarray, num_items: int, scale: float) -> np.ndarray:
    """
    Return the share of each item among events, of which old ones count less.

    Parameters
    ----------
    items : int array of shape (events,)
    times : array of shape (events,)
        In any unit.
    num_items : int
    scale : float
        Time after which an event counts 1 / e, in the unit of `times`; infinity counts all alike.

    Returns
    -------
    float64 array of shape (num_items,)
        Positive: as if each item had half an average event more.
    """
    weights = np.exp(-(times.max() - times) / scale)  # (events,)
    counts = np.bincount(items, weights, minlength=num_items) + _SMOOTHING * weights.mean()
    return counts / counts.sum()


def drift_scale(items: np.ndarray, times: np.ndarray, num_items: int) -> float:
    """
    Choose the scale of :func:`recent_popularity` that predicts the latest events from the earlier ones best.

    Returns
    -------
    float
        In the unit of `times`; infinity if forgetting predicts no better than counting all events alike.
    """
    order = np.argsort(times, kind="stable")
    items, times = items[order], times[order]
    late = round(len(items) * (1 - HELD_OUT_SHARE))
    if not 0 < late < len(items):
        return np.inf
    span = float(times[late - 1] - times[0])
    if span <= 0.0:
        return np.inf
    gains = {}
    for scale in (np.inf, *(share * span for share in SCALES)):
        shares = recent_popularity(items[:late], times[:late], num_items, scale)
        gains[scale] = np.log(shares[items[late:]]).mean()
    best = max(gains, key=gains.get)
    return best if gains[best] > gains[np.inf] + LEAST_GAIN else np.inf


def popularity_drift(sequences: SessionSequences) -> np.ndarray:
    """
    Return what to add to the scores of items that were trained on all targets of some rows, as of the latest of them.

    A softmax over items learns ``log p(item)``, over the whole training part, as part of each score. Where p drifts,
    ``log(p_recent / p)`` is the correction for label shift (Saerens et al. 2002).

    Parameters
    ----------
    sequences : SessionSequences
        The training part.

    Returns
    -------
    float32 array of shape (num_items,)
        All 0 if popularity does not drift, or times are unknown.
    """
    targets = sequences.events[sequences.events[:, TARGET] != 0]  # (targets, channel)
    items, times = targets[:, ITEM].astype(np.int64), targets[:, TIME].astype(np.float64)
    nothing = np.zeros(sequences.num_items, dtype=np.float32)
    if not len(times) or (times == UNKNOWN_TIME).any():
        return nothing
    scale = drift_scale(items, times, sequences.num_items)
    if np.isinf(scale):
        return nothing
    recent, all_time = (recent_popularity(items, times, sequences.num_items, one) for one in (scale, np.inf))
    return np.log(recent / all_time).astype(np.float32)
