"""What a fitted system keeps of the rows it was fitted on, as data."""

from dataclasses import dataclass, fields

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.binning import ScottBinning
from spotlight_asars.interactions.channels import ITEM
from spotlight_asars.interactions.sequences import SessionSequences, as_session_sequences
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.recommender.base import Recommends
from spotlight_asars.serialization.state import HasState, SystemState, as_plain, constructor_arguments, plain_and_code

_PARTS = ("item_vocabulary", "user_vocabulary", "binning", "gap_binning")


@dataclass(frozen=True)
class Numbering:
    """
    Numbers of ids and bins, and what they stand for.

    Attributes
    ----------
    num_items, num_users : int
        Numbers of item and user ids, 0 included.
    session_gap : float
        Seconds without an event after which a session ends.
    binning, gap_binning : ScottBinning
        What made the bins of dwell and of session gaps.
    item_vocabulary, user_vocabulary : Vocabulary, optional
        Raw ids, where the rows had them.
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
        """That of rows or of a fitted system, which have attributes of these names."""
        return cls(**{field.name: getattr(holder, field.name) for field in fields(cls)})

    @classmethod
    def from_state(cls, state: SystemState) -> "Numbering":
        """That which a fitted system's state holds."""
        plain = {name: state.fitted[name] for name in ("num_items", "num_users", "session_gap")}
        return cls(**plain, **{name: state.parts[name] for name in _PARTS if name in state.parts})

    def fitted(self) -> dict[str, object]:
        """What is plain, for ``SystemState.fitted``."""
        return {name: as_plain(getattr(self, name)) for name in ("num_items", "num_users", "session_gap")}

    def parts(self) -> dict[str, HasState]:
        """What is not, for ``SystemState.parts``."""
        found = {name: getattr(self, name) for name in _PARTS}
        return {name: part for name, part in found.items() if part is not None}


class KeepsNumbering(Recommends):
    """
    What a system that is no net keeps of the rows it was fitted on, to read others by.

    Attributes
    ----------
    num_items, num_users : int or None
        Numbers of item and user ids, 0 included; None before the first fit.
    item_vocabulary, user_vocabulary : Vocabulary or None
        Raw ids, where the rows had them.
    binning, gap_binning : ScottBinning
        What made the bins of dwell and of session gaps.
    session_gap : float
        Seconds without an event after which a session ends.
    counted : tuple of str
        Names of the arrays and sparse matrices that fitting leaves; a subclass gives them.
    """

    counted: tuple[str, ...] = ()
    num_items: int | None = None
    num_users: int | None = None
    item_vocabulary = user_vocabulary = None

    def state(self) -> SystemState:
        """The system as data, see ``SystemState``."""
        settings, code = plain_and_code(constructor_arguments(self))
        if self.num_items is None:
            return SystemState(settings, code)
        numbering = Numbering.of(self)
        arrays = {name.removeprefix("_"): getattr(self, name) for name in self.counted}
        return SystemState(settings, code, numbering.fitted(), arrays, numbering.parts())

    @classmethod
    def from_state(cls, state: SystemState) -> "KeepsNumbering":
        """An equal system."""
        system = cls(**state.settings)
        if state.fitted is not None:
            system._keep_numbering(Numbering.from_state(state))
            for name in cls.counted:
                setattr(system, name, state.arrays[name.removeprefix("_")])
        return system

    def _keep_numbering(self, sequences: SessionSequences | Numbering) -> None:
        self.num_items, self.num_users = sequences.num_items, sequences.num_users
        self.item_vocabulary, self.user_vocabulary = sequences.item_vocabulary, sequences.user_vocabulary
        self.binning, self.gap_binning = sequences.binning, sequences.gap_binning
        self.session_gap = sequences.session_gap

    def _check_fitted(self) -> None:
        if self.num_items is None:
            raise InputError(f"{type(self).__name__} is not fitted yet: call fit first")

    def _checked_rows(self, sequences: SessionSequences) -> SessionSequences:
        """Rows to be scored, refused where their numbers are not those of the training part."""
        self._check_fitted()
        sequences = as_session_sequences(sequences, like=self)
        self._check_items(sequences.events[:, ITEM])
        theirs, ours = sequences.item_vocabulary, self.item_vocabulary
        if theirs is not None and ours is not None and theirs is not ours and theirs != ours:
            raise InputError("the rows have another item_vocabulary than the training part: align the test part first")
        return sequences

    def _check_items(self, items: np.ndarray) -> None:
        if items.size and not (items.min() >= 0 and items.max() < self.num_items):
            raise InputError(
                f"item ids run from {items.min()} to {items.max()}: number them as in the training part, which has "
                f"{self.num_items} ids"
            )
