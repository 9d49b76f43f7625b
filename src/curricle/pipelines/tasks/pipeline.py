"""Bug tasks: projects, mutants, verified tasks, their splits, a report; one for each language."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from curricle.pipelines.tasks.nodes import (
    mutants_node,
    projects_node,
    report_node,
    split_node,
    verify_node,
)


def create_pipeline(language: str) -> Pipeline:
    """Return `tasks_<language>`; it ends in `<language>_projects` and `<language>_tasks`."""
    name = f"tasks_{language}"
    projects, tasks = f"{language}_projects", f"{language}_tasks"
    report = [f"{tasks}_table", f"{tasks}_report", f"{tasks}_numbers"]
    shared = {"budget": "params:language.tasks", "run": "params:run"}
    executor = {"executor": "params:executor", "sandbox": "params:sandbox"}
    nodes = [
        Node(
            projects_node(language),
            {"parameters": "params:projects", **shared},
            projects,
            name="fetch",
        ),
        Node(
            mutants_node(language),
            {"projects": projects, **shared, **executor},
            "mutants",
            name="draw",
        ),
        Node(
            verify_node(language),
            {"projects": projects, "mutants": "mutants", **shared, **executor},
            "verified",
            name="verify",
        ),
        Node(split_node(language), {"verified": "verified", **shared}, tasks, name="split"),
        Node(
            report_node(language),
            {
                "projects": projects,
                "mutants": "mutants",
                "verified": "verified",
                "tasks": tasks,
                "run": "params:run",
            },
            report,
            name="report",
        ),
    ]
    return Pipeline(
        nodes,
        namespace=name,
        outputs={projects, tasks, *report},
        parameters={"params:run", "params:language.tasks", "params:executor", "params:sandbox"},
        tags=name,
    )
