"""What a fitted system keeps of its training part: the numbering of ids and bins, and the check that rows share it."""

import math
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import DWELL, ITEM
from spotlight_asars.interactions.sequences import SessionSequences
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.serialization.schema import Fields, Number, Part, Whole
from spotlight_asars.serialization.state import HasState, SystemState, as_plain

_VOCABULARIES = ("item_vocabulary", "user_vocabulary")
_PARTS = (*_VOCABULARIES, "binning", "gap_binning")


class NumberedSystem(Protocol):
    """The numbering of a fitted system: it has the attributes of :class:`Numbering`."""

    num_items: int
    num_users: int
    session_gap: float
    binning: ScottBinning
    gap_binning: ScottBinning
    item_vocabulary: Vocabulary | None
    user_vocabulary: Vocabulary | None
    raw_items: Vocabulary


@dataclass(frozen=True)
class Numbering:
    """
    The numbers of ids and bins, and what they stand for.

    Attributes
    ----------
    num_items, num_users : int
        Number of item and user ids, 0 included.
    session_gap : float
        Seconds without an event after which a session ends; infinite if the training part had its own sessions.
    binning, gap_binning : ScottBinning
        Bins of dwell times and of session gaps.
    item_vocabulary, user_vocabulary : Vocabulary, optional
        Raw ids, if the rows had them.
    """

    num_items: int
    num_users: int
    session_gap: float
    binning: ScottBinning
    gap_binning: ScottBinning
    item_vocabulary: Vocabulary | None = None
    user_vocabulary: Vocabulary | None = None

    @classmethod
    def of(cls, holder: object) -> "Numbering":
        """Return the numbering of rows or of a fitted system, which have attributes of these names."""
        return cls(**{field.name: getattr(holder, field.name) for field in fields(cls)})

    @classmethod
    def from_state(cls, state: SystemState) -> "Numbering":
        """
        Return the numbering in a fitted system's state.

        Raises
        ------
        InputError
            If a value is missing or of another type, or a vocabulary has not as many ids as the numbers say.
        """
        numbers = Fields({"num_items": Whole(1), "num_users": Whole(1), "session_gap": Number(0.0, math.inf)})
        numbers.check("numbering", state.fitted)
        parts = {name: Part(Vocabulary if name.endswith("vocabulary") else ScottBinning) for name in _PARTS}
        Fields(parts, optional=_VOCABULARIES).check("numbering", state.parts)
        for name, number in zip(_VOCABULARIES, ("num_items", "num_users"), strict=True):
            ids, there = state.fitted[number], state.parts.get(name)
            if there is not None and len(there) != ids - 1:
                raise InputError(f"its {name} has {len(there)} ids, and its {number} is {ids}")
        plain = {name: state.fitted[name] for name in ("num_items", "num_users", "session_gap")}
        return cls(**plain, **{name: state.parts[name] for name in _PARTS if name in state.parts})

    def fitted(self) -> dict[str, object]:
        """Return the plain values, for ``SystemState.fitted``."""
        return {name: as_plain(getattr(self, name)) for name in ("num_items", "num_users", "session_gap")}

    def parts(self) -> dict[str, HasState]:
        """Return the other values, for ``SystemState.parts``."""
        found = {name: getattr(self, name) for name in _PARTS}
        return {name: part for name, part in found.items() if part is not None}


def check_same_numbering(sequences: SessionSequences, fitted: "Numbering | NumberedSystem") -> None:
    """
    Raise an InputError unless rows number their ids and bins as a fitted system does.

    Rows without a vocabulary, or with a binning that was never fitted, are taken as numbered alike.

    Parameters
    ----------
    sequences : SessionSequences
    fitted : Numbering or a fitted Recommender

    Raises
    ------
    InputError
        If the rows have more items or users, another vocabulary or other dwell bins.
    """
    for kind in ("items", "users"):
        there, known = getattr(sequences, f"num_{kind}"), getattr(fitted, f"num_{kind}")
        if there > known:
            raise InputError(
                f"the rows have {there} ids of {kind} and the model was made for {known}: "
                f"number them alike, with the vocabularies of the rows it was first fitted on"
            )
    for name in ("item_vocabulary", "user_vocabulary"):
        theirs, ours = getattr(sequences, name), getattr(fitted, name)
        if theirs is not ours and theirs is not None and ours is not None and theirs != ours:
            raise InputError(
                f"the rows have another {name} than the model, so their numbers mean other ids: split one log "
                "with time_based_split, or align the other part with align_test"
            )
    if sequences.binning.fitted and sequences.binning != fitted.binning:
        raise InputError(
            "the rows have other dwell bins than the model, so the same bin means another time: make them with "
            "binning=model.binning, or with history= the training part"
        )


def check_events(sequences: SessionSequences, fitted: "Numbering | NumberedSystem") -> None:
    """Raise an InputError if an item id or dwell bin is out of range; it reads all events of rows on disk."""
    items, bins = sequences.events[:, ITEM], sequences.events[:, DWELL]
    check_item_ids(items, fitted.num_items)
    most = int(bins.max(initial=0))
    if most >= fitted.binning.num_bins:
        raise InputError(
            f"a dwell bin is {most} and the training part has {fitted.binning.num_bins}: give its binning to the rows"
        )


def check_item_ids(items: np.ndarray, num_items: int) -> None:
    """Raise an InputError unless all item ids are among the `num_items` known ones, 0 included."""
    if items.size and not (items.min() >= 0 and items.max() < num_items):
        wrong = items.min() if items.min() < 0 else items.max()
        raise InputError(
            f"item id {wrong} is not one of the {num_items} ids known, from 0: number items as in the training part"
        )
