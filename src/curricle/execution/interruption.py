"""Holds a signal back while something must not be torn in two, then delivers it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_signals() -> Iterator[None]:
    """Within the block SIGINT, SIGTERM and SIGHUP wait; afterwards they do what they would have.

    Whoever handles them outside (Kedro's run, a trainer that saves first) does so as ever. Outside
    the main thread, where Python delivers no signals, nothing has to be held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    previous = {number: signal.signal(number, hold) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for arrival in dict.fromkeys(arrived):
            signal.raise_signal(arrival)
