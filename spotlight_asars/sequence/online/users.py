"""Live sessions of any number of users or visitors, by key."""

from collections.abc import Hashable, Sequence
from copy import copy
from threading import RLock

import numpy as np

from spotlight_asars.errors import InputError, check_whole
from spotlight_asars.interactions.times import timestamps_in_seconds
from spotlight_asars.interactions.vocabulary import Vocabulary
from spotlight_asars.sequence.online.protocols import LiveModel
from spotlight_asars.sequence.online.sessions import LiveSessions
from spotlight_asars.sequence.recommender.allowed import AllowedItems
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Array, Fields, Maybe, Part, Whole
from spotlight_asars.serialization.state import SystemState, name_of

BLOCK_SIZE = 1024  # sessions allocated at a time: few enough to copy in an instant, enough to be saved quickly


@register_kind("sessions")
class LiveUsers:
    """
    The live sessions of many users or anonymous visitors. The first event of a key begins its session.

    Several threads may share the object: an event is added as a whole or not at all, and items are scored outside
    the lock.

    Parameters
    ----------
    model : ASARSSequenceModel
        A fitted model; see :class:`LiveSessions`.
    most : int, optional
        Largest number of sessions. When there are more, the least recently updated one is dropped.
    most_items : int, optional
        How many distinct items of each session to remember at least; see :class:`LiveSessions`.

    Attributes
    ----------
    changes : int
        Number of changes so far: events added, sessions ended and forgotten. It survives saving.

    Raises
    ------
    InputError
        If the model is not fitted, or its net cannot be updated event by event.

    Notes
    -----
    A key is any raw id that a vocabulary takes. It need not be a user the model knows: :meth:`observe` takes the user
    beside the key.
    """

    def __init__(self, model: LiveModel, most: int = 100_000, most_items: int | None = 2_000) -> None:
        self.model, self.changes = model, 0
        self._blank = LiveSessions(model, [None] * BLOCK_SIZE)
        self._blocks: list[LiveSessions] = []
        self._shared: set[int] = set()  # places of blocks that a snapshot holds too, to be copied before they change
        self._free: list[int] = []  # slots without a session; slot s is session s % len(block) of its block
        self._slots: dict[Hashable, int] = {}  # by key, the least recently updated first
        self._lock = RLock()  # guards all of these and the blocks
        self.limit(most, most_items)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._slots

    def limit(self, most: int, most_items: int | None) -> None:
        """Set the limits of the constructor anew; sessions beyond them go as soon as events are added."""
        check_whole("most", most)
        if most_items is not None:
            check_whole("most_items", most_items)
        with self._lock:
            self.most, self.most_items = int(most), most_items
            for block in [self._blank, *self._blocks]:
                block.most_items = most_items

    def observe(
        self, key: Hashable, item: Hashable, timestamp: float, user: Hashable = None, session_id: Hashable = None
    ) -> bool:
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

        Returns
        -------
        bool
            False for a duplicate, an event with the item and the time of the key's newest one, which is not added.

        Raises
        ------
        InputError
            If time runs backwards, or an id or time cannot be one. Nothing has changed then for keys that had events.
        """
        with self._lock:
            is_new = key not in self._slots
            if not is_new:
                block, row = self._at(self._slots[key])
                if block.repeats(item, timestamp, row, session_id):
                    return False
                if timestamp < self.latest(key):
                    raise InputError(
                        f"time runs backwards: {key!r} has an event later than {timestamp!r}: give events oldest first"
                    )
            slot = self._new_slot(user) if is_new else self._slots[key]
            try:
                block, row = self._to_change(slot)
                block.observe([item], [timestamp], [row], session_ids=None if session_id is None else [session_id])
            except BaseException:
                if is_new:
                    self._free.append(slot)
                raise
            self._slots.pop(key, None)
            self._slots[key] = slot
            self.changes += 1
            return True

    def end(self, key: Hashable) -> bool:
        """End a key's session: its next event begins a new session of the same user. Return whether it had events."""
        with self._lock:
            if key not in self._slots:
                return False
            block, row = self._to_change(self._slots[key])
            block.end([row])
            self.changes += 1
            return True

    def forget(self, key: Hashable) -> bool:
        """Forget all events of a key, and return whether it had any."""
        with self._lock:
            if key not in self._slots:
                return False
            self._free.append(self._slots.pop(key))
            self.changes += 1
            return True

    def recommend(
        self,
        key: Hashable,
        k: int = 20,
        now: float | None = None,
        exclude_seen: bool = False,
        candidates: AllowedItems | Sequence[Hashable] | None = None,
        exclude: Sequence[Hashable] = (),
    ) -> list:
        """
        Return the k best next items of a session as (raw id, score), best first.

        See :meth:`LiveSessions.recommend`.

        Raises
        ------
        InputError
            If the key has no events.
        """
        check_whole("k", k)
        allowed = AllowedItems.of(self.model.raw_items, candidates, exclude)
        with self._lock:
            if key not in self._slots:
                raise InputError(f"nothing was seen of {key!r} so far: give an event first")
            block, row = self._at(self._slots[key])
            session = block.take([row])  # the slot may be another key's once the lock is released
        at = None if now is None else timestamps_in_seconds([now])
        return session.best(k, at, exclude_seen, return_scores=True, allowed=allowed)[0]

    def latest(self, key: Hashable) -> float | None:
        """Return the time of a key's latest event in seconds, or None if it has no events."""
        with self._lock:
            if key not in self._slots:
                return None
            block, row = self._at(self._slots[key])
            return float(block.latest_times([row])[0])

    def snapshot(self) -> "LiveUsers":
        """Return all sessions as they are now, at once: blocks are copied only when they change afterwards."""
        with self._lock:
            taken = copy(self)
            taken._lock, taken._slots = RLock(), dict(self._slots)
            taken._free, taken._blocks = list(self._free), list(self._blocks)
            self._shared, taken._shared = set(range(len(self._blocks))), set(range(len(self._blocks)))
            return taken

    def _new_slot(self, user: Hashable) -> int:
        """Return a slot with a new session, dropping the least recently updated one if there are too many."""
        while len(self._slots) >= self.most:
            self._free.append(self._slots.pop(next(iter(self._slots))))
        if not self._free:
            end = sum(map(len, self._blocks))
            self._blocks.append(self._blank.take())
            self._free.extend(range(end, end + len(self._blank)))
        slot = self._free.pop()
        block, row = self._to_change(slot)
        block.restart([row], [user])
        return slot

    def _at(self, slot: int) -> tuple[LiveSessions, int]:
        return self._blocks[slot // len(self._blank)], slot % len(self._blank)

    def _to_change(self, slot: int) -> tuple[LiveSessions, int]:
        """Return the block and row of a slot, whose block no snapshot holds."""
        place = slot // len(self._blank)
        if place in self._shared:
            self._blocks[place] = self._blocks[place].take()
            self._shared.remove(place)
        return self._at(slot)

    def state(self) -> SystemState:
        """Return all sessions, without their model, as a ``SystemState``; they may change meanwhile."""
        taken = self.snapshot()
        parts = {f"block_{place}": block for place, block in enumerate(taken._blocks)}
        if taken._slots:
            parts["keys"] = Vocabulary(taken._slots)
        slots = np.fromiter(taken._slots.values(), dtype=np.int64, count=len(taken._slots))
        settings = {"most": taken.most, "most_items": taken.most_items}
        fitted = {"changes": taken.changes}
        return SystemState(settings, {"model": name_of(self.model)}, fitted, {"places": slots}, parts)

    @classmethod
    def from_state(cls, state: SystemState) -> "LiveUsers":
        """
        Recreate the sessions, with their model from ``state.settings``.

        Raises
        ------
        StaleSessions
            If the model has other weights.
        """
        bounds = {"most": Whole(1), "most_items": Maybe(Whole(1))}
        Fields(bounds, optional=("most_items",)).check("live users", state.settings)
        Fields({"changes": Whole()}, optional=("changes",)).check("live users", state.fitted)
        names = [f"block_{place}" for place in range(len(state.parts) - ("keys" in state.parts))]
        parts = {"keys": Part(Vocabulary), **dict.fromkeys(names, Part(LiveSessions))}
        Fields(parts, optional=("keys",)).check("live users", state.parts)
        blocks = [state.parts[name] for name in names]
        keys = state.parts["keys"].raw_ids.tolist() if "keys" in state.parts else []
        sessions = sum(map(len, blocks))
        Fields({"places": Array("i", (len(keys),), 0, sessions - 1)}).check("live users", state.arrays)
        slots = dict(zip(keys, state.arrays["places"].tolist(), strict=True))
        sizes = {len(block) for block in blocks}
        if len(set(slots.values())) < len(keys) or len(sizes) > 1 or 0 in sizes:
            raise InputError("the keys of its live users do not have a session each")
        users = cls(**state.settings)
        users._slots, users._blocks = slots, blocks
        if blocks:  # release 0.1.0 wrote smaller blocks
            users._blank = LiveSessions(users.model, [None] * len(blocks[0]))
        users._free = sorted(set(range(sessions)) - set(slots.values()))
        users.changes = state.fitted.get("changes", 0)
        users.limit(users.most, users.most_items)
        return users
