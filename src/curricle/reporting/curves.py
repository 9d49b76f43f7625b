"""The training curves of all stages in one figure, read from their candidates."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from curricle.reporting.state import StageState

_COLUMNS = 2
_ROW_HEIGHT = 320  # pixels


def curriculum_curves(states: tuple[StageState, ...]) -> Any:
    """Return a ``plotly`` figure: loss (nats a token) by step, one subplot a stage.

    A dotted line marks a step at which the context length grows. The learning rate of a step is in
    what hovers over it.
    """
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    curves = {s.stage: read_curve(s.curve) for s in states if s.curve is not None}
    if not curves:
        return Figure(layout={"title": "No stage has trained yet"})
    rows = -(-len(curves) // _COLUMNS)
    figure = make_subplots(
        rows=rows, cols=_COLUMNS, subplot_titles=list(curves), vertical_spacing=0.25 / rows
    )
    for number, (stage, points) in enumerate(curves.items()):
        place = {"row": number // _COLUMNS + 1, "col": number % _COLUMNS + 1}
        figure.add_trace(
            Scatter(
                x=[point["step"] for point in points],
                y=[point["loss"] for point in points],
                customdata=[point.get("learning_rate") for point in points],
                hovertemplate="step %{x}<br>loss %{y:.4f}<br>rate %{customdata:.2e}",
                name=stage,
                mode="lines",
            ),
            **place,
        )
        for step, length in context_changes(points):
            figure.add_vline(x=step, line_dash="dot", annotation_text=str(length), **place)
    return figure.update_layout(
        height=_ROW_HEIGHT * rows, showlegend=False, title="Training loss by step"
    )


def read_curve(path: Path) -> list[dict[str, Any]]:
    """Read a curve; a step that has no loss (an evaluation's line) is left out."""
    points = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [point for point in points if "loss" in point]


def context_changes(points: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return the steps at which the context length changes, with the new length in tokens."""
    return [
        (after["step"], after["seq_length"])
        for before, after in pairwise(points)
        if before.get("seq_length") != after.get("seq_length")
    ]
