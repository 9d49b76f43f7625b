"""Pretraining, as data."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from curricle.config.training import PretrainParameters
from curricle.pipelines.pretrain.nodes import initialise_model
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import PACKED_CORPUS, Prepare, StageSpec

PRETRAIN = StageSpec(
    name="pretrain",
    job="pretrain",
    parameters=PretrainParameters,
    metrics=("language",),
    prepare=Prepare(initialise_model, {"tokenizer": "corpus_tokenizer"}, output="initial"),
    data=PACKED_CORPUS,
)


def create_pipeline() -> Pipeline:
    """Return the pretraining stage."""
    return stage_pipeline(PRETRAIN)
