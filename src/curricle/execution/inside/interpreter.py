"""The smallest warm server: Python itself. Runs a program that is given with `-c`."""

from __future__ import annotations

import sys
import types


def main(argv: list[str]) -> int:
    """What `python -c PROGRAM ARGUMENTS` does, in this process."""
    at = argv.index("-c") + 1
    sys.argv = ["-c", *argv[at + 1 :]]
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(argv[at], "<string>", "exec"), module.__dict__)
    return 0
