"""The warm server for projects without `conftest.py`: a session is started as well."""

from __future__ import annotations

import run_tests
import sessions
import warm_tests

_SESSION = sessions.Session(run_tests.ARGUMENTS, run_tests.INSIDE)


def main(_argv: list[str]) -> int:
    """Serve one request in a fork of this process."""
    warm_tests.serve(_SESSION)
    return 1  # never reached
