"""
The embedded host: the part of Spotlight's interface that this package uses, written independently.

Module names, signatures (to the letter, so without type hints; the docstrings name the types) and the private names
that subclasses rely on are Spotlight 0.1.6's, and so are its numbers: with the same random state, losses, weights and
scores on the CPU are equal to the bit. Its crashes and silent mis-broadcasts are mended; ``tests/host`` holds the
contract.
"""
