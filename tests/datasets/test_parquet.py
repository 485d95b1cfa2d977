"""Logs in Parquet; tests that need pyarrow run if it is installed."""

import sys

import pandas as pd
import pytest

from spotlight_asars.datasets import csv as reader
from spotlight_asars.datasets.csv import read_csv

COLUMNS = "user,item,time"


def test_without_pyarrow_it_is_told(refuses, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refuses(lambda: read_csv(tmp_path / "log.parquet", COLUMNS), "log.parquet", "pip install pyarrow")


class TestWithPyarrow:
    @pytest.fixture(autouse=True)
    def _needs_pyarrow(self):
        pytest.importorskip("pyarrow")

    @pytest.fixture
    def written(self, tmp_path):
        def write(**columns):
            path = tmp_path / "log.parquet"
            pd.DataFrame(columns).to_parquet(path)
            return path

        return write

    def test_exact_log(self, written, monkeypatch):
        path = written(more=[0, 0, 0], time=[30, 10, 20], item=["a", "b", "a"], user=[3, 2, 3])
        expected = pd.DataFrame({"user": [3, 2, 3], "item": ["a", "b", "a"], "timestamp": [30.0, 10.0, 20.0]})
        expected["item"] = expected["item"].astype(object)
        pd.testing.assert_frame_equal(read_csv(path, COLUMNS), expected)
        monkeypatch.setattr(reader, "BLOCK_EVENTS", 2)
        pd.testing.assert_frame_equal(read_csv(path, COLUMNS), expected)

    def test_datetimes_categories_and_units(self, written):
        times = pd.to_datetime(["2014-04-07T10:51:09.277Z", "2014-04-07T10:54:09.868Z"])
        path = written(user=pd.Categorical(["x", "y"]), item=[1, 2], time=times)
        log = read_csv(path, COLUMNS)
        assert log["user"].tolist() == ["x", "y"] and log["timestamp"].tolist() == [1396867869.277, 1396868049.868]
        assert read_csv(written(user=[1], item=[2], time=[1500]), COLUMNS, "ms")["timestamp"].tolist() == [1.5]

    def test_wrong_files(self, written, refuses, tmp_path):
        refuses(lambda: read_csv(written(user=[1], item=[2]), COLUMNS), "no column is named 'time'", "user, item")
        refuses(lambda: read_csv(written(user=[1, None], item=[2, 3], time=[4, 5]), COLUMNS), "event 1 has no user")
        refuses(
            lambda: read_csv(written(user=[1.5], item=[2], time=[4]), COLUMNS), "'user'", "float64", "whole numbers"
        )
        refuses(lambda: read_csv(written(user=[1], item=[2], time=["soon"]), COLUMNS), "'time'", "give numbers")
        refuses(lambda: read_csv(written(user=[], item=[], time=[]), COLUMNS), "no event")
        broken = tmp_path / "broken.parquet"
        broken.write_bytes(b"PAR1 nothing PAR1")
        refuses(lambda: read_csv(broken, COLUMNS), "broken.parquet", "cannot be read as Parquet")
        refuses(lambda: read_csv(tmp_path / "none.parquet", COLUMNS), "none.parquet", "cannot be read")
