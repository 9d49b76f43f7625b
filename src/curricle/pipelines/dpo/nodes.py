"""The node that makes the preference pairs."""

from __future__ import annotations

from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.chat import PairParameters
from curricle.stages.build import dataset_state, obtain_by_builder


def prepare_pairs(
    documents: Stored, chat: Stored, parameters: PairParameters, run: RunSettings
) -> Stored:
    """Obtain pairs: the real function before a mutant of it, and refusals where they belong."""
    from curricle.pipelines.dpo.pairs import build_pairs

    return obtain_by_builder(
        run, "dpo.data",
        lambda folder: build_pairs(folder, documents.path, chat.path, parameters), revision=1,
        parameters=parameters, inputs={"documents": documents, "chat": chat},
        outside=dataset_state(parameters.dataset),
    )  # fmt: skip
