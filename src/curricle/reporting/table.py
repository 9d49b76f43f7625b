"""One row a stage: what it measured, what it kept, what it cost."""

from __future__ import annotations

from typing import Any

from curricle.reporting.retention import root_of
from curricle.reporting.state import StageState

_MEASURED = ("seconds", "tokens_per_s", "peak_memory_mb")


def curriculum_rows(states: tuple[StageState, ...]) -> list[dict[str, Any]]:
    """Return a dictionary for each stage: stage, status, metrics, retention, cost.

    ``perplexity_kept`` is the stage's held-out perplexity over that of the stage which it descends
    from: 1.1 means that later training cost 10%. The cost is that of training the candidate.
    """
    rows: list[dict[str, Any]] = []
    first = {state.stage: state.metrics.get("perplexity") for state in states}
    for state in states:
        manifest = state.manifest
        row: dict[str, Any] = {"stage": state.stage, "status": state.status, **state.metrics}
        before = first[root_of(state, states)]
        if _is_number(before) and _is_number(state.metrics.get("perplexity")):
            row["perplexity_kept"] = round(state.metrics["perplexity"] / before, 4)
        if manifest:
            row |= {key: manifest.measured[key] for key in _MEASURED if key in manifest.measured}
        rows.append(row)
    return rows


def curriculum_table(states: tuple[StageState, ...]) -> Any:
    """Return the rows as a ``pandas.DataFrame``, an empty cell where a stage measures nothing."""
    import pandas as pd

    rows = curriculum_rows(states)
    columns = {key: None for row in rows for key in row if key not in _MEASURED}
    present = [key for key in _MEASURED if any(key in row for row in rows)]
    return pd.DataFrame(rows, columns=[*columns, *present])


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value > 0
