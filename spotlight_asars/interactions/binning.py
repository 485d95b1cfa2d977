"""Binning of dwell times and session gaps by Scott's rule (paper section 2.2, Eq. 8)."""

from collections.abc import Iterable, Iterator

import numpy as np

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.ordering import blocks
from spotlight_asars.serialization.models import register_kind
from spotlight_asars.serialization.schema import Fields, Number, Whole, check_settings
from spotlight_asars.serialization.state import SystemState

PADDING_BIN = 0
UNKNOWN_BIN = 1
FIRST_BIN = 2
SCALES = ("linear", "log")


@register_kind("part")
class ScottBinning:
    """
    Equal-width bins whose width follows Scott's rule.

    The width is ``h = sigma * (24 * sqrt(pi) / n) ** (1 / 3)`` (paper Eq. 8; Scott 1979). Values are clipped to the
    range seen in :meth:`fit`, and values beyond the last of `max_bins` bins fall into the last one. Bin 0 is padding,
    bin 1 is an unknown value (NaN), and known values start at bin 2.

    Parameters
    ----------
    max_bins : int, optional
        Maximum number of bins for known values.
    scale : {'linear', 'log'}, optional
        'linear' bins the seconds, as in the paper; 'log' bins ``log(1 + seconds)``, which suits heavy tails.

    Attributes
    ----------
    low : float
        Smallest training value, on the chosen scale.
    width : float
        Width of a bin, on the chosen scale; 0 if all training values are equal.
    num_known_bins : int
        Number of bins for known values.
    fitted : bool
        Whether the binning is fitted.

    Raises
    ------
    InputError
        If `max_bins` or `scale` is invalid, or a value to be binned is negative or infinite.
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
        """Number of bins, including padding and unknown: the size of an embedding table."""
        return FIRST_BIN + self.num_known_bins

    def fit(self, values: np.ndarray) -> "ScottBinning":
        """
        Set the range and the bin width from training values.

        Parameters
        ----------
        values : array of shape (n,)
            Seconds; NaN (unknown) is ignored.

        Returns
        -------
        The binning. Without known training values, it has a single bin for all known values.
        """
        return self.fit_blocks([values])

    def fit_blocks(self, arrays: Iterable[np.ndarray]) -> "ScottBinning":
        """Fit on the values of several arrays, holding one of them in memory at a time."""
        return self._fit(self._known_on_scale(_pieces(values), np.size(values)) for values in arrays)

    def fit_pieces(self, pieces: Iterable[np.ndarray], max_values: int) -> "ScottBinning":
        """Fit on one array given in pieces, bit for bit as :meth:`fit`; at most `max_values` values in total."""
        return self._fit([self._known_on_scale(pieces, max_values)])

    def _fit(self, arrays: Iterable[np.ndarray]) -> "ScottBinning":
        """Fit on known, scaled values; the arrays are overwritten."""
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
        if high > low:  # rounding may leave equal values a deviation above 0
            self.width = float(np.sqrt(variance) * np.cbrt(24.0 * np.sqrt(np.pi) / number))
        if self.width > 0.0:
            self.num_known_bins = int(min(self.max_bins, np.floor((high - low) / self.width) + 1))
        return self

    def transform(self, values: np.ndarray) -> np.ndarray:
        """
        Return the bins of values.

        Parameters
        ----------
        values : array of any shape
            Seconds; NaN is unknown.

        Returns
        -------
        int32 array of the same shape
            From 1 (unknown) to ``num_bins - 1``.
        """
        values = np.asarray(values, dtype=np.float64)
        known = ~np.isnan(values.ravel())
        return self.bins_where(known, np.where(known, values.ravel(), 0.0)).reshape(values.shape)

    def bins_where(self, known: np.ndarray, values: np.ndarray) -> np.ndarray:
        """
        Return the bins of known values, and the unknown bin elsewhere.

        Parameters
        ----------
        known : bool array of shape (n,)
        values : array of shape (n,)
            Seconds; finite where they are unknown, too.

        Returns
        -------
        int32 array of shape (n,)

        Notes
        -----
        Unknown values are multiplied away: selecting them by a mask branches on each value, which takes ten times as
        long.
        """
        place = self._on_scale(values * known)
        place -= self.low
        if self.width > 0.0:
            place /= self.width
        else:
            place *= 0.0
        np.maximum(place, 0.0, out=place)
        np.minimum(place, self.num_known_bins - 1.0, out=place)
        bins = place.astype(np.int32)  # truncates
        bins += FIRST_BIN - UNKNOWN_BIN
        bins *= known
        bins += UNKNOWN_BIN
        return bins

    def state(self) -> SystemState:
        """Return the binning as data; see ``SystemState``."""
        fitted = {"low": self.low, "width": self.width, "num_known_bins": self.num_known_bins}
        return SystemState({"max_bins": self.max_bins, "scale": self.scale}, fitted=fitted if self.fitted else None)

    @classmethod
    def from_state(cls, state: SystemState) -> "ScottBinning":
        """
        Return the binning of a state.

        Raises
        ------
        InputError
            If the state is not one of a binning.
        """
        check_settings(cls, state.settings)
        binning = cls(**state.settings)
        if state.fitted is not None:
            known = Fields({"low": Number(), "width": Number(0.0), "num_known_bins": Whole(1, binning.max_bins)})
            known.check("binning", state.fitted)
            binning.low, binning.width = float(state.fitted["low"]), float(state.fitted["width"])
            binning.num_known_bins, binning.fitted = state.fitted["num_known_bins"], True
        return binning

    def _on_scale(self, values: np.ndarray) -> np.ndarray:
        """Return values on the scale of the bins."""
        if values.size and np.fmin.reduce(values, axis=None) < 0:
            raise InputError("a time to be binned is negative: sort the events by time first")
        if values.size and np.fmax.reduce(values, axis=None) == np.inf:
            raise InputError("a time to be binned is infinite: give NaN where it is unknown")
        return np.log1p(values) if self.scale == "log" else values

    def _known_on_scale(self, pieces: Iterable[np.ndarray], max_values: int) -> np.ndarray:
        """Return the known values of all pieces, scaled, in a new array."""
        known, end = np.empty(max_values), 0
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
    """Return ``values.var()``, overwriting the values instead of allocating their squares."""
    for block in blocks(len(values)):
        values[block] -= mean
        values[block] *= values[block]
    return values.mean()
