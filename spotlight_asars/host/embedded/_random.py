"""Conversion of a ``random_state`` argument into a generator."""

import numpy as np

RandomStateLike = np.random.RandomState | int | None


def as_random_state(random_state: RandomStateLike) -> np.random.RandomState:
    """
    Return the generator for a ``random_state`` argument.

    Parameters
    ----------
    random_state : numpy.random.RandomState, int or None
        A generator is returned itself, an int seeds a new one, and None creates one seeded by the operating system.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    if random_state is None:
        return np.random.RandomState()
    if isinstance(random_state, int | np.integer):
        return np.random.RandomState(int(random_state))
    if hasattr(random_state, "randint") and hasattr(random_state, "shuffle"):
        return random_state
    raise ValueError(
        f"random_state must be a numpy.random.RandomState, an int or None, not {type(random_state).__name__}."
    )
