"""The command line: ``python -m spotlight_asars``, or ``spotlight-asars`` once installed."""

from spotlight_asars.cli.main import main

__all__ = ["main"]
