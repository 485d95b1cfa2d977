"""The format of a log, its columns and its unit of time, from nothing but the file."""

import gzip

import numpy as np
import pandas as pd
import pytest

from spotlight_asars.datasets import FORMATS
from spotlight_asars.datasets.guessing import Guess, columns_of, guess_format

SHOP = "event_time,event_type,product_id,user_id,user_session\n2019-10-01 00:00:00 UTC,view,7,3,ab\n"


def guessed(path, text, **given):
    path.write_text(text, encoding="utf-8")
    return guess_format(path, **given)


class TestKnownFormats:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("196\t242\t3\t881250949\n", "movielens"),
            ("1::1193::5::978300760\n", "movielens"),
            ("userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n", "movielens"),
            ("SessionId\tItemId\tTime\n1\t2\t1396857061.277\n", "recsys15"),
            ("1,2014-04-07T10:51:09.277Z,214536502,0\n", "recsys15"),
            ("1,2268318,2520377,pv,1511544070\n", "tianchi"),
        ],
    )
    def test_by_the_first_line(self, tmp_path, text, name):
        found = guessed(tmp_path / "log.csv", text)
        assert found == Guess(name) and str(found) == f"--format {name}"
        assert len(FORMATS[name].read(tmp_path / "log.csv"))

    def test_what_is_given_counts(self, tmp_path):
        text = "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n"
        assert guessed(tmp_path / "log.csv", text, columns="userId,movieId,timestamp").log_format == "csv"


class TestColumns:
    @pytest.mark.parametrize(
        ("names", "columns"),
        [
            (["user", "item", "time"], "user,item,time"),
            (["timestamp", "visitorid", "event", "itemid"], "visitorid,itemid,timestamp"),
            (["session_id", "click_article_id", "click_timestamp"], "-,click_article_id,click_timestamp,session_id"),
            (
                ["event_time", "event_type", "product_id", "user_id", "user_session"],
                "user_id,product_id,event_time,user_session",
            ),
            (["User ID", "Product-ID", "TS", "price"], "User ID,Product-ID,TS"),
        ],
    )
    def test_usual_names(self, names, columns):
        assert columns_of("log.csv", names) == columns

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            (["user", "thing", "time"], "for the item; it has user, thing, time"),
            (["user", "item", "when"], "for the timestamp"),
            (["item", "time"], "for the user or session"),
            (["user", "item", "ti,me"], "a column's name has a comma"),
        ],
    )
    def test_other_names(self, names, told, refuses):
        refuses(lambda: columns_of("log.csv", names), "log.csv: ", told, "give --columns")


class TestText:
    def test_a_shop(self, tmp_path):
        found = guessed(tmp_path / "shop.csv", SHOP)
        assert found == Guess("csv", "user_id,product_id,event_time,user_session", None, "iso")
        assert str(found) == "--format csv --columns user_id,product_id,event_time,user_session --timestamp-unit iso"
        log = FORMATS["csv"].read(tmp_path / "shop.csv", columns=found.columns, timestamp_unit="iso")
        assert log.timestamp.tolist() == [1569888000.0]

    @pytest.mark.parametrize(
        ("time", "unit"),
        [
            ("1396857061", None),
            ("1396857061.5", None),
            ("1396857061277", "ms"),
            ("1396857061277000", "us"),
            ("1396857061277000000", "ns"),
            ("2014-04-07T10:51:09.277Z", "iso"),
            ("2014-04-07 10:51:09+02:00", "iso"),
            ("2014-04-07", "iso"),
            ("soon", None),
        ],
    )
    def test_the_unit_by_the_size_of_the_times(self, tmp_path, time, unit):
        assert guessed(tmp_path / "log.csv", f"user,item,time\n1,2,{time}\n").timestamp_unit == unit

    @pytest.mark.parametrize(
        ("name", "separator", "told"),
        [("a.csv", ",", None), ("a.tsv", "\t", None), ("a.csv", ";", ";"), ("a.log", ",", ","), ("a.txt", ",", ",")],
    )
    def test_the_separator(self, tmp_path, name, separator, told):
        text = "user,item,time\n1,2,1396857061\n".replace(",", separator)
        found = guessed(tmp_path / name, text)
        assert found == Guess("csv", "user,item,time", told)
        log = FORMATS["csv"].read(tmp_path / name, columns=found.columns, separator=told)
        assert log["item"].tolist() == [2]

    def test_compressed_with_a_byte_order_mark(self, tmp_path):
        path = tmp_path / "log.csv.gz"
        path.write_bytes(gzip.compress(("\ufeff" + "user,item,time\n1,2,1396857061277\n" * 1).encode()))
        assert guess_format(path) == Guess("csv", "user,item,time", None, "ms")

    def test_the_last_line_of_the_sample_may_be_cut(self, tmp_path):
        lines = "".join(f"{number},{number},1396857061277\n" for number in range(9000))
        assert guessed(tmp_path / "log.csv", f"user,item,time\n{lines}").timestamp_unit == "ms"


class TestOther:
    @pytest.mark.parametrize("name", ["log.jsonl", "log.txt"])
    def test_json_lines(self, tmp_path, name):
        text = '{"session": 12, "events": [{"aid": 3, "ts": 1661724000278, "type": "clicks"}]}\n'
        assert guessed(tmp_path / name, text) == Guess("jsonl", "-,aid,ts,session", None, "ms")

    def test_broken_json(self, tmp_path, refuses):
        refuses(lambda: guessed(tmp_path / "log.jsonl", '{"user": 1,\n'), "log.jsonl, line 1: this is no line of JSON")

    def test_parquet(self, tmp_path):
        times = pd.to_datetime(["2014-04-07T10:51:09", "2014-04-07T10:52:09"])
        log = pd.DataFrame({"userId": [1, 1], "itemId": ["a", "b"], "time": times})
        log["ms"] = [1661724000278, 1661724000279]
        log.to_parquet(tmp_path / "log.parquet")
        assert guess_format(tmp_path / "log.parquet") == Guess("csv", "userId,itemId,time")
        found = guess_format(tmp_path / "log.parquet", columns="userId,itemId,ms")
        assert found == Guess("csv", "userId,itemId,ms", None, "ms")

    def test_a_folder_of_parquet_files_with_partitions(self, tmp_path):
        folder = tmp_path / "log"
        for user, items in ((3, ["a", "b"]), (5, ["c"])):
            (folder / f"user={user}").mkdir(parents=True)
            log = pd.DataFrame({"item": items, "time": 1.4e9 + np.arange(len(items))})
            log.to_parquet(folder / f"user={user}" / "part-0.parquet")
        found = guess_format(folder)
        assert found == Guess("csv", "user,item,time")
        log = FORMATS["csv"].read(folder, columns=found.columns)
        assert log.to_dict("list") == {"user": [3, 3, 5], "item": [*"abc"], "timestamp": [1.4e9, 1.4e9 + 1, 1.4e9]}

    def test_an_empty_folder(self, tmp_path, refuses):
        refuses(lambda: guess_format(tmp_path), "folder")
