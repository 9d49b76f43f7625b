"""Colours the gates in Kedro-Viz: green when open, red when closed, grey when never judged.

Kedro-Viz reads ``.viz/styles.json`` when it starts. It names tasks without their namespace, so only
the gates, which stand outside, can be told apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curricle.checkpoints.datasets import replace_json
from curricle.reporting.state import StageState

_COLOURS = {
    "certified": ("#2e9e5b", "#1f7a44"),
    "certified (older candidate)": ("#c9a227", "#94761a"),
    "closed": ("#d64545", "#a32e2e"),
    "not run": ("#9aa0a6", "#6b7075"),
}


def write_styles(project: Path, states: tuple[StageState, ...]) -> None:
    """Write the colour of each stage's gate."""
    styles: dict[str, Any] = {}
    for state in states:
        fill, stroke = _COLOURS[state.status]
        styles[f"gate_{state.stage}"] = {"fill": fill, "stroke": stroke, "color": "#ffffff"}
    replace_json(project / ".viz" / "styles.json", styles)
