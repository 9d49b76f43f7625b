"""A task adapter on the aligned model, merged, as data."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from curricle.config.training import LoraParameters
from curricle.pipelines.lora.nodes import prepare_task
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import PACKED_CORPUS, Prepare, StageSpec

LORA = StageSpec(
    name="lora",
    job="lora",
    parameters=LoraParameters,
    metrics=("language", "task", "merge"),
    prepare=Prepare(prepare_task, {"documents": "corpus_documents"}),
    parent="dpo",
    inputs={"replay": PACKED_CORPUS},
)


def create_pipeline() -> Pipeline:
    """Return the LoRA stage."""
    return stage_pipeline(LORA)
