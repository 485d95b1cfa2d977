"""One place that turns what a user gives as ``random_state`` into a generator."""

import numpy as np

RandomStateLike = np.random.RandomState | int | None


def as_random_state(random_state: RandomStateLike) -> np.random.RandomState:
    """
    Give the generator that ``random_state`` stands for.

    Parameters
    ----------
    random_state : numpy.random.RandomState, int or None
        A generator is returned as it is (its state moves on as it is used), an int seeds a new one (0 too),
        None gives one seeded by the operating system.

    Raises
    ------
    ValueError
        If it is none of these.
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
