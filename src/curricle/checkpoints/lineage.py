"""Follows the chain of certificates to its root, and proves every link of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.manifest import Manifest, read_manifest, verify_folder
from curricle.checkpoints.store import Store, Stored
from curricle.errors import StoreError


@dataclass(frozen=True)
class Link:
    """A certificate and what was found when it was checked.

    Attributes:
        certificate: it.
        files: how many stored files were hashed, inputs included.
        problems: what is broken; empty when it holds.
        gone: inputs of its making that are no longer stored, and so known by their digest only.
    """

    certificate: Certificate
    files: int
    problems: tuple[str, ...]
    gone: tuple[str, ...]


def ancestry(certificate: Certificate) -> Iterator[Certificate]:
    """Yield the certificate and its parents, the root last."""
    link: Certificate | None = certificate
    while link is not None:
        yield link
        link = link.parent


def stored_by_digest(store: Store) -> dict[str, Stored]:
    """Index every finished result of a store by its digest."""
    return {result.digest: result for step in store.steps() for result in store.results(step)}


def input_digests(manifest: Manifest) -> dict[str, str]:
    """Return what a result was made from: name to digest."""
    inputs: dict[str, str] = manifest.identity.get("inputs", {})
    return inputs


def verify_link(certificate: Certificate, index: dict[str, Stored]) -> Link:
    """Check one certificate: its candidate's files, and that it came from where it says.

    Its own hash, and its parents', were checked when it was read.

    Args:
        certificate: as it was read.
        index: the store, by digest.
    """
    candidate = certificate.candidate
    manifest = read_manifest(candidate.path)
    if manifest is None:
        return Link(certificate, 0, (f"{candidate.path} is gone or has no manifest",), ())
    problems: list[str] = []
    gone: list[str] = []
    files = 0
    if manifest.digest != candidate.digest:
        problems.append(
            f"{candidate.path} is another result: {manifest.digest[:16]} where the certificate "
            f"says {candidate.digest[:16]}"
        )
    report = certificate.report
    if report.get("candidate", candidate.digest) != candidate.digest:
        problems.append("its gate report judged another candidate")
    if report.get("passed") is False:
        problems.append("its gate report says that the gate is closed")
    start = input_digests(manifest).get("start")
    if certificate.parent and start != certificate.parent.candidate.digest:
        problems.append(
            f"its candidate started from {str(start)[:16]}, the parent's certificate names "
            f"{certificate.parent.candidate.digest[:16]}"
        )
    for folder, found in _made_from(candidate, manifest, index, gone):
        files += len(found.files)
        try:
            verify_folder(folder, found)
        except StoreError as error:
            problems.append(str(error))
    return Link(certificate, files, tuple(problems), tuple(sorted(set(gone))))


def _made_from(
    candidate: Stored, manifest: Manifest, index: dict[str, Stored], gone: list[str]
) -> Iterator[tuple[Path, Manifest]]:
    """Yield a candidate and all that it was made from; note in ``gone`` what is not stored."""
    yield candidate.path, manifest
    seen, waiting = {manifest.digest}, [manifest]
    while waiting:
        for name, digest in input_digests(waiting.pop()).items():
            if digest in seen:
                continue
            seen.add(digest)
            if digest not in index:
                gone.append(f"{name} {digest[:16]}")
                continue
            found = index[digest].manifest()
            yield index[digest].path, found
            waiting.append(found)
