"""Standard streams: closed ones at the start, ones that break later, and lines of bounded length."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

_CHUNK = 2**16


def open_closed_streams() -> None:
    """
    Open the standard streams that the caller has closed, or files opened later would take their places and output.

    Standard input is then empty, standard error leads nowhere, and standard output becomes a pipe that nobody reads, so
    that writing to it fails as if its reader had gone.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(_moved(os.open(os.devnull, os.O_RDONLY), 0))
    if sys.stdout is None:
        reading, writing = os.pipe()
        sys.stdout = os.fdopen(_moved(writing, 1), "w")
        os.close(reading)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_moved(os.open(os.devnull, os.O_WRONLY), 2), "w")


def _moved(descriptor: int, wanted: int) -> int:
    """Move an open file to a descriptor, unless another file has that; return where it is."""
    try:
        os.fstat(wanted)
        return descriptor
    except OSError:
        os.dup2(descriptor, wanted)
        os.close(descriptor)
        return wanted


def discard_standard_output() -> None:
    """Let standard output lead nowhere, so that what it could not take is not written again as the process ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def bounded_lines(stream: BinaryIO, longest: int) -> Iterator[bytes | None]:
    """
    Yield the lines of a stream, and None for one that is longer than so many bytes.

    No more than that of a line is ever held in memory.
    """
    while line := stream.readline(longest + 1):
        if len(line) <= longest or line.endswith(b"\n"):
            yield line
            continue
        while (rest := stream.readline(_CHUNK)) and not rest.endswith(b"\n"):
            pass
        yield None
