"""Scott's bins for dwell times and session gaps (paper section 2.2, Eq. 8)."""

from collections.abc import Iterable

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.state import SystemState

PADDING_BIN = 0
UNKNOWN_BIN = 1
FIRST_BIN = 2

SCALES = ("linear", "log")


class ScottBinning:
    """
    Equal-width bins whose width follows Scott's rule, fitted on training values only.

    The width is ``h = sigma * (24 * sqrt(pi) / n) ** (1 / 3)`` (paper Eq. 8; Scott 1979), the values are
    clipped at the training range, and everything past the last of `max_bins` bins falls into that one.
    Bin 0 is padding, bin 1 stands for an unknown value (NaN), known values begin at bin 2.

    Parameters
    ----------
    max_bins : int, optional
        The most bins for known values.
    scale : {'linear', 'log'}, optional
        'linear' bins the seconds, as the paper does; 'log' bins ``log(1 + seconds)``, since dwell has a heavy
        tail.

    Attributes
    ----------
    low : float
        The smallest training value, on the chosen scale.
    width : float
        Width of one bin, on the chosen scale; 0 where all training values are equal.
    num_known_bins : int
        How many bins hold known values.
    fitted : bool
        Whether `fit` was called.
    """

    def __init__(self, max_bins: int = 128, scale: str = "linear") -> None:
        if max_bins < 1:
            raise InputError(f"max_bins is {max_bins}: give at least 1")
        if scale not in SCALES:
            raise InputError(f"scale is {scale!r}: choose one of {', '.join(SCALES)}")
        self.max_bins = int(max_bins)
        self.scale = scale
        self.low = 0.0
        self.width = 0.0
        self.num_known_bins = 1
        self.fitted = False

    def __repr__(self) -> str:
        return (
            f"<ScottBinning ({self.num_known_bins} bins of {self.width:.6g} from {self.low:.6g}, {self.scale} scale)>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScottBinning) and vars(self) == vars(other)

    __hash__ = None

    @property
    def num_bins(self) -> int:
        """Number of bin ids, padding and unknown included: the size of an embedding table."""
        return FIRST_BIN + self.num_known_bins

    def fit(self, values: np.ndarray) -> "ScottBinning":
        """
        Take the range and the width from training values.

        Parameters
        ----------
        values : array of shape (n,)
            Seconds; NaN (unknown) is left out.

        Returns
        -------
        The binning itself. Without any known value, all known values share one bin.
        """
        return self.fit_blocks([values])

    def fit_blocks(self, blocks: Iterable[np.ndarray]) -> "ScottBinning":
        """As :meth:`fit`, from values in several arrays, of which only one need be in memory."""
        number, mean, variance, low, high = 0, 0.0, 0.0, np.inf, -np.inf
        for values in blocks:
            values = np.asarray(values, dtype=np.float64)
            values = self._on_scale(values[~np.isnan(values)])
            if len(values):
                number += len(values)
                share, apart = len(values) / number, values.mean() - mean
                mean += share * apart
                variance = (1.0 - share) * variance + share * values.var() + share * (1.0 - share) * apart**2
                low, high = min(low, float(values.min())), max(high, float(values.max()))
        self.low, self.width, self.num_known_bins = low if number else 0.0, 0.0, 1
        self.fitted = True
        if high > low:  # of equal values, the rounded deviation need not be 0
            self.width = float(np.sqrt(variance) * np.cbrt(24.0 * np.sqrt(np.pi) / number))
        if self.width > 0.0:
            self.num_known_bins = int(min(self.max_bins, np.floor((high - low) / self.width) + 1))
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """
        Bin ids of values.

        Parameters
        ----------
        values : array of any shape
            Seconds; NaN where unknown.

        Returns
        -------
        int32 array of the same shape, between 1 (unknown) and ``num_bins - 1``.
        """
        values = np.asarray(values, dtype=np.float64)
        offset = self._on_scale(values) - self.low  # here and in what follows NaN stays NaN
        place = np.floor(offset / self.width) if self.width > 0.0 else offset * 0.0
        bins = FIRST_BIN + np.minimum(np.maximum(place, 0), self.num_known_bins - 1)
        return np.where(np.isnan(values), UNKNOWN_BIN, bins).astype(np.int32)

    def state(self) -> SystemState:
        """The binning as data, see ``SystemState``."""
        fitted = {"low": self.low, "width": self.width, "num_known_bins": self.num_known_bins}
        return SystemState({"max_bins": self.max_bins, "scale": self.scale}, fitted=fitted if self.fitted else None)

    @classmethod
    def from_state(cls, state: SystemState) -> "ScottBinning":
        """An equal binning."""
        binning = cls(**state.settings)
        if state.fitted is not None:
            vars(binning).update(state.fitted, fitted=True)
        return binning

    def _on_scale(self, values: np.ndarray) -> np.ndarray:
        """Values as they are binned."""
        if values.size and np.fmin.reduce(values, axis=None) < 0:
            raise InputError("a time to be binned is negative: sort the events by time first")
        if values.size and np.fmax.reduce(values, axis=None) == np.inf:
            raise InputError("a time to be binned is infinite: give NaN where it is unknown")
        return np.log1p(values) if self.scale == "log" else values
