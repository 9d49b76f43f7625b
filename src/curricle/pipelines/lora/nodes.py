"""The node that makes the task of the adapter."""

from __future__ import annotations

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.chat import TaskParameters
from curricle.stages.build import obtain_by_builder


def prepare_task(documents: Stored, parameters: TaskParameters, run: RunSettings) -> Stored:
    """Obtain the labelled functions of the task."""
    from curricle.pipelines.lora.tasks import build_task

    return obtain_by_builder(
        run, "lora.data", lambda folder: build_task(folder, documents.path, parameters), revision=1,
        parameters=parameters, inputs={"documents": documents},
    )  # fmt: skip
