"""
Delimited text files: reading them in blocks of whole rows, checking their shape, and locating faults by line.

A block ends at a newline outside quotes, so a row is never split. Shape checks run on the bytes of a whole block; rows
are parsed one by one only to locate a fault, or if quotes or blank lines make the bytes ambiguous.
"""

import csv
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np

from spotlight_asars.errors import InputError

NEWLINE, QUOTE = ord("\n"), ord('"')
DOUBLE_COLON_SIGN = "\x1f"  # the byte that replaces MovieLens' '::' within a block
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
CHUNK_BYTES = 1 << 22  # fits the cache, yet large enough to amortize numpy's overhead
BLOCK_BYTES = 1 << 25  # several 100,000 events, which take a few hundred megabytes to parse


def file_name(path: str | os.PathLike) -> str:
    """Return the path for messages, always on one line."""
    return " ".join(os.fsdecode(path).splitlines())


def complain(path: str | os.PathLike, message: str, line: int | None = None) -> NoReturn:
    """
    Raise an InputError of one line that names the file and, if it is known, the line.

    Raises
    ------
    InputError
        Always.
    """
    place = "" if line is None else f", line {line}"
    raise InputError(f"{file_name(path)}{place}: {message}")


def shown(value: str) -> str:
    """Return a value of the file in quotes, shortened if it is long."""
    return repr(value if len(value) <= 40 else value[:37] + "...")


def separator_name(separator: str) -> str:
    """Return the separator in words."""
    names = {",": "commas", "\t": "tabs", ";": "semicolons", " ": "spaces", DOUBLE_COLON_SIGN: "'::'"}
    return names.get(separator, repr(separator))


class Block(NamedTuple):
    """
    A run of whole rows.

    Attributes
    ----------
    body: bytes
        UTF-8 text with plain newlines, ending with one.
    first_line: int
        The number of its first line in the file.
    ends_file: bool
        Whether it is the last block.
    """

    body: bytes
    first_line: int
    ends_file: bool


