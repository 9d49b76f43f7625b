"""A counter as an environment, for tests of the processes that environments live in."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curricle.agents.hosting import Opener, Score

FUNCTION = "tests.agents.hosted:counters"


class Counter:
    """Adds up; told to `hang` or to `die`, it does. A sum below nothing is worth nothing known."""

    tools: tuple[dict[str, Any], ...] = ()

    def __init__(self) -> None:
        self._sum = 0

    def start(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": "count"}]

    def step(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        if message["content"] == "hang":
            time.sleep(1000)
        if message["content"] == "die":
            os._exit(7)
        self._sum += int(message["content"])
        return {"role": "user", "content": f"{self._sum} in {os.getpid()}"}, False

    def score(self) -> Score:
        return Score(float(self._sum)) if self._sum >= 0 else Score(None, note="below nothing")


@contextlib.contextmanager
def counters(settings: Mapping[str, Any], inputs: Mapping[str, Path]) -> Iterator[Opener]:
    if settings.get("broken"):
        raise OSError("nowhere to count")
    yield lambda task: Counter()
