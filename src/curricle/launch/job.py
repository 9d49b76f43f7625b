"""A job: one piece of heavy work, described by data.

The table below is all that the light side knows of the engine, so that fingerprints are computed,
and stored results found again, without importing torch. ``revision`` rises when a change of code
changes results; that, and not the code's text, is part of the fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class JobKind:
    """An entry of the job table.

    Attributes:
        target: ``module:function`` in the engine, called with the job and a progress object.
        revision: rises with every change that alters results.
        libraries: distributions whose versions are recorded with the result.
    """

    target: str
    revision: int
    libraries: tuple[str, ...] = ("torch", "transformers")


_TRL = ("torch", "transformers", "trl", "accelerate")

JOB_KINDS: dict[str, JobKind] = {
    "init": JobKind("curricle.engine.models:init_job", revision=1),
    "pretrain": JobKind("curricle.engine.pretraining:pretrain_job", revision=1),
    "sft": JobKind("curricle.engine.post_training:sft_job", revision=3, libraries=_TRL),
    "dpo": JobKind("curricle.engine.post_training:dpo_job", revision=3, libraries=_TRL),
    "lora": JobKind("curricle.engine.adapters:lora_job", revision=5, libraries=(*_TRL, "peft")),
    "agent_ipo": JobKind(
        "curricle.engine.agent_preferences:agent_ipo_job", revision=3, libraries=(*_TRL, "peft")
    ),
    "grpo": JobKind("curricle.engine.grpo:grpo_job", revision=3, libraries=(*_TRL, "peft")),
    "rollout": JobKind("curricle.engine.agent_rollouts:rollout_job", revision=3),
    "evaluate": JobKind("curricle.engine.evaluation:evaluate_job", revision=3),
    "foundation": JobKind("curricle.engine.foundation:foundation_job", revision=1),
    "probe_precision": JobKind("curricle.engine.precision:probe_job", revision=2),
}


class Job(BaseModel):
    """What the engine reads: written to ``JOB.json`` for a child, passed as it is in process.

    Attributes:
        kind: a key of ``JOB_KINDS``.
        step: the store step that it makes, for messages.
        inputs: name to folder.
        parameters: the parameters that decide the result.
        precision: effective precision, already chosen: ``fp32``, ``bf16`` or ``fp8``.
        output: the folder to fill.
        resume: a folder that survives an interruption; trainer checkpoints live there.
        checkpoint_every_s: seconds between trainer checkpoints.
        keep_checkpoints: how many valid ones stay.
        threads: CPU threads, or ``None``.
        tracking: ``none``, ``wandb`` or ``mlflow``.
        tracking_folder: where a tracker keeps its own files.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    step: str
    inputs: dict[str, Path]
    parameters: dict[str, Any]
    precision: str
    output: Path
    resume: Path
    checkpoint_every_s: float = 30.0
    keep_checkpoints: int = 2
    threads: int | None = None
    tracking: str = "none"
    tracking_folder: Path = Path()


class JobResult(BaseModel):
    """What the engine returns: see ``curricle.checkpoints.manifest.Manifest``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    effective: dict[str, Any] = {}
    measured: dict[str, Any] = {}
