"""The curriculum report, over the stages of the general curriculum."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from curricle.pipelines.curricula import GENERAL
from curricle.pipelines.report.nodes import KINDS, artefact_node
from curricle.reporting.artefacts import ARTEFACTS


def create_pipeline() -> Pipeline:
    """Return the report pipeline: a node for each artefact."""
    left = {f"{spec.name}_{kind}": f"{spec.name}_{kind}" for spec in GENERAL for kind in KINDS}
    return Pipeline(
        [Node(artefact_node(name, GENERAL), left, name, name=name) for name in ARTEFACTS],
        tags="report",
    )
