"""Scott's bins for dwell times and session gaps (paper section 2.2, Eq. 8)."""

from collections.abc import Iterable, Iterator

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.ordering import blocks
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.state import SystemState

PADDING_BIN = 0
UNKNOWN_BIN = 1
FIRST_BIN = 2
SCALES = ("linear", "log")


@register_kind("part")
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

    def fit_blocks(self, arrays: Iterable[np.ndarray]) -> "ScottBinning":
        """As :meth:`fit`, from values in several arrays, of which only one need be in memory."""
        return self._fit(self._known_on_scale(_pieces(values), np.size(values)) for values in arrays)

    def fit_pieces(self, pieces: Iterable[np.ndarray], most: int) -> "ScottBinning":
        """As :meth:`fit`, to the bit, from an array that comes in pieces, `most` values in all or fewer."""
        return self._fit([self._known_on_scale(pieces, most)])

    def _fit(self, arrays: Iterable[np.ndarray]) -> "ScottBinning":
        """From known values on the scale, in arrays that may be overwritten."""
        number, mean, variance, low, high = 0, 0.0, 0.0, np.inf, -np.inf
        for values in arrays:
            if len(values):
                number += len(values)
                share, own_mean = len(values) / number, values.mean()
                apart = own_mean - mean
                low, high = min(low, float(values.min())), max(high, float(values.max()))
                mean += share * apart
                own_variance = _overwriting_variance(values, own_mean)
                variance = (1.0 - share) * variance + share * own_variance + share * (1.0 - share) * apart**2
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
        known = ~np.isnan(values.ravel())
        return self.bins_where(known, np.where(known, values.ravel(), 0.0)).reshape(values.shape)

    def bins_where(self, known: np.ndarray, values: np.ndarray) -> np.ndarray:
        """
        Bin ids of values where they are known, elsewhere the unknown bin; int32, of shape (n,), as both are.

        Of the others it only matters that they are finite. They are multiplied away: to choose by a mask takes a
        branch for each value, and ten times as long.
        """
        place = self._on_scale(values * known)
        place -= self.low
        if self.width > 0.0:
            place /= self.width
        else:
            place *= 0.0
        np.maximum(place, 0.0, out=place)
        np.minimum(place, self.num_known_bins - 1.0, out=place)
        bins = place.astype(np.int32)  # which cuts fractions off
        bins += FIRST_BIN - UNKNOWN_BIN
        bins *= known
        bins += UNKNOWN_BIN
        return bins

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

    def _known_on_scale(self, pieces: Iterable[np.ndarray], most: int) -> np.ndarray:
        """The values of all pieces that are not NaN, on the scale, in one new array."""
        known, end = np.empty(most), 0
        for piece in pieces:
            is_unknown = np.isnan(piece)
            if is_unknown.any():
                piece = piece.compress(~is_unknown)
            begin, end = end, end + len(piece)
            known[begin:end] = self._on_scale(piece)
        return known[:end]


def _pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    values = np.asarray(values, dtype=np.float64).ravel()
    return (values[block] for block in blocks(len(values)))


def _overwriting_variance(values: np.ndarray, mean: float) -> float:
    """``values.var()``, without an array of its own for what it squares."""
    for block in blocks(len(values)):
        values[block] -= mean
        values[block] *= values[block]
    return values.mean()
