"""Helpers of the benchmarks: peak memory of this process, machine and versions, growth exponents."""

import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np


def take_back_peak() -> float:
    """Reset the peak of this process's memory, and return the MiB it uses now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mib()


def peak_mib() -> float:
    """Return this process's peak memory in MiB since :func:`take_back_peak`, or since its start."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def about_this_run() -> dict:
    """Describe machine, threads, load and versions for a benchmark's JSON; call it before measuring."""
    names = ("numpy", "pandas", "torch", "spotlight-asars")
    return {
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""),
            "load_before": os.getloadavg()[0],
        },
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in names}},
    }


def version_of(name: str) -> str | None:
    """Return the version of an installed package, else None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def growth(sizes: list[float], values: list[float]) -> float:
    """Return the exponent a of ``size ** a`` that fits the values best, on logarithmic scales."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
