"""How large a log is, as in the paper's Table 1."""

from dataclasses import dataclass

import numpy as np

from spotlight_asars.cutting import ANONYMOUS_USER
from spotlight_asars.sessions import SessionInteractions


@dataclass(frozen=True)
class LogCounts:
    """
    A column of the paper's Table 1; `print` gives it as a row.

    Attributes
    ----------
    events, users, items, sessions : int
        Users are 0 where the log has none.
    """

    events: int
    users: int
    items: int
    sessions: int

    @classmethod
    def of(cls, interactions: SessionInteractions) -> "LogCounts":
        """What a log has; ids that no event has do not count."""
        known = np.bincount(interactions.user_ids) > 0
        known[ANONYMOUS_USER] = False
        items = np.bincount(interactions.item_ids) > 0
        return cls(len(interactions), int(known.sum()), int(items.sum()), interactions.num_sessions)

    def __str__(self) -> str:
        users = f"{self.users:,}" if self.users else "/"
        return f"events {self.events:,}  users {users}  items {self.items:,}  sessions {self.sessions:,}"
