"""The curriculum of one language, as data."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from curricle.pipelines.agent.stages import agent_grpo_stage, agent_ipo_stage, agent_sft_stage
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import StageSpec

SPLIT = "train"


def language_stages(language: str) -> tuple[StageSpec, ...]:
    """Return the stages of ``lang_<language>``, in order."""
    name, languages = f"lang_{language}", (language,)
    return (
        agent_sft_stage(f"{name}_sft", "tui", languages, SPLIT),
        agent_ipo_stage(f"{name}_ipo", f"{name}_sft", languages, SPLIT),
        agent_grpo_stage(f"{name}_grpo", f"{name}_ipo", languages, SPLIT),
    )


def create_pipeline(language: str) -> Pipeline:
    """Return ``lang_<language>``."""
    return Pipeline([stage_pipeline(spec) for spec in language_stages(language)])
