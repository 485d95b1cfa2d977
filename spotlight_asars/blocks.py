"""Long arrays in blocks that stay in a processor's cache while several steps work on them."""

from collections.abc import Iterator

BLOCK = 1 << 15


def blocks(length: int) -> Iterator[slice]:
    """Slices that cover an array of this length, in order."""
    for begin in range(0, length, BLOCK):
        yield slice(begin, min(begin + BLOCK, length))
