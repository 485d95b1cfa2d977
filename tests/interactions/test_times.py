"""Timestamps in any unit, as numbers and as datetimes."""

import math
from datetime import datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.errors import InputError
from spotlight_asars.interactions.sessions import SessionInteractions
from spotlight_asars.interactions.times import timestamps_in_seconds

NAN = float("nan")


class TestNumbers:
    @pytest.mark.parametrize("unit, number", [("s", 1), ("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
    def test_units(self, unit, number, refuses):
        seconds = np.array([1_400_000_000, 1_400_003_600, -5])
        given_times = seconds * number
        found = timestamps_in_seconds(given_times, unit)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, seconds, rtol=1e-15)
        np.testing.assert_array_equal(given_times, seconds * number)
        if unit != "s":
            refuses(lambda: timestamps_in_seconds(given_times), f"look like {unit}", f"timestamp_unit='{unit}'")

    def test_refusals(self, refuses):
        refuses(lambda: timestamps_in_seconds(np.array([1.0]), "minutes"), "'minutes'", "s, ms, us, ns")
        refuses(lambda: timestamps_in_seconds(np.array(["2020-01-01"])), "type <U10", "give numbers, in seconds")
        for bad in (NAN, math.inf, -math.inf):
            for times in (np.array([1.0, bad]), [1.0, bad], [1, bad] * 20):
                refuses(lambda times=times: timestamps_in_seconds(times), "event 1", str(bad), "finite time")

    @pytest.mark.parametrize("unit", ["us", "ns"])
    def test_datetimes_in_any_unit_are_the_same_seconds(self, unit):
        milliseconds = 1_396_310_400_000 + np.random.RandomState(0).randint(10**9, size=500)
        found = timestamps_in_seconds(milliseconds.astype("datetime64[ms]").astype(f"datetime64[{unit}]"))
        np.testing.assert_array_equal(found, milliseconds / 1000)

    @pytest.mark.parametrize("count", [0, 1, 3, 40])
    @pytest.mark.parametrize("kinds", [(float,), (int,), (float, int), (np.float64,), (np.int64, float)])
    def test_a_list_is_read_as_an_array_is(self, kinds, count):
        times = [kinds[place % len(kinds)](1_400_000_000 - 7 * place) for place in range(count)]
        found = timestamps_in_seconds(times)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, timestamps_in_seconds(np.array(times, dtype=np.float64)))

    @pytest.mark.parametrize("count", [1, 40])
    @pytest.mark.parametrize(
        "time, part",
        [(True, "type bool"), ("1.5", "type <U3"), (None, "type object"), (1.4e12, "look like ms"), (10**400, "")],
        ids=["bool", "text", "none", "milliseconds", "huge"],
    )
    def test_what_a_list_may_not_hold(self, time, part, count, refuses):
        refuses(lambda: timestamps_in_seconds([time] * count), part)

    @pytest.mark.parametrize("dtype", ["float32", "Float32", "float[pyarrow]"])
    def test_single_precision_that_has_rounded_the_times_is_refused(self, dtype, refuses):
        """Regression: float32 keeps times of today to 128 seconds, and dwell times were multiples of that."""
        if "pyarrow" in dtype:
            pytest.importorskip("pyarrow")
        times = pd.Series([1.4e9, 1.4e9 + 20], dtype=dtype)
        refuses(lambda: timestamps_in_seconds(times), "float32", "to 128 s", "give float64")
        refuses(lambda: timestamps_in_seconds(times * 1000, "ms"), "float32", "to 131 s", "give float64")
        small = pd.Series([0.0, 20.5], dtype=dtype)
        np.testing.assert_array_equal(timestamps_in_seconds(small), [0.0, 20.5])

    def test_a_single_time_in_another_unit_is_told(self):
        times = np.array([1.5e9, 1.5e9 + 5, 1.5e12, 1.5e9 + 9])
        with pytest.raises(InputError, match=r"event 2 is about 1\.5e\+12, no time in s"):
            SessionInteractions(np.ones(4, dtype=int), np.arange(1, 5), timestamps=times)


class TestDatetimes:
    @pytest.mark.parametrize("zone", [None, "Europe/Paris"])
    @pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
    def test_datetimes_are_times_too(self, unit, zone):
        seconds = np.array([1.4e9, 1.4e9 + 5, 1.4e9 + 7200])
        moments = pd.Series(pd.to_datetime(seconds, unit="s", utc=zone is not None).as_unit(unit))
        moments = moments if zone is None else moments.dt.tz_convert(zone)
        log = pd.DataFrame({"user": 1, "item": [1, 2, 3], "timestamp": moments})
        read = SessionInteractions.from_log(log)
        np.testing.assert_array_equal(read.timestamps, seconds)
        assert read.session_ids.tolist() == [0, 0, 1]

    @pytest.mark.parametrize("of", [list, pd.Series, np.array])
    def test_datetimes_of_several_utc_offsets(self, of):
        """Regression: they were refused as being of type object; without a zone, a datetime is in UTC."""
        winter, summer = (timezone(timedelta(hours=hours)) for hours in (1, 2))
        times = of([datetime(2020, 3, 29, 1, 59, tzinfo=winter), datetime(2020, 3, 29, 3, 1, tzinfo=summer)])
        first, second = timestamps_in_seconds(times)
        assert second - first == 120.0
        zones = of([datetime(1970, 1, 1, 2, tzinfo=summer), datetime(1970, 1, 1, 0, 1)])
        np.testing.assert_array_equal(timestamps_in_seconds(zones), [0.0, 60.0])

    def test_a_missing_datetime_is_told(self):
        log = pd.DataFrame({"user": 1, "item": [1, 2], "timestamp": [pd.Timestamp(5, unit="s"), pd.NaT]})
        with pytest.raises(InputError, match="event 1 is nan"):
            SessionInteractions.from_log(log)


def test_times_of_text_that_is_no_unicode_are_refused(refuses):
    log = pd.DataFrame({"user": [1, 1], "item": [1, 2], "timestamp": pd.Series(["\ud800", "a"], dtype=object)})
    refuses(lambda: SessionInteractions.from_log(log), "give numbers, in seconds")
