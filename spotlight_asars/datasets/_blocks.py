"""
A text file of any size as blocks of whole rows, opened, unpacked, and checked to be text.

A block ends where a row ends: at a newline that no open quote holds.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np

from spotlight_asars.datasets._lines import BYTE_ORDER_MARK, NEWLINE, complain, file_name

BLOCK_BYTES = 1 << 25  # some hundred thousand events, and a few hundred megabytes of work on them
QUOTE = ord('"')


class Block(NamedTuple):
    """
    A stretch of whole rows.

    Attributes
    ----------
    body: bytes
        utf-8 text with plain newlines, ended by one.
    first_line: int
        The number of its first line in the file.
    ends_file: bool
        Whether nothing follows.
    """

    body: bytes
    first_line: int
    ends_file: bool


def text_blocks(path: str | os.PathLike, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """
    The content of a utf-8 file, unpacked if its name ends in .gz, with every line end as one newline.

    Parameters
    ----------
    path: str or PathLike
        The file.
    block_bytes: int
        About how much of it a block holds.

    Yields
    ------
    Block
        At least one, in the order of the file.

    Raises
    ------
    InputError
        If the file is missing, a folder, not readable, empty, damaged or not utf-8 text.
    """
    line, body = 1, None  # the block that waits until it is known whether another one follows
    with _told_in_one_line(path), _opened(path) as stream:
        for rows in _whole_rows(stream, block_bytes):
            if body is not None:
                yield Block(body, line, False)
                line += body.count(b"\n")
            elif rows.startswith(b"\x1f\x8b"):
                complain(path, "this is a gzip file; let its name end in .gz")
            body = rows
            _check_text(path, body, line)
    if body is None or (line == 1 and body.isspace()):
        complain(path, "the file is empty; a log needs at least one event")
    yield Block(body if body.endswith(b"\n") else body + b"\n", line, True)


def first_bytes(path: str | os.PathLike, number: int = 512) -> bytes:
    """
    How a file begins, unpacked if its name ends in .gz; fewer bytes where it has no more.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    with _told_in_one_line(path), _opened(path) as stream:
        return stream.read(number)


def _opened(path: str | os.PathLike) -> BinaryIO:
    opener = gzip.open if file_name(path).lower().endswith(".gz") else open
    try:
        return opener(path, "rb")
    except ValueError as error:  # a zero byte in the name
        complain(path, f"cannot be the name of a file ({error}); check the path")


@contextmanager
def _told_in_one_line(path: str | os.PathLike) -> Iterator[None]:
    """What goes wrong while a file is read, as an InputError."""
    try:
        yield
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


def _whole_rows(stream: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """The text in pieces that end with a row."""
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
        yield ready + begun  # a last line that is cut short is told apart by the lines before it


def _plain_newlines(stream: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    at_begin, held = True, b""
    while content := stream.read(block_bytes):
        content = held + (content.removeprefix(BYTE_ORDER_MARK) if at_begin else content)
        at_begin = False
        held = b"\r" if content.endswith(b"\r") else b""  # its newline may come next
        content = content[: len(content) - len(held)]
        if b"\r" in content:
            content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield content
    if held:
        yield b"\n"


def _end_of_rows(content: bytes) -> int:
    """How many bytes the whole rows at the beginning have."""
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
            complain(path, "the text is not utf-8; save the file with the encoding utf-8", line)
    position = body.find(b"\0")
    if position >= 0:
        line = first_line + body.count(b"\n", 0, position)
        complain(path, "there is a zero byte here, so this is no text; save the file as utf-8 text", line)
    position = body.find(BYTE_ORDER_MARK)
    if position >= 0:
        line = first_line + body.count(b"\n", 0, position)
        complain(path, "an invisible byte order mark stands here, as where files are joined; delete it", line)
