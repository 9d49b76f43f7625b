"""Node functions that prepare the data of a coding agent's stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.store import Stored
from curricle.config.agent_data import (
    AgentPairParameters,
    DemonstrationParameters,
    PracticeParameters,
    ToolLessonParameters,
)
from curricle.config.base import Parameters, RunSettings
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.launch.run import obtain_by_job
from curricle.stages.build import obtain_by_builder

FOUNDATION = "foundation_model"


def material_inputs(languages: Sequence[str]) -> dict[str, str]:
    """The stored projects and tasks of some languages: argument to dataset name."""
    return {
        f"{kind}_{language}": f"{language}_{kind}"
        for language in languages
        for kind in ("projects", "tasks")
    }


def demonstration_inputs(languages: Sequence[str]) -> dict[str, str]:
    """What the nodes below read beside their parameters."""
    return {
        "foundation": FOUNDATION, "executor": "params:executor", "sandbox": "params:sandbox",
        **material_inputs(languages),
    }  # fmt: skip


def demonstrations_node(stage: str, split: str) -> Callable[..., Stored]:
    """Make the node function that demonstrates the bug tasks of a split."""

    def prepare(
        foundation: Stored,
        executor: ExecutorParameters,
        sandbox: SandboxParameters,
        parameters: DemonstrationParameters,
        run: RunSettings,
        **stored: Stored,
    ) -> Stored:
        from curricle.pipelines.agent.demonstrations import Studio, demonstrate_tasks

        studio = Studio(run, executor, sandbox, foundation.path)

        def build(folder: Path) -> dict[str, Any]:
            return demonstrate_tasks(folder, _materials(stored), split, parameters, studio)

        return obtain_by_builder(
            run, f"{stage}.data", build, revision=5, parameters=parameters,
            inputs={"foundation": foundation, **stored}, outside={"split": split},
        )  # fmt: skip

    return prepare


def tool_lessons_node(stage: str) -> Callable[..., Stored]:
    """Make the node function that asks questions which tools answer."""

    def prepare(
        foundation: Stored,
        executor: ExecutorParameters,
        sandbox: SandboxParameters,
        parameters: ToolLessonParameters,
        run: RunSettings,
        **stored: Stored,
    ) -> Stored:
        from curricle.pipelines.agent.demonstrations import Studio, demonstrate_answers

        studio = Studio(run, executor, sandbox, foundation.path)

        def build(folder: Path) -> dict[str, Any]:
            return demonstrate_answers(folder, _materials(stored), parameters, studio)

        return obtain_by_builder(
            run, f"{stage}.data", build, revision=5, parameters=parameters,
            inputs={"foundation": foundation, **stored},
        )  # fmt: skip

    return prepare


def practice_node(stage: str, split: str) -> Callable[..., Stored]:
    """Make the node function that lays out the bug tasks of a split, to be tried."""

    def prepare(parameters: PracticeParameters, run: RunSettings, **stored: Stored) -> Stored:
        from curricle.pipelines.agent.practice import lay_out_tasks

        def build(folder: Path) -> dict[str, Any]:
            return lay_out_tasks(folder, _materials(stored), split, parameters)

        return obtain_by_builder(
            run, f"{stage}.data", build, revision=1, parameters=parameters, inputs=stored,
            outside={"split": split},
        )  # fmt: skip

    return prepare


def pairs_node(stage: str, split: str) -> Callable[..., Stored]:
    """Make the node function that has the parent try a split's tasks, and pairs the attempts."""

    def prepare(
        parent: Certificate,
        executor: ExecutorParameters,
        sandbox: SandboxParameters,
        parameters: AgentPairParameters,
        run: RunSettings,
        **stored: Stored,
    ) -> Stored:
        from curricle.pipelines.agent.demonstrations import Studio, demonstrate_corrections
        from curricle.pipelines.agent.material import chosen_materials
        from curricle.pipelines.agent.practice import pair_attempts
        from curricle.reporting.attempts import ATTEMPTS, read_attempts

        materials = chosen_materials(_materials(stored), parameters.operators)
        attempts = obtain_by_job(
            run, step=f"{stage}.rollouts", kind="rollout",
            inputs={"model": parent.candidate, **stored},
            parameters={
                "rollouts": parameters.rollouts.model_dump(mode="json"), "split": split,
                "operators": parameters.operators, "precision": "auto",
            },
        )  # fmt: skip
        studio = Studio(run, executor, sandbox, parent.candidate.path)

        def correct(folder: Path) -> dict[str, Any]:
            tried = read_attempts(attempts.path / ATTEMPTS)
            return demonstrate_corrections(folder, tried, materials, split, parameters, studio)

        corrections = obtain_by_builder(
            run, f"{stage}.corrections", correct, revision=1, parameters=parameters,
            inputs={"attempts": attempts, **stored}, outside={"split": split},
        )  # fmt: skip

        def build(folder: Path) -> dict[str, Any]:
            return pair_attempts(folder, attempts.path, corrections.path, parameters)

        return obtain_by_builder(
            run, f"{stage}.data", build, revision=5, parameters=parameters,
            inputs={"attempts": attempts, "corrections": corrections},
        )  # fmt: skip

    return prepare


def promote(parent: Certificate, parameters: Parameters, run: RunSettings) -> Stored:
    """Take the last candidate again, to be judged by what a whole curriculum owes."""
    return parent.candidate


def _materials(stored: Mapping[str, Stored]) -> list[Any]:
    from curricle.pipelines.agent.material import Material

    languages = sorted(name.removeprefix("tasks_") for name in stored if name.startswith("tasks_"))
    return [Material(x, stored[f"projects_{x}"], stored[f"tasks_{x}"]) for x in languages]
