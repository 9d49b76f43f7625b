"""The node that makes the conversations of SFT."""

from __future__ import annotations

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.chat import ChatParameters
from curricle.stages.build import dataset_state, obtain_by_builder


def prepare_chat(documents: Stored, parameters: ChatParameters, run: RunSettings) -> Stored:
    """Obtain conversations: functions, explanations, completions, requests and refusals."""
    from curricle.pipelines.sft.chat import build_chat

    return obtain_by_builder(
        run, "sft.data", lambda folder: build_chat(folder, documents.path, parameters), revision=1,
        parameters=parameters, inputs={"documents": documents},
        outside=dataset_state(parameters.dataset),
    )  # fmt: skip
