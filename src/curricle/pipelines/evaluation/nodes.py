"""The nodes of the evaluation pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.evaluation import EvaluationParameters
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.launch.run import obtain_by_job
from curricle.stages.build import obtain_by_builder


def baselines_node(language: str) -> Callable[..., Stored]:
    """Make the node function that measures what needs no model."""

    def measure(
        projects: Stored,
        tasks: Stored,
        parameters: EvaluationParameters,
        executor: ExecutorParameters,
        sandbox: SandboxParameters,
        run: RunSettings,
    ) -> Stored:
        from curricle.agents.baselines import OPEN
        from curricle.pipelines.evaluation.baselines import measure_baselines
        from curricle.pipelines.tasks.steps import Executions, Places

        places = Places.of(run, language, journal="baselines")
        attempts = parameters.attempts

        def build(folder: Path) -> dict[str, Any]:
            with Executions(
                executor, places, language, opening=OPEN,
                sandbox=sandbox.model_dump(mode="json"),
                kept=str(places.prepared.parent / "baselines"),
            ) as executions:  # fmt: skip
                return measure_baselines(folder, projects, tasks, parameters, executions)

        return obtain_by_builder(
            run, f"eval_{language}.baselines", build, revision=1,
            parameters=parameters.baselines,
            inputs={"projects": projects, "tasks": tasks},
            outside={
                "levels": list(attempts.levels), "max_tasks": attempts.max_tasks,
                "run_wall_s": attempts.run_wall_s,
            },
        )  # fmt: skip

    return measure


def subject_node(language: str) -> Callable[..., dict[str, Any]]:
    """Make the node function that finds what is evaluated.

    It may take a certificate that has to be earned first, by which Kedro orders a run that holds
    the language's curriculum as well; what is evaluated is read from its file, as without it.
    """

    def find(
        parameters: EvaluationParameters, run: RunSettings, after: Certificate | None = None
    ) -> dict[str, Any]:
        from curricle.pipelines.evaluation.subject import find_subject

        return find_subject(language, parameters, run).to_json(run.store)

    return find


def attempts_node(language: str, *, sampled: bool) -> Callable[..., Stored]:
    """Make the node function that has the subject try every held-out task."""

    def attempt(
        projects: Stored,
        tasks: Stored,
        subject: dict[str, Any],
        parameters: EvaluationParameters,
        run: RunSettings,
    ) -> Stored:
        from curricle.pipelines.evaluation.subject import Subject, attempts_step

        model = Subject.from_json(subject, run.store).model
        rollouts = parameters.sampled if sampled else parameters.attempts
        return obtain_by_job(
            run,
            step=attempts_step(language),
            kind="rollout",
            inputs={
                f"projects_{language}": projects, f"tasks_{language}": tasks,
                **({"model": model} if model else {}),
            },
            parameters={"rollouts": rollouts.model_dump(mode="json"), "split": "heldout"},
        )  # fmt: skip

    return attempt


def report_node(language: str) -> Callable[..., Any]:
    """Make the node function that reports: a table, a page, and all numbers."""

    def report(
        subject: dict[str, Any],
        attempts: Stored,
        sampled: Stored,
        baselines: Stored,
        parameters: EvaluationParameters,
        run: RunSettings,
    ) -> Any:
        from curricle.pipelines.evaluation.report import make_report
        from curricle.pipelines.evaluation.subject import Subject

        found = Subject.from_json(subject, run.store)
        return make_report(language, found, attempts, sampled, baselines, parameters)

    return report
