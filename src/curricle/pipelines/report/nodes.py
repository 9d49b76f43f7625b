"""The nodes of the report: an artefact each, from what the stages left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from curricle.reporting.artefacts import ARTEFACTS
from curricle.reporting.state import StageState
from curricle.stages.spec import StageSpec

KINDS = ("candidate", "gate_report", "checkpoint")
"""What a stage leaves, by the ending of the dataset's name."""


def artefact_node(name: str, specs: tuple[StageSpec, ...]) -> Callable[..., Any]:
    """Make the node function of one artefact; it takes ``<stage>_<kind>`` for every stage."""

    def make(**left: Any) -> Any:
        return ARTEFACTS[name](
            tuple(
                StageState(spec.name, spec.parent, *(left[f"{spec.name}_{kind}"] for kind in KINDS))
                for spec in specs
            )
        )

    make.__name__ = f"make_{name}"
    return make
