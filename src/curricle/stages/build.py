"""Light work, such as making data, through the same store as heavy work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curricle.checkpoints.hashing import hash_tree
from curricle.checkpoints.store import Built, Store, Stored
from curricle.config.base import RunSettings
from curricle.errors import DataError

REPORT_NAME = "report.json"

Builder = Callable[[Path], dict[str, Any]]
"""Fills a folder and returns a JSON-able report."""


def obtain_by_builder(
    run: RunSettings,
    step: str,
    builder: Builder,
    *,
    revision: int,
    parameters: BaseModel,
    inputs: dict[str, Stored] | None = None,
    outside: dict[str, Any] | None = None,
) -> Stored:
    """Return the stored result of a builder; call it when there is none.

    Args:
        run: where the store is.
        step: the store step.
        builder: fills the folder; what it returns becomes ``report.json`` there.
        revision: rises with every change of the builder's code that alters results.
        parameters: all of them decide the result.
        inputs: stored inputs, by name.
        outside: what else decides it: versions, states of files outside the store.
    """
    identity = {
        "revision": revision,
        "parameters": parameters.model_dump(mode="json"),
        "inputs": {name: stored.digest for name, stored in sorted((inputs or {}).items())},
        "outside": outside or {},
    }

    def build(result: Path, resume: Path) -> Built:
        started = time.monotonic()
        report = builder(result)
        text = json.dumps(report, indent=2, sort_keys=True) + "\n"
        (result / REPORT_NAME).write_text(text)
        return Built(measured={"seconds": round(time.monotonic() - started, 3)})

    return Store(run.store).obtain(step, identity, build)


def dataset_state(dataset: str | None) -> dict[str, str]:
    """Describe a dataset of the user's own: its content is part of what decides a result.

    Raises:
        DataError: there is no such file or folder.
    """
    if dataset is None:
        return {}
    path = Path(dataset).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such file or folder. Correct the parameter `dataset`.")
    return {"dataset": hash_tree(path)}


def read_report(stored: Stored) -> dict[str, Any]:
    """Return the report that a builder left."""
    report: dict[str, Any] = json.loads((stored.path / REPORT_NAME).read_text())
    return report
