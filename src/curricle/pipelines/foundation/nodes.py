"""The nodes of the foundation."""

from __future__ import annotations

from pathlib import Path

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.datasets import CertificateDataset, never_made
from curricle.checkpoints.hashing import hash_tree
from curricle.checkpoints.store import Stored
from curricle.config.base import Parameters, RunSettings
from curricle.config.foundation import PACKAGED_MODELS, FoundationParameters
from curricle.errors import DataError, StoreError
from curricle.launch.run import obtain_by_job
from curricle.stages.build import obtain_by_builder

STEP = "foundation.model"
_HELDOUT_TOKENS = 512


def obtain_foundation(
    parameters: FoundationParameters, run: RunSettings, after: Certificate | None = None
) -> Stored:
    """Obtain the model that the agent curricula start from.

    Args:
        parameters: where it comes from.
        run: where the store is.
        after: a certificate that has to be earned before this node runs, for a run in which the
            other curriculum comes first. What it certifies is read from its file, as without it.
    """
    if parameters.kind == "certificate":
        assert parameters.certificate is not None, "the parameters' own validation"
        if not parameters.certificate.exists():
            raise StoreError(never_made(parameters.certificate))
        return CertificateDataset(filepath=str(parameters.certificate)).load().candidate
    return import_model(parameters, run, STEP)


def take_foundation(model: Stored, parameters: FoundationParameters, run: RunSettings) -> Stored:
    """Make the obtained model the stage's candidate."""
    return model


def pack_foundation_heldout(documents: Stored, foundation: Stored, run: RunSettings) -> Stored:
    """Obtain the corpus' held-out documents in the foundation's tokens."""
    from curricle.pipelines.foundation.heldout import pack_heldout

    return obtain_by_builder(
        run, "foundation.heldout",
        lambda folder: pack_heldout(folder, documents.path, foundation.path, _HELDOUT_TOKENS),
        revision=1, parameters=Parameters(),
        inputs={"documents": documents, "foundation": foundation},
    )  # fmt: skip


def import_model(parameters: FoundationParameters, run: RunSettings, step: str) -> Stored:
    """Obtain a model from outside the store: checked, copied or converted once, and kept.

    Raises:
        DataError: there is no such folder, or it is no checkpoint.
    """
    identity: dict[str, object] = {"kind": parameters.kind}
    if parameters.kind == "packaged":
        identity |= {"package": parameters.package}
        identity |= {"sha256": PACKAGED_MODELS[parameters.package].sha256}
    elif parameters.kind == "hub":
        identity |= {"repository": parameters.repository, "revision": parameters.revision}
    else:
        identity |= {"content": _content(parameters.path or Path())}
    where = parameters.model_dump(mode="json")
    return obtain_by_job(
        run,
        step=step,
        kind="foundation",
        inputs={},
        parameters={**identity, "where": where},
        outside_fingerprint=frozenset({"where"}),
    )


def _content(folder: Path) -> str:
    folder = folder.expanduser()
    if not (folder / "config.json").is_file():
        raise DataError(
            f"{folder} is no checkpoint: it has no config.json. Name the folder that "
            f"`save_pretrained` wrote: config.json, safetensors weights and the tokenizer."
        )
    return hash_tree(folder)
