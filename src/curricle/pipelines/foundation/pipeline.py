"""The foundation as a stage that trains nothing: obtained, measured, certified.

So every later stage has a certificate to descend from, and a gate can ask how much of what the
foundation knew is still there (``relative_to: foundation``).
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from curricle.pipelines.foundation.nodes import obtain_foundation, pack_foundation_heldout
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import Prepare, StageSpec

HELDOUT = "foundation_heldout"
"""The corpus' held-out documents in the foundation's tokens."""


def foundation_stage(after: str | None = None) -> StageSpec:
    """Return the stage.

    Args:
        after: a stage whose certificate has to be earned first: a run that holds two curricula
            names the last stage of the one whose certificate the other may start from. Kedro
            orders nodes by what they read, and reads no certificate's path out of parameters.
    """
    return StageSpec(
        name="foundation",
        job=None,
        parameters=None,
        metrics=("language",),
        prepare=Prepare(
            obtain_foundation,
            {"after": f"{after}_checkpoint"} if after else {},
            output="candidate",
        ),
        heldout=HELDOUT,
        root="foundation",
    )


def create_pipeline(after: str | None = None) -> Pipeline:
    """Return the stage, and the packing of what it is measured on; see ``foundation_stage``."""
    heldout = Node(
        pack_foundation_heldout,
        {
            "documents": "corpus_documents",
            "foundation": "foundation_candidate",
            "run": "params:run",
        },
        HELDOUT,
        name="pack_foundation_heldout",
        tags="foundation",
    )
    return Pipeline([heldout, stage_pipeline(foundation_stage(after))])
