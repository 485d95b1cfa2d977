"""
torch's threads in a forked process.

OpenMP's threads do not survive a fork: a child that asks torch for more than one of them, as its parent did, waits for
ever. So torch gets one thread in a forked child, as torch's own data loader does it. Importing the package is enough.
"""

import os

import torch


def use_one_thread() -> None:
    """Let torch compute on the calling thread alone."""
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=use_one_thread)
