"""Times of events: which numbers can be any, and all as seconds since 1970."""

from contextlib import suppress

import numpy as np
import pandas as pd

from spotlight_asars.errors import InputError

UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
ISO = "iso"  # no unit, but text such as 2014-04-07T10:51:09Z, of which readers make seconds
# Seconds pass 1e11 in the year 5138; milliseconds did so in 1973.
LARGEST_SECONDS = 1e11
_FEW = 16
_PLAIN_TYPES = (float, int, np.float64)


def timestamps_in_seconds(timestamps: np.ndarray, timestamp_unit: str = "s") -> np.ndarray:
    """
    Timestamps, numbers or datetimes, as float64 seconds since 1970, shape (events,).

    Raises
    ------
    InputError
        If they are no numbers, not finite, or look like a finer unit than `timestamp_unit` says.
    """
    check_unit(timestamp_unit)
    if timestamp_unit == "s" and _are_a_few_seconds(timestamps):
        return np.array(timestamps, dtype=np.float64)
    timestamps = _as_column(timestamps)
    is_datetime = timestamps.dtype.kind == "M"
    if is_datetime:
        seconds = _seconds_of_moments(timestamps)
    else:
        numbers = _numbers_of_times(timestamps)
        seconds = numbers if timestamp_unit == "s" else numbers / UNITS_PER_SECOND[timestamp_unit]
    low, high = (seconds.min(), seconds.max()) if len(seconds) else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        event = int(np.argmin(np.isfinite(seconds)))
        raise InputError(f"the timestamp of event {event} is {seconds[event]}: give every event a finite time")
    if not is_datetime and max(-low, high) > LARGEST_SECONDS:
        _refuse_too_large(np.abs(numbers), timestamp_unit)
    return seconds


def _are_a_few_seconds(times: object) -> bool:
    """Whether these are plain numbers without fault, so few, as of a live session, that a look at each is cheapest."""
    if type(times) is not list or len(times) > _FEW:
        return False
    return all(type(time) in _PLAIN_TYPES and -LARGEST_SECONDS <= time <= LARGEST_SECONDS for time in times)


def _as_column(times: object) -> np.ndarray | pd.Series | pd.api.extensions.ExtensionArray:
    """Times in something that has a type, of which Python's own objects get the plainest that fits."""
    if isinstance(times, str) or not hasattr(times, "__len__"):
        raise InputError(f"the timestamps are {times!r:.40}: give a list, one time an event")
    if not hasattr(times, "dtype"):
        try:
            times = np.asarray(times)
        except ValueError as error:
            raise InputError("the timestamps are lists of several lengths: give one time an event") from error
    if times.dtype.kind == "O":
        times = np.asarray(times)
        with suppress(UnicodeEncodeError, OverflowError):  # of text and huge integers, which are refused below
            times = pd.Series(times, dtype=object).infer_objects() if times.ndim == 1 else times
    return times


def _seconds_of_moments(moments: np.ndarray | pd.Series) -> np.ndarray:
    try:
        moments = pd.DatetimeIndex(moments)
    except (ValueError, OverflowError) as error:
        raise InputError(f"the timestamps are no moments ({error}): give seconds, or datetimes") from error
    # Apart, since nanoseconds since 1970 are more than float64 counts one by one: the same seconds in every unit.
    seconds, rest = np.divmod(moments.asi8, int(UNITS_PER_SECOND[moments.unit]))
    return np.where(moments.isna(), np.nan, seconds + rest / UNITS_PER_SECOND[moments.unit])


def _numbers_of_times(times: np.ndarray | pd.Series) -> np.ndarray:
    """Times as float64, whatever they count."""
    times = np.asarray(times)
    if times.dtype.kind not in "iuf" or times.ndim != 1:
        what = f"of type {times.dtype} and shape {times.shape}{_such_as(times)}"
        raise InputError(f"the timestamps are {what}: give numbers, in seconds, or datetimes, one an event")
    with np.errstate(over="ignore"):  # of a type that holds more than float64, which is told as infinite
        return times.astype(np.float64)


def _such_as(times: np.ndarray) -> str:
    """The first of some times that is no number, for a message."""
    values = times.ravel().tolist()
    first = next((time for time in values if isinstance(time, bool) or not isinstance(time, int | float)), None)
    return "" if first is None else f", such as {first!r:.40}"


def typical_size(times: np.ndarray) -> float:
    """The lower median of their absolute values, which cannot overflow as a mean of two can."""
    return float(np.quantile(np.abs(times), 0.5, method="lower"))


def check_unit(timestamp_unit: str) -> None:
    """Raise an InputError unless the unit of time is one we know."""
    if timestamp_unit not in UNITS_PER_SECOND:
        raise InputError(f"timestamp_unit is {timestamp_unit!r}: choose one of {', '.join(UNITS_PER_SECOND)}")


def likely_unit(time: float) -> str | None:
    """The coarsest unit in which so large a number can be a time; None where there is none."""
    return next((unit for unit, units in UNITS_PER_SECOND.items() if time / units <= LARGEST_SECONDS), None)


def _refuse_too_large(sizes: np.ndarray, unit: str) -> None:
    typical = typical_size(sizes)
    finer = likely_unit(typical)
    if finer is None:
        raise InputError(f"the timestamps are about {typical:.6g}, too large for any unit: give seconds since 1970")
    if typical / UNITS_PER_SECOND[unit] > LARGEST_SECONDS:
        raise InputError(
            f"the timestamps look like {finer}, not {unit} (median {typical:.6g}): say timestamp_unit='{finer}'"
        )
    event = int(np.argmax(sizes))
    raise InputError(f"the timestamp of event {event} is about {sizes[event]:.6g}, no time in {unit}: mend it")
