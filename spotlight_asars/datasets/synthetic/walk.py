"""
Drawing the simulated sessions: first their plan, then all their events.

Sessions with the same number among their user's sessions are drawn together, one position after the other: repeated
items need the user's earlier sessions, and anchors the earlier events.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from spotlight_asars.datasets.synthetic.world import Behaviour, World

FIRST_TIME = 1_400_000_000.0  # seconds since 1970
SECONDS_PER_DAY = 86_400.0
ARRIVAL_DAYS = 10.0  # users arrive over this many days
GAP_MEDIAN_DAYS = 1.0
GAP_SPREAD = 1.0  # the standard deviation of the gap's logarithm
SHORTEST_GAP = 3660.0  # seconds; a session ends after one hour
SHORTEST_DWELL = 1.0  # seconds, so that two events of a user never have the same time
LONGEST_DWELL = 1800.0  # seconds, well below SHORTEST_GAP
SHORTEST_SESSION = 2
LONGEST_SESSION = 60
SURE_SESSIONS = 5 / 6  # the share of the mean number of sessions that each user has at least


@dataclass(frozen=True)
class Sessions:
    """The plan of the sessions: arrays of shape (sessions,), with users and events numbered from 0."""

    users: np.ndarray
    ordinals: np.ndarray  # the session's number among its user's, from 0
    lengths: np.ndarray
    firsts: np.ndarray  # its first event
    window_firsts: np.ndarray  # the first event of the sessions before it that items are repeated from


def plan_sessions(
    num_users: int,
    sessions_per_user: float,
    events_per_session: float,
    repeat_sessions: int,
    random: np.random.RandomState,
) -> Sessions:
    """Draw the number of sessions of each user and their lengths."""
    sure = max(1, round(SURE_SESSIONS * sessions_per_user))
    counts = sure + random.poisson(max(0.0, sessions_per_user - sure), size=num_users)  # (users,)
    users = np.repeat(np.arange(num_users), counts)
    ordinals = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Lengths are a gamma mixture of Poissons: many short sessions, few long ones.
    rates = random.gamma(1.0, events_per_session - SHORTEST_SESSION, size=len(users))
    lengths = np.minimum(SHORTEST_SESSION + random.poisson(rates), LONGEST_SESSION)
    firsts = np.cumsum(lengths) - lengths
    window_firsts = firsts[np.arange(len(users)) - np.minimum(ordinals, repeat_sessions)]
    return Sessions(users, ordinals, lengths, firsts, window_firsts)


def timestamps_of(sessions: Sessions, dwells: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """
    Return the time of each event.

    Parameters
    ----------
    sessions: Sessions
        The plan.
    dwells: array of float64, (events,)
        Whole seconds; the dwell of a session's last event is ignored.
    random: RandomState
        Draws the gaps between sessions.

    Returns
    -------
    array of float64, (events,)
        Whole seconds since 1970, increasing for each user.
    """
    gaps = GAP_MEDIAN_DAYS * SECONDS_PER_DAY * random.lognormal(sigma=GAP_SPREAD, size=len(sessions.users))
    arrivals = np.round(random.random_sample(sessions.users[-1] + 1) * ARRIVAL_DAYS * SECONDS_PER_DAY)
    steps = np.empty(len(dwells))
    steps[1:] = dwells[:-1]
    steps[sessions.firsts] = SHORTEST_GAP + np.round(gaps)
    elapsed = np.cumsum(steps)  # (events,), over all users; whole numbers stay exact
    user_firsts = sessions.firsts[sessions.ordinals == 0]  # (users,)
    starts = FIRST_TIME + arrivals - elapsed[user_firsts]
    return elapsed + np.repeat(starts[sessions.users], sessions.lengths)


def draw_dwells(behaviour: Behaviour, on_target: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Draw whole seconds from 1 to LONGEST_DWELL, longer for items of the target category, (draws,)."""
    scales = np.where(on_target, behaviour.dwell_scale, behaviour.dwell_scale_off_target)
    return np.clip(np.round(random.gamma(behaviour.dwell_shape, scales)), SHORTEST_DWELL, LONGEST_DWELL)


def dwell_distribution(behaviour: Behaviour) -> tuple[np.ndarray, np.ndarray]:
    """
    Return the exact distribution that `draw_dwells` draws from.

    Returns
    -------
    (dwells, probabilities) : arrays of float64, (dwells,) and (2, dwells)
        All possible dwells, and their probabilities for items outside (row 0) and of (row 1) the target category.
    """
    dwells = np.arange(SHORTEST_DWELL, LONGEST_DWELL + 1.0)
    scales = np.array([behaviour.dwell_scale_off_target, behaviour.dwell_scale])
    edges = (dwells[:-1] + 0.5) / scales[:, None]  # (2, dwells - 1); the end values take the tails, as clipping does
    below = gammainc(behaviour.dwell_shape, edges)
    return dwells, np.diff(below, axis=1, prepend=0.0, append=1.0)  # (2, dwells)


