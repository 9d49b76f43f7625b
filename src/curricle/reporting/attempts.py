"""Finds the stored attempts of a model at bug tasks, by what they were made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from curricle.agents.scoring import Attempt
from curricle.checkpoints.store import Store

ATTEMPTS = "attempts.jsonl"


def stored_attempts(store: Store, step: str, role: str, digest: str) -> Path | None:
    """The file of the newest attempts of a model; `None` when there are none.

    Args:
        store: Where to look.
        step: The store step that makes attempts.
        role: The name under which that step takes the model.
        digest: The model's.
    """
    for stored in reversed(store.results(step)):
        path = stored.path / ATTEMPTS
        if stored.manifest().identity["inputs"].get(role) == digest and path.is_file():
            return path
    return None


def judged_attempts(store: Store, digest: str) -> Path | None:
    """The attempts that a gate judged a model by; `None` when there are none.

    By the model and not by its stage: a stage that trains nothing passes on what another measured.
    """
    steps = (step for step in store.steps() if step.endswith(".evaluate"))
    found = (stored_attempts(store, step, "candidate", digest) for step in steps)
    return next((path for path in found if path is not None), None)


def read_attempts(path: Path) -> list[Attempt]:
    """Read attempts, a JSON row each."""
    return list(_rows(path))


def _rows(path: Path) -> Iterator[Attempt]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield Attempt.from_json(json.loads(line))
