"""Standard streams: closed ones at the start, ones that break later, and lines of bounded length."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

_CHUNK = 2**16


def open_closed_streams() -> None:
    """
    Let closed standard streams behave as the null device.

    Otherwise the next file to be opened would take the place of standard output, and be written over by the answers.
    """
    missing = [number for number in range(3) if not _is_open(number)]
    for _ in missing:
        os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - stays open, as the streams below
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


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
