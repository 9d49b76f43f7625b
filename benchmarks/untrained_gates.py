"""Every gate of base against an untrained model: each of them must close.

Needs a finished base run. The untrained model is the one that pretraining started from; it is
measured on the same held-out data as each stage's candidate, with the stage's own parent, and
judged by the same policy.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from curricle.config.gates import GatePolicy
from curricle.engine.evaluation import evaluate_job
from curricle.launch.job import Job
from curricle.pipelines.curricula import GENERAL
from curricle.stages.policy import judge_metrics

PROJECT = Path(__file__).resolve().parents[1]


def measure(stage: Any, catalog: Any, parameters: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the untrained model's metrics at one stage."""
    untrained = catalog.load("pretrain_initial").path
    data = catalog.load("corpus_packed" if stage.data else f"{stage.name}_data").path
    inputs = {
        "candidate": untrained,
        "data": data,
        "heldout": catalog.load("corpus_packed").path,
    }
    if stage.parent:
        inputs["parent"] = catalog.load(f"{stage.parent}_checkpoint").candidate.path
    groups = [group for group in stage.metrics if group != "merge"]  # it has no adapter
    folder.mkdir()
    job = Job(
        kind="evaluate", step=stage.name, inputs=inputs, precision="fp32", output=folder,
        resume=folder, parameters={**parameters[stage.name]["evaluate"], "groups": groups},
    )  # fmt: skip
    evaluate_job(job)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return metrics


def main() -> int:
    """Print the table, and how many of the gates an untrained model cannot pass."""
    bootstrap_project(PROJECT)
    closed = 0
    with KedroSession.create(PROJECT) as session, tempfile.TemporaryDirectory() as name:
        context = session.load_context()
        parameters = context.config_loader["parameters"]
        for stage in GENERAL:
            metrics = measure(stage, context.catalog, parameters, Path(name) / stage.name)
            honest = context.catalog.load(f"{stage.name}_metrics")["metrics"]
            parent = context.catalog.load(f"{stage.parent}_checkpoint") if stage.parent else None
            policy = GatePolicy.model_validate(parameters["gates"][stage.name])
            checks = judge_metrics(metrics, policy, parent)
            closed += any(not check["passed"] for check in checks)
            for check in checks:
                metric = check["metric"]
                bound = ", ".join(f"{side} {check[side]:.4g}" for side in ("min", "max")
                                  if check[side] is not None)  # fmt: skip
                untrained = metrics.get(metric, "not measured")
                print(f"{stage.name}.{metric}: {bound}; untrained {untrained}, "
                      f"base run {honest[metric]}")  # fmt: skip
    ratio = closed / len(GENERAL)
    print(f"untrained_gates ratio={ratio:.2f} goal=1.0")
    return int(ratio < 1.0)


if __name__ == "__main__":
    sys.exit(main())
