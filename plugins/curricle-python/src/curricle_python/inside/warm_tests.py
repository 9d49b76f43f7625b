"""The warm server of `run_tests.py`: what that loads for each run is loaded here once."""

from __future__ import annotations

import json
import sys

import run_tests

LOADED = run_tests.load()


def main(_argv: list[str]) -> int:
    """Serve one request in a fork of this process."""
    serve(None)
    return 1  # never reached


def serve(session) -> None:
    """Run one request, in a session that was started or in a new one, and end."""
    # The project may have modules of the same names.
    for module in ("run_tests", "sessions", "warm_tests", "warm_session"):
        sys.modules.pop(module, None)
    run_tests.end(run_tests.run(json.loads(sys.stdin.read()), LOADED, session))
