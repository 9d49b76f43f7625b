"""The warm server of `run_tests.py`: what that loads for each run is loaded here once."""

from __future__ import annotations

import json
import sys

import run_tests

_LOADED = run_tests.load()


def main(_argv: list[str]) -> int:
    """Serve one request in a fork of this process."""
    # The project may have modules of the same names.
    for module in ("run_tests", "warm_tests"):
        sys.modules.pop(module, None)
    run_tests.end(run_tests.run(json.loads(sys.stdin.read()), _LOADED))
    return 1  # never reached
