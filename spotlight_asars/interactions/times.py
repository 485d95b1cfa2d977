"""Timestamps in any unit as seconds since 1970, and a check of their unit."""

from contextlib import suppress
from datetime import timedelta
from numbers import Real

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError

UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
ISO = "iso"  # not a unit but text such as 2014-04-07T10:51:09Z, which readers convert to seconds
SECONDS_PER_DAY = 86_400
# Seconds reach 1e11 in the year 5138; milliseconds did in 1973.
LARGEST_SECONDS = 1e11
_SHORT_LIST = 16  # times in a list that are cheaper to check one by one than as an array
_NUMBER_TYPES = (float, int, np.float64)


def timestamps_in_seconds(timestamps: np.ndarray, timestamp_unit: str = "s") -> np.ndarray:
    """
    Convert timestamps to seconds since 1970.

    Parameters
    ----------
    timestamps : array of shape (events,)
        Numbers, or datetimes.
    timestamp_unit : {'s', 'ms', 'us', 'ns'}, optional
        Unit of the numbers.

    Returns
    -------
    float64 array of shape (events,)

    Raises
    ------
    InputError
        If timestamps are neither numbers nor datetimes, not finite, look like a finer unit, or are in single precision
        that rounds them by more than a second.
    """
    check_unit(timestamp_unit)
    if timestamp_unit == "s" and _is_short_list_of_seconds(timestamps):
        return np.array(timestamps, dtype=np.float64)
    timestamps = _with_type(timestamps)
    is_datetime = timestamps.dtype.kind == "M"
    if is_datetime:
        seconds = _seconds_of_datetimes(timestamps)
    else:
        numbers = _numbers_of_times(timestamps, timestamp_unit)
        seconds = numbers if timestamp_unit == "s" else numbers / UNITS_PER_SECOND[timestamp_unit]
    low, high = (seconds.min(), seconds.max()) if len(seconds) else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        event = int(np.argmin(np.isfinite(seconds)))
        raise InputError(f"the timestamp of event {event} is {seconds[event]}: give every event a finite time")
    if not is_datetime and max(-low, high) > LARGEST_SECONDS:
        _refuse_too_large(np.abs(numbers), timestamp_unit)
    return seconds


def _is_short_list_of_seconds(times: object) -> bool:
    """Return whether times are a short list of valid seconds, the fast path of live sessions."""
    if type(times) is not list or len(times) > _SHORT_LIST:
        return False
    return all(type(time) in _NUMBER_TYPES and -LARGEST_SECONDS <= time <= LARGEST_SECONDS for time in times)


def _with_type(times: object) -> np.ndarray | pd.Series | pd.api.extensions.ExtensionArray:
    """Return times as an array or a Series; Python objects become numbers or datetimes if they are."""
    if isinstance(times, str) or not hasattr(times, "__len__"):
        raise InputError(f"the timestamps are {times!r:.40}: give a list, one time for each event")
    if not hasattr(times, "dtype"):
        try:
            times = np.asarray(times)
        except ValueError as error:
            raise InputError("the timestamps are lists of several lengths: give one time for each event") from error
    if times.dtype.kind == "O":
        times = np.asarray(times)
        with suppress(UnicodeEncodeError, OverflowError):  # such text and huge integers are refused below
            times = pd.Series(times, dtype=object).infer_objects() if times.ndim == 1 else times
        if times.dtype.kind == "O" and pd.api.types.infer_dtype(times, skipna=True) == "datetime":
            return pd.to_datetime(times, utc=True)  # of several UTC offsets
    return times


def _seconds_of_datetimes(datetimes: np.ndarray | pd.Series) -> np.ndarray:
    try:
        datetimes = pd.DatetimeIndex(datetimes)
    except (ValueError, OverflowError) as error:
        raise InputError(f"the timestamps are no datetimes ({error}): give seconds, or datetimes") from error
    # Split, since float64 cannot count nanoseconds since 1970 one by one: every unit gives the same seconds.
    seconds, rest = np.divmod(datetimes.asi8, int(UNITS_PER_SECOND[datetimes.unit]))
    return np.where(datetimes.isna(), np.nan, seconds + rest / UNITS_PER_SECOND[datetimes.unit])


