"""The report after a run: what a person reads, the artefacts, and the colours in Kedro-Viz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.pipeline import Pipeline

from curricle.reporting.state import read_states
from curricle.stages.spec import StageSpec


def report(
    run_params: dict[str, Any], pipeline: Pipeline, catalog: Any, specs: tuple[StageSpec, ...]
) -> None:
    """Show and write what stands; the same after success and after failure."""
    from curricle.reporting.summary import print_summary
    from curricle.reporting.viz_styles import write_styles

    tags = {tag for node in pipeline.nodes for tag in node.tags}
    if not any(spec.name in tags for spec in specs):
        return
    states = read_states(catalog, specs)
    write_styles(Path(run_params["project_path"]), states)
    print_summary(states)
