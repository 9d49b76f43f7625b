"""Parameters of the stages that train an agent on what it did: IPO on pairs, GRPO on rewards."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from curricle.config.base import Parameters
from curricle.config.training import AdapterShape, DpoParameters, TrainerParameters

RendererName = Literal["plain", "json", "harmony"]


class EnvironmentSource(Parameters):
    """Where the conversations of a rollout take place.

    Attributes:
        function: ``module:function``; called once, with the settings and the stage's stored
            inputs, it returns what opens an environment for a task.
        settings: what else it is told, JSON-able.
        step_timeout_s: seconds that opening, a step or a reward may take; whatever takes longer is
            killed and masked.
        workers: processes that environments live in; ``None`` for one per core.
    """

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    settings: dict[str, Any] = Field(default_factory=dict)
    step_timeout_s: float = Field(default=60.0, gt=0)
    workers: int | None = Field(default=None, ge=1)


class GrpoParameters(TrainerParameters):
    """Group relative policy optimisation: tasks are tried several times, and compared.

    A round draws tasks, tries each ``num_generations`` times with the model as it is, and takes
    its optimizer steps on what was seen. Sampling is from the whole distribution (no top-p, no
    top-k): a truncated one would bias the ratios that the loss is made of.

    Attributes:
        environment: where the tries take place.
        rounds: how many there are.
        groups: tasks of a round.
        num_generations: tries of a task.
        num_iterations: how often a round's tries are trained on.
        max_length: longest conversation, in tokens, what the environment said included.
        max_turn_tokens: longest turn of the model.
        max_turns: turns of a conversation, where its environment does not end it before.
        observation_tokens: of one observation; a longer one is cut.
        conversation_timeout_s: wall clock of a conversation; one that takes longer is masked.
        overlong: what a conversation that outgrew ``max_length`` counts as: ``scored`` as it
            stands, or ``masked``, as if it had not been tried.
        redraws: how often a round replaces groups that teach nothing (all rewards equal, or
            masked) by other tasks, before it goes on with what it has.
        temperature: of sampling, and of the loss.
        beta: weight of the KL divergence from the start.
        epsilon: a token's probability ratio is clipped at one minus this.
        epsilon_high: and at one plus this; ``None`` takes ``epsilon``.
        loss_type: how tokens are averaged: ``dapo`` (over all tokens), ``grpo`` (first within each
            try) or ``dr_grpo`` (over the possible length).
        scale_rewards: ``group`` divides advantages by the group's standard deviation.
        kl_every: the KL divergence from the start is measured in every so many-th round; 0 never.
        concurrency: conversations side by side.
        renderer: how conversations are written; ``None`` takes what the checkpoint carries.
        adapter: a low-rank adapter to train, merged at the end; ``None`` trains all weights.
    """

    environment: EnvironmentSource
    rounds: int = Field(ge=1)
    groups: int = Field(ge=1)
    num_generations: int = Field(default=8, ge=2)
    num_iterations: int = Field(default=1, ge=1)
    max_turn_tokens: int = Field(default=96, ge=1)
    max_turns: int = Field(default=32, ge=1)
    observation_tokens: int = Field(default=512, ge=32)
    conversation_timeout_s: float = Field(default=1800.0, gt=0)
    overlong: Literal["scored", "masked"] = "scored"
    redraws: int = Field(default=1, ge=0)
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.0, ge=0)
    epsilon: float = Field(default=0.2, gt=0)
    epsilon_high: float | None = Field(default=None, gt=0)
    loss_type: Literal["dapo", "grpo", "dr_grpo"] = "dapo"
    scale_rewards: Literal["group", "none"] = "group"
    kl_every: int = Field(default=0, ge=0)
    concurrency: int = Field(default=16, ge=1)
    renderer: RendererName | None = None
    adapter: AdapterShape | None = None

    @property
    def tries(self) -> int:
        """Conversations of a round."""
        return self.groups * self.num_generations

    @property
    def steps_per_round(self) -> int:
        """Optimizer steps of a round."""
        return self.num_iterations * self.tries // self.batch_size

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if self.tries % self.batch_size:
            raise ValueError(
                f"batch_size={self.batch_size} does not divide the {self.tries} tries of a round "
                f"(groups x num_generations). Set batch_size={self.tries} for one step per round."
            )
        return self


class AgentPreferenceParameters(DpoParameters):
    """IPO on pairs of conversations, of which one succeeded and one failed.

    Attributes:
        loss_type: ``ipo`` or ``sigmoid``.
        beta: the margin that IPO asks for is 1 / (2 beta) nats per token: 0.1 would ask for 5,
            more than a sampled token's whole information; 1.0 asks for half a nat.
        renderer: how conversations are written; ``None`` takes what the checkpoint carries.
        adapter: a low-rank adapter to train, merged at the end; ``None`` trains all weights.
    """

    loss_type: Literal["sigmoid", "ipo"] = "ipo"
    beta: float = Field(default=1.0, gt=0)
    renderer: RendererName | None = None
    adapter: AdapterShape | None = None
