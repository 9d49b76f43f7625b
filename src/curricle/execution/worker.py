"""The worker process: sets up once, then answers one item after the other.

Started as `python -m curricle.execution.worker DESCRIPTOR`, with a socket to its parent at that
descriptor. It never imports the parent's main module, so it works below notebooks, Kedro and tests
alike; it does take over the parent's import path. Messages are JSON: what an item gives goes into a
journal, so it has to be JSON anyway.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from curricle.errors import CurricleError, InfrastructureFault

_SENDING = threading.Lock()


def resolve(name: str) -> Callable[..., Any]:
    """The function that `"module:function"` names.

    Raises:
        ValueError: The name has another form, or the module has no such function.
    """
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(module), function, None) if function else None
    if not callable(found):
        raise ValueError(f"{name!r} names no function; write 'package.module:function'.")
    return found  # type: ignore[no-any-return]


class _ForwardLogs(logging.Handler):
    """Sends warnings to the parent, whose logging the user has configured."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        _send(self._connection, "log", record.name, record.levelno, record.getMessage())


def main(descriptor: int) -> None:
    """Serve until the parent says so or is gone."""
    os.set_inheritable(descriptor, False)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone: nobody is left to answer
        logging.getLogger().addHandler(_ForwardLogs(connection))
        setup, settings, path = json.loads(connection.recv_bytes())
        sys.path[:] = path
        with contextlib.ExitStack() as stack:
            state: Any = None
            try:
                if setup is not None:
                    state = stack.enter_context(resolve(setup)(settings))
            except Exception as error:
                _send(connection, *_failure(error))
                return
            _send(connection, "ready")
            while (message := json.loads(connection.recv_bytes())) is not None:
                work, item = message
                _send(connection, *_answer(work, item, state))


def _answer(work: str, item: dict[str, Any], state: Any) -> tuple[Any, ...]:
    try:
        function = resolve(work)
        started = time.perf_counter()
        value = function(item, state)
        seconds = round(time.perf_counter() - started, 6)
        # Here, where the culprit can still be named.
        return "done", json.loads(json.dumps(value, allow_nan=False)), seconds
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> tuple[Any, ...]:
    if isinstance(error, InfrastructureFault):
        return "fault", str(error)
    trace = "" if isinstance(error, CurricleError) else traceback.format_exc()
    return "error", type(error).__name__, str(error), trace


def _send(connection: Connection, *message: Any) -> None:
    with _SENDING:  # threads of a work function may log while it answers
        connection.send_bytes(json.dumps(message).encode("ascii"))


if __name__ == "__main__":
    main(int(sys.argv[1]))
