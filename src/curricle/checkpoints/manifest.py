"""The file written last in a stored folder: what is in it, and what it was made from.

The decision that shaped it: the *digest* covers everything but ``measured`` (seconds, memory,
host). So a run that was interrupted and one that was not have the same digest, and a digest that
differs says that the result does.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curricle.checkpoints.hashing import hash_file, hash_value
from curricle.errors import StoreError

MANIFEST_NAME = "manifest.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """What a stored folder holds.

    Attributes:
        step: the producing step's name, for example ``pretrain.train``.
        fingerprint: hash of ``identity``; the folder's name begins with it.
        identity: all that decided the result: job, revision, parameters, inputs, precision.
        files: relative path to ``{"bytes": size, "sha256": digest}``.
        effective: what was in force while it ran (precision, attention, trainable parameters).
        versions: versions of the libraries that did the work.
        measured: seconds, tokens per second, peak memory. Outside the digest.
    """

    step: str
    fingerprint: str
    identity: dict[str, Any]
    files: dict[str, dict[str, Any]]
    effective: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    schema: int = _SCHEMA

    @property
    def digest(self) -> str:
        """Hash of all but ``measured``: the identity of the result itself."""
        content = asdict(self)
        del content["measured"]
        return hash_value(content)


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Hash every file below ``folder`` but the manifest, in the order of their paths."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST_NAME)
    return {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": hash_file(p)}
        for p in paths
    }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest as the last file of ``folder``: files first reach the disk, then it."""
    for relative in manifest.files:
        _fsync(folder / relative)
    temporary = folder / (MANIFEST_NAME + ".tmp")
    temporary.write_text(json.dumps(asdict(manifest), indent=2, sort_keys=True) + "\n")
    _fsync(temporary)
    temporary.replace(folder / MANIFEST_NAME)
    fsync_folder(folder)


def read_manifest(folder: Path) -> Manifest | None:
    """Read a folder's manifest; ``None`` when there is none that can be read."""
    try:
        return Manifest(**json.loads((folder / MANIFEST_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def verify_folder(folder: Path, manifest: Manifest) -> None:
    """Compare every file of ``folder`` with its manifest.

    Raises:
        StoreError: a file is missing, changed or was added; names it and the ways to mend it.
    """
    present = describe_files(folder)
    problems = [
        *(f"{name} is missing" for name in manifest.files.keys() - present.keys()),
        *(f"{name} was added" for name in present.keys() - manifest.files.keys()),
        *(
            f"{name} was changed"
            for name in manifest.files.keys() & present.keys()
            if manifest.files[name] != present[name]
        ),
    ]
    if problems:
        raise StoreError(
            f"{folder}: {'; '.join(sorted(problems))} since it was stored. Stored results are "
            f"never edited: put the file back, or delete this folder and run again to make it anew."
        )


def _fsync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(folder: Path) -> None:
    """Make the folder's own entries (new names, renames) reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
