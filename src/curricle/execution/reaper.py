"""Ends all that a worker started; as a program, does so for a parent that was killed.

A worker can be stuck in the middle of anything when its parent dies, so it cannot be relied on to
notice. The executor therefore starts this file as a process of its own, which waits for the
parent's end, kills what is left of its workers and removes their folder. It detaches itself at
once: whoever kills the parent's children, as Ray does, must not get it too.

Processes of a worker are known by a variable of their environment, which survives sessions, process
groups and the death of whatever started them; and by descent, for those that cleared it. This needs
`/proc`. Where there is none, a worker still ends with its parent as soon as its item is done.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

MARK = "CURRICLE_WORKER"
"""The environment variable that holds a worker's folder."""
_POLL_S = 0.5
_PASSES = 50


def kill_marked(folder: Path) -> None:
    """Kill every process whose mark is a folder or lies below it, and all that descend from one.

    Passes are repeated until none is left, because a process can fork while we look.
    """
    for _ in range(_PASSES):
        marked = list(_marked(folder))
        if not marked:
            return
        for pid in _with_descendants(marked):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _marked(folder: Path) -> Iterator[int]:
    mark = f"{MARK}={folder}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or belongs to somebody else
            variables = (entry / "environ").read_bytes().split(b"\0")  # empty for a zombie
            if any(value == mark or value.startswith(mark + b"/") for value in variables):
                yield int(entry.name)


def _with_descendants(pids: list[int]) -> list[int]:
    found = list(pids)
    for parent in found:  # grows while it is read
        for listing in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = map(int, listing.read_text().split())
                found.extend(child for child in children if child not in found)
    return found


def _watch(parent: int, folder: Path) -> None:
    """Wait until standard input closes or the parent is gone, then clear up."""
    while not select.select([0], [], [], _POLL_S)[0]:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            break  # something that the parent forked keeps the pipe open
    kill_marked(folder)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if os.fork() == 0:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _watch(int(sys.argv[1]), Path(sys.argv[2]))