def _numbers_of_times(times: np.ndarray | pd.Series, unit: str) -> np.ndarray:
    """Return times in some unit as float64."""
    times = np.asarray(times)
    if times.dtype.kind not in "iuf" or times.ndim != 1:
        what = f"of type {times.dtype} and shape {times.shape}{_example(times)}"
        raise InputError(f"the timestamps are {what}: give numbers, in seconds, or datetimes, one for each event")
    if times.dtype.kind == "f" and times.dtype.itemsize < 8:
        _check_precision(times, unit)
    with np.errstate(over="ignore"):  # wider types overflow to infinity, which is refused later
        return times.astype(np.float64)


def _check_precision(times: np.ndarray, unit: str) -> None:
    """Raise an InputError if single precision has rounded times by more than a second: dwell times would be wrong."""
    largest = np.abs(times[np.isfinite(times)]).max(initial=0)
    step = float(np.spacing(largest)) / UNITS_PER_SECOND[unit]
    if step > 1.0:
        raise InputError(
            f"the timestamps are {times.dtype}, which rounds times of this size to {step:.0f} s: give float64, "
            "integers or datetimes"
        )


def _example(times: np.ndarray) -> str:
    """Return the first value that is not a number, for a message."""
    values = times.ravel().tolist()
    first = next((time for time in values if isinstance(time, bool) or not isinstance(time, int | float)), None)
    return "" if first is None else f", such as {first!r:.40}"


def duration_in_seconds(name: str, duration: float | str | timedelta | np.timedelta64) -> float:
    """
    Return a duration in seconds.

    Parameters
    ----------
    name : str
        What it is, for the message.
    duration : float, str, timedelta, pandas Timedelta or numpy timedelta64
        Seconds, or text such as '1h' or '30min'.

    Raises
    ------
    InputError
        Unless it is a duration above 0.
    """
    seconds = duration
    with suppress(ValueError, TypeError):
        seconds = float(duration) if isinstance(duration, str) else duration  # pandas takes bare digits as nanoseconds
    if isinstance(seconds, str | timedelta | np.timedelta64):
        with suppress(ValueError):
            seconds = pd.Timedelta(seconds).total_seconds()
    if not isinstance(seconds, Real) or not seconds > 0:
        raise InputError(f"{name} is {duration!r}: give a positive number of seconds, or a duration such as '1h'")
    return float(seconds)


def typical_size(times: np.ndarray) -> float:
    """Return the lower median of the absolute times, which cannot overflow as the mean of two values can."""
    return float(np.quantile(np.abs(times), 0.5, method="lower"))


def check_unit(timestamp_unit: str) -> None:
    """Raise an InputError unless `timestamp_unit` is a known unit."""
    if timestamp_unit not in UNITS_PER_SECOND:
        raise InputError(f"timestamp_unit is {timestamp_unit!r}: choose one of {', '.join(UNITS_PER_SECOND)}")


def likely_unit(time: float) -> str | None:
    """Return the coarsest unit in which this number can be a time; None if there is none."""
    return next((unit for unit, units in UNITS_PER_SECOND.items() if time / units <= LARGEST_SECONDS), None)


def _refuse_too_large(sizes: np.ndarray, unit: str) -> None:
    typical = typical_size(sizes)
    finer = likely_unit(typical)
    if finer is None:
        raise InputError(f"the timestamps are about {typical:.6g}, too large for any unit: give seconds since 1970")
    if typical / UNITS_PER_SECOND[unit] > LARGEST_SECONDS:
        raise InputError(
            f"the timestamps look like {finer}, not {unit} (median {typical:.6g}): give timestamp_unit='{finer}'"
        )
    event = int(np.argmax(sizes))
    raise InputError(f"the timestamp of event {event} is about {sizes[event]:.6g}, no time in {unit}: correct it")
