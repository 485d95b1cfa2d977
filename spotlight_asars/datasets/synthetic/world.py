"""
The world that sessions are drawn from: items, categories, successors and users' tastes.

It is fixed before the first session is drawn, and the oracle knows it.
"""

from dataclasses import dataclass, fields

import numpy as np
from scipy import sparse

from spotlight_asars.errors import InputError, check_whole

MAIN_KINDS = ("successor", "comeback", "repeat", "taste")


@dataclass(frozen=True)
class Behaviour:
    """
    How the simulated users behave.

    Parameters
    ----------
    successor, comeback, repeat, taste: float
        Probabilities of how the next item is chosen: a successor of an anchor event of the session, the anchor's own
        item again, an item of the user's earlier sessions, or an item of a category to the user's taste. Otherwise it
        is an item of the session's target category.
    anchor_decay: float
        The factor on an event's weight as anchor for each later event.
    dwell_power: float
        An event's weight as anchor is its dwell in seconds to this power, times the decay.
    successors_per_item: int
        The number of successors of an item; each is half as likely as the one before.
    successor_in_category: float
        The probability that a successor is of the item's own category.
    taste_concentration: float
        The concentration of the Dirichlet distribution of tastes; small values give narrow tastes.
    popularity_exponent: float
        Items of a category, and categories, are drawn in proportion to rank ** -exponent.
    repeat_sessions: int
        The number of the user's last sessions that a repeated item may come from.
    dwell_shape: float
        The shape of the gamma distribution of dwell.
    dwell_scale, dwell_scale_off_target: float
        Its scale in seconds for items of the session's target category, and for others.

    Raises
    ------
    InputError
        If a value is out of range.
    """

    successor: float = 0.62
    comeback: float = 0.08
    repeat: float = 0.05
    taste: float = 0.1
    anchor_decay: float = 0.85
    dwell_power: float = 3.0
    successors_per_item: int = 4
    successor_in_category: float = 0.6
    taste_concentration: float = 12.0
    popularity_exponent: float = 1.0
    repeat_sessions: int = 10
    dwell_shape: float = 1.25
    dwell_scale: float = 55.0
    dwell_scale_off_target: float = 35.0

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            check_number(field.name, getattr(self, field.name))
        for name in (*MAIN_KINDS, "anchor_decay", "successor_in_category"):
            check_number(name, getattr(self, name), largest=1.0)
        for name in ("taste_concentration", "dwell_shape", "dwell_scale", "dwell_scale_off_target", "anchor_decay"):
            check_number(name, getattr(self, name), smallest=1e-6)
        check_number("dwell_power", self.dwell_power, largest=20.0)  # keeps weights far from overflow
        for name in ("successors_per_item", "repeat_sessions"):
            check_whole(name, getattr(self, name))
        total = sum(getattr(self, name) for name in MAIN_KINDS)
        if total > 1.0 + 1e-9:
            raise InputError(f"{', '.join(MAIN_KINDS)} sum to {total:.6g}; make them at most 1 together")

    @property
    def category(self) -> float:
        """The probability of an item of the session's target category."""
        return max(0.0, 1.0 - sum(getattr(self, name) for name in MAIN_KINDS))


def check_number(name: str, value: float, smallest: float = 0.0, largest: float = np.inf) -> None:
    """Raise an InputError unless the value is a finite number from smallest to largest."""
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not np.isfinite(value) or not smallest <= value <= largest:
        most = "" if np.isinf(largest) else f" and at most {largest:g}"
        raise InputError(f"{name} is {value!r}; give a number of at least {smallest:g}{most}")


