"""Direct preference optimisation, as data."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from curricle.config.training import DpoParameters
from curricle.pipelines.dpo.nodes import prepare_pairs
from curricle.stages.pipeline import stage_pipeline
from curricle.stages.spec import Prepare, StageSpec

DPO = StageSpec(
    name="dpo",
    job="dpo",
    parameters=DpoParameters,
    metrics=("language", "preference", "requests"),
    prepare=Prepare(prepare_pairs, {"documents": "corpus_documents", "chat": "sft_data"}),
    parent="sft",
)


def create_pipeline() -> Pipeline:
    """Return the DPO stage."""
    return stage_pipeline(DPO)