class Walk:
    """
    The users' walks through the items: draws the item and dwell of every event.

    Parameters
    ----------
    world: World
        Items, categories, successors and tastes.
    sessions: Sessions
        The plan.
    targets: array of int, (sessions,)
        The target category of each session.
    behaviour: Behaviour
        How users choose.
    random: RandomState
        The source of randomness.
    """

    def __init__(
        self,
        world: World,
        sessions: Sessions,
        targets: np.ndarray,
        behaviour: Behaviour,
        random: np.random.RandomState,
    ) -> None:
        self._world = world
        self._sessions = sessions
        self._targets = targets
        self._behaviour = behaviour
        self._random = random
        events = int(sessions.lengths.sum())
        self._items = np.zeros(events, dtype=np.int64)
        self._dwells = np.zeros(events)

    def run(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the item, from 0, and the dwell in whole seconds of each event, both (events,)."""
        for batch in self._batches():
            lengths = self._sessions.lengths[batch]  # descending
            weights = np.zeros((len(batch), lengths[0]))  # (sessions, positions), as anchors
            for position in range(lengths[0]):
                active = np.searchsorted(-lengths, -position)  # number of sessions longer than position
                self._step(batch[:active], position, weights[:active])
        return self._items, self._dwells

    def _batches(self) -> Iterator[np.ndarray]:
        """Yield the sessions of each ordinal number, longest first."""
        order = np.lexsort((-self._sessions.lengths, self._sessions.ordinals))
        sizes = np.bincount(self._sessions.ordinals)
        yield from np.split(order, np.cumsum(sizes)[:-1])

    def _step(self, sessions: np.ndarray, position: int, weights: np.ndarray) -> None:
        """Draw the event at one position of the given sessions; update `weights` in place."""
        behaviour = self._behaviour
        items = self._draw_items(sessions, position, weights[:, :position])
        on_target = self._world.item_categories[items] == self._targets[sessions]
        dwells = draw_dwells(behaviour, on_target, self._random)
        events = self._sessions.firsts[sessions] + position
        self._items[events] = items
        self._dwells[events] = dwells
        weights[:, :position] *= behaviour.anchor_decay
        weights[:, position] = dwells**behaviour.dwell_power

    def _draw_items(self, sessions: np.ndarray, position: int, weights: np.ndarray) -> np.ndarray:
        """Draw the items at one position of the given sessions, (sessions,)."""
        behaviour, world = self._behaviour, self._world
        choices = np.array(
            [behaviour.taste, behaviour.category, behaviour.repeat, behaviour.successor, behaviour.comeback]
        )
        if position == 0:
            choices[3:] = 0.0  # there is no anchor yet
            choices[1] += choices.sum() == 0.0
        kinds = self._random.choice(5, size=len(sessions), p=choices / choices.sum())
        has_earlier = self._sessions.firsts[sessions] > self._sessions.window_firsts[sessions]
        kinds[(kinds == 2) & ~has_earlier] = 1
        items = np.empty(len(sessions), dtype=np.int64)
        by_taste, by_target, by_repeat = (np.flatnonzero(kinds == kind) for kind in range(3))
        by_anchor = np.flatnonzero(kinds >= 3)
        categories = world.draw_categories(self._sessions.users[sessions[by_taste]], self._random)
        items[by_taste] = world.draw_items(categories, self._random)
        items[by_target] = world.draw_items(self._targets[sessions[by_target]], self._random)
        items[by_repeat] = self._draw_repeats(sessions[by_repeat])
        items[by_anchor] = self._draw_anchors(sessions[by_anchor], weights[by_anchor])
        follows = np.flatnonzero(kinds == 3)
        items[follows] = world.draw_successors(items[follows], self._random)
        return items

    def _draw_repeats(self, sessions: np.ndarray) -> np.ndarray:
        """Draw, for each session, the item of any earlier event within its window, (sessions,)."""
        starts = self._sessions.window_firsts[sessions]
        widths = self._sessions.firsts[sessions] - starts
        steps = np.floor(self._random.random_sample(len(sessions)) * widths).astype(np.int64)
        return self._items[starts + steps]

    def _draw_anchors(self, sessions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Draw, for each session, the item of one of its events by weights (sessions, positions); (sessions,)."""
        if not len(sessions):
            return np.empty(0, dtype=np.int64)
        running = np.cumsum(weights, axis=1)
        thresholds = self._random.random_sample(len(sessions)) * running[:, -1]
        anchors = np.minimum((running <= thresholds[:, None]).sum(axis=1), weights.shape[1] - 1)
        return self._items[self._sessions.firsts[sessions] + anchors]
