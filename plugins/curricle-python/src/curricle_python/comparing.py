"""Comparison with the original function: what to run, and where two reports disagree."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from curricle.languages import BugTask, Command, Comparison, Output, Prepared, Project
from curricle_python.running import ENVIRONMENT, FLAGS, WARM_COMPARE, import_folders
from curricle_python.toolchain import INSIDE, PYTHON, SITE
from curricle_python.tracing import recorded_calls

REPORT_NAME = "compare.jsonl"
_SHORTEST = ("returned", "value", "arguments")
TIMEOUT_S = 20.0
"""Two hundred calls of a quarter of a second at most, for the original; far less as a rule."""


class PythonComparison(Comparison):
    """Inputs by hypothesis after what the tests used; answers compared outside the sandbox."""

    def draw(
        self, prepared: Prepared, task: BugTask, trace: Sequence[Output], seed: int
    ) -> Command | None:
        """Draw inputs over the original tree; nothing for module level and nested functions."""
        if not task.mutant.function:
            return None
        calls = recorded_calls(trace, f"{task.mutant.file}::{task.mutant.function}")
        return _command(prepared, task, {"mode": "draw", "calls": calls, "seed": seed})

    def replay(self, prepared: Prepared, task: BugTask, drawn: Output) -> Command:
        """Give the candidate's function the same inputs."""
        inputs = [record["input"] for record in _records(drawn) or ()]
        return _command(prepared, task, {"mode": "replay", "inputs": inputs})

    def join(self, test: Command, replay: Command) -> Command | None:
        """In a fork of the process that runs the tests, made before and let go afterwards."""
        if test.warm is None:
            return None
        request = {**json.loads(test.stdin), "replay": json.loads(replay.stdin)}
        reports = (*test.reports, *replay.reports)
        return dataclasses.replace(test, stdin=json.dumps(request), reports=reports)

    def differences(self, drawn: Output, replayed: Output) -> Sequence[str]:
        """The first few inputs on which the two disagree."""
        wanted = _records(drawn)
        if not wanted:
            return ()  # the original cannot be called on its own: there is nothing to compare
        found = _records(replayed)
        if found is None or len(found) != len(wanted):
            return (f"the function was not called to the end: {replayed.stderr[-300:]}",)
        return [
            f"the original {_shown(record['outcome'])}, the candidate {_shown(answer['outcome'])}"
            for record, answer in zip(wanted, found, strict=True)
            if not _agree(record["outcome"], answer["outcome"])
        ]


def module_name(project: Project, file: str) -> str:
    """The name that a file is imported by."""
    root = str(project.options.get("import_root", "."))
    path = PurePosixPath(file)
    if root != ".":
        path = path.relative_to(root)
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _command(prepared: Prepared, task: BugTask, request: Mapping[str, Any]) -> Command:
    content = {
        "site": [SITE],
        "path": import_folders(prepared.project),
        "module": module_name(prepared.project, task.mutant.file),
        "function": task.mutant.function,
        **request,
    }
    return Command(
        argv=(PYTHON, *FLAGS, f"{INSIDE}/compare.py"),
        env=ENVIRONMENT,
        stdin=json.dumps(content),
        reports=(REPORT_NAME,),
        timeout_s=TIMEOUT_S,
        warm=WARM_COMPARE if request["mode"] == "replay" else None,
    )


def _records(output: Output) -> list[dict[str, Any]] | None:
    """The records of a whole report; `None` when it was cut."""
    lines = output.reports.get(REPORT_NAME, "").splitlines()
    try:
        *records, last = [json.loads(line) for line in lines]
    except ValueError:
        return None
    whole = isinstance(last, dict) and last.get("count") == len(records)
    return records if whole and all(_is_record(record) for record in records) else None


def _is_record(record: object) -> bool:
    outcome = record.get("outcome") if isinstance(record, dict) else None
    return isinstance(outcome, list) and len(outcome) >= len(_SHORTEST) and all(
        isinstance(part, str | bool) for part in outcome
    )  # fmt: skip


def _agree(wanted: Sequence[Any], found: Sequence[Any]) -> bool:
    """The same answer; of two that raise, the same class, wherever it came from."""
    if wanted[0] == "raised":
        return bool(found[0] == "raised" and found[1] == wanted[1])
    return list(wanted) == list(found)


def _shown(outcome: Sequence[Any]) -> str:
    return f"{outcome[0]} {outcome[1]}"[:200]
