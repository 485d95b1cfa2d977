"""
A simulator of click logs whose truth is known.

Users have lasting tastes for categories. A session has a target category drawn from its user's taste. Users stay
on an item for a time drawn from a gamma distribution, longer on items of the target category, and the time they
stayed decides where they go next: the next item is mostly a successor (in a fixed sparse graph) of an *anchor*,
an earlier event of the session drawn in proportion to a steep power of its dwell and falling with its age. Else
it is the anchor's item again, an item of the user's earlier sessions, an item of a category to the user's taste
or a popular item of the target category. So a model that weighs past events by dwell can rank better than any
that sees only the items, by as much as `SyntheticLog.next_item_probabilities` with and without dwell tells.

The defaults are set to the figures of the ASARS paper, section 1.2. Found with the default sizes:

- near half of a session's events in its main category, 20 % on its main item: 53 % and 23 % in sessions of at
  least 10 events, which the paper's log mostly has (in all sessions 66 % and 37 %: of two events, one is half);
- 60 % of categories and 20 % of items clicked in the user's 10 sessions before: 61 % and 22 % of the events that
  have so many sessions before them;
- a most frequent dwell near 10 seconds, seldom over 5 minutes: 10 to 15 seconds, .4 % over 5 minutes;
- sessions apart by more than an hour: a day and an hour in the median, so the one-hour rule finds them again.

The oracle's MRR@20 is .43; .41 where it does not know the newest event's dwell, as a server that answers at once
does not; .34 where it takes all dwells for equal.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from spotlight_asars.datasets.synthetic.walk import (
    LONGEST_SESSION,
    SHORTEST_SESSION,
    Sessions,
    Walk,
    dwell_distribution,
    plan_sessions,
    timestamps_of,
)
from spotlight_asars.datasets.synthetic.world import Behaviour, World, check_number, check_size, make_world
from spotlight_asars.errors import InputError

DWELL_RULES = ("observed", "known", "none")
__all__ = ["Behaviour", "SyntheticLog", "generate_sessions"]


@dataclass(frozen=True)
class SyntheticLog:
    """
    A simulated log and what it was drawn from.

    Parameters
    ----------
    log: DataFrame, (events,)
        `user`, `item`, `timestamp` (float64, whole seconds) and `session`, sorted by user and time; ids are
        integers from 1, and session ids rise along the log.
    item_categories: array of int, (items,)
        The category, from 0, of each item; row i is the item with id i + 1.
    user_tastes: array of float64, (users, categories)
        The probability of each category to each user; row u is the user with id u + 1.
    session_targets: array of int, (sessions,)
        The target category of each session; row s is the session with id s + 1.
    behaviour: Behaviour
        The settings of the users' behaviour.
    """

    log: pd.DataFrame
    item_categories: np.ndarray
    user_tastes: np.ndarray
    session_targets: np.ndarray
    behaviour: Behaviour
    # what only the oracle needs
    _world: World = field(repr=False)
    _sessions: Sessions = field(repr=False)

    @property
    def num_items(self) -> int:
        """The number of items there are, clicked or not."""
        return len(self.item_categories)

    def next_item_probabilities(self, rows: np.ndarray, dwell: str = "observed") -> np.ndarray:
        """
        The true probability of each item to be the next event of the session.

        The oracle knows what a model may see at that moment: the items of the user's past and of the session
        up to and with the row, and dwells of the session as the rule says. It also knows what no model sees:
        the world, the user's taste and the session's target category. That a next event exists is given.

        Parameters
        ----------
        rows: array of int, (rows,)
            Positions in the log, each with a next event in its session.
        dwell: {'observed', 'known', 'none'}
            'observed': every dwell of the session, the row's own included. 'known': the earlier ones; the row's
            own is summed out over every whole second it can be, with its probability given whether the item is
            of the target category. That sum is exact but for rounding, near 1e-13. Both are the truth given what
            the rule lets see, so that no ranking has a higher expected MRR. 'none' takes all dwells for equal:
            one that sees only items and their order, for comparison; the best of that kind is a little better (MRR@20
            .362, not .358, in the log of the main job, from 1000 draws of all dwells).

        Returns
        -------
        array of float64, (rows, items)
            Rows sum to 1; column i is the item with id i + 1. Ask in portions where this would be large; 'known'
            takes 2 x 1800 numbers a row besides.

        Raises
        ------
        InputError
            If a row is not in the log or is the last event of its session, or the rule is not known.
        """
        if dwell not in DWELL_RULES:
            raise InputError(f"dwell is {dwell!r}; choose one of {', '.join(DWELL_RULES)}")
        rows = self._checked_rows(rows)
        behaviour = self.behaviour
        items = self.log["item"].to_numpy() - 1
        sessions = self.log["session"].to_numpy()[rows] - 1
        users = self._sessions.users[sessions]
        anchors = self._anchors(rows, sessions, items, dwell)
        earlier = self._earlier(sessions, items)
        has_earlier = (self._sessions.firsts > self._sessions.window_firsts)[sessions]
        categories = behaviour.taste * self.user_tastes[users]  # (rows, categories)
        on_target = behaviour.category + np.where(has_earlier, 0.0, behaviour.repeat)
        categories[np.arange(len(rows)), self.session_targets[sessions]] += on_target
        probabilities = categories @ self._world.category_items  # (rows, items)
        moves = behaviour.successor * (anchors @ self._world.successor_probabilities())
        moves += behaviour.comeback * anchors + behaviour.repeat * earlier
        probabilities += moves.toarray()
        return probabilities

    def _checked_rows(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise InputError(f"rows has shape {rows.shape} and type {rows.dtype}; give a list of positions in the log")
        rows = rows.astype(np.int64)
        outside = rows[(rows < 0) | (rows >= len(self.log))]
        if outside.size:
            raise InputError(f"rows holds {outside[0]}; the log has the positions 0 to {len(self.log) - 1}")
        sessions = self.log["session"].to_numpy()
        last = rows[np.append(sessions[1:], 0)[rows] != sessions[rows]]
        if last.size:
            raise InputError(f"rows holds {last[0]}, the last event of its session; give rows with a next event")
        return rows

    def _anchors(self, rows: np.ndarray, sessions: np.ndarray, items: np.ndarray, dwell: str) -> sparse.csr_array:
        """How likely each item is that of the anchor, (rows, items)."""
        owners, events = _ranges(self._sessions.firsts[sessions], rows + 1)  # (pairs,) each
        weights = self.behaviour.anchor_decay ** (rows[owners] - events)
        if dwell != "none":
            timestamps = self.log["timestamp"].to_numpy()
            weights = weights * (timestamps[events + 1] - timestamps[events]) ** self.behaviour.dwell_power
        newest = np.cumsum(np.bincount(owners, minlength=len(rows))) - 1  # (rows,), the pair of each row with itself
        if dwell == "known":
            weights[newest] = 0.0
            earlier = np.bincount(owners, weights=weights, minlength=len(rows))  # (rows,)
            on_target = self.item_categories[items[rows]] == self.session_targets[sessions]
            shares = self._expected_shares(earlier, on_target)
            weights *= ((1.0 - shares) / np.where(earlier > 0.0, earlier, 1.0))[owners]
            weights[newest] = shares
        else:
            weights /= np.bincount(owners, weights=weights, minlength=len(rows))[owners]
        return sparse.csr_array((weights, (owners, items[events])), shape=(len(rows), self.num_items))

    def _expected_shares(self, earlier: np.ndarray, on_target: np.ndarray) -> np.ndarray:
        """How likely the newest event is the anchor, given the earlier ones' weight, before it is left, (rows,)."""
        dwells, probabilities = dwell_distribution(self.behaviour)
        weights = dwells**self.behaviour.dwell_power  # (dwells,)
        shares = weights / (weights + earlier[:, None])  # (rows, dwells)
        expected = shares @ probabilities.T  # (rows, 2)
        return expected[np.arange(len(earlier)), on_target.astype(np.int64)]  # (rows,)

    def _earlier(self, sessions: np.ndarray, items: np.ndarray) -> sparse.csr_array:
        """How frequent each item is in the user's earlier sessions, (rows, items)."""
        firsts, ends = self._sessions.window_firsts[sessions], self._sessions.firsts[sessions]
        owners, events = _ranges(firsts, ends)
        weights = 1.0 / (ends - firsts)[owners]
        return sparse.csr_array((weights, (owners, items[events])), shape=(len(sessions), self.num_items))


