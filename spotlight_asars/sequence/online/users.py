"""Live sessions of any number of users or visitors, by key."""

from collections.abc import Hashable

import numpy as np

from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.sessions import LiveModel, LiveSessions
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Fields, Part, Whole
from spotlight_asars.serialization.state import SystemState, name_of

BLOCK_SIZE = 64  # sessions allocated at a time


@register_kind("sessions")
class LiveUsers:
    """
    The live sessions of many users or anonymous visitors. The first event of a key begins its session.

    Parameters
    ----------
    model : ASARSSequenceModel
        A fitted model; see :class:`LiveSessions`.
    most : int, optional
        Largest number of sessions. When there are more, the least recently updated one is dropped.

    Raises
    ------
    InputError
        If the model is not fitted, or its net cannot be updated event by event.

    Notes
    -----
    A key is any raw id that a vocabulary takes. It need not be a user the model knows: :meth:`observe` takes the user
    beside the key.
    """

    def __init__(self, model: LiveModel, most: int = 100_000) -> None:
        check_whole("most", most)
        LiveSessions(model, [])  # refuse at once a model that cannot have live sessions
        self.model, self.most = model, int(most)
        self._blocks: list[LiveSessions] = []
        self._free: list[int] = []  # slots without a session; slot s is session s % BLOCK_SIZE of its block
        self._slots: dict[Hashable, int] = {}  # by key, the least recently updated first

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._slots

    def observe(
        self, key: Hashable, item: Hashable, timestamp: float, user: Hashable = None, session_id: Hashable = None
    ) -> None:
        """
        Add one event to a session, or begin a session with it; see :meth:`LiveSessions.observe`.

        Parameters
        ----------
        key : raw id
            Names the session.
        item : raw id
        timestamp : seconds
        user : raw id, optional
            The user as the model knows them; None and unknown users are anonymous. Only used when the key is new.
        session_id : raw id, optional
            The user's session that the event belongs to; another one than the event before had begins a new session.

        Raises
        ------
        InputError
            If time runs backwards, or an id or time cannot be one. Nothing has changed then for keys that had events.
        """
        is_new = key not in self._slots
        if not is_new and timestamp < self.latest(key):
            raise InputError(
                f"time runs backwards: {key!r} has an event later than {timestamp!r}: give events oldest first"
            )
        slot = self._new_slot(user) if is_new else self._slots[key]
        block, row = self._at(slot)
        try:
            block.observe([item], [timestamp], [row], session_ids=None if session_id is None else [session_id])
        except BaseException:
            if is_new:
                self._free.append(slot)
            raise
        self._slots.pop(key, None)
        self._slots[key] = slot

    def recommend(self, key: Hashable, k: int = 20, now: float | None = None, exclude_seen: bool = False) -> list:
        """
        Return the k best next items of a session as (raw id, score), best first.

        See :meth:`LiveSessions.recommend`.

        Raises
        ------
        InputError
            If the key has no events.
        """
        if key not in self._slots:
            raise InputError(f"nothing was seen of {key!r} so far: give an event first")
        block, row = self._at(self._slots[key])
        return block.recommend(k, now, exclude_seen, return_scores=True, sessions=[row])[0]

    def latest(self, key: Hashable) -> float | None:
        """Return the time of a key's latest event in seconds, or None if it has no events."""
        if key not in self._slots:
            return None
        block, row = self._at(self._slots[key])
        return float(block.latest_times([row])[0])

    def _new_slot(self, user: Hashable) -> int:
        """Return a slot with a new session, dropping the least recently updated one if there are too many."""
        while len(self._slots) >= self.most:
            self._free.append(self._slots.pop(next(iter(self._slots))))
        if not self._free:
            end = BLOCK_SIZE * len(self._blocks)
            self._blocks.append(LiveSessions(self.model, [None] * BLOCK_SIZE))
            self._free.extend(range(end, end + BLOCK_SIZE))
        slot = self._free.pop()
        block, row = self._at(slot)
        block.restart([row], [user])
        return slot

    def _at(self, slot: int) -> tuple[LiveSessions, int]:
        return self._blocks[slot // BLOCK_SIZE], slot % BLOCK_SIZE

    def state(self) -> SystemState:
        """Return all sessions, without their model, as a ``SystemState``."""
        parts = {f"block_{place}": block for place, block in enumerate(self._blocks)}
        if self._slots:
            parts["keys"] = Vocabulary(self._slots)
        slots = np.fromiter(self._slots.values(), dtype=np.int64, count=len(self._slots))
        return SystemState({"most": self.most}, {"model": name_of(self.model)}, {}, {"places": slots}, parts)

    @classmethod
    def from_state(cls, state: SystemState) -> "LiveUsers":
        """
        Recreate the sessions, with their model from ``state.settings``.

        Raises
        ------
        InputError
            If the model has other weights.
        """
        Fields({"most": Whole(1)}).check("live users", state.settings)
        users = cls(state.settings["model"], state.settings["most"])
        names = [f"block_{place}" for place in range(len(state.parts) - ("keys" in state.parts))]
        parts = {"keys": Part(Vocabulary), **dict.fromkeys(names, Part(LiveSessions))}
        Fields(parts, optional=("keys",)).check("live users", state.parts)
        users._blocks = [state.parts[name] for name in names]
        keys = state.parts["keys"].raw_ids.tolist() if "keys" in state.parts else []
        slots = Array("i", (len(keys),), 0, BLOCK_SIZE * len(names) - 1)
        Fields({"places": slots}).check("live users", state.arrays)
        users._slots = dict(zip(keys, state.arrays["places"].tolist(), strict=True))
        if len(set(users._slots.values())) < len(keys) or any(len(block) != BLOCK_SIZE for block in users._blocks):
            raise InputError("the keys of its live users do not have a session each")
        users._free = sorted(set(range(BLOCK_SIZE * len(users._blocks))) - set(users._slots.values()))
        return users
