"""Ctrl-C that waits."""

import signal
import threading

import pytest

from spotlight_asars.cli.interrupts import HeldInterrupt, interrupted_by


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_waits_until_the_end(number):
    before, done = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt), HeldInterrupt() as held:
        assert not held.asked
        signal.raise_signal(number)
        done.append(held.asked)
    assert done == [True] and signal.getsignal(number) is before


def test_a_second_one_is_raised_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt), HeldInterrupt():
        signal.raise_signal(signal.SIGINT)
        done.append(1)
        signal.raise_signal(signal.SIGINT)
        done.append(2)
    assert done == [1]


def test_an_error_is_not_hidden():
    with pytest.raises(ValueError, match="mine"), HeldInterrupt():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("mine")


def test_without_a_signal_nothing_happens():
    with HeldInterrupt() as held, interrupted_by([signal.SIGTERM]):
        pass
    assert not held.asked


def test_sigterm_as_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupted_by([signal.SIGTERM]):
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_nothing_is_held():
    found = []

    def work():
        with HeldInterrupt() as held, interrupted_by([signal.SIGTERM]):
            found.append(held.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