@dataclass(frozen=True)
class World:
    """
    Items, categories and tastes; items and users are numbered from 0.

    Parameters
    ----------
    item_categories: array of int, (items,)
        The category of each item.
    category_items: sparse array of float64, (categories, items)
        The popularity of each item in its category; rows sum to 1.
    successors: array of int, (items, successors_per_item)
        The possible successors of each item.
    successor_weights: array of float64, (successors_per_item,)
        The probability of each successor.
    user_tastes: array of float64, (users, categories)
        Each user's probability of each category.
    """

    item_categories: np.ndarray
    category_items: sparse.csr_array
    successors: np.ndarray
    successor_weights: np.ndarray
    user_tastes: np.ndarray

    def draw_items(self, categories: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """Draw an item of each given category, by popularity, (draws,)."""
        table = self.category_items
        ends = np.cumsum(table.data)  # row c ends at c + 1
        places = np.searchsorted(ends, categories + random.random_sample(len(categories)), side="right")
        # Rounding in the running sum must not reach into the next category.
        places = np.clip(places, table.indptr[categories], table.indptr[categories + 1] - 1)
        return table.indices[places]

    def draw_categories(self, users: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """Draw a category for each given user, by taste, (draws,)."""
        running = np.cumsum(self.user_tastes[users], axis=1)  # (draws, categories)
        thresholds = random.random_sample(len(users)) * running[:, -1]
        return (running <= thresholds[:, None]).sum(axis=1)

    def draw_successors(self, items: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        """Draw a successor of each given item, (draws,)."""
        choices = random.choice(len(self.successor_weights), size=len(items), p=self.successor_weights)
        return self.successors[items, choices]

    def successor_probabilities(self) -> sparse.csr_array:
        """Return each item's probability as a successor of each item, (items, items)."""
        num_items, each = self.successors.shape
        rows = np.repeat(np.arange(num_items), each)
        weights = np.tile(self.successor_weights, num_items)
        return sparse.csr_array((weights, (rows, self.successors.ravel())), shape=(num_items, num_items))


def make_world(
    num_users: int, num_items: int, num_categories: int, behaviour: Behaviour, random: np.random.RandomState
) -> World:
    """Draw a world; see `World` for its contents."""
    categories = np.arange(num_categories)
    sizes = _power_law(num_categories, behaviour.popularity_exponent / 2)
    others = random.choice(num_categories, size=num_items - num_categories, p=sizes)
    item_categories = random.permutation(np.concatenate([categories, others]))  # no category is empty
    category_items = _popularity(item_categories, num_categories, behaviour.popularity_exponent, random)
    successors = _successors(item_categories, behaviour, random)
    base = _power_law(num_categories, behaviour.popularity_exponent / 2)
    tastes = random.gamma(behaviour.taste_concentration * base, size=(num_users, num_categories))
    tastes += 1e-12  # with a tiny shape all categories can be zero
    weights = 0.5 ** np.arange(behaviour.successors_per_item)
    return World(
        item_categories=item_categories,
        category_items=category_items,
        successors=successors,
        successor_weights=weights / weights.sum(),
        user_tastes=tastes / tastes.sum(axis=1, keepdims=True),
    )


def _power_law(size: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, size + 1) ** -exponent
    return weights / weights.sum()


def _popularity(
    item_categories: np.ndarray, num_categories: int, exponent: float, random: np.random.RandomState
) -> sparse.csr_array:
    """Return every item's share in its category: a power law of a random rank."""
    num_items = len(item_categories)
    order = np.lexsort((random.random_sample(num_items), item_categories))  # (items,)
    ordered_categories = item_categories[order]
    sizes = np.bincount(item_categories, minlength=num_categories)
    ends = np.cumsum(sizes)
    ranks = np.arange(num_items) - (ends - sizes)[ordered_categories]
    weights = (ranks + 1.0) ** -exponent
    shares = weights / np.bincount(ordered_categories, weights=weights)[ordered_categories]
    indptr = np.concatenate([[0], ends])
    return sparse.csr_array((shares, order, indptr), shape=(num_categories, num_items))


def _successors(item_categories: np.ndarray, behaviour: Behaviour, random: np.random.RandomState) -> np.ndarray:
    """Draw the successors of each item, never itself if there is another, (items, successors_per_item)."""
    num_items = len(item_categories)
    shape = (num_items, behaviour.successors_per_item)
    order = np.argsort(item_categories, kind="stable")
    sizes = np.bincount(item_categories)[item_categories]  # (items,)
    firsts = np.searchsorted(item_categories[order], item_categories)
    places = np.empty(num_items, dtype=np.int64)
    places[order] = np.arange(num_items)

    def others(first: np.ndarray, size: np.ndarray, place: np.ndarray) -> np.ndarray:
        steps = 1 + np.floor(random.random_sample(shape) * (size - 1)[:, None]).astype(np.int64)
        return order[first[:, None] + (place - first + steps.T).T % size[:, None]]

    everything = np.full(num_items, num_items)
    inside = others(firsts, sizes, places)
    anywhere = others(np.zeros_like(firsts), everything, places)
    return np.where(random.random_sample(shape) < behaviour.successor_in_category, inside, anywhere)
