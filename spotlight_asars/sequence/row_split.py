"""Rows split by time: earlier sessions to fit on, later ones to learn from how well that went."""

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions import SessionSequences
from spotlight_asars.rows import TARGET, TIME


def split_rows_by_time(sequences: SessionSequences, late_share: float) -> tuple[SessionSequences, SessionSequences]:
    """
    Split rows into their earlier sessions, and the later ones with the earlier as their history.

    Parameters
    ----------
    sequences : SessionSequences
    late_share : float
        Share of the sessions, by the time of their last event, that are late.

    Returns
    -------
    (early, late) : two SessionSequences
        `early` holds the events of early sessions only. `late` holds the rows that have a target in a late session,
        and only those targets.

    Raises
    ------
    InputError
        If one of them would have no target.
    """
    session, place = np.unique(sequences.session_ids, return_inverse=True)
    last = np.full(len(session), np.iinfo(np.int64).min)
    np.maximum.at(last, place, sequences.events[:, TIME])
    # Sessions that end at the same time, or at an unknown one, keep their order.
    rank = np.empty(len(session), dtype=np.int64)
    rank[np.argsort(last, kind="stable")] = np.arange(len(session))
    is_late = (rank >= round(len(session) * (1.0 - late_share)))[place]  # (events,)
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)  # (events,)

    lengths = np.bincount(row[~is_late], minlength=len(sequences))
    early = sequences.with_events(sequences.events[~is_late], sequences.session_ids[~is_late], lengths)
    late_events = sequences.events.copy()
    late_events[~is_late, TARGET] = 0
    late = sequences.with_events(late_events)
    early, late = early.rows(early.lengths > 0), late.rows(late.targets_a_row > 0)
    if not early.num_targets or not late.num_targets:
        raise InputError("the rows have too few sessions to hold some of them back: give a longer training part")
    return early, late
