"""
Delimited text as a log: the part that all readers share.

A log is a `pandas.DataFrame` with the columns `user` (if it has users), `item`, `timestamp` (float64, seconds) and
`session` (if it has sessions), one row for each event, in the order of the file. Readers of richer formats may add
`category` and `behaviour`.
"""

import io
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pandas as pd

from spotlight_asars.datasets._text import (
    BLOCK_BYTES,
    DOUBLE_COLON_SIGN,
    check_shape,
    complain,
    rows_with_lines,
    separator_name,
    shown,
    text_blocks,
)
from spotlight_asars.errors import listed
from spotlight_asars.interactions.times import (
    ISO,
    LARGEST_SECONDS,
    UNITS_PER_SECOND,
    check_unit,
    likely_unit,
    timestamps_in_seconds,
    typical_size,
)

ROLES = ("user", "item", "timestamp", "session", "category", "behaviour")
OTHER_SEPARATORS = ",;\t|"  # tried on a header that the expected separator does not split
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
UTC_ENDING = re.compile(r"\s*(UTC|GMT)\s*$")
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
SHORTEST_INTEGER = r"(?:0|-?[1-9][0-9]*)\s*"


@dataclass(frozen=True)
class Layout:
    """
    The layout of a log in delimited text.

    Attributes
    ----------
    columns: mapping of str to str
        The file's column for each of the ROLES that the log has.
    separator: str
        The character between fields, or '::'.
    names: sequence of str or None
        The names of all columns of a file without a header; None if the first line is the header.
    timestamp_unit: str
        The unit of the file's times: 's', 'ms', 'us' or 'ns'; or 'iso', for text such as 2014-04-07T10:51:09.277Z.
    has_options: bool
        Whether the user can choose separator and unit, so that messages suggest the options.
    """

    columns: Mapping[str, str]
    separator: str
    names: Sequence[str] | None = None
    timestamp_unit: str = "s"
    has_options: bool = False


def table_blocks(path: str | os.PathLike, layout: Layout, block_bytes: int = BLOCK_BYTES) -> Iterator[pd.DataFrame]:
    """
    Read a log from delimited UTF-8 text, one block of rows at a time.

    Parameters
    ----------
    path: str or PathLike
        The file; a name that ends in .gz is decompressed.
    layout: Layout
        Its layout.
    block_bytes: int
        Approximate size of a block's text.

    Yields
    ------
    DataFrame, (events,)
        Ids are integers if the whole column of the block is (in shortest form, 64 bits), else the strings in the file;
        `timestamp` is float64, in seconds.

    Raises
    ------
    InputError
        If the file or one of its values does not fit the layout; the message names the first such line.
    """
    if layout.timestamp_unit != ISO:
        check_unit(layout.timestamp_unit)
    names, separator, found = layout.names, layout.separator, False
    for body, first_line, ends_file in text_blocks(path, block_bytes):
        if separator == "::":
            body = body.replace(b"::", DOUBLE_COLON_SIGN.encode())
        header_line = first_line
        if names is None:
            names, body, first_line = _take_header(path, body, _sign(separator))
            header_line = first_line - 1
        positions = {
            role: _position(path, names, layout.columns[role], layout, header_line)
            for role in ROLES
            if role in layout.columns
        }
        if not body or body.isspace():
            continue
        found = True
        odd_starts = check_shape(path, body, _sign(separator), len(names), first_line, ends_file)
        table = _Table(path, body, _sign(separator), names, first_line, layout.has_options)
        table.parse(positions.values(), odd_starts)
        yield pd.DataFrame(
            {
                role: table.timestamps(at, layout.timestamp_unit) if role == "timestamp" else table.ids(at)
                for role, at in positions.items()
            }
        )
    if not found:
        complain(path, "the file has a header but no event below it; a log needs at least one event")


def _sign(separator: str) -> str:
    """Return the one character between the fields of a block."""
    return DOUBLE_COLON_SIGN if separator == "::" else separator


