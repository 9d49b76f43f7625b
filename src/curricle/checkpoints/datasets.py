"""The Kedro datasets of the store: a handle, and a certificate.

Both are small JSON files that point into the store. They exist only while the stored folder that
they name is whole, so that ``--only-missing-outputs`` never trusts half a checkpoint.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from curricle.checkpoints.certificate import Certificate, stored_from_json, stored_to_json
from curricle.checkpoints.manifest import read_manifest
from curricle.checkpoints.store import Stored, storage_errors
from curricle.errors import StoreError


def replace_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with temporary.open("w") as stream:
            stream.write(json.dumps(content, indent=2, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)


class StoredDataset(AbstractDataset[Stored, Stored]):
    """A handle on a stored result, as JSON.

    Args:
        filepath: the JSON file.
        metadata: free metadata, for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    def load(self) -> Stored:
        """Return the handle.

        Raises:
            StoreError: it was never saved, or the stored folder is gone or was replaced.
        """
        if not self._path.exists():
            raise StoreError(never_made(self._path))
        stored = stored_from_json(json.loads(self._path.read_text()), self._path.parent)
        if not _is_whole(stored):
            raise StoreError(
                f"{self._path} points to {stored.path}, which is gone or not the result that it "
                f"names. Run the stage again: `kedro run --pipelines {stored.step.split('.')[0]}`."
            )
        return stored

    def save(self, data: Stored) -> None:
        """Point to another stored result, atomically."""
        replace_json(self._path, stored_to_json(data, self._path.parent))

    def preview(self) -> JSONPreview:
        """Show the manifest in Kedro-Viz."""
        stored = stored_from_json(json.loads(self._path.read_text()), self._path.parent)
        manifest = read_manifest(stored.path)
        return JSONPreview(json.dumps(manifest.__dict__ if manifest else {"missing": True}))

    def _exists(self) -> bool:
        try:
            content = json.loads(self._path.read_text())
            return _is_whole(stored_from_json(content, self._path.parent))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


class CertificateDataset(AbstractDataset[Certificate, Certificate]):
    """``<stage>_checkpoint``: the certificate of the newest candidate that passed its gate.

    An older certificate is never lost: each one also stays under ``archive``, by its hash.

    Args:
        filepath: the JSON file of the current certificate.
        metadata: free metadata, for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(filepath)
        self.metadata = metadata

    @property
    def path(self) -> Path:
        """The JSON file of the current certificate."""
        return self._path

    @property
    def _archive(self) -> Path:
        return self._path.parent / "archive" / self._path.stem

    def load(self) -> Certificate:
        """Return the current certificate.

        Raises:
            StoreError: no gate wrote it yet, it was edited, or what it certifies is gone.
        """
        if not self._path.exists():
            raise StoreError(never_made(self._path))
        certificate = read_certificate(self._path)
        if not _is_whole(certificate.candidate):
            raise StoreError(
                f"{self._path} certifies {certificate.candidate.path}, which is gone or was "
                f"replaced. Run `kedro run --pipelines {certificate.stage}` to earn it again."
            )
        return certificate

    def save(self, data: Certificate) -> None:
        """Make this the current certificate, atomically, and keep it in the archive."""
        archived = self._archive / f"{data.hash[:16]}.json"
        replace_json(archived, data.to_json(archived.parent))
        replace_json(self._path, data.to_json(self._path.parent))

    def preview(self) -> JSONPreview:
        """Show the certificate in Kedro-Viz."""
        return JSONPreview(self._path.read_text())

    def _exists(self) -> bool:
        try:
            return _is_whole(read_certificate(self._path).candidate)
        except (OSError, DatasetError, StoreError):
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


def read_certificate(path: Path) -> Certificate:
    """Read a certificate file.

    Raises:
        StoreError: it does not hold what its hash says.
        OSError: it cannot be read.
    """
    try:
        return Certificate.from_json(json.loads(path.read_text()), path.parent)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not a certificate as a gate wrote it: {error}. Judge the stage again: "
            f"`kedro run --pipelines {path.stem.removesuffix('_checkpoint')} --tags gate`."
        ) from error


def never_made(path: Path) -> str:
    """Say what makes a handle or certificate that does not exist yet."""
    stage = path.stem.rpartition("_")[0]
    return f"{path} does not exist yet. Make it: `kedro run --pipelines {stage}`."


def _is_whole(stored: Stored) -> bool:
    manifest = read_manifest(stored.path)
    return manifest is not None and manifest.digest == stored.digest
