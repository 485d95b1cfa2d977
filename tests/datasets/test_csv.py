"""The reader of delimited text: exact values, and one error line for every kind of fault."""

import gzip
import io
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotlight_asars.datasets import FORMATS
from spotlight_asars.datasets.csv import read_csv
from spotlight_asars.errors import InputError

COLUMNS = "user,item,time"
HEADER = "user,item,time\n"


def test_columns_in_order_of_roles_and_rows_in_order_of_file(write):
    log = read_csv(write("time,x,item,user,visit\n30,a,7,1,5\n10.5,b,8,2,6\n"), "user,item,time,visit")
    assert list(log.columns) == ["user", "item", "timestamp", "session"]
    assert log["user"].tolist() == [1, 2]
    assert log["item"].tolist() == [7, 8]
    assert log["session"].tolist() == [5, 6]
    assert log["timestamp"].dtype == np.float64
    np.testing.assert_array_equal(log["timestamp"], [30.0, 10.5])


def test_no_user_is_a_dash(write):
    log = read_csv(write("item,time,visit\n7,1,a\n"), ["-", "item", "time", "visit"])
    assert list(log.columns) == ["item", "timestamp", "session"]
    assert log["session"].tolist() == ["a"]


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["1", "-2", "0"], [1, -2, 0]),
        (["9223372036854775807", "1"], [9223372036854775807, 1]),
        (["1", "x"], ["1", "x"]),
        (["007", "7"], ["007", "7"]),
        (["+7", "7"], ["+7", "7"]),
        (["-0", "0"], ["-0", "0"]),
        (["-07", "-7"], ["-07", "-7"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["1e3", "2"], ["1e3", "2"]),
        (["True", "False"], ["True", "False"]),
        (["NA", "nan"], ["NA", "nan"]),
        (["nan", "1"], ["nan", "1"]),
        (["99999999999999999999999", "1"], ["99999999999999999999999", "1"]),
        (["é", "日本"], ["é", "日本"]),
    ],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_ids_are_integers_or_stand_as_they_are(write, texts, ids, quote):
    rows = "".join(f"{quote}{text}{quote},5,1\n" for text in texts)
    log = read_csv(write(HEADER + rows), COLUMNS)
    assert log["user"].tolist() == ids
    assert {type(value) for value in log["user"].tolist()} == {type(ids[0])}


@pytest.mark.parametrize(
    "content",
    [
        b"user,item,time\n1,a,10\n2,b,20\n",
        b"user,item,time\n1,a,10\n2,b,20",
        b"user,item,time\r\n1,a,10\r\n2,b,20\r\n",
        b"user,item,time\r1,a,10\r2,b,20\r",
        b"\xef\xbb\xbfuser,item,time\n1,a,10\n2,b,20\n",
        b"\n\nuser,item,time\n\n1,a,10\n\n2,b,20\n\n",
        b'"user","item","time"\n"1","a","10"\n"2","b","20"\n',
        b"user, item, time\n1, a, 10\n2, b, 20\n",
    ],
)
def test_line_ends_quotes_blank_lines_and_spaces(write, content):
    log = read_csv(write(content), COLUMNS)
    expected = pd.DataFrame({"user": [1, 2], "item": ["a", "b"], "timestamp": [10.0, 20.0]})
    pd.testing.assert_frame_equal(log, expected)


def test_quoted_separators_and_quotes(write):
    log = read_csv(write(HEADER + '1,"a,b",10\n2,"say ""hi""",20\n3,5" pipe,30\n'), COLUMNS)
    assert log["item"].tolist() == ["a,b", 'say "hi"', '5" pipe']


def test_gzip_and_endings(write):
    tabs = "user\titem\ttime\n1\t2\t3\n"
    expected = pd.DataFrame({"user": [1], "item": [2], "timestamp": [3.0]})
    for name in ("log.tsv", "log.txt", "LOG.TSV"):
        pd.testing.assert_frame_equal(read_csv(write(tabs, name), COLUMNS), expected)
    packed = gzip.compress(tabs.replace("\t", ",").encode())
    pd.testing.assert_frame_equal(read_csv(write(packed, "log.csv.gz"), COLUMNS), expected)
    for separator in ("\t", "\\t"):
        pd.testing.assert_frame_equal(read_csv(write(tabs), COLUMNS, separator=separator), expected)
    semicolons = write(tabs.replace("\t", ";"), "log.data")
    pd.testing.assert_frame_equal(read_csv(str(semicolons), COLUMNS, separator=";"), expected)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units_convert_to_seconds(write, unit, factor):
    path = write(HEADER + f"1,2,{1396437466 * factor}\n1,2,{1396437467 * factor}\n")
    log = read_csv(path, COLUMNS, timestamp_unit=unit)
    np.testing.assert_array_equal(log["timestamp"], [1396437466.0, 1396437467.0])


