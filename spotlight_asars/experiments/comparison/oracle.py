"""The best that any system could do on a simulated log: its true probabilities, ranked as a system's scores are."""

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
    Rank the item of every target by the true probabilities, among the items that the systems rank.

    The oracle predicts from the event just before the target in the whole log. So it sees the events that the
    filters took out, with their dwells, as no system does; what is the newest event to a system may be an earlier
    one to it, its dwell known. What it sees always includes what the systems see under the same rule, and it knows
    the simulator besides: with 'observed' and 'known' no system has a higher expected MRR.

    Parameters
    ----------
    log : SyntheticLog
        The whole log, before filters and split.
    sequences : SessionSequences
        Rows made of it; their vocabularies say what is ranked and which event is which.
    dwell : {'observed', 'known', 'none'}
        What the oracle knows of dwell, as in :meth:`SyntheticLog.next_item_probabilities`.
    memory_mib : float, optional
        About how much memory the probabilities may take at a time.

    Returns
    -------
    Ranks
        The targets in the order of :func:`spotlight_asars.evaluation.rank_targets`.

    Raises
    ------
    InputError
        If the rows are not of this log or have no target, or the rule is not known.
    """
    sequences = as_session_sequences(sequences)
    candidates = _raw_numbers("item", sequences.item_vocabulary) - 1  # (items,), columns of the probabilities
    if candidates.min(initial=0) < 0 or candidates.max(initial=0) >= log.num_items:
        raise InputError(f"the rows have an item that the simulated log lacks: its items are 1 to {log.num_items}")
    # Probabilities, what is added to them, and the candidates' columns, all float64; `rank_targets` counts 12 bytes
    # for each item that is ranked.
    numbers_a_target = 3 * log.num_items + 2 * int(LONGEST_DWELL) * (dwell == "known")
    memory_mib *= 12 * sequences.num_items / (12 * sequences.num_items + 8 * numbers_a_target)
    return rank_targets(_Oracle(log, candidates, dwell), sequences, memory_mib)


def target_positions(log: SyntheticLog, sequences: SessionSequences) -> np.ndarray:
    """
    The position in the log of every target of some rows.

    A user's events have different whole seconds in a simulated log, so user and time tell which event it is; that
    they do, and that item and session agree, is checked.

    Returns
    -------
    int64 array of shape (targets,)
        In the order of rows, then of time.

    Raises
    ------
    InputError
        If the rows are not of this log.
    """
    events = log.log
    times = events["timestamp"].to_numpy()
    origin, span = int(times.min()), int(times.max() - times.min()) + 1
    keys = events["user"].to_numpy().astype(np.int64) * span + (times.astype(np.int64) - origin)  # (events,)
    if (np.diff(keys) <= 0).any():
        raise InputError("two events of a user have the same time, or the log is not in order: give it as simulated")

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
            "their session: give the log that the rows were made of"
        )
    return positions


def _raw_numbers(kind: str, vocabulary: Vocabulary | None) -> np.ndarray:
    """The simulator's own numbers of the vocabulary's ids 1, 2, ..., int64."""
    if vocabulary is None or vocabulary.raw_ids.dtype.kind not in "iu":
        raise InputError(f"the rows do not say the simulator's numbers of their {kind}s: make them of its log")
    return vocabulary.raw_ids.astype(np.int64)


class _Oracle:
    """The truth in the guise of a system."""

    def __init__(self, log: SyntheticLog, candidates: np.ndarray, dwell: str) -> None:
        self._log, self._candidates, self._dwell = log, candidates, dwell

    def target_states(self, sequences: SessionSequences) -> Tensor:
        """The position of the event just before each target, (targets,)."""
        return torch.from_numpy(target_positions(self._log, sequences) - 1)

    def item_scores(self, states: Tensor) -> Tensor:
        """The true probabilities of items 1, 2, ... after some of those events, (targets, items)."""
        probabilities = self._log.next_item_probabilities(states.numpy(), self._dwell)
        return torch.from_numpy(probabilities[:, self._candidates])
