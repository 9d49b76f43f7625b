"""Supervised fine-tuning, as data."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from curricle.config.training import SftParameters
from curricle.pipelines.sft.nodes import prepare_chat
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import PACKED_CORPUS, Prepare, StageSpec

SFT = StageSpec(
    name="sft",
    job="sft",
    parameters=SftParameters,
    metrics=("language", "chat", "requests"),
    prepare=Prepare(prepare_chat, {"documents": "corpus_documents"}),
    parent="pretrain",
    inputs={"replay": PACKED_CORPUS},
)


def create_pipeline() -> Pipeline:
    """Return the SFT stage."""
    return stage_pipeline(SFT)
