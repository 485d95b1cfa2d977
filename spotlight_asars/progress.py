"""A progress bar where tqdm is installed, plain lines where it is not."""

import sys
from collections.abc import Collection, Iterator
from time import perf_counter

try:
    from tqdm import tqdm
except ImportError:  # an extra, not a need
    tqdm = None


class progress:
    """
    Iterate over steps and show how far they are, on standard error.

    Parameters
    ----------
    steps : sized iterable
    shown : bool
        Without it nothing is printed.
    what : str
        What the steps are, such as 'epochs'.
    """

    def __init__(self, steps: Collection, shown: bool, what: str) -> None:
        self._steps = steps
        self._what = what
        self._bar = tqdm(steps, desc=what, file=sys.stderr, leave=False) if shown and tqdm is not None else None
        self._plain = shown and tqdm is None
        self._done = 0
        self._begin = perf_counter()

    def __iter__(self) -> Iterator:
        for step in self._steps if self._bar is None else self._bar:
            self._done += 1
            yield step

    def describe(self, **values: float | None) -> None:
        """Show figures beside the bar; None is left out."""
        shown = {name: f"{value:.4f}" for name, value in values.items() if value is not None}
        if self._bar is not None:
            self._bar.set_postfix(shown)
        elif self._plain:
            figures = ", ".join(f"{name} {value}" for name, value in shown.items())
            each = (perf_counter() - self._begin) / self._done
            left = each * (len(self._steps) - self._done)
            times = f"{each:.1f} s each, {left:.0f} s left"
            print(f"{self._what} {self._done} of {len(self._steps)}: {figures}; {times}", file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
