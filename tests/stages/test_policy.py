"""Verdicts: what passes, what fails, and why it says so."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.store import Stored
from curricle.config.gates import GatePolicy
from curricle.stages.policy import judge_metrics


def certificate(stage: str, **metrics: float) -> Certificate:
    handle = Stored(f"{stage}.train", "0" * 16, "1" * 64, Path("/nowhere"))
    return Certificate(stage, handle, {"metrics": metrics})


def judge(
    metrics: dict[str, Any], policy: dict[str, Any], parent: Certificate | None = None
) -> dict[str, Any]:
    (check,) = judge_metrics(metrics, GatePolicy.model_validate(policy), parent)
    return check


def test_a_metric_within_its_bounds_passes() -> None:
    check = judge({"accuracy": 0.5}, {"accuracy": {"min": 0.4, "max": 0.6}})
    assert check["passed"] and check["reason"] == ""


@pytest.mark.parametrize(
    ("value", "bounds", "said"),
    [
        (0.31, {"min": 0.4}, "accuracy 0.31 < 0.4"),
        (0.71, {"max": 0.6}, "accuracy 0.71 > 0.6"),
        (math.nan, {"min": 0.4}, "accuracy is nan"),
        (math.inf, {"min": 0.4}, "accuracy is inf"),
        ("not measured", {"min": 0.4}, "accuracy is not measured"),
        (True, {"min": 0.4}, "accuracy is True"),
        (None, {"min": 0.4}, "accuracy is missing"),
    ],
)
def test_anything_else_fails_and_says_why(value: Any, bounds: dict[str, float], said: str) -> None:
    check = judge({"accuracy": value}, {"accuracy": bounds})
    assert not check["passed"] and check["reason"] == said


def test_a_missing_metric_fails() -> None:
    assert judge({}, {"accuracy": {"min": 0.0}})["reason"] == "accuracy is missing"


@pytest.mark.parametrize(("value", "passed"), [(109.9, True), (110.1, False)])
def test_retention_is_measured_in_units_of_an_ancestor(value: float, passed: bool) -> None:
    policy = {"perplexity": {"max": 1.1, "relative_to": "pretrain"}}
    check = judge({"perplexity": value}, policy, certificate("pretrain", perplexity=100.0))
    assert check["passed"] is passed
    assert check["max"] == pytest.approx(110.0)


@pytest.mark.parametrize(
    "parent", [None, certificate("pretrain"), certificate("sft", perplexity=1)]
)
def test_retention_without_a_reference_fails(parent: Certificate | None) -> None:
    policy = {"perplexity": {"max": 1.1, "relative_to": "pretrain"}}
    check = judge({"perplexity": 1.0}, policy, parent)
    assert not check["passed"] and "certified no such metric" in check["reason"]


@pytest.mark.parametrize(
    "check", [{}, {"min": math.nan}, {"minimum": 1}, {"min": 1, "severity": "maybe"}]
)
def test_a_policy_that_checks_nothing_or_is_mistyped_is_refused(check: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GatePolicy.model_validate({"accuracy": check})
