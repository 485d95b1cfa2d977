"""
The text of a delimited file: checking its shape, and finding the line of a fault.

The quick checks work on the bytes of a whole block; lines are counted one by one only once a fault is known
to be there, or where quotes or blank lines make the bytes alone ambiguous.
"""

import csv
import io
import os
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from spotlight_asars.errors import InputError

NEWLINE = ord("\n")
DOUBLE_COLON_SIGN = "\x1f"  # the one byte that stands for MovieLens' '::' once a block is read
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CHUNK_BYTES = 1 << 22  # small enough to stay in the cache, large enough to keep numpy's own cost small


def file_name(path: str | os.PathLike) -> str:
    """The path as it stands in messages: always on one line."""
    return " ".join(os.fsdecode(path).splitlines())


def complain(path: str | os.PathLike, message: str, line: int | None = None) -> NoReturn:
    """
    Stop with one line that names the file and, where it is known, the line.

    Raises
    ------
    InputError
        Always.
    """
    place = "" if line is None else f", line {line}"
    raise InputError(f"{file_name(path)}{place}: {message}")


def shown(value: str) -> str:
    """A value of the file in quotes, cut where it is long."""
    return repr(value if len(value) <= 40 else value[:37] + "...")


def separator_name(separator: str) -> str:
    """The separator in words."""
    names = {",": "commas", "\t": "tabs", ";": "semicolons", " ": "spaces", DOUBLE_COLON_SIGN: "'::'"}
    return names.get(separator, repr(separator))


def rows_with_lines(
    path: str | os.PathLike, body: bytes, separator: str, first_line: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """
    Every row that is not blank, with the number of the line it starts on.

    Parameters
    ----------
    path: str or PathLike
        Named in messages.
    body: bytes
        Text with plain newlines.
    separator: str
        One character.
    first_line: int
        The number of the body's first line in the file.

    Raises
    ------
    InputError
        If a quote is not closed or a field is absurdly long.
    """
    stream = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8", newline="\n")
    reader = csv.reader(stream, delimiter=separator, skipinitialspace=separator != " ", strict=True)
    line = first_line
    try:
        for row in reader:
            if row:
                yield line, row
            line = first_line + reader.line_num
    except csv.Error as error:
        if "field larger" in str(error):
            limit = f"a field of more than {csv.field_size_limit():,} characters begins here"
            complain(path, f'{limit}; shorten it, or close or double the " before it', line)
        complain(path, f'the quotes are wrong from here on ({error}); close or double every "', line)


def check_shape(
    path: str | os.PathLike, body: bytes, separator: str, columns: int, first_line: int, ends_file: bool = True
) -> np.ndarray | None:
    """
    Stop at the first row that has not as many fields as there are columns.

    Parameters
    ----------
    path: str or PathLike
        Named in messages.
    body: bytes
        Text with plain newlines, ended by one.
    separator: str
        One character.
    columns: int
        The number of fields that every row must have.
    first_line: int
        The number of the body's first line in the file.
    ends_file: bool
        Whether the body's last line is the file's.

    Returns
    -------
    array of bool, (columns,), or None
        Where a column has a field that starts like an integer not in its shortest form (007, +7, -7, or white
        space); None where quotes or blank lines leave that unknown.

    Raises
    ------
    InputError
        If a row has more or fewer fields.
    """
    odd_starts = _scan(body, separator, columns)
    if odd_starts is not None:
        return odd_starts
    last_line = first_line + body.count(b"\n") - 1
    for line, row in rows_with_lines(path, body, separator, first_line):
        if len(row) != columns:
            has = f"{len(row)} field" + ("s" if len(row) > 1 else "")
            mend = "check the separator and this line"
            if ends_file and first_line < line == last_line and len(row) < columns:
                mend = "the file seems cut short: fetch it again or delete this last line"
            complain(
                path,
                f"{has} where {columns} are expected, split by {separator_name(separator)}; {mend}",
                line,
            )
    return None


def _scan(body: bytes, separator: str, columns: int) -> np.ndarray | None:
    """The quick look at the bytes; None where it cannot vouch for the shape."""
    if b'"' in body:
        return None
    odd_starts = np.zeros(columns, dtype=bool)
    start = 0
    while start < len(body):
        stop = body.find(b"\n", min(start + CHUNK_BYTES, len(body) - 1)) + 1
        chunk = np.frombuffer(body, dtype=np.uint8, count=stop - start, offset=start)
        ends = np.flatnonzero((chunk == ord(separator)) | (chunk == NEWLINE))
        if ends.size % columns:
            return None
        is_line_end = (chunk[ends] == NEWLINE).reshape(-1, columns)  # (rows, columns)
        if is_line_end[:, :-1].any() or not is_line_end[:, -1].all():
            return None
        odd_starts |= _odd_starts(chunk, ends).reshape(-1, columns).any(axis=0)
        start = stop
    return odd_starts


def _odd_starts(chunk: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether each field, given by its end, starts like 007, +7, -7 or with white space."""
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    first = chunk[starts]
    odd = (first == ord("+")) | (first == ord("-")) | (first <= ord(" "))
    zero = np.flatnonzero(first == ord("0"))
    odd[zero] = ends[zero] - starts[zero] > 1
    return odd  # (rows * columns,)
