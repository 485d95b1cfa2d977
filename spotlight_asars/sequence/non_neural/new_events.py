"""New events for a fitted system, as rows that it numbers alike."""

from copy import copy

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.host import Interactions, SequenceInteractions
from spotlight_asars.interactions.sequences import SessionSequences, to_session_sequences
from spotlight_asars.interactions.sessions import SessionInteractions, as_session_interactions
from spotlight_asars.sequence.recommender.base import Recommender
from spotlight_asars.sequence.recommender.fitted import check_events


def new_rows(system: Recommender, new: SequenceInteractions | Interactions) -> SessionSequences:
    """
    Return new events as rows with the item numbers and dwell bins of a fitted system.

    Interactions are matched by their raw item ids, if they have any; their users need not be known.

    Raises
    ------
    InputError
        If an item is unknown, or rows are numbered otherwise than the system.
    """
    if not hasattr(new, "item_ids"):
        return system.checked_rows(new)
    log = copy(as_session_interactions(new, system.session_gap))
    log.item_ids, log.num_items = _known_items(system, log), system.num_items
    log.item_vocabulary = system.item_vocabulary
    rows = to_session_sequences(log, binning=system.binning, gap_binning=system.gap_binning)
    check_events(rows, system)
    return rows


def _known_items(system: Recommender, log: SessionInteractions) -> np.ndarray:
    """Return the items of a log by the system's numbers: (events,)."""
    vocabulary = log.item_vocabulary
    if vocabulary is None or vocabulary is system.item_vocabulary:
        return log.item_ids
    numbers = np.append(0, system.raw_items.transform(vocabulary.raw_ids))[log.item_ids]
    unknown = numbers == 0
    if unknown.any():
        first = vocabulary.raw_ids[log.item_ids[np.argmax(unknown)] - 1]
        raise InputError(
            f"{int(unknown.sum())} of {len(numbers)} new events are of items that the model does not know, such as "
            f"{first!r}: leave them out, or fit anew on all events"
        )
    return numbers
