"""The nodes of the task pipelines: each obtains one stored result from its step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.config.tasks import ProjectsParameters, TaskBudget
from curricle.stages.build import dataset_state, obtain_by_builder

_FETCH = ("projects", "max_projects", "max_project_bytes")
_VERIFY = ("max_tests", "heldout_share", "seed", "project_wall_s", "batch")
_SPLIT = ("heldout_tasks", "heldout_operator_share", "seed")
_DRAW = tuple(name for name in TaskBudget.model_fields if name not in {*_FETCH, *_VERIFY, *_SPLIT})


def projects_node(language: str) -> Callable[..., Stored]:
    """Make the node function that fetches a language's projects."""

    def fetch(parameters: ProjectsParameters, budget: TaskBudget, run: RunSettings) -> Stored:
        from curricle.languages.registry import get_backend
        from curricle.pipelines.tasks.steps import Places, fetch_projects, wanted_sources

        backend = get_backend(language)
        sources = wanted_sources(parameters, budget, backend)
        wanted = ProjectsParameters(listed=sources)
        return obtain_by_builder(
            run, f"tasks_{language}.projects",
            lambda folder: fetch_projects(
                folder, sources, backend, Places.of(run, language), budget.max_project_bytes
            ),
            revision=1, parameters=wanted,
            outside={
                "folders": {
                    name: dataset_state(source.path)
                    for name, source in sources.items()
                    if source.path and Path(source.path).expanduser().exists()
                },
                "max_project_bytes": budget.max_project_bytes,
            },
        )  # fmt: skip

    return fetch


def mutants_node(language: str) -> Callable[..., Stored]:
    """Make the node function that studies the projects and draws their mutants."""

    def draw(
        projects: Stored,
        budget: TaskBudget,
        executor: ExecutorParameters,
        sandbox: SandboxParameters,
        run: RunSettings,
    ) -> Stored:
        from curricle.languages.registry import get_backend
        from curricle.pipelines.tasks.steps import Executions, Places, draw_mutants

        backend = get_backend(language)

        def build(folder: Any) -> dict[str, Any]:
            with Executions(
                executor,
                Places.of(run, language),
                language,
                sandbox=sandbox.model_dump(mode="json"),
            ) as executions:
                return draw_mutants(folder, projects, backend, budget, executions)

        return obtain_by_builder(
            run, f"tasks_{language}.mutants", build, revision=1,
            parameters=_decisive(budget, (*_DRAW, "seed", "project_wall_s")),
            inputs={"projects": projects},
        )  # fmt: skip

    return draw


def verify_node(language: str) -> Callable[..., Stored]:
    """Make the node function that verifies the mutants."""

    def verify(
        projects: Stored,
        mutants: Stored,
        budget: TaskBudget,
        executor: ExecutorParameters,
        sandbox: SandboxParameters,
        run: RunSettings,
    ) -> Stored:
        from curricle.pipelines.tasks.steps import Executions, Places, verify_mutants

        def build(folder: Any) -> dict[str, Any]:
            with Executions(
                executor,
                Places.of(run, language),
                language,
                sandbox=sandbox.model_dump(mode="json"),
            ) as executions:
                return verify_mutants(folder, projects, mutants, budget, executions)

        return obtain_by_builder(
            run, f"tasks_{language}.verified", build, revision=1,
            parameters=_decisive(budget, _VERIFY),
            inputs={"projects": projects, "mutants": mutants},
        )  # fmt: skip

    return verify


def split_node(language: str) -> Callable[..., Stored]:
    """Make the node function that splits the verified tasks."""

    def split(verified: Stored, budget: TaskBudget, run: RunSettings) -> Stored:
        from curricle.pipelines.tasks.steps import split_tasks

        return obtain_by_builder(
            run, f"tasks_{language}.split", lambda folder: split_tasks(folder, verified, budget),
            revision=1, parameters=_decisive(budget, _SPLIT), inputs={"verified": verified},
        )  # fmt: skip

    return split


def report_node(language: str) -> Callable[..., Any]:
    """Make the node function that reports: a table, a page, and all numbers."""

    def report(
        projects: Stored, mutants: Stored, verified: Stored, tasks: Stored, run: RunSettings
    ) -> Any:
        from curricle.pipelines.tasks.report import make_report

        return make_report(language, projects, mutants, verified, tasks, run)

    return report


def _decisive(budget: TaskBudget, names: tuple[str, ...]) -> TaskBudget:
    """The budget with everything else at its default: a step is remade for what it reads alone."""
    return TaskBudget(**{name: getattr(budget, name) for name in names})