@pytest.mark.parametrize(("unit", "factor"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_finer_units_are_refused_with_a_hint(write, refuses, unit, factor):
    path = write(HEADER + f"1,2,{1396437466 * factor}\n")
    refuses(
        lambda: read_csv(path, COLUMNS),
        "log.csv",
        "'time'",
        f"--timestamp-unit {unit}",
        f"timestamp_unit='{unit}'",
    )


def test_times_too_large_for_any_unit(write, refuses):
    refuses(lambda: read_csv(write(HEADER + "1,2,1e30\n"), COLUMNS), "any unit", "give seconds")
    refuses(lambda: read_csv(write(HEADER + f"1,2,{10**25}\n"), COLUMNS), "any unit", "give seconds")


def test_times_as_text(write, refuses):
    body = "1,2,1970-01-01T00:01:00Z\n1,3,1970-01-01 00:00:02.5\n1,3,1970-01-01T01:00:00+01:00\n"
    found = read_csv(write(HEADER + body), COLUMNS, timestamp_unit="iso")
    assert found["timestamp"].tolist() == [60.0, 2.5, 0.0]
    refuses(
        lambda: read_csv(write(HEADER + "1,2,31/12/1999\n"), COLUMNS, timestamp_unit="iso"), "line 2", "'31/12/1999'"
    )


@pytest.mark.parametrize(
    ("sign", "told"), [(";", "semicolons fit: give --separator ';'"), ("\t", "'\\t'"), ("|", "'|'")]
)
def test_the_separator_that_fits_is_named(sign, told, write, refuses):
    path = write((HEADER + "1,2,3\n").replace(",", sign))
    refuses(lambda: read_csv(path, COLUMNS), "line 1", "split by commas: is that the separator?", told)
    assert read_csv(path, COLUMNS, separator="\\t" if sign == "\t" else sign)["timestamp"].tolist() == [3.0]


def test_unknown_unit(write, refuses):
    refuses(lambda: read_csv(write(HEADER + "1,2,3\n"), COLUMNS, timestamp_unit="h"), "'h'", "s, ms, us, ns")


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("1,2,3\n4,5,soon\n", ["line 3", "'time'", "'soon'", "text", "seconds"]),
        ("1,2,2020-01-01 10:00:00\n", ["line 2", "'2020-01-01 10:00:00'", "unit iso", "convert dates to seconds"]),
        ("1,2,3\n\n4,5,soon\n", ["line 4", "'soon'"]),
        ("1,2,True\n", ["line 2", "'True'", "text"]),
        ("1,2,0x10\n1,2,x\n", ["line 2", "'0x10'"]),
        ("1,2,3\n1,2,\n", ["line 3", "'time'", "no time"]),
        ('1,2,3\n1,2," "\n', ["line 3", "no time"]),
        ("1,2,3\n1,2,nan\n", ["line 3", "'nan'", "finite"]),
        ("1,2,3\n1,2,-Infinity\n", ["line 3", "'-Infinity'", "finite"]),
        ("1,2,3\n1,2,1e999\n", ["line 3", "'1e999'", "finite"]),
        ("1,2,3\n1,2,nan\nx,y,z\n", ["line 3", "'nan'"]),
        ("1,2,3\n,2,3\n", ["line 3", "'user'", "empty"]),
        ("1,2,3\n1,,3\n", ["line 3", "'item'", "empty"]),
        ("1,2,3\n1,  ,3\n", ["line 3", "'item'", "empty"]),
        ('1,"a\nb",3\n1,,3\n', ["line 4", "'item'", "empty"]),
        ("1,2,3\n1,2,3,4\n", ["line 3", "4 fields where 3", "commas"]),
        ("1,2\n1,2,3\n", ["line 2", "2 fields where 3"]),
        ("1,2\n1,2,3,4\n", ["line 2", "2 fields where 3"]),
        ("1,2,3\n1,2\n", ["line 3", "2 fields where 3", "cut short"]),
        ("1,2,3\n1", ["line 3", "1 field where 3", "cut short"]),
        ("1\t2\t3\n", ["line 2", "1 field where 3", "separator"]),
        ('1,2,3\n1,"2,3\n1,2,3\n', ["line 3", "quotes"]),
        ('1,2,3\n1,"2"x,3\n', ["line 3", "quotes"]),
        ("1,2,3\n1,\0,3\n", ["line 3", "zero byte"]),
        ("", ["header", "no event"]),
        ("\n\n", ["header", "no event"]),
    ],
)
def test_faults_name_line_and_mend(write, refuses, body, parts):
    refuses(lambda: read_csv(write(HEADER + body), COLUMNS), "log.csv", *parts)


