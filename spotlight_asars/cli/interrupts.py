"""Delay Ctrl-C and the signals that end a process until the work in progress is complete."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C, and what a service manager sends first
# Those, and a terminal that is closed or asks for the end; Windows lacks the latter two.
ALL_INTERRUPTS = (*INTERRUPTS, *(getattr(signal, name) for name in ("SIGHUP", "SIGQUIT") if hasattr(signal, name)))


class HeldInterrupt:
    """
    Context manager that holds back interrupting signals until its block ends.

    The end of the block then raises KeyboardInterrupt. A second signal raises it at once. Only the main thread receives
    signals, so nothing is held in other threads. A signal that the process ignores, as under nohup, stays ignored.

    Parameters
    ----------
    signals : sequence of signals, optional

    Attributes
    ----------
    asked : bool
        Whether a signal has come.
    is_patient : bool
        Whether even a second signal waits; False at first.
    """

    def __init__(self, signals: Sequence[signal.Signals] = INTERRUPTS) -> None:
        self.asked = self.is_patient = False
        self._signals = signals
        self._before: dict[int, object] = {}

    def __enter__(self) -> "HeldInterrupt":
        self._before = _handle(self._signals, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self.is_patient:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt


@contextmanager
def interrupted_by(signals: Sequence[signal.Signals]) -> Iterator[None]:
    """Make signals raise KeyboardInterrupt, as Ctrl-C does, inside the block."""
    before = _handle(signals, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(signals: Sequence[signal.Signals], handler: object) -> dict[int, object]:
    """Set the handler of signals that are not ignored, and return those before; none outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    heard = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}
