"""The curriculum of a coding agent in all installed languages, as data."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Pipeline

from curricle.pipelines.agent.stages import (
    agent_grpo_stage,
    agent_ipo_stage,
    agent_sft_stage,
    final_stage,
    tool_lessons_stage,
)
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import StageSpec

SPLIT = "tui"
"""Its projects are apart from those of the language curricula, and from those of evaluation."""


def tui_stages(languages: Sequence[str]) -> tuple[StageSpec, ...]:
    """Return the stages, in order; the last one's certificate is ``tui_checkpoint``."""
    return (
        tool_lessons_stage("tui_tools", "foundation", languages),
        agent_sft_stage("tui_agent", "tui_tools", languages, SPLIT),
        agent_ipo_stage("tui_ipo", "tui_agent", languages, SPLIT),
        agent_grpo_stage("tui_grpo", "tui_ipo", languages, SPLIT),
        final_stage("tui", "tui_grpo"),
    )


def create_pipeline(languages: Sequence[str]) -> Pipeline:
    """Return the stages of the coding agent."""
    return Pipeline([stage_pipeline(spec) for spec in tui_stages(languages)])
