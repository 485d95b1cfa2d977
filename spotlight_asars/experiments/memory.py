"""The most memory a piece of work takes."""

import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """
    Measure the peak memory of a block of code, in MiB.

    On a GPU it is what torch allocated there. On Linux it is the process's peak resident memory within the block;
    elsewhere the peak since the process began, the only one the system tells.

    Attributes
    ----------
    mib : float
        Known after the block.
    """

    def __init__(self, use_cuda: bool = False) -> None:
        self._use_cuda = use_cuda
        self.mib = 0.0

    def __enter__(self) -> "PeakMemory":
        if self._use_cuda:
            torch.cuda.reset_peak_memory_stats()
        elif _RESET.exists():
            with suppress(OSError):  # a locked-down system keeps the peak since the process began
                _RESET.write_text("5")  # sets the peak back to the present size
        return self

    def __exit__(self, *error: object) -> None:
        if self._use_cuda:
            self.mib = torch.cuda.max_memory_allocated() / 2**20
        elif _STATUS.exists():
            peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            self.mib = int(peak.split()[1]) / 2**10
        else:
            import resource  # not on every system

            unit = 1 if sys.platform == "darwin" else 2**10
            self.mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
