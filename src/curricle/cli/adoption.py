"""Certifies a model that was trained elsewhere, and says in the certificate that it was."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kedro.pipeline import Pipeline

from curricle.checkpoints.certificate import Certificate
from curricle.cli.project import Project
from curricle.config.base import RunSettings
from curricle.config.foundation import FoundationParameters
from curricle.errors import ConfigError
from curricle.pipelines.foundation.nodes import import_model
from curricle.planning.parameters import did_you_mean

_SUFFIX = "_checkpoint"


def adopt_model(
    project: Project, path: Path, stage: str, pipelines: Mapping[str, Pipeline]
) -> Certificate:
    """Copy a checkpoint into the store and make it a stage's certificate in force.

    The certificate has no parent and no metrics, so a gate that compares with what an earlier
    stage left stays closed for its descendants. An older certificate stays in the archive.

    Args:
        project: the open project.
        path: a folder with ``config.json``, safetensors weights and a tokenizer.
        stage: whose ``<stage>_checkpoint`` it becomes.
        pipelines: all that are registered; one of them has to know the stage.

    Raises:
        ConfigError: no pipeline reads or writes such a checkpoint.
        DataError: the folder holds no whole checkpoint.
    """
    stages = {
        name.removesuffix(_SUFFIX)
        for pipeline in dict(pipelines).values()
        for name in pipeline.datasets()
        if name.endswith(_SUFFIX)
    }
    if stage not in stages:
        raise ConfigError(f"There is no stage {stage}; {did_you_mean(stage, stages)}")
    run = RunSettings.model_validate(project.parameters["run"])
    parameters = FoundationParameters(kind="local", path=path.resolve())
    candidate = import_model(parameters, run, step=f"{stage}.adopted")
    report = {
        "stage": stage,
        "candidate": candidate.digest,
        "adopted": "trained elsewhere; no gate of this curriculum judged it",
        "metrics": {},
    }
    certificate = Certificate(stage, candidate, report)
    project.catalog[f"{stage}{_SUFFIX}"].save(certificate)
    return certificate
