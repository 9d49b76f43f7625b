"""The pipeline that makes ``foundation_model``."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from curricle.pipelines.foundation.nodes import obtain_foundation


def create_pipeline(after: str | None = None) -> Pipeline:
    """Return the pipeline of the foundation.

    Args:
        after: a stage whose certificate has to be earned first: a run that holds two curricula
            names the last stage of the one whose certificate the other may start from. Kedro
            orders nodes by what they read, and reads no certificate's path out of parameters.
    """
    waits = {"after": f"{after}_checkpoint"} if after else {}
    node = Node(
        obtain_foundation,
        {"parameters": "params:foundation", "run": "params:run", **waits},
        "foundation_model",
        name="foundation.model",
        tags="foundation",
    )
    return Pipeline([node])
