"""Starts a program that maps work, and watches what becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
WORKS = "tests.execution.executor_works"


def start_program(
    folder: Path, work: str, count: int, marker: str, backend: str = "local", **variables: str
) -> subprocess.Popen[str]:
    """Map a function of `executor_works` over `count` items; the journal is in the folder."""
    arguments = [str(folder), f"{WORKS}:{work}", str(count), marker, backend]
    return subprocess.Popen(
        [sys.executable, "-m", WORKS, *arguments], cwd=REPOSITORY, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **variables},
    )  # fmt: skip


def processes(marker: str) -> list[str]:
    """The command lines of all processes that name the marker, the reaper's among them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