def test_the_first_fault_beyond_the_first_chunk(write, refuses):
    rows = ["12345,67890,1396437466.5\n"] * 250_000
    rows[240_000] = "12345,67890,later\n"
    refuses(lambda: read_csv(write(HEADER + "".join(rows)), COLUMNS), "line 240002,"[:-1], "'later'")
    rows[240_000] = "12345,67890\n"
    refuses(lambda: read_csv(write(HEADER + "".join(rows)), COLUMNS), "line 240002", "2 fields")
    rows[240_000] = "012345,67890,1\n"
    assert read_csv(write(HEADER + "".join(rows)), COLUMNS)["user"].iloc[[0, 240_000]].tolist() == [
        "12345",
        "012345",
    ]


def test_files_that_cannot_be_read(write, refuses, tmp_path, monkeypatch):
    refuses(lambda: read_csv(tmp_path / "none.csv", COLUMNS), "none.csv", "no such file")
    (tmp_path / "folder.csv").mkdir()
    refuses(lambda: read_csv(tmp_path / "folder.csv", COLUMNS), "folder.csv", "folder")
    refuses(lambda: read_csv(write("x" * 300 + "/y", "a.csv") / "b.csv", COLUMNS), "b.csv", "cannot be read")
    for content in ("", "\n \n"):
        refuses(lambda content=content: read_csv(write(content), COLUMNS), "log.csv", "empty")
    refuses(lambda: read_csv(write(HEADER.encode() + b"1,2,3\n1,\xff,3\n"), COLUMNS), "line 3", "utf-8")
    refuses(lambda: read_csv(write(HEADER.encode("utf-16")), COLUMNS), "line 1", "utf-8")
    packed = gzip.compress((HEADER + "1,2,3\n").encode())
    refuses(lambda: read_csv(write(packed), COLUMNS), "gzip", ".gz")
    refuses(lambda: read_csv(write(packed[:-10], "cut.csv.gz"), COLUMNS), "cut.csv.gz", "whole gzip file")
    refuses(lambda: read_csv(write(HEADER, "plain.csv.gz"), COLUMNS), "plain.csv.gz", "whole gzip file")
    path = write(HEADER)

    def deny(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    refuses(lambda: read_csv(path, COLUMNS), "log.csv", "permission")


def test_columns_that_are_not_there(write, refuses):
    path = write("user,item,when\n1,2,3\n")
    refuses(lambda: read_csv(path, COLUMNS), "log.csv, line 1", "no column 'time'", "user, item, when")
    refuses(lambda: read_csv(path, COLUMNS, separator=";"), "no column 'user'", "semicolons", "separator?")
    twice = write("user,item,time,time\n1,2,3,4\n")
    refuses(lambda: read_csv(twice, COLUMNS), "2 columns are named 'time'", "rename")
    unused = write("user,item,x,x,time\n1,2,3,4,5\n")
    assert read_csv(unused, COLUMNS)["timestamp"].tolist() == [5.0]
    refuses(lambda: read_csv(write(" \n1,2,3\n"), COLUMNS), "no column 'user'")
    long = "u" * 100
    refuses(lambda: read_csv(path, f"{long},item,when"), "'" + "u" * 37 + "...'")


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ("user,item", "names 2"),
        ("user,item,time,session,more", "names 5"),
        ("user,-,time", "item is missing"),
        ("user,item,-", "timestamp is missing"),
        (",item,time", "user is missing"),
        ("user,item,item", "twice"),
        ("-,item,time", "without user and session"),
        ("-,item,time,-", "without user and session"),
    ],
)
def test_wrong_column_lists(write, refuses, columns, part):
    refuses(lambda: read_csv(write(HEADER), columns), part, columns)
    refuses(lambda: read_csv(write(HEADER), columns.split(",")), part, columns)


