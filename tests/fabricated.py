"""A real project in a temporary folder, with stages that only look trained.

The store, the handles, the certificates and Kedro are real; only the files that training would
have written are made up, so that what stands around training is tested in seconds.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kedro.framework.cli.utils import CommandCollection
from kedro.framework.startup import ProjectMetadata, bootstrap_project
from kedro.io import DataCatalog

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.datasets import CertificateDataset, StoredDataset, replace_json
from curricle.checkpoints.store import Built, Store, Stored
from curricle.cli import cli
from curricle.config.gates import GatePolicy
from curricle.pipelines.curricula import GENERAL
from curricle.stages.policy import judge_metrics
from curricle.stages.spec import StageSpec

REPOSITORY = Path(__file__).resolve().parent.parent
SPECS = {spec.name: spec for spec in GENERAL}

GATES: dict[str, Any] = {
    "pretrain": {"perplexity": {"max": 200}},
    "sft": {"assistant_token_accuracy": {"min": 0.3}},
    "dpo": {"perplexity": {"max": 1.25, "relative_to": "pretrain"}},
    "lora": {"task_accuracy": {"min": 0.5}},
}


@dataclass
class Project:
    """A project folder and the means to fill and question it."""

    path: Path
    metadata: ProjectMetadata

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def store(self) -> Store:
        return Store(self.data / "store")

    def kedro(self, *arguments: str) -> Result:
        """Run a command of the project's own group, as ``kedro`` would."""
        return CliRunner().invoke(
            CommandCollection(("project", [cli])), arguments, obj=self.metadata
        )

    def write(self, relative: str, text: str) -> None:
        path = self.path / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def stored(self, step: str, inputs: dict[str, Stored] | None = None, **files: str) -> Stored:
        """Obtain a result that holds ``files``; ``salt`` among them tells results apart."""
        identity = {
            "salt": files.pop("salt", ""),
            "inputs": {name: stored.digest for name, stored in (inputs or {}).items()},
        }

        def build(result: Path, resume: Path) -> Built:
            for name, text in files.items():
                (result / name.replace("__", ".")).write_text(text)
            return Built(measured={"seconds": 3.0, "tokens_per_s": 1000.0, "peak_memory_mb": 900})

        return self.store.obtain(step, identity, build)

    def train(
        self, stage: str, parent: Certificate | None = None, salt: str = "", **metrics: float
    ) -> Stored:
        """Leave a candidate and its metrics, as the stage's first three nodes would."""
        data = self.stored(f"{stage}.data", data__txt=stage)
        start = parent.candidate if parent else data
        points = [{"step": n, "loss": 3.0 - n / 10, "seq_length": n // 3} for n in range(1, 7)]
        curve = "".join(json.dumps(point) + "\n" for point in points)
        candidate = self.stored(
            f"{stage}.train", {"start": start, "data": data},
            model__safetensors=stage, curve__jsonl=curve, salt=salt,
        )  # fmt: skip
        models = self.data / "06_models"
        StoredDataset(filepath=str(models / f"{stage}_candidate.json")).save(candidate)
        StoredDataset(filepath=str(self.data / f"05_model_input/{stage}_data.json")).save(data)
        content = {"candidate": candidate.digest, "metrics": metrics}
        replace_json(self.data / f"07_model_output/{stage}_metrics.json", content)
        return candidate

    def judge(
        self,
        stage: str,
        candidate: Stored,
        metrics: dict[str, float],
        parent: Certificate | None = None,
        policy: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Leave the gate report that ``judge`` would."""
        checked = GatePolicy.model_validate(policy or GATES[stage])
        checks = judge_metrics(metrics, checked, parent)
        report = {
            "stage": stage,
            "candidate": candidate.digest,
            "policy": checked.model_dump(mode="json"),
            "passed": all(check["passed"] for check in checks),
            "checks": checks,
            "metrics": metrics,
        }
        replace_json(self.data / f"08_reporting/gates/{stage}.json", report)
        return report

    def certify(
        self, stage: str, parent: Certificate | None = None, salt: str = "", **metrics: float
    ) -> Certificate:
        """Leave a stage whose gate opened."""
        candidate = self.train(stage, parent, salt, **metrics)
        report = self.judge(stage, candidate, metrics, parent)
        assert report["passed"], report
        certificate = Certificate(stage, candidate, report, parent)
        path = self.data / f"06_models/{stage}_checkpoint.json"
        CertificateDataset(filepath=str(path)).save(certificate)
        return certificate

    def catalog(self) -> DataCatalog:
        """Return a catalog of what the stages leave, without a session."""
        kinds = {
            "candidate": (StoredDataset, "06_models/{}_candidate.json"),
            "checkpoint": (CertificateDataset, "06_models/{}_checkpoint.json"),
        }
        datasets: dict[str, Any] = {
            f"{stage}_{kind}": made(filepath=str(self.data / place.format(stage)))
            for stage in SPECS
            for kind, (made, place) in kinds.items()
        }
        from kedro_datasets.json import JSONDataset

        for stage in SPECS:
            path = self.data / f"08_reporting/gates/{stage}.json"
            datasets[f"{stage}_gate_report"] = JSONDataset(filepath=str(path))
        return DataCatalog(datasets=datasets)


def specs(*names: str) -> tuple[StageSpec, ...]:
    return tuple(SPECS[name] for name in names or SPECS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the project's configuration, its own data folder, and short gate policies."""
    path = tmp_path / "project"
    shutil.copytree(REPOSITORY / "conf" / "base", path / "conf" / "base")
    (path / "conf" / "local").mkdir()
    (path / "src").mkdir()
    shutil.copy(REPOSITORY / "pyproject.toml", path)
    (path / "conf/base/gates.yml").write_text(json.dumps({"gates": GATES}))
    monkeypatch.chdir(path)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    return Project(path, bootstrap_project(path))
