"""The warm server of `compare.py`, in which there is no pytest to be seen."""

from __future__ import annotations

import sys

import compare


def main(_argv: list[str]) -> int:
    """Serve one request in a fork of this process."""
    # The project may have modules of the same names.
    for module in ("compare", "warm_compare"):
        sys.modules.pop(module, None)
    compare.main()
    return 1  # never reached
