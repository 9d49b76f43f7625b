"""Parameters of the evaluation pipelines: any model, on a language's held-out bug tasks."""

from __future__ import annotations

from pydantic import Field, model_validator

from curricle.config.agent_data import AgentRolloutParameters
from curricle.config.base import Parameters


class BaselineParameters(Parameters):
    """Repairs without a model, which stand beside every rate.

    Attributes:
        rule_tasks: Training tasks on which the best rule is chosen, balanced over operators; each
            takes a grade for every rule that changes something.
        operator_share: One operator's largest share of them.
        tries: Repairs whose visible tests the searching rules may run for a task: as many as an
            agent has turns.
        seed: Draws the training tasks, and what the grader draws.
    """

    rule_tasks: int = Field(default=24, ge=1)
    operator_share: float = Field(default=0.2, gt=0, le=1)
    tries: int = Field(default=8, ge=1)
    seed: int = 0


class EvaluationParameters(Parameters):
    """What is evaluated, on how much, and what it should reach.

    Attributes:
        checkpoint: A certificate that a gate wrote, a folder in the store, or the folder of a
            saved model; `None` takes the certificate of the language's last stage, or no checkpoint
            at all where an endpoint renders by itself.
        attempts: One attempt at each task, from which all rates come.
        samples: Attempts at each task for pass@k; 1 takes the attempt that is there.
        sampled_tasks: Tasks of which these samples are drawn, the first ones; ``None`` for all.
        temperature: Of these samples.
        pass_at: For which `k` pass@k is given; no `k` above `samples` can be.
        targets: Name of a rate to the value that it should reach.
        baselines: What needs no model.
    """

    checkpoint: str | None = None
    attempts: AgentRolloutParameters = AgentRolloutParameters(levels=("check", "lint"))
    samples: int = Field(default=1, ge=1)
    sampled_tasks: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=0.8, gt=0)
    pass_at: tuple[int, ...] = (1, 8)
    targets: dict[str, float] = Field(default_factory=dict)
    baselines: BaselineParameters = BaselineParameters()

    @model_validator(mode="after")
    def _one_attempt(self) -> EvaluationParameters:
        if self.attempts.samples != 1:
            raise ValueError(
                "attempts.samples must be 1: rates are of one attempt. For pass@k set `samples`"
            )
        return self

    @property
    def sampled(self) -> AgentRolloutParameters:
        """The attempts for pass@k; those of the rates when one sample is enough."""
        if self.samples == 1:
            return self.attempts
        generation = self.attempts.generation.model_copy(update={"temperature": self.temperature})
        tasks = min(self.attempts.max_tasks, self.sampled_tasks or self.attempts.max_tasks)
        return self.attempts.model_copy(
            update={
                "samples": self.samples, "generation": generation, "levels": (),
                "max_tasks": tasks,
            }
        )  # fmt: skip
