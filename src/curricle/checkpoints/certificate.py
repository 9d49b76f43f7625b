"""What a gate writes, and what ``<stage>_checkpoint`` is: a small, chained proof.

A certificate names its candidate by the hash of its manifest, carries the gate report that opened
the gate, and contains its parent's certificate hash. It holds no time stamp, so judging the same
candidate by the same policy writes the same certificate.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curricle.checkpoints.hashing import hash_value
from curricle.checkpoints.store import Stored


@dataclass(frozen=True)
class Certificate:
    """The proof that a candidate passed its gate.

    Attributes:
        stage: the stage that trained the candidate.
        candidate: the stored checkpoint.
        report: the gate report (checks, metrics, policy), or how the model came in.
        parent: the certificate that the stage started from; ``None`` for the first stage.
    """

    stage: str
    candidate: Stored
    report: dict[str, Any]
    parent: Certificate | None = None

    @property
    def hash(self) -> str:
        """Hash over stage, candidate, report and the parent's hash: the links of the lineage."""
        return hash_value(
            {
                "stage": self.stage,
                "candidate": self.candidate.digest,
                "report": self.report,
                "parent": self.parent.hash if self.parent else None,
            }
        )

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics that were judged."""
        metrics: dict[str, Any] = self.report.get("metrics", {})
        return metrics

    def ancestor(self, stage: str) -> Certificate | None:
        """Return the certificate of ``stage`` on the way to the root, itself included."""
        if self.stage == stage:
            return self
        return self.parent.ancestor(stage) if self.parent else None

    def to_json(self, folder: Path) -> dict[str, Any]:
        """Return the JSON form; stored paths become relative to ``folder``."""
        return {
            "stage": self.stage,
            "hash": self.hash,
            "candidate": stored_to_json(self.candidate, folder),
            "report": self.report,
            "parent": self.parent.to_json(folder) if self.parent else None,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any], folder: Path) -> Certificate:
        """Rebuild a certificate that was written into ``folder``.

        Raises:
            ValueError: the content does not give the hash that stands in it.
        """
        parent = content["parent"]
        certificate = cls(
            stage=content["stage"],
            candidate=stored_from_json(content["candidate"], folder),
            report=content["report"],
            parent=cls.from_json(parent, folder) if parent else None,
        )
        if certificate.hash != content["hash"]:
            raise ValueError(f"its content hashes to {certificate.hash[:16]}, it claims "
                             f"{content['hash'][:16]}")  # fmt: skip
        return certificate


def stored_to_json(stored: Stored, folder: Path) -> dict[str, Any]:
    """Return a handle's JSON form, its path relative to ``folder`` so that a project can move."""
    return {**asdict(stored), "path": Path(os.path.relpath(stored.path, folder)).as_posix()}


def stored_from_json(content: dict[str, Any], folder: Path) -> Stored:
    """Rebuild a handle that was written into ``folder``."""
    return Stored(**{**content, "path": (folder / content["path"]).resolve()})
