"""The curriculum report, as Markdown: what a colleague reads without running anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from curricle.reporting.gains import stage_gains
from curricle.reporting.retention import retention_rows
from curricle.reporting.state import StageState
from curricle.reporting.summary import check_bound, shown
from curricle.reporting.table import curriculum_rows

_GAINS = (
    "`gain` is the mean difference of the shares of fixed tasks, with its 95% interval over tasks; "
    "`p` is of McNemar's exact test. Below zero, the stage fixes less than what it started from."
)


def curriculum_report(states: tuple[StageState, ...]) -> str:
    """Return the report: the stages in a table, then each gate's checks and its certificate."""
    lines = ["# Curriculum report", "", *_rows(curriculum_rows(states)), ""]
    if gains := stage_gains(states):
        lines += ["## What each stage gained over its parent, task by task", "", *_rows(gains), ""]
        lines += [_GAINS, ""]
    if kept := retention_rows(states):
        lines += ["## What was kept", "", *_rows(kept), ""]
    for state in states:
        lines += [*_stage(state), ""]
    return "\n".join(lines)


def _rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    columns = list({key: None for row in rows for key in row})
    yield _line(columns)
    yield _line(["---"] * len(columns))
    for row in rows:
        yield _line([shown(row[key]) if key in row else "" for key in columns])


def _stage(state: StageState) -> Iterator[str]:
    yield f"## {state.stage}: {state.status}"
    yield ""
    if state.report and state.is_judged:
        yield _line(["metric", "value", "bound", "verdict"])
        yield _line(["---"] * 4)
        for check in state.report["checks"]:
            verdict = "passed" if check["passed"] else f"**{check['severity']}**: {check['reason']}"
            yield _line([check["metric"], shown(check["value"]), check_bound(check), verdict])
        yield ""
    if state.certificate:
        parent = state.certificate.parent
        yield f"- certificate `{state.certificate.hash[:16]}` of candidate `{_place(state)}`"
        yield f"- parent: `{parent.hash[:16]}` ({parent.stage})" if parent else "- parent: none"
    manifest = state.manifest
    if manifest:
        facts = {**manifest.effective, **manifest.measured}
        yield "- " + ", ".join(f"{key} {_fact(value)}" for key, value in sorted(facts.items()))


def _place(state: StageState) -> str:
    assert state.certificate is not None
    candidate = state.certificate.candidate
    return f"{candidate.step}/{candidate.fingerprint}"


def _fact(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
