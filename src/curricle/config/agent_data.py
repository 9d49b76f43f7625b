"""Parameters of what agents learn from: demonstrations of tasks and of questions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from curricle.config.agents import ExpertParameters, QuestionParameters, SessionParameters
from curricle.config.base import Parameters
from curricle.config.execution import SandboxParameters
from curricle.config.generation import GenerationParameters, RolloutParameters


class DemonstrationParameters(Parameters):
    """Executed trajectories for one stage of agent SFT.

    Attributes:
        session: What tools show; the same in every stage and in evaluation.
        expert: How the scripted expert fixes bugs.
        run_wall_s: Seconds that a run of tests may take.
        operators: The sorts of bugs that are learned from; ``None`` takes all.
        max_tasks: Bug tasks that are demonstrated, balanced over operators.
        operator_share: One operator's largest share of them.
        repeats: Trajectories of each task, each with detours of its own.
        seed: Draws tasks and detours.
    """

    session: SessionParameters = SessionParameters()
    expert: ExpertParameters = ExpertParameters()
    run_wall_s: float = Field(default=20.0, gt=0)
    operators: tuple[str, ...] | None = None
    max_tasks: int = Field(default=200, ge=1)
    operator_share: float = Field(default=0.2, gt=0, le=1)
    repeats: int = Field(default=1, ge=1)
    seed: int = 0


class ToolLessonParameters(Parameters):
    """Questions that tools answer, for the first stage of a coding agent.

    Attributes:
        session: What tools show; the same in every stage and in evaluation.
        questions: How many of each kind and project, and of which functions.
        run_wall_s: Seconds that a run of tests may take.
        operators: The sorts of bugs that are learned from; ``None`` takes all.
        mutants: Slips for the questions about odd lines, drawn from each project and library.
        library_files: Files of each library that are asked about.
        max_questions: At most so many, balanced over kinds.
        kind_share: One kind's largest share.
        seed: Draws questions and wording.
    """

    session: SessionParameters = SessionParameters()
    questions: QuestionParameters = QuestionParameters()
    run_wall_s: float = Field(default=20.0, gt=0)
    operators: tuple[str, ...] | None = None
    mutants: int = Field(default=100, ge=0)
    library_files: int = Field(default=40, ge=1)
    max_questions: int = Field(default=400, ge=1)
    kind_share: float = Field(default=0.5, gt=0, le=1)
    seed: int = 0


class PracticeParameters(Parameters):
    """Bug tasks to try, for GRPO.

    Attributes:
        operators: The sorts of bugs that are learned from; ``None`` takes all.
        max_tasks: At most so many, balanced over operators.
        operator_share: One operator's largest share of them.
        seed: Draws them.
    """

    operators: tuple[str, ...] | None = None
    max_tasks: int = Field(default=100, ge=1)
    operator_share: float = Field(default=0.2, gt=0, le=1)
    seed: int = 0


class AgentRolloutParameters(Parameters):
    """Attempts at bug tasks by a model, each graded in the end.

    Attributes:
        session: What tools show; the same in every stage and in evaluation.
        rollout: What bounds a conversation.
        generation: How answers are generated.
        renderer: How conversations are written; ``None`` takes what the checkpoint carries.
        max_tasks: At most so many tasks, in their stored order.
        samples: Attempts at each; more than one need a temperature.
        levels: Beside the tests: ``check``, ``lint``; compared with the original.
        sandbox: Where tests run.
        run_wall_s: Seconds that a run of tests may take.
    """

    session: SessionParameters = SessionParameters()
    rollout: RolloutParameters = RolloutParameters()
    generation: GenerationParameters = GenerationParameters()
    renderer: Literal["plain", "json", "harmony"] | None = None
    max_tasks: int = Field(default=24, ge=1)
    samples: int = Field(default=1, ge=1)
    levels: tuple[Literal["check", "lint"], ...] = ()
    sandbox: SandboxParameters = SandboxParameters()
    run_wall_s: float = Field(default=20.0, gt=0)


class AgentPairParameters(Parameters):
    """Pairs of conversations, of which one fixed the bug and one did not.

    Attributes:
        operators: The sorts of bugs that are tried; ``None`` takes all.
        rollouts: Attempts of the model that the stage starts from.
        expert: How the scripted expert words what it does.
        corrections: At how many points the expert steps in to an attempt that failed, and does what
            is right in its place: before the first edit, then after each edit that left tests
            failing. 0 pairs attempts with attempts alone.
        turns: Turns of the model that are compared, from where two conversations part; ``None`` for
            all. One is the decision alone.
        per_task: Pairs of one task at most.
        operator_share: One operator's largest share of the pairs.
        seed: Draws pairs.
    """

    operators: tuple[str, ...] | None = None
    rollouts: AgentRolloutParameters = AgentRolloutParameters(samples=4)
    expert: ExpertParameters = ExpertParameters()
    corrections: int = Field(default=2, ge=0)
    turns: int | None = Field(default=None, ge=1)
    per_task: int = Field(default=2, ge=1)
    operator_share: float = Field(default=0.2, gt=0, le=1)
    seed: int = 0
