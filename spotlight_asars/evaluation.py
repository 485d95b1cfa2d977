"""Exact ranks over all items, MRR@K and Recall@K, bootstrap intervals by session (paper section 3.3)."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.channels import ITEM, TARGET
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences

CUTOFFS = (10, 20, 30, 40, None)
# Few targets at a time would make a system read all items often, and torch be called often; many would leave the cache.
SCORE_BYTES = 4 * 2**20
SHARING_TARGETS = 64
RANKED_BYTES = 2**19  # of scores, compared with their target's in the part of a cache that is a core's own


class System(Protocol):
    """What can be evaluated: every system of this package, and any object with these two methods."""

    def target_states(self, sequences: SessionSequences) -> Tensor:
        """Whatever is needed to score each target, (targets, ...), from the events before it."""

    def item_scores(self, states: Tensor) -> Tensor:
        """Scores of items 1, 2, ... for some of those states, (targets, items)."""


@dataclass(frozen=True)
class Ranks:
    """
    The rank of every target, and the session it belongs to.

    Attributes
    ----------
    ranks : float64 array of shape (targets,)
        ``1 + #(higher) + #(equal others) / 2`` among all items.
    session_ids : int64 array of shape (targets,)
        The units that the bootstrap draws.
    """

    ranks: np.ndarray
    session_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ranks)

    def reciprocal(self, cutoff: int | None = None) -> np.ndarray:
        """1 / rank, 0 past the cutoff (None: no cutoff); shape (targets,)."""
        return np.where(self.hits(cutoff), 1.0 / self.ranks, 0.0)

    def hits(self, cutoff: int | None = None) -> np.ndarray:
        """Whether a target's rank is within the cutoff; shape (targets,)."""
        return np.ones(len(self.ranks), dtype=bool) if cutoff is None else self.ranks <= cutoff


def rank_targets(
    system: System, sequences: SessionSequences, memory_mib: float = 256.0, verbose: bool = False
) -> Ranks:
    """
    Rank the item of every target event among all items.

    Parameters
    ----------
    system : System
        A fitted model.
    sequences : SessionSequences
        Rows whose targets are ranked from the events before them.
    memory_mib : float, optional
        About how much memory the scores may take at a time, whatever the catalogue.
    verbose : bool, optional
        Show progress, a step a block of targets.

    Returns
    -------
    Ranks
        In the order of rows, then of time.

    Raises
    ------
    InputError
        If there is no target, or if a score is not finite.
    ValueError
        If the system gives scores for other than these targets.
    """
    sequences = as_session_sequences(sequences, like=system)
    is_target = sequences.events[:, TARGET] != 0
    items = sequences.events[is_target, ITEM].astype(np.int64)
    if not len(items):
        raise InputError("no event is to be predicted: the test part needs sessions of two or more events")
    states = system.target_states(sequences)
    if len(states) != len(items):
        raise ValueError(f"the system gives states for {len(states)} targets: there are {len(items)}")
    places = torch.from_numpy(items - 1)[:, None]  # (targets, 1)
    block = _block_of(sequences.num_items, memory_mib)
    begins = range(0, len(items), block)
    ranks = np.empty(len(items))  # all at once: small arrays kept between blocks would break up free memory
    for begin in tqdm(begins, f"blocks of {min(block, len(items))} targets", leave=False, disable=not verbose):
        targets = slice(begin, begin + block)
        ranks[targets] = _ranks_of(system.item_scores(states[targets]), places[targets])
    return Ranks(ranks, sequences.session_ids[is_target])


