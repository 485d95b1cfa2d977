"""
The embedded host: an independent implementation of the part of Spotlight's interface that this package uses.

Module names, signatures and the private names that subclasses rely on are those of Spotlight 0.1.6. Signatures have no
type hints because Spotlight's have none; docstrings name the types. Given the same random state, losses, weights and
scores on a CPU are bit-identical to Spotlight's. Its crashes and silent broadcasting errors are fixed. The contract is
tested in ``tests/host``.
"""
