"""The node of pretraining that the stage grammar does not bring."""

from __future__ import annotations

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.training import ModelConfig
from curricle.launch.run import obtain_by_job


def initialise_model(tokenizer: Stored, parameters: ModelConfig, run: RunSettings) -> Stored:
    """Obtain the untrained model that pretraining starts from."""
    return obtain_by_job(
        run,
        step="pretrain.initial",
        kind="init",
        inputs={"tokenizer": tokenizer},
        parameters=parameters.model_dump(mode="json"),
    )
