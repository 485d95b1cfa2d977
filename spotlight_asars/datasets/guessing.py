"""Guess the format of a log from its file: which reader, which columns, which unit of time."""

import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

import pandas as pd

from spotlight_asars.datasets._table import OTHER_SEPARATORS, dates_of
from spotlight_asars.datasets._text import complain, first_bytes
from spotlight_asars.datasets.csv import ABSENT, SEPARATORS, USAGE, is_parquet, parquet_sample
from spotlight_asars.datasets.json_lines import flat_events
from spotlight_asars.datasets.recsys15 import PUBLISHED_LINE, SHARED
from spotlight_asars.datasets.spotlight_files import HDF5_SIGNATURE
from spotlight_asars.errors import listed
from spotlight_asars.interactions.times import ISO, likely_unit, typical_size

SAMPLE_BYTES = 1 << 16
_JSON_LINES = (".jsonl", ".ndjson", ".json")
# Usual names of columns, lower case, without anything but letters and digits; the first that a file has is taken.
_NAMES = MappingProxyType(
    {
        "user": ("user", "userid", "visitorid", "uid", "customerid", "memberid", "clientid", "reviewerid", "profileid"),
        "item": (
            *("item", "itemid", "productid", "movieid", "trackid", "songid", "articleid", "clickarticleid", "newsid"),
            *("venueid", "aid", "sku", "asin", "contentid", "product"),
        ),
        "timestamp": (
            *("timestamp", "time", "ts", "eventtime", "datetime", "clicktimestamp", "unixtime", "createdat", "date"),
            *("eventtimestamp", "eventdate", "utctime", "playedat"),
        ),
        "session": ("session", "sessionid", "usersession", "sid", "visitid"),
    }
)
_MOVIELENS = re.compile(rb"\d+(\t|::)\d+\1[\d.]+\1\d+\s*$")
_MOVIELENS_HEADER = b"userId,movieId,rating,timestamp"
_TIANCHI = re.compile(rb"\d+,\d+,\d+,(pv|buy|cart|fav),\d+\s*$")


@dataclass(frozen=True)
class Guess:
    """
    How to read a log: values of the command line's options; None where an option does not apply.

    Attributes
    ----------
    log_format : str
        Name in ``FORMATS``.
    columns : str, optional
    separator : str, optional
    timestamp_unit : str, optional
    """

    log_format: str
    columns: str | None = None
    separator: str | None = None
    timestamp_unit: str | None = None

    def __str__(self) -> str:
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        names = {"log_format": "format"}
        return " ".join(
            f"--{names.get(name, name).replace('_', '-')} {_quoted(value)}"
            for name, value in options.items()
            if value is not None
        )


def _quoted(value: str) -> str:
    value = value.replace("\t", "\\t")
    return value if re.fullmatch(r"[\w,.-]+", value) else f"'{value}'"


def guess_format(
    path: str | os.PathLike,
    log_format: str | None = None,
    columns: str | None = None,
    separator: str | None = None,
) -> Guess:
    """
    Guess how to read a log; what is given is taken as it is.

    Parameters
    ----------
    path : str or PathLike
        A file, or a folder of Parquet files.
    log_format, columns, separator : str, optional
        What is known already.

    Raises
    ------
    InputError
        If the file cannot be read, or its columns have no usual names.
    """
    if is_parquet(path):
        frame = parquet_sample(path)
        columns = columns or columns_of(path, list(frame.columns))
        return Guess("csv", columns, None, _unit_of(frame[_time_of(columns)]) if _has_time(frame, columns) else None)
    begin = first_bytes(path, SAMPLE_BYTES)
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    line = text.partition(b"\n")[0].rstrip(b"\r")
    if log_format in (None, "jsonl") and (line.startswith(b"{") or _ends_in(path, _JSON_LINES)):
        return _guess_json_lines(path, text, columns)
    if log_format is None and columns is None and separator is None:
        known = _known_format(begin, line)
        if known is not None:
            return Guess(known)
    return _guess_csv(path, text, line, columns, separator)


def _known_format(begin: bytes, line: bytes) -> str | None:
    """Return the name of a format that the first line shows for certain."""
    if begin.startswith(HDF5_SIGNATURE) or _MOVIELENS.match(line) or line.startswith(_MOVIELENS_HEADER):
        return "movielens"
    if PUBLISHED_LINE.match(line) or set(SHARED.columns.values()) <= {*line.decode("utf-8", "replace").split("\t")}:
        return "recsys15"
    return "tianchi" if _TIANCHI.match(line) else None


