"""What stands: each stage's candidate, gate report and certificate, as the catalog holds them.

Reading never raises for what a run left half done: a report must be possible after any failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kedro.io import DatasetError

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.manifest import Manifest, read_manifest
from curricle.checkpoints.store import Stored
from curricle.errors import CurricleError
from curricle.stages.spec import StageSpec

Status = Literal["certified", "closed", "certified (older candidate)", "not run"]

CURVE_NAME = "curve.jsonl"


@dataclass(frozen=True)
class StageState:
    """What one stage has to show.

    Attributes:
        stage: its name.
        parent: the stage that it starts from.
        candidate: what it trained last.
        report: the last gate report, of this candidate or of an earlier one.
        certificate: the certificate in force.
    """

    stage: str
    parent: str | None
    candidate: Stored | None
    report: dict[str, Any] | None
    certificate: Certificate | None

    @property
    def is_judged(self) -> bool:
        """Whether the report judges the current candidate."""
        return bool(
            self.report and self.candidate and self.report["candidate"] == self.candidate.digest
        )

    @property
    def status(self) -> Status:
        """What a reader wants to know first.

        A closed gate is said even when an older certificate is still in force: it is news.
        """
        if self.report and self.is_judged and not self.report["passed"]:
            return "closed"
        if self.certificate is None:
            return "not run"
        if self.candidate and self.certificate.candidate.digest != self.candidate.digest:
            return "certified (older candidate)"
        return "certified"

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics of the current candidate, else those that were certified."""
        if self.report and self.is_judged:
            metrics: dict[str, Any] = self.report["metrics"]
            return metrics
        return self.certificate.metrics if self.certificate else {}

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of the candidate, or of the certified one when there is no other."""
        shown = self.candidate or (self.certificate and self.certificate.candidate)
        return read_manifest(shown.path) if shown else None

    @property
    def curve(self) -> Path | None:
        """The training curve of the candidate."""
        path = self.candidate.path / CURVE_NAME if self.candidate else None
        return path if path and path.exists() else None


def read_states(catalog: Any, specs: tuple[StageSpec, ...]) -> tuple[StageState, ...]:
    """Read the state of every stage, in order."""
    return tuple(
        StageState(
            stage=spec.name,
            parent=spec.parent,
            candidate=_load(catalog, f"{spec.name}_candidate"),
            report=_load(catalog, f"{spec.name}_gate_report"),
            certificate=_load(catalog, f"{spec.name}_checkpoint"),
        )
        for spec in specs
    )


def _load(catalog: Any, name: str) -> Any:
    """Return what a dataset holds, ``None`` when it holds nothing that can be read."""
    dataset = catalog.get(name)
    try:
        return dataset.load() if dataset is not None and dataset.exists() else None
    except (CurricleError, DatasetError, OSError, ValueError):
        return None
