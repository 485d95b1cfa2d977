"""What a fitted system keeps of the rows it was fitted on, as data."""

from dataclasses import dataclass, fields

from spotlight_asars.binning import ScottBinning
from spotlight_asars.state import HasState, SystemState, as_plain
from spotlight_asars.vocabulary import Vocabulary

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
