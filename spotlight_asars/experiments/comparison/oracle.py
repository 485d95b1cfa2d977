"""The best possible result on a simulated log: rank targets by the true probabilities of the simulator."""

import numpy as np
import torch
from torch import Tensor

from spotlight_asars.datasets.synthetic.log import SyntheticLog
from spotlight_asars.datasets.synthetic.walk import LONGEST_DWELL
from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import Ranks, rank_targets
from spotlight_asars.interactions.channels import ITEM, TARGET, TIME, TIME_ORIGIN, UNKNOWN_TIME
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.interactions.vocabulary import Vocabulary


def oracle_ranks(log: SyntheticLog, sequences: SessionSequences, dwell: str, memory_mib: float = 256.0) -> Ranks:
    """
    Rank every target by its true probability, among the items that the systems rank.

    The oracle predicts from the event just before the target in the whole log. It therefore sees the events and dwell
    times that the filters removed, and what is the last event for a system can be an earlier one for the oracle, with
    a known dwell. The oracle sees everything that the systems see under the same dwell rule, and it knows the
    simulator: with 'observed' and 'known' no system can have a higher expected MRR.

    Parameters
    ----------
    log : SyntheticLog
        The whole log, before filters and split.
    sequences : SessionSequences
        Rows made from the log; their vocabularies identify the items and users.
    dwell : {'observed', 'known', 'none'}
        What the oracle knows about dwell, as in :meth:`SyntheticLog.next_item_probabilities`.
    memory_mib : float, optional
        Approximate memory limit for the probabilities.

    Returns
    -------
    Ranks
        In the order of :func:`spotlight_asars.evaluation.rank_targets`.

    Raises
    ------
    InputError
        If the rows do not come from this log or have no target, or the dwell rule is unknown.
    """
    sequences = as_session_sequences(sequences)
    candidates = _raw_numbers("item", sequences.item_vocabulary) - 1  # (items,), columns of the probabilities
    if candidates.min(initial=0) < 0 or candidates.max(initial=0) >= log.num_items:
        raise InputError(f"the rows have an item that is not in the simulated log: give items 1 to {log.num_items}")
    # The probabilities, their summands and the candidates' columns are float64; `rank_targets` assumes 12 bytes per
    # ranked item.
    numbers_a_target = 3 * log.num_items + 2 * int(LONGEST_DWELL) * (dwell == "known")
    memory_mib *= 12 * sequences.num_items / (12 * sequences.num_items + 8 * numbers_a_target)
    return rank_targets(_Oracle(log, candidates, dwell), sequences, memory_mib)


def target_positions(log: SyntheticLog, sequences: SessionSequences) -> np.ndarray:
    """
    Return the position of every target in the log.

    User and time identify an event, since a user's events in a simulated log have different whole seconds. The function
    checks this, and that item and session agree.

    Returns
    -------
    int64 array of shape (targets,)
        Ordered by row, then by time.

    Raises
    ------
    InputError
        If the rows do not come from this log.
    """
    events = log.log
    times = events["timestamp"].to_numpy()
    origin, span = int(times.min()), int(times.max() - times.min()) + 1
    keys = events["user"].to_numpy().astype(np.int64) * span + (times.astype(np.int64) - origin)  # (events,)
    if (np.diff(keys) <= 0).any():
        raise InputError("two events of a user have the same time, or the log is unsorted: give the log as simulated")

    row = np.repeat(np.arange(len(sequences)), sequences.targets_a_row)  # (targets,)
    targets = sequences.events[sequences.events[:, TARGET] != 0].astype(np.int64)  # (targets, channel)
    users = _raw_numbers("user", sequences.user_vocabulary)[sequences.user_ids[row] - 1]
    seconds = targets[:, TIME] + TIME_ORIGIN - origin
    inside = (targets[:, TIME] != UNKNOWN_TIME) & (seconds >= 0) & (seconds < span)
    wanted = users * span + seconds
    positions = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    items = _raw_numbers("item", sequences.item_vocabulary)[targets[:, ITEM] - 1]
    sessions = events["session"].to_numpy()
    found = inside & (sequences.user_ids[row] > 0) & (keys[positions] == wanted)
    found &= (events["item"].to_numpy()[positions] == items) & (positions > 0)
    found &= sessions[positions] == sessions[positions - 1]
    if not found.all():
        raise InputError(
            f"{np.sum(~found)} of {len(found)} targets are not found in the simulated log, after another event of "
            "their session: give the log that the rows were made from"
        )
    return positions


def _raw_numbers(kind: str, vocabulary: Vocabulary | None) -> np.ndarray:
    """Return the simulator's numbers of the vocabulary's ids 1, 2, ...; int64."""
    if vocabulary is None or vocabulary.raw_ids.dtype.kind not in "iu":
        raise InputError(f"the rows lack the simulator's numbers of their {kind}s: make them from its log")
    return vocabulary.raw_ids.astype(np.int64)


class _Oracle:
    """The true probabilities, as a system that :func:`rank_targets` can rank."""

    def __init__(self, log: SyntheticLog, candidates: np.ndarray, dwell: str) -> None:
        self._log, self._candidates, self._dwell = log, candidates, dwell

    def target_states(self, sequences: SessionSequences) -> Tensor:
        """Return the position of the event just before each target, shape (targets,)."""
        return torch.from_numpy(target_positions(self._log, sequences) - 1)

    def item_scores(self, states: Tensor) -> Tensor:
        """Return the true probabilities of items 1, 2, ... after these events, shape (targets, items)."""
        probabilities = self._log.next_item_probabilities(states.numpy(), self._dwell)
        return torch.from_numpy(probabilities[:, self._candidates])
