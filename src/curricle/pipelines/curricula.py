"""The curricula of the core, each an ordered list of stages."""

from __future__ import annotations

from curricle.pipelines.dpo.pipeline import DPO
from curricle.pipelines.lora.pipeline import LORA
from curricle.pipelines.pretrain.pipeline import PRETRAIN
from curricle.pipelines.sft.pipeline import SFT
from curricle.stages.spec import StageSpec

GENERAL: tuple[StageSpec, ...] = (PRETRAIN, SFT, DPO, LORA)
"""From nothing to an aligned model with a task adapter."""
