"""Node functions that prepare the data of a coding agent's stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.store import Stored
from curricle.config.agent_data import (
    AgentPairParameters,
    CorrectionParameters,
    DemonstrationParameters,
    PracticeParameters,
    ToolLessonParameters,
)
from curricle.config.base import Parameters, RunSettings
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.launch.run import obtain_by_job
from curricle.stages.build import obtain_by_builder

if TYPE_CHECKING:
    from curricle.pipelines.agent.demonstrations import Studio

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
        parent: Certificate,
        executor: ExecutorParameters,
        sandbox: SandboxParameters,
        parameters: DemonstrationParameters,
        run: RunSettings,
        **stored: Stored,
    ) -> Stored:
        from curricle.pipelines.agent.demonstrations import Studio, demonstrate_tasks

        studio = Studio(run, executor, sandbox, foundation.path)
        inputs = {"foundation": foundation, **stored}
        if parameters.attempts is not None:
            _, inputs["corrections"] = _corrected(
                stage, split, parent, parameters.attempts, parameters.operators, studio, stored
            )

        def build(folder: Path) -> dict[str, Any]:
            corrections = inputs.get("corrections")
            return demonstrate_tasks(
                folder, _materials(stored), split, parameters, studio,
                None if corrections is None else corrections.path,
            )  # fmt: skip

        return obtain_by_builder(
            run, f"{stage}.data", build, revision=5, parameters=parameters, inputs=inputs,
            outside={"split": split},
        )  # fmt: skip

    return prepare


def tool_lessons_node(stage: str, split: str) -> Callable[..., Stored]:
    """Make the node function that asks questions which tools answer, of the projects of a split."""

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
            return demonstrate_answers(folder, _materials(stored), split, parameters, studio)

        return obtain_by_builder(
            run, f"{stage}.data", build, revision=6, parameters=parameters,
            inputs={"foundation": foundation, **stored}, outside={"split": split},
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
        from curricle.pipelines.agent.demonstrations import Studio
        from curricle.pipelines.agent.practice import pair_attempts

        studio = Studio(run, executor, sandbox, parent.candidate.path)
        attempts, corrections = _corrected(
            stage, split, parent, parameters, parameters.operators, studio, stored
        )

        def build(folder: Path) -> dict[str, Any]:
            return pair_attempts(folder, attempts.path, corrections.path, parameters)

        return obtain_by_builder(
            run, f"{stage}.data", build, revision=5, parameters=parameters,
            inputs={"attempts": attempts, "corrections": corrections},
        )  # fmt: skip

    return prepare


def _corrected(
    stage: str,
    split: str,
    parent: Certificate,
    parameters: CorrectionParameters,
    operators: Sequence[str] | None,
    studio: Studio,
    stored: Mapping[str, Stored],
) -> tuple[Stored, Stored]:
    """Have the parent try a split's tasks, and the expert do right where it failed."""
    from curricle.pipelines.agent.demonstrations import demonstrate_corrections
    from curricle.pipelines.agent.material import chosen_materials
    from curricle.reporting.attempts import ATTEMPTS, read_attempts

    materials = chosen_materials(_materials(stored), operators)
    attempts = obtain_by_job(
        studio.run, step=f"{stage}.rollouts", kind="rollout",
        inputs={"model": parent.candidate, **stored},
        parameters={
            "rollouts": parameters.rollouts.model_dump(mode="json"), "split": split,
            "operators": operators, "precision": "auto",
        },
    )  # fmt: skip

    def correct(folder: Path) -> dict[str, Any]:
        tried = read_attempts(attempts.path / ATTEMPTS)
        return demonstrate_corrections(folder, tried, materials, split, parameters, studio)

    corrections = obtain_by_builder(
        studio.run, f"{stage}.corrections", correct, revision=2, parameters=parameters,
        inputs={"attempts": attempts, **stored}, outside={"split": split},
    )  # fmt: skip
    return attempts, corrections


def promote(parent: Certificate, parameters: Parameters, run: RunSettings) -> Stored:
    """Take the last candidate again, to be judged by what a whole curriculum owes."""
    return parent.candidate


def _materials(stored: Mapping[str, Stored]) -> list[Any]:
    from curricle.pipelines.agent.material import Material

    languages = sorted(name.removeprefix("tasks_") for name in stored if name.startswith("tasks_"))
    return [Material(x, stored[f"projects_{x}"], stored[f"tasks_{x}"]) for x in languages]