def joined(blocks: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the blocks of a log; a column holds integers only if it does in every block."""
    logs = list(blocks)
    if len(logs) == 1:
        return logs[0]
    columns = {role: [log[role] for log in logs] for role in logs[0].columns}
    columns = {
        role: parts if role == "timestamp" else [pd.Series(part) for part in in_one_type(parts)]
        for role, parts in columns.items()
    }
    return pd.DataFrame({role: pd.concat(parts, ignore_index=True) for role, parts in columns.items()})


def in_one_type(parts: Sequence[pd.Series | pd.Index]) -> list[pd.Series | pd.Index]:
    """
    Convert ids of several blocks to one type: integers if all are and 64 bits hold them, else text.

    Integers were read from their shortest form, so their text is exactly what the file held.
    """
    types = {part.dtype for part in parts}
    if len(types) == 1:
        return list(parts)
    if all(one.kind in "iu" for one in types) and all(part.min() >= 0 for part in parts if part.dtype.kind == "i"):
        return [part.astype(np.uint64) for part in parts]
    return [part.astype(str).astype(object) if part.dtype.kind in "iu" else part.astype(object) for part in parts]


def _take_header(path: str | os.PathLike, body: bytes, separator: str) -> tuple[list[str], bytes, int]:
    """Split off the header: return its names, the remaining text, and the number of that text's first line."""
    text = body.lstrip(b"\n")
    header_line = len(body) - len(text) + 1
    header, _, rest = text.partition(b"\n")
    for _, row in rows_with_lines(path, header, separator, header_line):
        return [name.strip() for name in row], rest, header_line + 1
    complain(path, "the header is blank; name the columns in the first line", header_line)


def _position(path: str | os.PathLike, names: Sequence[str], name: str, layout: Layout, header_line: int) -> int:
    """Return the position of the column with this name."""
    found = [position for position, other in enumerate(names) if other == name]
    if len(found) == 1:
        return found[0]
    if found:
        complain(path, f"{len(found)} columns are named {shown(name)}; rename all but one", header_line)
    fix = "name one of them"
    if len(names) == 1:
        fix = f"fields were split by {separator_name(_sign(layout.separator))}: is that the separator?"
        fitting = next((sign for sign in OTHER_SEPARATORS if name in names[0].split(sign)), None)
        if layout.has_options and fitting is not None:
            fix += f" {separator_name(fitting)} fit: give --separator '{shown(fitting)[1:-1]}'"
    complain(path, f"no column {shown(name)}; the first line has the columns: {listed(names)}; {fix}", header_line)


class _Table:
    """
    The body of a file whose shape has been checked, and its columns.

    Parameters
    ----------
    path: str or PathLike
        The file, for messages.
    body: bytes
        Text with plain newlines and no header.
    separator: str
        One character.
    names: sequence of str
        The names of all columns.
    first_line: int
        The line number of the body's first line in the file.
    has_options: bool
        As in the layout.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        body: bytes,
        separator: str,
        names: Sequence[str],
        first_line: int,
        has_options: bool,
    ) -> None:
        self._path = path
        self._body = body
        self._separator = separator
        self._names = names
        self._first_line = first_line
        self._has_options = has_options
        self._odd_starts: np.ndarray | None = None
        self._frame = pd.DataFrame()

    def parse(self, positions: Collection[int], odd_starts: np.ndarray | None) -> None:
        """Parse the given columns; `odd_starts` is the result of `check_shape`."""
        self._odd_starts = odd_starts
        self._frame = self._parse(positions)

    def _parse(self, positions: Collection[int], **options: object) -> pd.DataFrame:
        # Skipping spaces slows down every field, so skip only if there may be some.
        spaces = self._separator != " " and (self._odd_starts is None or bool(self._odd_starts.any()))
        try:
            return pd.read_csv(
                io.BytesIO(self._body),
                sep=self._separator,
                header=None,
                names=range(len(self._names)),
                usecols=sorted(positions),
                index_col=False,
                na_filter=False,  # an empty id is a fault, and 'NA' may be an id
                low_memory=False,  # infer the type from the whole column, not from chunks
                skipinitialspace=spaces,
                **options,
            )
        except OverflowError:  # whole numbers beyond any float; parsed as text, they are reported with their line
            return self._parse(positions, dtype=str)
        except pd.errors.ParserError as error:
            reason = " ".join(str(error).split())
            complain(self._path, f"cannot be split into columns ({reason}); check quotes and separator")

    def ids(self, position: int) -> pd.Series:
        """Return a column of ids: integers if all of them are, else the strings in the file."""
        column = self._frame[position]
        is_integer = column.dtype.kind in "iu"
        if is_integer and self._odd_starts is not None and not self._odd_starts[position]:
            return column
        if is_integer or not isinstance(column.iloc[0], str):
            text = self._parse([position], dtype=str)[position]
            if is_integer and text.str.fullmatch(SHORTEST_INTEGER).all():
                return column
            column = text
        if (column == "").any():
            line, _ = self._first_fault(position, lambda text: not text)
            what = f"column {shown(self._names[position])} is empty"
            complain(self._path, f"{what}; fill in the id or delete the line", line)
        return column

    def timestamps(self, position: int, unit: str) -> pd.Series:
        """Return the column of times as float64 seconds, (events,)."""
        column = self._frame[position]
        if unit == ISO:
            return self._iso_timestamps(position)
        if column.dtype.kind not in "iuf":
            self._complain_about_time(position)
            column = column.astype(np.float64)  # integers beyond 64 bits
        if not np.isfinite(column).all():
            self._complain_about_time(position)
        raw = column.to_numpy()
        seconds = raw / UNITS_PER_SECOND[unit]
        if (np.abs(seconds) > LARGEST_SECONDS).any():
            self._complain_about_size(position, typical_size(raw), unit)
        return pd.Series(seconds, dtype=np.float64)

    def _iso_timestamps(self, position: int) -> pd.Series:
        dates = dates_of(self._frame[position])
        if dates.isna().any():
            line, text = self._first_fault(position, _is_not_a_date)
            what = f"column {shown(self._names[position])} has {shown(text)}"
            complain(self._path, f"{what} where a time such as 2014-04-07T10:51:09.277Z is expected; correct it", line)
        return pd.Series(timestamps_in_seconds(dates))

    def _first_fault(self, position: int, is_fault: Callable[[str], bool]) -> tuple[int, str] | None:
        """Return the line and the text of a column's first faulty value."""
        rows = rows_with_lines(self._path, self._body, self._separator, self._first_line)
        return next(((line, row[position]) for line, row in rows if is_fault(row[position])), None)

    def _complain_about_time(self, position: int) -> None:
        """Raise an InputError at the first time that is not a finite number; return if there is none."""
        fault = self._first_fault(position, lambda text: not _is_finite_number(text))
        if fault is None:
            return
        line, text = fault
        column = f"column {shown(self._names[position])}"
        if not text.strip():
            complain(self._path, f"{column} has no time; fill it in or delete the line", line)
        if NOT_FINITE.fullmatch(text.strip()) or NUMBER.fullmatch(text.strip()):
            complain(self._path, f"{column} has the time {shown(text)}; every time must be finite", line)
        fix = "convert dates to seconds since 1970-01-01"
        if self._has_options and not _is_not_a_date(text):
            fix = f"give --timestamp-unit {ISO} (timestamp_unit={ISO!r}), or {fix}"
        complain(self._path, f"{column} has {shown(text)}, which is text, where a time is expected; {fix}", line)

    def _complain_about_size(self, position: int, typical: float, unit: str) -> NoReturn:
        """Raise an InputError that suggests the unit, or names the first line whose time is too large."""
        column, finer = f"column {shown(self._names[position])}", likely_unit(typical)
        what = f"{column} has times about {typical:.3g}, too large for {unit!r}"
        if finer is None:
            complain(self._path, f"{what} and for any unit; give seconds since 1970-01-01")
        if typical / UNITS_PER_SECOND[unit] > LARGEST_SECONDS:
            fix = f"they look like {finer!r}: give --timestamp-unit {finer} (timestamp_unit='{finer}')"
            complain(self._path, f"{what}; {fix}")
        largest = LARGEST_SECONDS * UNITS_PER_SECOND[unit]
        line, text = self._first_fault(position, lambda text: abs(float(text)) > largest)
        complain(self._path, f"{column} has the time {shown(text)}, too large for {unit!r}; correct it", line)


def _is_finite_number(text: str) -> bool:
    text = text.strip()
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def dates_of(texts: pd.Series) -> pd.Series:
    """Return times written as in ISO 8601, or followed by UTC or GMT, as datetimes in UTC; NaT for any other text."""
    plain = texts.astype(str).str.replace(UTC_ENDING, "", regex=True)
    return pd.to_datetime(plain, format="ISO8601", utc=True, errors="coerce")


def _is_not_a_date(text: str) -> bool:
    return bool(dates_of(pd.Series([text])).isna().iloc[0])
