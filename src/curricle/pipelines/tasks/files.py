"""The files in which the steps of the task pipelines leave their results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curricle.checkpoints.store import Stored
from curricle.errors import DataError
from curricle.execution.projects import ListedProject, listed_project
from curricle.languages.tasks import BugTask

PROJECTS = "projects.json"
SPLITS = ("train", "tui", "heldout")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSONL, one row at a time."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def read_projects(stored: Stored) -> dict[str, ListedProject]:
    """The projects of a stored list, by name."""
    rows = json.loads((stored.path / PROJECTS).read_text())
    return {row["name"]: listed_project(row, stored.path) for row in rows}


def read_tasks(stored: Stored, split: str) -> tuple[BugTask, ...]:
    """The bug tasks of a split, of `train`, `tui` or `heldout`.

    Raises:
        DataError: There is no such split.
    """
    if split not in SPLITS:
        raise DataError(f"no split {split!r}: one of {', '.join(SPLITS)}.")
    return tuple(BugTask.from_json(row) for row in read_rows(stored.path / f"{split}.jsonl"))
