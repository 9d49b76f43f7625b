"""What is evaluated: a certificate, a folder, or a server, found by the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.checkpoints.certificate import Certificate, stored_from_json, stored_to_json
from curricle.checkpoints.datasets import read_certificate
from curricle.checkpoints.manifest import read_manifest
from curricle.checkpoints.store import Store, Stored
from curricle.config.base import RunSettings
from curricle.config.evaluation import EvaluationParameters
from curricle.config.foundation import FoundationParameters
from curricle.errors import ConfigError, StoreError
from curricle.pipelines.foundation.nodes import import_model
from curricle.pipelines.language.pipeline import language_stages
from curricle.reporting.attempts import judged_attempts, stored_attempts

MODELS = "06_models"


@dataclass(frozen=True)
class Subject:
    """A model under evaluation.

    Attributes:
        name: What reports call it.
        model: Its checkpoint; `None` for a server that renders by itself.
        stage: The stage that certified it; empty when none did.
        parent: The stage that it was trained from, when its attempts are at hand.
        parent_attempts: The file of those attempts.
        start: The first stage of its lineage, when its attempts are at hand: before any training.
        start_attempts: The file of those attempts.
    """

    name: str
    model: Stored | None
    stage: str = ""
    parent: str = ""
    parent_attempts: Path | None = None
    start: str = ""
    start_attempts: Path | None = None

    def to_json(self, folder: Path) -> dict[str, Any]:
        """A JSON-able form, paths relative to `folder`."""
        beside = {"parent": self.parent_attempts, "start": self.start_attempts}
        return {
            "name": self.name,
            "model": None if self.model is None else stored_to_json(self.model, folder),
            "stage": self.stage,
            "parent": self.parent,
            "start": self.start,
            **{
                f"{name}_attempts": None if path is None else str(path.relative_to(folder))
                for name, path in beside.items()
            },
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], folder: Path) -> Subject:
        """Rebuild a subject that was written relative to `folder`."""
        model = content["model"]
        parent, start = (
            None if content[f"{name}_attempts"] is None else folder / content[f"{name}_attempts"]
            for name in ("parent", "start")
        )
        return cls(
            content["name"],
            None if model is None else stored_from_json(model, folder),
            content["stage"],
            content["parent"],
            parent,
            content["start"],
            start,
        )


def find_subject(language: str, parameters: EvaluationParameters, run: RunSettings) -> Subject:
    """Find what the parameters name.

    Raises:
        ConfigError: There is no such file or folder, no certificate yet, or an endpoint that takes
            text has no checkpoint to render by.
        StoreError: A certificate was edited, or what it certifies is gone.
        DataError: A folder holds no checkpoint.
    """
    endpoint = parameters.attempts.generation.endpoint
    if endpoint is None:
        return _checkpoint(language, parameters.checkpoint, run)
    name = f"{endpoint.model} at {endpoint.url}"
    if endpoint.api == "chat":
        if parameters.checkpoint is not None:
            raise ConfigError(
                f"evaluation.checkpoint={parameters.checkpoint} would not be read: an endpoint "
                "with api=chat has a model of its own. Name one of the two."
            )
        return Subject(name, None)
    if parameters.checkpoint is None:
        raise ConfigError(
            "evaluation.attempts.generation.endpoint.api=completions sends rendered text: name the "
            "checkpoint that renders it, evaluation.checkpoint=PATH, or use api=chat."
        )
    return Subject(name, _checkpoint(language, parameters.checkpoint, run).model)


def _checkpoint(language: str, named: str | None, run: RunSettings) -> Subject:
    if named is None:
        stage = language_stages(language)[-1].name
        earned = run.store.parent / MODELS / f"{stage}_checkpoint.json"
        if not earned.is_file():
            raise ConfigError(
                f"{stage} has no certificate yet. Earn it: kedro run --pipelines lang_{language}. "
                "Or evaluate another one: --params evaluation.checkpoint=PATH."
            )
        return _certified(earned, language, run)
    path = Path(named).expanduser()
    if path.is_dir():
        return _folder(path, run)
    if not path.is_file():
        raise ConfigError(
            f"evaluation.checkpoint={named}: no such file or folder. Name a certificate, such as "
            f"data/{MODELS}/tui_checkpoint.json, or the folder of a saved model."
        )
    return _certified(path, language, run)


def _certified(path: Path, language: str, run: RunSettings) -> Subject:
    certificate = read_certificate(path)
    if read_manifest(certificate.candidate.path) is None:
        raise StoreError(f"{path} certifies {certificate.candidate.path}, which is gone.")
    name = f"{certificate.stage} ({certificate.hash[:12]})"
    parent, start = certificate.parent, certificate
    while start.parent is not None:
        start = start.parent
    attempts = _attempts_of(parent, language, run)
    first = _attempts_of(None if start is certificate else start, language, run)
    return Subject(
        name, certificate.candidate, certificate.stage,
        parent.stage if parent and attempts else "", attempts,
        start.stage if first else "", first,
    )  # fmt: skip


def _attempts_of(ancestor: Certificate | None, language: str, run: RunSettings) -> Path | None:
    """From an evaluation like this one, else from the one that its gate judged."""
    if ancestor is None:
        return None
    store, digest = Store(run.store), ancestor.candidate.digest
    alike = stored_attempts(store, attempts_step(language), "model", digest)
    return alike or judged_attempts(store, digest)


def _folder(path: Path, run: RunSettings) -> Subject:
    manifest = read_manifest(path)
    if manifest is None:
        local = FoundationParameters(kind="local", path=path)
        return Subject(path.name, import_model(local, run, "evaluation.model"))
    stored = Stored(manifest.step, manifest.fingerprint, manifest.digest, path.resolve())
    return Subject(f"{stored.step}/{stored.fingerprint}", stored)


def attempts_step(language: str) -> str:
    """The store step of attempts at a language's held-out tasks."""
    return f"eval_{language}.attempts"
