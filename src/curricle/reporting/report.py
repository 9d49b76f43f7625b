"""The report after a run: what a person reads, the artefacts, and the colours in Kedro-Viz."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from kedro.pipeline import Pipeline

from curricle.errors import CurricleError
from curricle.reporting.state import read_states
from curricle.stages.spec import StageSpec

logger = logging.getLogger(__name__)


def report(
    run_params: dict[str, Any], pipeline: Pipeline, catalog: Any, specs: tuple[StageSpec, ...]
) -> None:
    """Show and write what stands; the same after success and after failure.

    A run that touched no stage has nothing new to show, unless it was asked for the report: its
    pipeline knows the general curriculum alone, here all that stands is reported.
    """
    tags = {tag for node in pipeline.nodes for tag in node.tags}
    if not tags & {"report", *(spec.name for spec in specs)}:
        return
    # The table needs pandas, the figure plotly: not before there is something to report.
    from curricle.reporting.artefacts import write_artefacts
    from curricle.reporting.summary import print_summary
    from curricle.reporting.viz_styles import write_styles

    states = read_states(catalog, specs)
    write_artefacts(catalog, states)
    try:
        write_styles(Path(run_params["project_path"]), states)
    except (CurricleError, OSError) as error:
        logger.warning("the gates could not be coloured for Kedro-Viz: %s", error)
    # A stage of another curriculum that nobody has begun is no news.
    print_summary(tuple(s for s in states if s.stage in tags or s.status != "not run"))
