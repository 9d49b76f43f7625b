"""The foundation as a stage that trains nothing: obtained, measured, certified.

So every later stage has a certificate to descend from, and a gate can ask how much of what the
foundation knew is still there (``relative_to: foundation``). It tries the held-out bug tasks too:
what agents learn is what they can do beyond that.
"""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from curricle.pipelines.agent.nodes import material_inputs
from curricle.pipelines.foundation.nodes import (
    obtain_foundation,
    pack_foundation_heldout,
    take_foundation,
)
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import Prepare, StageSpec

HELDOUT = "foundation_heldout"
"""The corpus' held-out documents in the foundation's tokens."""


def foundation_stage(languages: Sequence[str]) -> StageSpec:
    """Return the stage; it is measured as an agent on the languages' held-out tasks."""
    return StageSpec(
        name="foundation",
        job=None,
        parameters=None,
        metrics=("language", "agent") if languages else ("language",),
        prepare=Prepare(take_foundation, {"model": "foundation_model"}, output="candidate"),
        heldout=HELDOUT,
        root="foundation",
        measured_on=material_inputs(languages),
    )


def create_pipeline(languages: Sequence[str], after: str | None = None) -> Pipeline:
    """Return the stage, what obtains its model, and the packing of what it is measured on.

    Args:
        languages: whose bug tasks it tries; ``tasks_<x>`` makes them.
        after: a stage whose certificate has to be earned first: a run that holds two curricula
            names the last stage of the one whose certificate the other may start from. Kedro
            orders nodes by what they read, and reads no certificate's path out of parameters.
    """
    waits = {"after": f"{after}_checkpoint"} if after else {}
    outside = [
        Node(
            obtain_foundation,
            {"parameters": "params:foundation.prepare", "run": "params:run", **waits},
            "foundation_model",
            name="obtain_foundation",
            tags="foundation",
        ),
        Node(
            pack_foundation_heldout,
            {
                "documents": "corpus_documents",
                "foundation": "foundation_model",
                "run": "params:run",
            },
            HELDOUT,
            name="pack_foundation_heldout",
            tags="foundation",
        ),
    ]
    return Pipeline([Pipeline(outside), stage_pipeline(foundation_stage(languages))])