def test_separators(write, refuses):
    refuses(lambda: read_csv(write(HEADER, "log.data"), COLUMNS), "log.data", "--separator")
    for separator in ("::", "", '"', "a", "1", ".", "§", "\n"):
        call = lambda separator=separator: read_csv(write(HEADER), COLUMNS, separator=separator)  # noqa: E731
        refuses(call, repr(separator), "give one character")


def test_the_path_stays_on_one_line(refuses, tmp_path):
    refuses(lambda: read_csv(tmp_path / "two\nlines.csv", COLUMNS), "two lines.csv")


def test_paths_are_strings_or_objects(write):
    path = write(HEADER + "1,2,3\n")
    assert read_csv(os.fspath(path), COLUMNS).equals(read_csv(path, COLUMNS))


identifiers = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=6),
)


@given(st.lists(st.tuples(identifiers, identifiers, st.integers(-(2**31), 2**31)), min_size=1, max_size=8))
def test_what_pandas_writes_is_read_back(tmp_path_factory, rows):
    rows = [(user.strip(), item.strip(), time) for user, item, time in rows]
    rows = [row for row in rows if row[0] and row[1]] or [("1", "1", 0)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    path = tmp_path_factory.mktemp("written") / "log.csv"
    text = io.StringIO()
    frame.to_csv(text, index=False, lineterminator="\n")
    path.write_bytes(text.getvalue().encode("utf-8"))
    log = read_csv(path, COLUMNS)
    assert [str(value) for value in log["user"]] == frame["user"].tolist()
    assert [str(value) for value in log["item"]] == frame["item"].tolist()
    np.testing.assert_array_equal(log["timestamp"], frame["time"])


def test_formats():
    assert sorted(FORMATS) == ["csv", "jsonl", "movielens", "recsys15", "tianchi"]
    supports = {
        name: (form.filters.item_support, form.filters.session_length, form.filters.user_sessions)
        for name, form in FORMATS.items()
    }
    named = {"movielens": (10, 2, 2), "recsys15": (20, 2, 1), "tianchi": (10, 2, 10)}
    assert supports == {"csv": (2, 2, 1), "jsonl": (2, 2, 1), **named}
    assert FORMATS["csv"].options == ("columns", "timestamp_unit", "event_column", "events", "separator")


class TestEventTypes:
    TEXT = "user,item,time,kind\n1,7,100,view\n1,8,200,cart\n2,7,300,view\n2,9,400,buy\n"

    @pytest.mark.parametrize("events", ["view,buy", ["view", " buy "]])
    @pytest.mark.parametrize("name", ["log.csv", "log.parquet", "log.jsonl"])
    def test_only_these_are_read(self, tmp_path, name, events):
        table = pd.read_csv(io.StringIO(self.TEXT))
        if name.endswith("csv"):
            (tmp_path / name).write_text(self.TEXT, encoding="utf-8")
        elif name.endswith("jsonl"):
            table.to_json(tmp_path / name, orient="records", lines=True)
        else:
            table.to_parquet(tmp_path / name)
        read = FORMATS["jsonl" if name.endswith("jsonl") else "csv"].read
        log = read(tmp_path / name, columns="user,item,time", event_column="kind", events=events)
        assert log.to_dict("list") == {"user": [1, 2, 2], "item": [7, 7, 9], "timestamp": [100.0, 300.0, 400.0]}

    def test_a_type_that_the_log_lacks(self, tmp_path, refuses):
        path = tmp_path / "log.csv"
        path.write_text(self.TEXT, encoding="utf-8")
        options = {"columns": "user,item,time", "event_column": "kind"}
        refuses(lambda: read_csv(path, **options, events="view,sell"), "no event is of type 'sell'; the types are buy")
        refuses(lambda: read_csv(path, **options), "give --event-column and --events")
        refuses(lambda: read_csv(path, "user,item,time", events="view"), "give --event-column and --events")


@settings(max_examples=300, deadline=None)
@given(st.text('a10,,,\n\n" \t.-+\0é', max_size=40), st.booleans())
def test_any_text_is_read_or_refused_in_one_line(tmp_path_factory, text, with_row):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes((HEADER + ("1,2,3\n" if with_row else "") + text).encode("utf-8"))
    try:
        log = read_csv(path, COLUMNS)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(log["timestamp"]).all()
        assert not (log[["user", "item"]].astype(str) == "").any(axis=None)
