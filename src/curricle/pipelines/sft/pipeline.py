"""Supervised fine-tuning, as data."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from curricle.config.training import SftParameters
from curricle.pipelines.sft.nodes import prepare_chat
from curricle.stages.pipeline import HELDOUT, stage_pipeline
from curricle.stages.spec import Prepare, StageSpec

SFT = StageSpec(
    name="sft",
    job="sft",
    parameters=SftParameters,
    metrics=("language", "chat", "requests"),
    prepare=Prepare(prepare_chat, {"documents": "corpus_documents"}),
    parent="pretrain",
    inputs={"replay": HELDOUT},
)


def create_pipeline() -> Pipeline:
    """Return the SFT stage."""
    return stage_pipeline(SFT)