def text_blocks(path: str | os.PathLike, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """
    Yield the content of a UTF-8 file in blocks, decompressed if its name ends in .gz, with plain newlines.

    Parameters
    ----------
    path: str or PathLike
        The file.
    block_bytes: int
        Approximate size of a block.

    Yields
    ------
    Block
        At least one, in the order of the file.

    Raises
    ------
    InputError
        If the file is missing, a folder, unreadable, empty, damaged or not UTF-8 text.
    """
    line, body = 1, None  # the pending block, until it is known whether another follows
    with _errors_on_one_line(path), _opened(path) as stream:
        for rows in _whole_rows(stream, block_bytes):
            if body is not None:
                yield Block(body, line, False)
                line += body.count(b"\n")
            elif rows.startswith(b"\x1f\x8b"):
                complain(path, "this is a gzip file; rename it to end in .gz")
            body = rows
            _check_text(path, body, line)
    if body is None or (line == 1 and body.isspace()):
        complain(path, "the file is empty; a log needs at least one event")
    yield Block(body if body.endswith(b"\n") else body + b"\n", line, True)


def first_bytes(path: str | os.PathLike, number: int = 512) -> bytes:
    """
    Return the first bytes of a file, decompressed if its name ends in .gz; fewer if the file is shorter.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with _errors_on_one_line(path), _opened(path) as stream:
        return stream.read(number)


def _opened(path: str | os.PathLike) -> BinaryIO:
    opener = gzip.open if file_name(path).lower().endswith(".gz") else open
    try:
        return opener(path, "rb")
    except ValueError as error:  # the name has a zero byte
        complain(path, f"not a valid file name ({error}); check the path")


@contextmanager
def _errors_on_one_line(path: str | os.PathLike) -> Iterator[None]:
    """Turn errors of reading a file into InputErrors."""
    try:
        yield
    except FileNotFoundError:
        complain(path, "there is no such file; check the path")
    except IsADirectoryError:
        complain(path, "this is a folder; give the path of one file")
    except PermissionError:
        complain(path, "no permission to read this file; change its permissions or give another file")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        complain(path, f"not a whole gzip file ({error}); fetch it again, or remove .gz from the name of a plain file")
    except OSError as error:
        complain(path, f"cannot be read ({error.strerror or error}); check the path and the disk")


def _whole_rows(stream: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """Yield the text in pieces that end with a row."""
    ready = begun = b""
    for content in _plain_newlines(stream, block_bytes):
        content = begun + content
        end = _end_of_rows(content)
        begun = content[end:]
        if end:
            if ready:
                yield ready
            ready = content[:end]
    if ready or begun:
        yield ready + begun  # joined, so that a truncated last line can be compared with the lines before it


def _plain_newlines(stream: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    at_begin, held = True, b""
    while content := stream.read(block_bytes):
        content = held + (content.removeprefix(BYTE_ORDER_MARK) if at_begin else content)
        at_begin = False
        held = b"\r" if content.endswith(b"\r") else b""  # its \n may come next
        content = content[: len(content) - len(held)]
        if b"\r" in content:
            content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield content
    if held:
        yield b"\n"


def _end_of_rows(content: bytes) -> int:
    """Return the number of bytes of the whole rows at the beginning."""
    end = content.rfind(b"\n") + 1
    if content.count(b'"', 0, end) % 2 == 0:
        return end
    letters = np.frombuffer(content, dtype=np.uint8, count=end)
    quoted = np.logical_xor.accumulate(letters == QUOTE)
    ends = np.flatnonzero((letters == NEWLINE) & ~quoted)
    return int(ends[-1]) + 1 if ends.size else 0


def _check_text(path: str | os.PathLike, body: bytes, first_line: int) -> None:
    if not body.isascii():
        try:
            body.decode("utf-8")
        except UnicodeDecodeError as error:
            line = first_line + body.count(b"\n", 0, error.start)
            complain(path, "the text is not utf-8; save the file as utf-8", line)
    position = body.find(b"\0")
    if position >= 0:
        line = first_line + body.count(b"\n", 0, position)
        complain(path, "a zero byte is here, so this is not text; save the file as utf-8 text", line)
    position = body.find(BYTE_ORDER_MARK)
    if position >= 0:
        line = first_line + body.count(b"\n", 0, position)
        complain(path, "an invisible byte order mark is here, probably from joining files; delete it", line)


def rows_with_lines(
    path: str | os.PathLike, body: bytes, separator: str, first_line: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """
    Yield every row that is not blank, with the number of the line it starts on.

    Parameters
    ----------
    path: str or PathLike
        The file, for messages.
    body: bytes
        Text with plain newlines.
    separator: str
        One character.
    first_line: int
        The line number of the body's first line in the file.

    Raises
    ------
    InputError
        If a quote is not closed or a field is too long.
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
        complain(path, f'the quotes do not match from here on ({error}); close or double every "', line)


def check_shape(
    path: str | os.PathLike, body: bytes, separator: str, columns: int, first_line: int, ends_file: bool = True
) -> np.ndarray | None:
    """
    Raise an InputError at the first row whose number of fields differs from the number of columns.

    Parameters
    ----------
    path: str or PathLike
        The file, for messages.
    body: bytes
        Text with plain newlines, ending with one.
    separator: str
        One character.
    columns: int
        The number of fields that every row must have.
    first_line: int
        The line number of the body's first line in the file.
    ends_file: bool
        Whether the body's last line is the file's last line.

    Returns
    -------
    array of bool, (columns,), or None
        Whether a column has a field that starts like an integer not in its shortest form (007, +7, -7, or white
        space); None if quotes or blank lines leave that unknown.

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
            fix = "check the separator and this line"
            if ends_file and first_line < line == last_line and len(row) < columns:
                fix = "the file seems cut short: fetch it again or delete its last line"
            complain(
                path,
                f"{has} where {columns} are expected, split by {separator_name(separator)}; {fix}",
                line,
            )
    return None


def _scan(body: bytes, separator: str, columns: int) -> np.ndarray | None:
    """Check the shape on the bytes alone; return None if they cannot confirm it."""
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
    """Return whether each field, given by its end, starts like 007, +7, -7 or with white space."""
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    first = chunk[starts]
    odd = (first == ord("+")) | (first == ord("-")) | (first <= ord(" "))
    zero = np.flatnonzero(first == ord("0"))
    odd[zero] = ends[zero] - starts[zero] > 1
    return odd  # (rows * columns,)
