"""Evaluation of any model on the held-out bug tasks of a language; one pipeline a language."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from curricle.pipelines.evaluation.nodes import (
    attempts_node,
    baselines_node,
    report_node,
    subject_node,
)

_SHARED = {"parameters": "params:evaluation", "run": "params:run"}


def create_pipeline(language: str, after: str | None = None) -> Pipeline:
    """Return ``eval_<language>``; it reads what ``tasks_<language>`` made.

    Args:
        language: the backend's name.
        after: a stage whose certificate has to be earned first, for a run that holds it as well.
    """
    name = f"eval_{language}"
    projects, tasks = f"{language}_projects", f"{language}_tasks"
    baselines = f"{language}_baselines"
    report = [f"{language}_evaluation_{kind}" for kind in ("table", "report", "numbers")]
    earned = {"after": f"{after}_checkpoint"} if after else {}
    given = {"projects": projects, "tasks": tasks, **_SHARED}
    execution = {"executor": "params:executor", "sandbox": "params:sandbox"}
    tried = {**given, "subject": "subject"}
    nodes = [
        Node(baselines_node(language), {**given, **execution}, baselines, name="baselines"),
        Node(subject_node(language), {**_SHARED, **earned}, "subject", name="find"),
        Node(attempts_node(language, sampled=False), tried, "attempts", name="attempt"),
        Node(attempts_node(language, sampled=True), tried, "sampled", name="sample"),
        Node(
            report_node(language),
            {
                "subject": "subject",
                "attempts": "attempts",
                "sampled": "sampled",
                "baselines": baselines,
                **_SHARED,
            },
            report,
            name="report",
        ),
    ]
    return Pipeline(
        nodes,
        namespace=name,
        inputs={projects, tasks, *earned.values()},
        outputs={baselines, *report},
        parameters={"params:evaluation", "params:run", *execution.values()},
        tags=name,
    )
