"""
How the simulated users walk: the plan of their sessions, then every event of them.

All sessions that have the same ordinal number among their user's are walked at once, one position after the
other: repeats need the user's sessions before, and anchors the events before.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import gammainc

from spotlight_asars.datasets.synthetic.world import Behaviour, World

FIRST_TIME = 1_400_000_000.0  # seconds since 1970
SECONDS_PER_DAY = 86400.0
ARRIVAL_DAYS = 10.0  # users begin over this long
GAP_MEDIAN_DAYS = 1.0
GAP_SPREAD = 1.0  # the standard deviation of the gap's logarithm
SHORTEST_GAP = 3660.0  # seconds; a session ends after one hour
SHORTEST_DWELL = 1.0  # seconds; two events of a user never have the same time
LONGEST_DWELL = 1800.0  # seconds, well below
SHORTEST_SESSION = 2
LONGEST_SESSION = 60
SURE_SESSIONS = 5 / 6  # the share of the mean number of sessions that every user has


@dataclass(frozen=True)
class Sessions:
    """The sessions before anything is clicked; every array is (sessions,), users and events count from 0."""

    users: np.ndarray
    ordinals: np.ndarray  # which of its user's sessions it is, from 0
    lengths: np.ndarray
    firsts: np.ndarray  # the first event
    window_firsts: np.ndarray  # the first event of the earlier sessions that items are repeated from


def plan_sessions(
    num_users: int,
    sessions_per_user: float,
    events_per_session: float,
    repeat_sessions: int,
    random: np.random.RandomState,
) -> Sessions:
    """Draw how many sessions each user has and how long they are."""
    sure = max(1, round(SURE_SESSIONS * sessions_per_user))
    counts = sure + random.poisson(max(0.0, sessions_per_user - sure), size=num_users)  # (users,)
    users = np.repeat(np.arange(num_users), counts)
    ordinals = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    # a gamma mixture of Poisson lengths: many short sessions, few long ones
    rates = random.gamma(1.0, events_per_session - SHORTEST_SESSION, size=len(users))
    lengths = np.minimum(SHORTEST_SESSION + random.poisson(rates), LONGEST_SESSION)
    firsts = np.cumsum(lengths) - lengths
    window_firsts = firsts[np.arange(len(users)) - np.minimum(ordinals, repeat_sessions)]
    return Sessions(users, ordinals, lengths, firsts, window_firsts)


def timestamps_of(sessions: Sessions, dwells: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """
    The time of each event.

    Parameters
    ----------
    sessions: Sessions
        The plan.
    dwells: array of float64, (events,)
        Whole seconds; that of a session's last event is left out.
    random: RandomState
        Draws the gaps between sessions.

    Returns
    -------
    array of float64, (events,)
        Whole seconds since 1970, rising for every user.
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
    """Whole seconds from 1 to LONGEST_DWELL, longer where the item is of the target category, (draws,)."""
    scales = np.where(on_target, behaviour.dwell_scale, behaviour.dwell_scale_off_target)
    return np.clip(np.round(random.gamma(behaviour.dwell_shape, scales)), SHORTEST_DWELL, LONGEST_DWELL)


def dwell_distribution(behaviour: Behaviour) -> tuple[np.ndarray, np.ndarray]:
    """
    The distribution that `draw_dwells` draws from, exact.

    Returns
    -------
    (dwells, probabilities) : arrays of float64, (dwells,) and (2, dwells)
        Every dwell there is, and how likely it is on items off (row 0) and of (row 1) the target category.
    """
    dwells = np.arange(SHORTEST_DWELL, LONGEST_DWELL + 1.0)
    scales = np.array([behaviour.dwell_scale_off_target, behaviour.dwell_scale])
    edges = (dwells[:-1] + 0.5) / scales[:, None]  # (2, dwells - 1); what lies outside is held at the ends
    below = gammainc(behaviour.dwell_shape, edges)
    return dwells, np.diff(below, axis=1, prepend=0.0, append=1.0)  # (2, dwells)


class Walk:
    """
    Draws the items and dwells of all events.

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
        The source of chance.
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
        """The item, from 0, and the dwell in whole seconds of each event, both (events,)."""
        for batch in self._batches():
            lengths = self._sessions.lengths[batch]  # falling
            weights = np.zeros((len(batch), lengths[0]))  # (sessions, positions), as anchors
            for position in range(lengths[0]):
                active = np.searchsorted(-lengths, -position)  # how many sessions are longer than position
                self._step(batch[:active], position, weights[:active])
        return self._items, self._dwells

    def _batches(self) -> Iterator[np.ndarray]:
        """The sessions of each ordinal number, the longest first."""
        order = np.lexsort((-self._sessions.lengths, self._sessions.ordinals))
        sizes = np.bincount(self._sessions.ordinals)
        yield from np.split(order, np.cumsum(sizes)[:-1])

    def _step(self, sessions: np.ndarray, position: int, weights: np.ndarray) -> None:
        """Draw the event at one position of the given sessions; `weights` is updated in place."""
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
        """The items at one position of the given sessions, (sessions,)."""
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
        """The item of any earlier event within the window of each session, (sessions,)."""
        starts = self._sessions.window_firsts[sessions]
        widths = self._sessions.firsts[sessions] - starts
        steps = np.floor(self._random.random_sample(len(sessions)) * widths).astype(np.int64)
        return self._items[starts + steps]

    def _draw_anchors(self, sessions: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The item of an event of each session, drawn by the weights (sessions, positions), (sessions,)."""
        if not len(sessions):
            return np.empty(0, dtype=np.int64)
        running = np.cumsum(weights, axis=1)
        thresholds = self._random.random_sample(len(sessions)) * running[:, -1]
        anchors = np.minimum((running <= thresholds[:, None]).sum(axis=1), weights.shape[1] - 1)
        return self._items[self._sessions.firsts[sessions] + anchors]
