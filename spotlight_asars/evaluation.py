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
# Small blocks of targets read all items and call torch more often; large blocks do not fit into the cache.
SCORE_BYTES = 4 * 2**20
SHARING_TARGETS = 64
RANKED_BYTES = 2**19  # bytes of scores compared with their targets' at a time, within a core's own cache


class System(Protocol):
    """A system that can be evaluated: any object with these two methods."""

    def target_states(self, sequences: SessionSequences) -> Tensor:
        """Return a state for each target from the events before it, (targets, ...)."""

    def item_scores(self, states: Tensor) -> Tensor:
        """Return the scores of items 1, 2, ... for some of these states, (targets, items)."""


@dataclass(frozen=True)
class Ranks:
    """
    The rank of every target, and its session.

    Attributes
    ----------
    ranks : float64 array of shape (targets,)
        ``1 + #(higher) + #(equal others) / 2`` among all items.
    session_ids : int64 array of shape (targets,)
        The sampling units of the bootstrap.
    """

    ranks: np.ndarray
    session_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ranks)

    def reciprocal(self, cutoff: int | None = None) -> np.ndarray:
        """Return reciprocal ranks, 0 beyond the cutoff (None: no cutoff); shape (targets,)."""
        return np.where(self.hits(cutoff), 1.0 / self.ranks, 0.0)

    def hits(self, cutoff: int | None = None) -> np.ndarray:
        """Return whether each rank is within the cutoff (None: no cutoff); shape (targets,)."""
        return np.ones(len(self.ranks), dtype=bool) if cutoff is None else self.ranks <= cutoff


def rank_targets(
    system: System, sequences: SessionSequences, memory_mib: float = 256.0, verbose: bool = False
) -> Ranks:
    """
    Rank the item of every target event among all items, exactly.

    Parameters
    ----------
    system : System
        A fitted system.
    sequences : SessionSequences
        Rows whose targets are ranked from the events before them.
    memory_mib : float, optional
        Approximate limit on the memory of the scores, for a catalogue of any size.
    verbose : bool, optional
        Show a progress bar over blocks of targets.

    Returns
    -------
    Ranks
        Ordered by row, then by time.

    Raises
    ------
    InputError
        If there is no target, or a score is not finite.
    ValueError
        If the system returns the wrong number of states or scores.
    """
    sequences = as_session_sequences(sequences, like=system)
    is_target = sequences.events[:, TARGET] != 0
    items = sequences.events[is_target, ITEM].astype(np.int64)
    if not len(items):
        raise InputError("no event is to be predicted: the test part needs sessions of two or more events")
    states = system.target_states(sequences)
    if len(states) != len(items):
        raise ValueError(f"the system returned states for {len(states)} targets: there are {len(items)}")
    places = torch.from_numpy(items - 1)[:, None]  # (targets, 1)
    block = _block_of(sequences.num_items, memory_mib)
    begins = range(0, len(items), block)
    ranks = np.empty(len(items))  # one array: small ones kept from each block would fragment memory
    for begin in tqdm(begins, f"blocks of {min(block, len(items))} targets", leave=False, disable=not verbose):
        targets = slice(begin, begin + block)
        ranks[targets] = _ranks_of(system.item_scores(states[targets]), places[targets])
    return Ranks(ranks, sequences.session_ids[is_target])


def _block_of(num_items: int, memory_mib: float) -> int:
    """Return how many targets to score at a time."""
    bytes_a_target = 4 * num_items
    # 3: the scores, and about twice as much for intermediate results.
    allowed = int(memory_mib * 2**20 / (3 * bytes_a_target))
    return max(1, min(allowed, max(SHARING_TARGETS, SCORE_BYTES // bytes_a_target)))


def _ranks_of(scores: Tensor, places: Tensor) -> np.ndarray:
    """Return the ranks, (targets,), of the items at `places`, (targets, 1), by scores (targets, items)."""
    scores = torch.as_tensor(scores)
    if len(scores) != len(places):
        raise ValueError(f"the system returned scores for {len(scores)} targets: it was asked for {len(places)}")
    # The sum is a faster first check: it is never finite if a score is not, though it may overflow if all are.
    if not torch.isfinite(scores.sum()) and not torch.isfinite(scores).all():
        raise InputError("a score is not finite, the model has diverged: lower learning_rate and fit it again")
    own = scores.gather(1, places.to(scores.device))  # (targets, 1)
    rows = max(1, RANKED_BYTES // (4 * scores.shape[1]))
    # float32 counts exactly to 2 ** 24 only, and would round the smallest differences of float64 scores to 0.
    kind = torch.float64 if scores.shape[1] >= 2**24 or scores.dtype == torch.float64 else torch.float32
    buffer = scores.new_empty(min(rows, len(scores)), scores.shape[1], dtype=kind)
    surpluses = scores.new_empty(len(scores), dtype=kind)
    for surplus, part, target in zip(surpluses.split(rows), scores.split(rows), own.split(rows), strict=True):
        above = torch.sub(part, target, out=buffer[: len(part)]).sign_()  # (rows, items)
        torch.sum(above, dim=1, out=surplus)
    # A surplus is higher - lower, and higher + equal + lower is all items: rank = higher + (equal + 1) / 2.
    return (surpluses.cpu().double().numpy() + scores.shape[1] + 1.0) / 2.0


def metrics(ranks: Ranks, cutoffs: tuple[int | None, ...] = CUTOFFS) -> dict[str, float]:
    """
    Return MRR@K and Recall@K over all targets.

    Parameters
    ----------
    ranks : Ranks
    cutoffs : tuple of int or None, optional
        The values of K; None means no cutoff.

    Returns
    -------
    dict
        Keys 'mrr@20', 'recall@20', ...; 'mrr@all' for a cutoff of None, whose recall is always 1 and left out.
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
    Return bootstrap means, resampling whole sessions because the targets of a session are not independent.

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
    """
    Return the bootstrap percentile interval of the mean, see :func:`bootstrap_means`.

    Parameters
    ----------
    values : array of shape (targets,)
    session_ids : int array of shape (targets,)
    level : float, optional
        Coverage of the interval.
    resamples, seed : int, optional

    Returns
    -------
    (low, high) : two floats
    """
    means = bootstrap_means(values, session_ids, resamples, seed)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedTest:
    """
    The difference between the means of two systems on the same targets.

    Attributes
    ----------
    difference : float
        Mean of the first system minus mean of the second.
    interval : tuple of two floats
        95 % confidence interval of the difference.
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
    Compare two systems target by target with a bootstrap over whole sessions.

    Parameters
    ----------
    first, second : arrays of shape (targets,)
        For example ``Ranks.reciprocal(20)`` of two systems on the same sequences.
    session_ids : int array of shape (targets,)
    resamples, seed : int, optional

    Returns
    -------
    PairedTest

    Raises
    ------
    InputError
        If the numbers of targets differ.
    """
    if len(first) != len(second):
        raise InputError(f"the two systems have {len(first)} and {len(second)} targets: evaluate both on the same")
    difference = np.asarray(first, dtype=np.float64) - second
    means = bootstrap_means(difference, session_ids, resamples, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    smaller = min((means <= 0).mean(), (means >= 0).mean())
    # No resample on the other side only shows that the share is below 1 / resamples.
    p_value = min(1.0, 2.0 * max(smaller, 1.0 / resamples))
    return PairedTest(float(difference.mean()), (float(low), float(high)), float(p_value))
