"""The node functions of a stage. Each is one step of the grammar; the heavy work is a job's."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.gates import GatePolicy
from curricle.config.training import OUTSIDE_FINGERPRINT, EvaluateParameters, OptimizerParameters
from curricle.errors import GateClosed, GateStale
from curricle.launch.run import obtain_by_job
from curricle.stages.policy import judge_metrics
from curricle.stages.spec import StageSpec

logger = logging.getLogger(__name__)


def train_node(spec: StageSpec) -> Callable[..., Stored]:
    """Make the node function that trains a stage's candidate.

    Its ``parameters`` carry the stage's own type, so that Kedro validates them before it runs.
    """
    job = spec.job
    assert job is not None, "a stage without a job has no training node"

    def train(
        start: Stored | Certificate,
        data: Stored,
        parameters: OptimizerParameters,
        run: RunSettings,
        **inputs: Stored,
    ) -> Stored:
        return obtain_by_job(
            run,
            step=f"{spec.name}.train",
            kind=job,
            inputs={"start": _candidate(start), "data": data, **inputs},
            parameters=parameters.model_dump(mode="json"),
            outside_fingerprint=OUTSIDE_FINGERPRINT,
        )

    train.__annotations__["parameters"] = spec.parameters
    return train


def evaluate_node(spec: StageSpec) -> Callable[..., dict[str, Any]]:
    """Make the node function that measures a candidate on what no stage trained on."""

    def evaluate(
        candidate: Stored,
        data: Stored,
        heldout: Stored,
        parameters: EvaluateParameters,
        run: RunSettings,
        parent: Certificate | None = None,
        **measured_on: Stored,
    ) -> dict[str, Any]:
        inputs = {"candidate": candidate, "data": data, "heldout": heldout, **measured_on}
        if parent is not None:
            inputs["parent"] = parent.candidate
        stored = obtain_by_job(
            run,
            step=f"{spec.name}.evaluate",
            kind="evaluate",
            inputs=inputs,
            parameters={**parameters.model_dump(mode="json"), "groups": list(spec.metrics)},
        )
        metrics = json.loads((stored.path / "metrics.json").read_text())
        return {"candidate": candidate.digest, "metrics": metrics}

    return evaluate


def taken_over_node(spec: StageSpec) -> Callable[..., dict[str, Any]]:
    """Make the node function that takes the parent's metrics for the same candidate."""

    def take_over(candidate: Stored, metrics: dict[str, Any]) -> dict[str, Any]:
        if metrics["candidate"] != candidate.digest:
            raise GateStale(
                f"{spec.name}: the metrics of {spec.parent} belong to another candidate. Measure "
                f"this one: kedro run --pipelines {spec.parent} --from-nodes {spec.parent}.evaluate"
            )
        return metrics

    return take_over


def judge_node(spec: StageSpec) -> Callable[..., dict[str, Any]]:
    """Make the node function that writes the gate report, whatever the verdict is."""

    def judge(
        candidate: Stored,
        metrics: dict[str, Any],
        policy: GatePolicy,
        parent: Certificate | None = None,
    ) -> dict[str, Any]:
        check_descent(spec.name, candidate, parent)
        if metrics["candidate"] != candidate.digest:
            raise GateStale(
                f"{spec.name}: the metrics belong to another candidate. Measure this one: "
                f"kedro run --pipelines {spec.name} --from-nodes {spec.name}.evaluate"
            )
        checks = judge_metrics(metrics["metrics"], policy, parent)
        for check in checks:
            if not check["passed"] and check["severity"] == "warn":
                logger.warning("%s: %s (only a warning)", spec.name, check["reason"])
        return {
            "stage": spec.name,
            "candidate": candidate.digest,
            "policy": policy.model_dump(mode="json"),
            "passed": all(c["passed"] or c["severity"] == "warn" for c in checks),
            "checks": checks,
            "metrics": metrics["metrics"],
        }

    return judge


def gate_node(spec: StageSpec) -> Callable[..., Certificate]:
    """Make the node function that certifies a candidate, or closes."""

    def promote(
        candidate: Stored,
        report: dict[str, Any],
        policy: GatePolicy,
        parent: Certificate | None = None,
    ) -> Certificate:
        check_descent(spec.name, candidate, parent)
        again = f"kedro run --pipelines {spec.name} --tags gate"
        if report["candidate"] != candidate.digest or report["policy"] != policy.model_dump(
            mode="json"
        ):
            raise GateStale(
                f"{spec.name}: the gate report judged another candidate or another policy. "
                f"Judge again: {again}"
            )
        if not report["passed"]:
            failed = [
                check["reason"]
                for check in report["checks"]
                if not check["passed"] and check["severity"] == "block"
            ]
            raise GateClosed(
                "\n".join(f"{spec.name}: gate closed: {reason}" for reason in failed)
                + f"\nNothing was promoted. After a change of conf/base/gates.yml: {again}"
            )
        return Certificate(spec.name, candidate, report, parent)

    return promote


def check_descent(stage: str, candidate: Stored, parent: Certificate | None) -> None:
    """Make sure that a candidate was trained from the checkpoint that its certificate will name.

    Raises:
        GateStale: it was trained from another one, which has been replaced since.
    """
    if parent is None or candidate.digest == parent.candidate.digest:  # the first; the same again
        return
    if candidate.manifest().identity["inputs"]["start"] != parent.candidate.digest:
        raise GateStale(
            f"{stage}: the candidate was trained from another checkpoint of {parent.stage} than "
            f"the current one. Train from this one: kedro run --pipelines {stage}"
        )


def _candidate(start: Stored | Certificate) -> Stored:
    return start.candidate if isinstance(start, Certificate) else start
