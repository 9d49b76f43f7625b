"""The stages of coding agents, as data: the same kinds for every language."""

from __future__ import annotations

from collections.abc import Sequence

from curricle.config.agent_training import AgentPreferenceParameters, GrpoParameters
from curricle.config.training import LoraParameters
from curricle.pipelines.agent.nodes import (
    demonstration_inputs,
    demonstrations_node,
    material_inputs,
    pairs_node,
    practice_node,
    promote,
    tool_lessons_node,
)
from curricle.pipelines.foundation.pipeline import HELDOUT
from curricle.stages.spec import Prepare, StageSpec

METRICS = ("language", "agent")
"""What every candidate is measured by: what it forgets, and what it can do."""


def tool_lessons_stage(name: str, parent: str, languages: Sequence[str]) -> StageSpec:
    """SFT on questions that tools answer."""
    return _sft_stage(name, parent, languages, Prepare(
        tool_lessons_node(name), demonstration_inputs(languages)
    ))  # fmt: skip


def agent_sft_stage(name: str, parent: str, languages: Sequence[str], split: str) -> StageSpec:
    """SFT on demonstrated repairs of a split's bugs."""
    return _sft_stage(name, parent, languages, Prepare(
        demonstrations_node(name, split), demonstration_inputs(languages)
    ))  # fmt: skip


def agent_ipo_stage(name: str, parent: str, languages: Sequence[str], split: str) -> StageSpec:
    """IPO on attempts of the parent: what fixed a bug against what did not."""
    return StageSpec(
        name=name,
        job="agent_ipo",
        parameters=AgentPreferenceParameters,
        metrics=METRICS,
        prepare=Prepare(
            pairs_node(name, split),
            {
                "parent": f"{parent}_checkpoint",
                "executor": "params:executor",
                "sandbox": "params:sandbox",
                **material_inputs(languages),
            },
        ),
        parent=parent,
        heldout=HELDOUT,
        root="foundation",
        measured_on=material_inputs(languages),
    )


def agent_grpo_stage(name: str, parent: str, languages: Sequence[str], split: str) -> StageSpec:
    """GRPO on a split's bugs, with the full grader's word as the reward."""
    return StageSpec(
        name=name,
        job="grpo",
        parameters=GrpoParameters,
        metrics=METRICS,
        prepare=Prepare(practice_node(name, split), material_inputs(languages)),
        parent=parent,
        inputs={f"projects_{language}": f"{language}_projects" for language in languages},
        heldout=HELDOUT,
        root="foundation",
        measured_on=material_inputs(languages),
    )


def final_stage(name: str, parent: str) -> StageSpec:
    """Train nothing: judge the last candidate, as it was measured, by the curriculum's policy."""
    return StageSpec(
        name=name,
        job=None,
        parameters=None,
        metrics=METRICS,
        prepare=Prepare(promote, {"parent": f"{parent}_checkpoint"}, output="candidate"),
        parent=parent,
        root="foundation",
    )


def _sft_stage(name: str, parent: str, languages: Sequence[str], prepare: Prepare) -> StageSpec:
    return StageSpec(
        name=name,
        job="lora",
        parameters=LoraParameters,
        metrics=(*METRICS, "merge"),
        prepare=prepare,
        parent=parent,
        heldout=HELDOUT,
        root="foundation",
        measured_on=material_inputs(languages),
    )
