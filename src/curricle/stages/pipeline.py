"""Builds the pipeline of a stage from its description, so that twenty stages read like one.

``prepare -> train -> evaluate -> judge`` live in a namespace named after the stage. The gate stands
outside it and is the only writer of ``<stage>_checkpoint``, all that the next stage reads.
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from curricle.stages.nodes import (
    evaluate_node,
    gate_node,
    judge_node,
    taken_over_node,
    train_node,
)
from curricle.stages.spec import StageSpec

_OWN = {"params:prepare", "params:train", "params:evaluate"}
"""The parameters of a stage, under its name."""


def stage_pipeline(spec: StageSpec) -> Pipeline:
    """Return the pipeline of one stage, its gate included."""
    name, policy = spec.name, f"params:gates.{spec.name}"
    candidate, report, metrics = f"{name}_candidate", f"{name}_gate_report", f"{name}_metrics"
    prepared = f"{name}_{spec.prepare.output}"
    data = spec.data or prepared
    parent = {"parent": f"{spec.parent}_checkpoint"} if spec.parent else {}
    start = parent.get("parent", prepared)

    training = {"start": start, "data": data, "parameters": "params:train", "run": "params:run"}
    body = [
        Node(
            spec.prepare.func,
            {**spec.prepare.inputs, "parameters": "params:prepare", "run": "params:run"},
            prepared,
            name="prepare",
        ),
        *(
            [Node(train_node(spec), training | spec.inputs, candidate, name="train")]
            if spec.job
            else []
        ),
        _measurement(spec, candidate, data, parent),
        Node(
            judge_node(spec),
            {"candidate": candidate, "metrics": metrics, "policy": policy, **parent},
            report,
            name="judge",
            tags="gate",
        ),
    ]
    made = {prepared, candidate, metrics, report}
    read = {name for node in body for name in node.inputs}
    settings = {name for name in read if name.startswith("params:")}
    namespaced = Pipeline(
        body,
        namespace=name,
        inputs=read - made - settings,
        outputs=made,
        parameters=settings - _OWN,
    )
    gate = Node(
        gate_node(spec),
        {"candidate": candidate, "report": report, "policy": policy, **parent},
        f"{name}_checkpoint",
        name=f"gate_{name}",
        tags="gate",
    )
    return Pipeline([namespaced, gate], tags=name)


def _measurement(spec: StageSpec, candidate: str, data: str, parent: dict[str, str]) -> Node:
    """What gives the metrics: a measurement, or the parent's, for the parent's candidate."""
    metrics = f"{spec.name}_metrics"
    if not spec.measures:
        taken = {"candidate": candidate, "metrics": f"{spec.parent}_metrics"}
        return Node(taken_over_node(spec), taken, metrics, name="evaluate")
    return Node(
        evaluate_node(spec),
        {
            "candidate": candidate,
            "data": data,
            "heldout": spec.heldout,
            "parameters": "params:evaluate",
            "run": "params:run",
            **parent,
            **spec.measured_on,
        },
        metrics,
        name="evaluate",
    )
