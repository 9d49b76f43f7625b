"""What every parameter model shares, and the settings of a run as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Parameters(BaseModel):
    """A block of parameters: immutable, and a mistyped key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunSettings(Parameters):
    """How work is run. Nothing here decides a result, so nothing here is in a fingerprint.

    Attributes:
        store: absolute folder of the content-addressed results.
        launch: ``in_process`` (one CPU: torch is imported once), ``child`` (one GPU: its memory
            is free again after each job) or ``auto``, which takes what the hardware suggests.
        checkpoint_every_s: seconds between two trainer checkpoints.
        keep_checkpoints: how many valid trainer checkpoints stay.
        threads: CPU threads; ``None`` takes what the operating system grants the process.
        tracking: where curves also go while they grow. Weights & Biases stays offline unless
            ``WANDB_MODE`` says otherwise.
    """

    store: Path
    launch: Literal["auto", "in_process", "child"] = "auto"
    checkpoint_every_s: float = Field(default=30.0, gt=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    threads: int | None = Field(default=None, ge=1)
    tracking: Literal["none", "wandb", "mlflow"] = "none"
