"""Parameters of the training stages. Names are those of Hugging Face wherever one exists."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from curricle.config.agent_data import AgentRolloutParameters
from curricle.config.base import Parameters

Precision = Literal["auto", "fp32", "bf16", "fp8"]

OUTSIDE_FINGERPRINT = frozenset({"per_device_train_batch_size", "oom_recovery"})
"""Training parameters that change how a step is computed but not which step it is."""


class ModelConfig(Parameters):
    """The architecture that pretraining starts from.

    Attributes:
        architecture: a name of ``curricle.config.architectures.ARCHITECTURES``.
        overrides: fields of the architecture's Hugging Face configuration to set otherwise.
        seed: seed of the initial weights.
    """

    architecture: str
    overrides: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0


class OptimizerParameters(Parameters):
    """AdamW and its schedule, over all steps of a stage.

    Attributes:
        learning_rate: peak rate. Zero is allowed: it trains nothing, and the gate will say so.
        lr_scheduler_type: shape of the decay after the warm-up.
        warmup_share: share of the steps in which the rate rises linearly.
        min_lr_share: the rate at the end, as a share of the peak.
        weight_decay: decoupled decay of matrices; vectors are never decayed.
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        max_grad_norm: gradients are clipped to this global norm.
    """

    learning_rate: float = Field(ge=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: float = Field(default=0.03, ge=0, lt=1)
    min_lr_share: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    adam_beta1: float = Field(default=0.9, gt=0, lt=1)
    adam_beta2: float = Field(default=0.95, gt=0, lt=1)
    max_grad_norm: float = Field(default=1.0, gt=0)


class PretrainParameters(OptimizerParameters):
    """Pretraining over the context curriculum.

    Attributes:
        tokens_per_step: tokens of one optimizer step, the same at every context length.
        per_device_train_batch_size: rows of one forward pass at the longest context; shorter
            ones take as many more. ``None`` takes a whole step at once.
        max_steps: at most so many steps over all context lengths; ``None`` for all the data.
        epochs: how often each context length's share of the documents is read.
        precision: ``auto`` measures.
        seed: seed of the order of rows.
        oom_recovery: halve the micro-batch when memory runs out, and go on.
    """

    tokens_per_step: int = Field(gt=0)
    per_device_train_batch_size: int | None = Field(default=None, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    epochs: int = Field(default=1, ge=1)
    precision: Precision = "auto"
    seed: int = 0
    oom_recovery: bool = True


class TrainerParameters(OptimizerParameters):
    """What every stage shares that a trainer of TRL trains.

    Attributes:
        max_length: longest sample, in tokens. A longer one is dropped and counted, never cut.
        batch_size: samples (or packed rows) of one optimizer step.
        per_device_train_batch_size: samples of one forward pass; ``None`` takes a whole step.
        precision: ``auto`` measures.
        seed: seed of the order of samples.
        oom_recovery: halve the micro-batch when memory runs out, and go on.
    """

    max_length: int = Field(gt=1)
    batch_size: int = Field(ge=1)
    per_device_train_batch_size: int | None = Field(default=None, ge=1)
    precision: Precision = "auto"
    seed: int = 0
    oom_recovery: bool = True
    weight_decay: float = Field(default=0.0, ge=0)
    adam_beta2: float = Field(default=0.999, gt=0, lt=1)


class PostTrainingParameters(TrainerParameters):
    """What SFT, DPO and LoRA share: passes over data that is there.

    Attributes:
        num_train_epochs: passes over the data.
        max_steps: at most so many steps; ``None`` for all epochs.
    """

    num_train_epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)


class SftParameters(PostTrainingParameters):
    """Supervised fine-tuning on the assistant's tokens.

    Attributes:
        replay_share: share of the packed rows that are pretraining text again, against
            forgetting; all their tokens are trained.
        renderer: how conversations with tools are written: ``plain`` or ``json`` (our chat
            template with that call format, saved with the checkpoint), ``harmony`` (GPT-OSS), or
            ``None`` for what the checkpoint carries.
        max_train_tokens: samples are taken in the order of the file until they hold so many
            tokens; ``None`` for all.
    """

    replay_share: float = Field(default=0.0, ge=0, lt=1)
    renderer: Literal["plain", "json", "harmony"] | None = None
    max_train_tokens: int | None = Field(default=None, ge=1)


class DpoParameters(PostTrainingParameters):
    """Preference optimisation.

    Attributes:
        loss_type: ``sigmoid`` (DPO) or ``ipo``, whose target margin per token is 1 / (2 beta).
        beta: strength of the pull towards the reference.
        sft_weight: weight of the chosen answers' own likelihood beside the preference loss
            (RPO's term): keeps the chosen from falling together with the rejected.
    """

    loss_type: Literal["sigmoid", "ipo"] = "sigmoid"
    beta: float = Field(default=0.1, gt=0)
    sft_weight: float = Field(default=0.0, ge=0)


class AdapterShape(Parameters):
    """What a low-rank adapter is attached to, and its size.

    Attributes:
        r: rank.
        lora_alpha: scale; updates are multiplied by ``lora_alpha / r``.
        target_modules: module names, or ``all-linear``.
        target_parameters: expert parameters of mixture models, by their suffix.
    """

    r: int = Field(default=16, ge=1)
    lora_alpha: float = Field(default=32.0, gt=0)
    target_modules: str | list[str] = "all-linear"
    target_parameters: list[str] | None = None


class LoraParameters(AdapterShape, SftParameters):
    """Supervised fine-tuning of a low-rank adapter, merged afterwards."""


class EvaluateParameters(Parameters):
    """How a candidate is measured.

    Attributes:
        max_rows: at most so many held-out rows per language metric.
        max_samples: at most so many held-out conversations, pairs or tasks.
        max_requests: at most so many unsafe, and as many safe, requests.
        max_new_tokens: length at which a generated answer is cut.
        per_device_eval_batch_size: rows of one forward pass.
        agent: how a coding agent is measured on held-out bug tasks; for its stages only.
    """

    max_rows: int = Field(default=256, ge=1)
    max_samples: int = Field(default=256, ge=1)
    max_requests: int = Field(default=64, ge=1)
    max_new_tokens: int = Field(default=24, ge=1)
    per_device_eval_batch_size: int = Field(default=16, ge=1)
    agent: AgentRolloutParameters | None = None
