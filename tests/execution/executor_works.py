"""Work functions and a program that maps them, for tests that kill the program."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from curricle.config.execution import ExecutorParameters
from curricle.execution.executor import Item, create_executor
from curricle.execution.journal import Journal
from curricle.execution.wall import bwrap_path

_ISOLATED = (
    "--ro-bind", "/", "/", "--proc", "/proc", "--tmpfs", "/mnt", "--unshare-user", "--unshare-pid",
    "--die-with-parent", "--new-session", "--", "/bin/sh", "-c",
)  # fmt: skip


def run_for_long(item: Item, state: Any) -> Item:
    """A quick item, or one with a plain grandchild and a sandbox that daemonises below it."""
    if item["number"] < item["quick"]:
        return {"number": item["number"]}
    marker = item["marker"]
    plain = subprocess.Popen(["sleep", f"600.{marker}"], start_new_session=True)
    sandbox = [str(bwrap_path()), *_ISOLATED, f"setsid sleep 601.{marker} & sleep 602.{marker}"]
    isolated = subprocess.Popen(sandbox, start_new_session=True)
    plain.wait()
    isolated.wait()
    return {}


def quick(item: Item, state: Any) -> Item:
    time.sleep(0.02)
    return {"number": item["number"]}


def released(item: Item, state: Any) -> Item:
    """Waits for a file, and writes down who does."""
    with Path(item["started"]).open("a") as stream:
        stream.write(f"{os.getpid()} ")
    while not Path(item["release"]).exists():
        time.sleep(0.02)
    return {"number": item["number"]}


def last_words(item: Item, state: Any) -> Item:
    os.write(2, item["said"].encode())
    os._exit(3)


def main(folder: Path, work: str, count: int, marker: str, backend: str) -> None:
    items = ({"number": n, "quick": count - 2, "marker": marker} for n in range(count))
    parameters = ExecutorParameters.model_validate({"workers": 2, "backend": backend})
    with create_executor(parameters) as executor, Journal(folder / "journal") as journal:
        for key, _ in executor.map(work, items, journal, key=lambda item: str(item["number"])):
            print(key, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
