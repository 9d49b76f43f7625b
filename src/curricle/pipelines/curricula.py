"""The curricula of the core, each an ordered list of stages."""

from __future__ import annotations

from collections.abc import Sequence

from curricle.pipelines.coding_tui.pipeline import tui_stages
from curricle.pipelines.dpo.pipeline import DPO
from curricle.pipelines.foundation.pipeline import foundation_stage
from curricle.pipelines.language.pipeline import language_stages
from curricle.pipelines.lora.pipeline import LORA
from curricle.pipelines.pretrain.pipeline import PRETRAIN
from curricle.pipelines.sft.pipeline import SFT
from curricle.stages.spec import StageSpec

GENERAL: tuple[StageSpec, ...] = (PRETRAIN, SFT, DPO, LORA)
"""From nothing to an aligned model with a task adapter."""


def all_stages(languages: Sequence[str]) -> tuple[StageSpec, ...]:
    """Return every stage: the general curriculum, the coding agent's, and each language's."""
    agent = (foundation_stage(languages), *tui_stages(languages)) if languages else ()
    return (*GENERAL, *agent, *(spec for name in languages for spec in language_stages(name)))
