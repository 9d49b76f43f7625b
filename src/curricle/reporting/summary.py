"""The table at the end of every run: one line a stage, its gate green or red."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from curricle.reporting.state import StageState

STYLES = {
    "certified": "green",
    "certified (older candidate)": "yellow",
    "closed": "red",
    "not run": "dim",
}
_PLAIN_WIDTH = 160  # where nobody watches, a table is better wide than folded


def console() -> Console:
    """Return a console that does not fold tables where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)


def print_summary(states: tuple[StageState, ...]) -> None:
    """Print the summary."""
    console().print(summary_table(states))


def summary_table(states: tuple[StageState, ...]) -> Table:
    """Return the summary: stage, gate, what was judged, how long it took."""
    table = Table(title="curriculum", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("stage", "gate", "judged by", "seconds", "certificate"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for state in states:
        manifest = state.manifest
        seconds = manifest.measured.get("seconds") if manifest else None
        table.add_row(
            state.stage,
            Text(state.status, style=STYLES[state.status]),
            _judged(state),
            "" if seconds is None else f"{seconds:.0f}",
            certificate_note(state),
        )
    return table


def certificate_note(state: StageState) -> str:
    """Return the certificate in force, and whether it is of something earlier."""
    if state.certificate is None:
        return ""
    name = state.certificate.hash[:12]
    if state.status == "certified":
        return name
    if state.candidate and state.certificate.candidate.digest == state.candidate.digest:
        return f"{name} (by an earlier policy)"
    return f"{name} (of an older candidate)"


def check_bound(check: dict[str, Any]) -> str:
    """Return a check's bound as a reader would write it."""
    bounds = [f"{sign} {check[side]:.4g}" for side, sign in (("min", ">="), ("max", "<="))
              if check[side] is not None]  # fmt: skip
    relative = f" (of {check['relative_to']})" if check["relative_to"] else ""
    return " and ".join(bounds) + relative


def shown(value: Any) -> str:
    """Return a metric's value in four digits."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def _judged(state: StageState) -> Text:
    checks = (state.report or {}).get("checks", []) if state.is_judged else []
    parts = []
    for check in checks:
        failed = "yellow" if check["severity"] == "warn" else "red"
        text = f"{check['metric']} {shown(check['value'])}"
        if not check["passed"]:
            text = check["reason"] or text
        parts.append(Text(text, style="" if check["passed"] else failed))
    return Text(", ").join(parts)
