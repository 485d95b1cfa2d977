"""A live session for everybody who comes along, by raw id."""

from collections.abc import Hashable

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.evaluation import System
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.state import SystemState, name_of

PLACES_A_BLOCK = 64  # sessions that memory is taken for at a time


@register_kind("sessions")
class LiveUsers:
    """
    The live sessions of many users or anonymous visitors, each begun by the first event.

    Parameters
    ----------
    model : ASARSSequenceModel
        Fitted, see :class:`LiveSessions`.
    most : int, optional
        Where there are more, the one that has been silent the longest is forgotten.

    Notes
    -----
    A key is any raw id that a vocabulary takes; who comes under it is said with each event, and counts at the first.
    """

    def __init__(self, model: System, most: int = 100_000) -> None:
        if isinstance(most, bool) or not isinstance(most, int | np.integer) or most < 1:
            raise InputError(f"most is {most!r}: give a whole number of at least 1")
        LiveSessions(model, [])  # told at once where the net has no steps
        self.model, self.most = model, int(most)
        self._blocks: list[LiveSessions] = []
        self._free: list[int] = []  # places of the blocks that are nobody's
        self._places: dict[Hashable, int] = {}  # by key; the one silent the longest stands first

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._places

    def observe(self, key: Hashable, item: Hashable, timestamp: float, user: Hashable = None) -> None:
        """
        Take in one event; see :meth:`LiveSessions.observe`.

        Parameters
        ----------
        key : raw id
            Whose event it is.
        item : raw id
        timestamp : seconds
        user : raw id, optional
            The user as the model knows him; None or an unknown one is anonymous. Counts when the key is new.
        """
        is_new = key not in self._places
        if not is_new and timestamp < self.latest(key):
            raise InputError(
                f"time runs backwards: {key!r} has a later event than {timestamp!r}: give events oldest first"
            )
        place = self._new_place(user) if is_new else self._places[key]
        block, row = self._at(place)
        try:
            block.observe([item], [timestamp], sessions=[row])
        except BaseException:
            if is_new:
                self._free.append(place)
            raise
        self._places.pop(key, None)
        self._places[key] = place

    def recommend(self, key: Hashable, k: int = 20, now: float | None = None, exclude_seen: bool = False) -> list:
        """(raw id, score) of the k best next items, best first; see :meth:`LiveSessions.recommend`."""
        if key not in self._places:
            raise InputError(f"nothing was seen of {key!r} so far: give an event first")
        block, row = self._at(self._places[key])
        return block.recommend(k, now, exclude_seen, return_scores=True, sessions=[row])[0]

    def _new_place(self, user: Hashable) -> int:
        """A place where nothing was seen, where needed that of the key silent the longest."""
        while len(self._places) >= self.most:
            self._free.append(self._places.pop(next(iter(self._places))))
        if not self._free:
            end = PLACES_A_BLOCK * len(self._blocks)
            self._blocks.append(LiveSessions(self.model, [None] * PLACES_A_BLOCK))
            self._free.extend(range(end, end + PLACES_A_BLOCK))
        place = self._free.pop()
        block, row = self._at(place)
        block.restart([row], [user])
        return place

    def latest(self, key: Hashable) -> float | None:
        """The time of a key's newest event; None where nothing was seen of it."""
        if key not in self._places:
            return None
        block, row = self._at(self._places[key])
        return float(block._latest_time[row])

    def _at(self, place: int) -> tuple[LiveSessions, int]:
        return self._blocks[place // PLACES_A_BLOCK], place % PLACES_A_BLOCK

    def state(self) -> SystemState:
        """All sessions as data, without their model; see ``SystemState``."""
        parts = {f"block_{place}": block for place, block in enumerate(self._blocks)}
        if self._places:
            parts["keys"] = Vocabulary(self._places)
        places = np.fromiter(self._places.values(), dtype=np.int64, count=len(self._places))
        return SystemState({"most": self.most}, {"model": name_of(self.model)}, {}, {"places": places}, parts)

    @classmethod
    def from_state(cls, state: SystemState) -> "LiveUsers":
        """
        Equal sessions of the model given anew.

        Raises
        ------
        InputError
            If that is another model than theirs.
        """
        users = cls(**state.settings)
        if "keys" in state.parts:
            keys = state.parts["keys"].raw_ids.tolist()
            users._places = dict(zip(keys, state.arrays["places"].tolist(), strict=True))
        users._blocks = [state.parts[f"block_{place}"] for place in range(len(state.parts) - ("keys" in state.parts))]
        users._free = sorted(set(range(PLACES_A_BLOCK * len(users._blocks))) - set(users._places.values()))
        return users