def generate_sessions(
    num_users: int = 1000,
    num_items: int = 2000,
    num_categories: int = 100,
    sessions_per_user: float = 12.0,
    events_per_session: float = 6.0,
    random_state: int | np.random.RandomState | None = None,
    behaviour: Behaviour | None = None,
) -> SyntheticLog:
    """
    Simulate a log of sessions.

    Parameters
    ----------
    num_users: int
        The number of users; all of them have sessions.
    num_items: int
        The number of items; rare ones may never be clicked.
    num_categories: int
        The number of categories, at most one an item.
    sessions_per_user: float
        The mean number of sessions; a user has at least five sixths of it.
    events_per_session: float
        The mean number of events, from 2 to 30, before sessions are cut at 60; the shortest have 2.
    random_state: int, RandomState or None
        The same integer gives the same log; None draws a new one.
    behaviour: Behaviour, optional
        How the users behave; by default as in the paper's observations.

    Returns
    -------
    SyntheticLog
        The log with its truth.

    Raises
    ------
    InputError
        If an argument is out of its range.
    """
    for name, size in (("num_users", num_users), ("num_items", num_items), ("num_categories", num_categories)):
        check_size(name, size)
    if num_items < num_categories:
        raise InputError(f"num_items is {num_items}; give at least num_categories, which is {num_categories}")
    check_number("sessions_per_user", sessions_per_user, smallest=1.0)
    check_number("events_per_session", events_per_session, smallest=SHORTEST_SESSION, largest=LONGEST_SESSION / 2)
    behaviour = Behaviour() if behaviour is None else behaviour
    if not isinstance(behaviour, Behaviour):
        raise InputError(f"behaviour is {behaviour!r}; give a Behaviour")
    random = _random_state(random_state)
    world = make_world(num_users, num_items, num_categories, behaviour, random)
    sessions = plan_sessions(num_users, sessions_per_user, events_per_session, behaviour.repeat_sessions, random)
    targets = world.draw_categories(sessions.users, random)
    items, dwells = Walk(world, sessions, targets, behaviour, random).run()
    log = pd.DataFrame(
        {
            "user": np.repeat(sessions.users, sessions.lengths) + 1,
            "item": items + 1,
            "timestamp": timestamps_of(sessions, dwells, random),
            "session": np.repeat(np.arange(len(sessions.users)), sessions.lengths) + 1,
        }
    )
    return SyntheticLog(log, world.item_categories, world.user_tastes, targets, behaviour, world, sessions)


def _random_state(random_state: int | np.random.RandomState | None) -> np.random.RandomState:
    if isinstance(random_state, np.random.RandomState):
        return random_state
    is_seed = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if random_state is None or (is_seed and 0 <= random_state < 2**32):
        return np.random.RandomState(random_state)
    raise InputError(f"random_state is {random_state!r}; give a whole number from 0 to 2**32 - 1 or a RandomState")


def _ranges(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All whole numbers from each start up to each end, and whose they are, both (sum of the widths,)."""
    widths = ends - starts
    owners = np.repeat(np.arange(len(starts)), widths)
    places = np.arange(len(owners)) - np.repeat(np.cumsum(widths) - widths, widths)
    return owners, starts[owners] + places
