"""
The text of a delimited file: opening it, checking its shape, and finding the line of a fault.

The quick checks work on the bytes of the whole file; lines are counted one by one only once a fault is known
to be there, or where quotes or blank lines make the bytes alone ambiguous.
"""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import NoReturn

import numpy as np

from spotlight_asars.errors import InputError

NEWLINE = ord("\n")
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
    return {",": "commas", "\t": "tabs", ";": "semicolons", " ": "spaces"}.get(separator, repr(separator))


def read_bytes(path: str | os.PathLike) -> bytes:
    """
    The content of a utf-8 file, unpacked if its name ends in .gz, with every line end as one newline.

    Raises
    ------
    InputError
        If the file is missing, a folder, not readable, empty, damaged or not utf-8 text.
    """
    opener = gzip.open if file_name(path).lower().endswith(".gz") else open
    try:
        with opener(path, "rb") as stream:
            content = stream.read()
    except FileNotFoundError:
        complain(path, "there is no such file; check the path")
    except IsADirectoryError:
        complain(path, "this is a folder; give the path of one file")
    except PermissionError:
        complain(path, "no permission to read this file; change its permissions or give another file")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        complain(path, f"not a whole gzip file ({error}); fetch it again, or drop .gz from a plain file's name")
    except OSError as error:
        complain(path, f"cannot be read ({error.strerror or error}); check the path and the disk")
    except ValueError as error:  # a zero byte in the name
        complain(path, f"cannot be the name of a file ({error}); check the path")
    return _as_text_bytes(path, content)


def _as_text_bytes(path: str | os.PathLike, content: bytes) -> bytes:
    content = content.removeprefix(BYTE_ORDER_MARK)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content or content.isspace():
        complain(path, "the file is empty; a log needs at least one event")
    if content.startswith(b"\x1f\x8b"):
        complain(path, "this is a gzip file; let its name end in .gz")
    if not content.isascii():
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            complain(path, "the text is not utf-8; save the file with the encoding utf-8", line)
    position = content.find(b"\0")
    if position >= 0:
        line = content.count(b"\n", 0, position) + 1
        complain(path, "there is a zero byte here, so this is no text; save the file as utf-8 text", line)
    position = content.find(BYTE_ORDER_MARK)
    if position >= 0:
        line = content.count(b"\n", 0, position) + 1
        complain(path, "an invisible byte order mark stands here, as where files are joined; delete it", line)
    return content if content.endswith(b"\n") else content + b"\n"


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
    path: str | os.PathLike, body: bytes, separator: str, columns: int, first_line: int
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
            if first_line < line == last_line and len(row) < columns:
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