def _guess_csv(path: str | os.PathLike, text: bytes, line: bytes, columns: str | None, separator: str | None) -> Guess:
    header = line.decode("utf-8", "replace")
    by_ending = next((sign for ending, sign in SEPARATORS.items() if _ends_in(path, (ending,))), None)
    if separator is None:
        counts = {sign: header.count(sign) for sign in OTHER_SEPARATORS}
        most = max(counts.values())
        best = by_ending if by_ending and counts.get(by_ending) == most else max(counts, key=counts.get)
        separator = best if most else by_ending or ","
    sign = "\t" if separator == "\\t" else separator
    names = [name.strip().strip('"') for name in header.split(sign)]
    columns = columns or columns_of(path, names)
    whole_lines = text.rpartition(b"\n")[0] or text
    try:
        frame = pd.read_csv(io.BytesIO(whole_lines), sep=sign, na_filter=False, nrows=1000, encoding_errors="replace")
        frame.columns = [str(name).strip() for name in frame.columns]
        unit = _unit_of(frame[_time_of(columns)]) if _has_time(frame, columns) else None
    except (ValueError, pd.errors.ParserError):  # the reader says what is wrong with the file, and where
        unit = None
    return Guess("csv", columns, None if separator == by_ending else separator, unit)


def _guess_json_lines(path: str | os.PathLike, text: bytes, columns: str | None) -> Guess:
    lines = text.splitlines()[: -1 if len(text) >= SAMPLE_BYTES else None] or text.splitlines()
    events = []
    for number, line in enumerate(lines[:1000], start=1):
        if line.strip():
            try:
                events += flat_events(json.loads(line))
            except ValueError as error:
                complain(path, f"this is no line of JSON ({error}); write one object a line", number)
    frame = pd.DataFrame(events)
    columns = columns or columns_of(path, list(frame.columns))
    return Guess("jsonl", columns, None, _unit_of(frame[_time_of(columns)]) if _has_time(frame, columns) else None)


def columns_of(path: str | os.PathLike, names: Sequence[str]) -> str:
    """
    Return ``USER,ITEM,TIME[,SESSION]`` from the names of a file's columns.

    Raises
    ------
    InputError
        If none is a usual name for the item or the time, or neither for the user nor the session.
    """
    found = {role: usual_column(role, names) for role in _NAMES}
    lacking = [role for role in ("item", "timestamp") if found[role] is None]
    if not lacking and found["user"] is None and found["session"] is None:
        lacking = ["user or session"]
    taken = [name for name in found.values() if name is not None]
    if lacking or any("," in name for name in taken):
        what = f"no column has a usual name for the {lacking[0]}" if lacking else "a column's name has a comma"
        complain(path, f"{what}; it has {listed(names)}: give --columns {USAGE}")
    user, item, timestamp, session = found.values()
    return ",".join([user or ABSENT, item, timestamp, *([session] if session else [])])


def usual_column(role: str, names: Sequence[str]) -> str | None:
    """Return the first of the usual names of a role, such as 'item', among some names; None without one."""
    plain: Mapping[str, str] = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    return next((plain[one] for one in _NAMES[role] if one in plain), None)


def _time_of(columns: str) -> str:
    return [name.strip() for name in columns.split(",")][2] if columns.count(",") > 1 else ""


def _has_time(frame: pd.DataFrame, columns: str) -> bool:
    return _time_of(columns) in frame.columns and len(frame) > 0


def _unit_of(times: pd.Series) -> str | None:
    """Return the unit of some times, None for seconds and for datetimes."""
    if pd.api.types.is_datetime64_any_dtype(times.dtype):
        return None
    numbers = pd.to_numeric(times, errors="coerce")
    if numbers.notna().all():
        unit = likely_unit(typical_size(numbers.to_numpy(dtype="float64")))
        return None if unit == "s" else unit
    return ISO if dates_of(times).notna().any() else None


def _ends_in(path: str | os.PathLike, endings: Sequence[str]) -> bool:
    return os.fspath(path).lower().removesuffix(".gz").endswith(tuple(endings))
