"""The report of a task pipeline: what became of every project and every mutant, and how long."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.execution.journal import Journal
from curricle.pipelines.tasks.files import SPLITS, read_projects, read_rows
from curricle.stages.build import read_report

_STEPS = ("projects", "mutants", "verified", "split")


def make_report(
    language: str,
    projects: Stored,
    mutants: Stored,
    verified: Stored,
    tasks: Stored,
    run: RunSettings,
) -> tuple[Any, str, dict[str, Any]]:
    """Return a `pandas.DataFrame` (a row a project), a page of Markdown, and all numbers."""
    import pandas as pd

    from curricle.pipelines.tasks.steps import Places

    numbers = _numbers(projects, mutants, verified, tasks)
    seconds = _seconds(verified, Journal(Places.of(run, language).journal))
    for name, row in numbers["projects"].items():
        row["verify_s"] = round(seconds.get(name, 0.0), 1)
    numbers["step_s"] = {
        step: stored.manifest().measured.get("seconds", 0.0)
        for step, stored in zip(_STEPS, (projects, mutants, verified, tasks), strict=True)
    }
    columns = ("split", "license", "tests", "functions", "mutants", "tasks", "verify_s", "refused")
    rows = [
        {"project": name, **{column: row.get(column, "") for column in columns}}
        for name, row in numbers["projects"].items()
    ]
    return pd.DataFrame(rows), _page(language, numbers, rows), numbers


def _numbers(projects: Stored, mutants: Stored, verified: Stored, tasks: Stored) -> dict[str, Any]:
    fetched, drawn, split = read_report(projects), read_report(mutants), read_report(tasks)
    rows: dict[str, dict[str, Any]] = {}
    for name, listed in read_projects(projects).items():
        about = {"split": listed.split, "license": listed.license, "origin": listed.origin}
        rows[name] = {**about, **drawn["projects"].get(name, {}), "tasks": 0, "rejected": {}}
    for name, reason in {**fetched["refused"], **drawn["refused"]}.items():
        rows.setdefault(name, {})["refused"] = reason.split("\n", 1)[0]
    operators: dict[str, Counter[str]] = defaultdict(Counter)
    for task in read_rows(verified.path / "tasks.jsonl"):
        rows[task["mutant"]["project"]]["tasks"] += 1
        operators[task["mutant"]["mutant"]["operator"]]["tasks"] += 1
    for entry in read_rows(verified.path / "rejected.jsonl"):
        reasons = rows[entry["mutant"]["project"]]["rejected"]
        reasons[entry["reason"]] = reasons.get(entry["reason"], 0) + 1
        operators[entry["mutant"]["mutant"]["operator"]][entry["reason"]] += 1
    counted = {name: dict(sorted(found.items())) for name, found in sorted(operators.items())}
    return {
        "projects": rows,
        "operators": counted,
        "rejected": read_report(verified)["rejected"],
        "mutants": drawn["mutants"],
        "tasks": read_report(verified)["tasks"],
        "splits": {name: split[name] for name in SPLITS},
    }  # fmt: skip


def _seconds(verified: Stored, journal: Journal) -> dict[str, float]:
    """Seconds of a worker that verifying each project took, by project."""
    seconds: dict[str, float] = defaultdict(float)
    for batch in read_rows(verified.path / "batches.jsonl"):
        outcome = journal.get(batch["key"])
        seconds[batch["project"]] += outcome.duration_s if outcome else 0.0
    return dict(seconds)


def _page(language: str, numbers: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    steps = ", ".join(f"{step} {seconds:.1f} s" for step, seconds in numbers["step_s"].items())
    reasons = sorted({r for found in numbers["operators"].values() for r in found if r != "tasks"})
    operators = [
        [name, found.get("tasks", 0), *(found.get(reason, 0) for reason in reasons)]
        for name, found in numbers["operators"].items()
    ]
    splits = [
        [name, found["tasks"], len(found["projects"]), len(found["operators"]),
         max(found["operators"].values(), default=0)]
        for name, found in numbers["splits"].items()
    ]  # fmt: skip
    parts = [
        f"# Bug tasks: {language}",
        f"{numbers['tasks']} of {numbers['mutants']} mutants became tasks. Seconds: {steps}.",
        "## Projects",
        _table(list(rows[0]), [list(row.values()) for row in rows]),
        "`verify_s` is the time of workers, of which several may run at once.",
        "## Operators",
        _table(["operator", "tasks", *reasons], operators),
        "## Splits",
        _table(["split", "tasks", "projects", "operators", "most of one operator"], splits),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    header = list(header)
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines
    )