def _block_of(num_items: int, memory_mib: float) -> int:
    """How many targets are scored at a time."""
    bytes_a_target = 4 * num_items
    allowed = int(memory_mib * 2**20 / (3 * bytes_a_target))  # scores, and as much twice for what leads to them
    return max(1, min(allowed, max(SHARING_TARGETS, SCORE_BYTES // bytes_a_target)))


def _ranks_of(scores: Tensor, places: Tensor) -> np.ndarray:
    """Ranks (targets,) of the items in some places, (targets, 1), of scores (targets, items)."""
    scores = torch.as_tensor(scores)
    if len(scores) != len(places):
        raise ValueError(f"the system gives scores for {len(scores)} targets: it was asked for {len(places)}")
    # The sum is looked at first, the quicker one; of finite scores it may overflow, of others it is never finite.
    if not torch.isfinite(scores.sum()) and not torch.isfinite(scores).all():
        raise InputError("a score is not finite, the model has diverged: lower learning_rate and fit it anew")
    own = scores.gather(1, places.to(scores.device))  # (targets, 1)
    rows = max(1, RANKED_BYTES // (4 * scores.shape[1]))
    # float32 counts to 2 ** 24, and has no room for the smallest differences of float64
    kind = torch.float64 if scores.shape[1] >= 2**24 or scores.dtype == torch.float64 else torch.float32
    buffer = scores.new_empty(min(rows, len(scores)), scores.shape[1], dtype=kind)
    surpluses = scores.new_empty(len(scores), dtype=kind)
    for surplus, part, target in zip(surpluses.split(rows), scores.split(rows), own.split(rows), strict=True):
        above = torch.sub(part, target, out=buffer[: len(part)]).sign_()  # (rows, items)
        torch.sum(above, dim=1, out=surplus)
    # Higher scores less lower ones: with the equal ones they are all, so the rank is higher + (equal + 1) / 2.
    return (surpluses.cpu().double().numpy() + scores.shape[1] + 1.0) / 2.0


def metrics(ranks: Ranks, cutoffs: tuple[int | None, ...] = CUTOFFS) -> dict[str, float]:
    """
    MRR@K and Recall@K over targets.

    Returns
    -------
    dict
        Keys 'mrr@20', 'recall@20', ...; 'mrr@all' where the cutoff is None (its recall is always 1 and left out).
    """
    values = {}
    for cutoff in cutoffs:
        name = "all" if cutoff is None else cutoff
        values[f"mrr@{name}"] = float(ranks.reciprocal(cutoff).mean())
        if cutoff is not None:
            values[f"recall@{cutoff}"] = float(ranks.hits(cutoff).mean())
    return values


def bootstrap_means(values: np.ndarray, session_ids: np.ndarray, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """
    Means of values under resampling of whole sessions, since targets of one session are not independent.

    Parameters
    ----------
    values : array of shape (targets,)
    session_ids : int array of shape (targets,)
    resamples, seed : int, optional

    Returns
    -------
    float64 array of shape (resamples,)
    """
    _, session = np.unique(session_ids, return_inverse=True)
    totals = np.bincount(session, weights=values)  # (sessions,)
    counts = np.bincount(session)
    random_state = np.random.RandomState(seed)
    sessions = len(counts)
    means = np.empty(resamples)
    for resample in range(resamples):
        drawn = np.bincount(random_state.randint(sessions, size=sessions), minlength=sessions)
        means[resample] = (drawn @ totals) / (drawn @ counts)
    return means


def confidence_interval(
    values: np.ndarray, session_ids: np.ndarray, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean under :func:`bootstrap_means`."""
    means = bootstrap_means(values, session_ids, resamples, seed)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedTest:
    """
    The difference of two systems' means on the same targets.

    Attributes
    ----------
    difference : float
        First less second.
    interval : tuple of two floats
        95 % interval of the difference.
    p_value : float
        Two-sided: twice the share of resamples on the other side of zero.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float


def paired_test(
    first: np.ndarray, second: np.ndarray, session_ids: np.ndarray, resamples: int = 1000, seed: int = 0
) -> PairedTest:
    """
    Compare two systems target by target, resampling whole sessions.

    Parameters
    ----------
    first, second : arrays of shape (targets,)
        Such as ``Ranks.reciprocal(20)`` of two systems on the same sequences.
    """
    if len(first) != len(second):
        raise InputError(f"the two systems have {len(first)} and {len(second)} targets: evaluate both on the same")
    difference = np.asarray(first, dtype=np.float64) - second
    means = bootstrap_means(difference, session_ids, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    smaller = min((means <= 0).mean(), (means >= 0).mean())
    # No resample on the other side says only that fewer than one in so many is.
    p_value = min(1.0, 2.0 * max(smaller, 1.0 / resamples))
    return PairedTest(float(difference.mean()), (float(low), float(high)), float(p_value))
