"""The first signal asks; the second one acts; afterwards everything is as it was."""

from __future__ import annotations

import signal
import threading

import pytest

from curricle.launch.signals import stop_on_signal

STOPPING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_sets_the_request_and_ends_nothing(number: signal.Signals) -> None:
    with stop_on_signal() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop and stop.signal_name == number.name


def test_a_second_signal_acts_as_usual() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.signal_name == "SIGINT"
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", STOPPING)
def test_the_handlers_that_were_there_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signal():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


def test_they_come_back_after_an_error_too() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="inside"), stop_on_signal():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_the_request_is_never_set() -> None:
    seen = []

    def work() -> None:
        with stop_on_signal() as stop:
            seen.append((bool(stop), signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
