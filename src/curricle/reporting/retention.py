"""Retention: what is measured again after every stage, in a matrix, so that forgetting shows.

Values are compared along a line of descent only: another foundation reads other tokens, and its
perplexity is another number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from curricle.reporting.gains import call_rates, stage_gains
from curricle.reporting.state import StageState

_HEIGHT = 260  # pixels of a metric's plot
_BOUNDS = {"fixed_rate": ("fixed_rate_low", "fixed_rate_high")}
_NO_SKILL = {"fixed_rate_low", "fixed_rate_high", "tokens_per_attempt", "merge_logit_difference",
             "reward_margin"}  # fmt: skip


def retention_rows(states: Sequence[StageState]) -> list[dict[str, Any]]:
    """Return a row for each stage that was measured: stage, line of descent, and its metrics.

    The columns are the metrics that more than one stage measured; with several languages, the
    share of valid tool calls also stands for each.
    """
    rows = []
    for state in states:
        metrics = {
            name: value
            for name, value in state.metrics.items()
            if name not in _NO_SKILL and isinstance(value, (int, float))
        }
        rates = call_rates(state)
        if len(rates) > 1:
            metrics |= {f"valid_call_rate_{language}": rate for language, rate in rates.items()}
        if metrics:
            rows.append({"stage": state.stage, "root": root_of(state, states), **metrics})
    counts = Counter(name for row in rows for name in row)
    return [{name: v for name, v in row.items() if counts[name] > 1 or name in ("stage", "root")}
            for row in rows]  # fmt: skip


def root_of(state: StageState, states: Sequence[StageState]) -> str:
    """Return the stage that a stage descends from, which has no parent."""
    by_name = {other.stage: other for other in states}
    while state.parent in by_name:
        state = by_name[state.parent]
    return state.stage


def retention_table(states: tuple[StageState, ...]) -> Any:
    """Return the matrix as a ``pandas.DataFrame``, an empty cell where nothing was measured."""
    import pandas as pd

    rows = retention_rows(states)
    columns = list({"stage": None, "root": None} | {key: None for row in rows for key in row})
    return pd.DataFrame(rows, columns=columns)


def retention_numbers(states: tuple[StageState, ...]) -> dict[str, Any]:
    """Return the matrix and the gains, JSON-able."""
    matrix = {row.pop("stage"): row for row in retention_rows(states)}
    return {"matrix": matrix, "gains": stage_gains(states)}


def retention_curves(states: tuple[StageState, ...]) -> Any:
    """Return a ``plotly`` figure: each metric by stage, a line for each line of descent."""
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    rows = retention_rows(states)
    metrics = list({name: None for row in rows for name in row if name not in ("stage", "root")})
    if not metrics:
        return Figure(layout={"title": "No metric was measured by more than one stage yet"})
    figure = make_subplots(
        rows=len(metrics), cols=1, subplot_titles=metrics, vertical_spacing=0.3 / len(metrics)
    )
    bounds = {state.stage: state.metrics for state in states}
    for number, metric in enumerate(metrics, start=1):
        for root in dict.fromkeys(row["root"] for row in rows if metric in row):
            line = [row for row in rows if row["root"] == root and metric in row]
            figure.add_trace(
                Scatter(
                    x=[row["stage"] for row in line],
                    y=[row[metric] for row in line],
                    error_y=_interval(metric, line, bounds),
                    name=f"{metric}, from {root}",
                    mode="lines+markers",
                ),
                row=number,
                col=1,
            )
    return figure.update_layout(
        height=_HEIGHT * len(metrics), showlegend=False, title="Retention: every metric by stage"
    )


def _interval(
    metric: str, line: Sequence[dict[str, Any]], bounds: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """The 95% interval of a rate that has one."""
    if metric not in _BOUNDS:
        return None
    low, high = _BOUNDS[metric]
    measured = [(row[metric], bounds[row["stage"]]) for row in line]
    return {
        "type": "data",
        "symmetric": False,
        "array": [around[high] - value for value, around in measured],
        "arrayminus": [value - around[low] for value, around in measured],
    }
