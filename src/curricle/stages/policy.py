"""Judges metrics by a policy. Pure: the verdict is a value, and only a gate raises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from curricle.checkpoints.certificate import Certificate
from curricle.config.gates import GateCheck, GatePolicy


def judge_metrics(
    metrics: Mapping[str, Any], policy: GatePolicy, parent: Certificate | None
) -> list[dict[str, Any]]:
    """Return one verdict per check, in the policy's order.

    A metric that is missing, "not measured" or NaN fails its check, and so does a relative check
    whose reference stage is not among the ancestors.

    Returns:
        Dicts of metric, value, bounds, reference, severity, passed and reason (empty if passed).
    """
    return [_judge(name, metrics.get(name), check, parent) for name, check in policy.root.items()]


def _judge(name: str, value: Any, check: GateCheck, parent: Certificate | None) -> dict[str, Any]:
    reference, reason = _reference(name, check, parent)
    unit = 1.0 if reference is None else reference
    low = None if check.min is None else check.min * unit
    high = None if check.max is None else check.max * unit
    if not reason:
        reason = _reason(name, value, low, high)
        if reason and reference is not None:
            multiple = check.min if low is not None and _is_below(value, low) else check.max
            reason += f" ({multiple:g} x {check.relative_to}'s {reference:.4g})"
    return {
        "metric": name,
        "value": value if _is_number(value) else str(value),
        "min": low,
        "max": high,
        "relative_to": check.relative_to,
        "reference": reference,
        "severity": check.severity,
        "passed": not reason,
        "reason": reason,
    }


def _reference(name: str, check: GateCheck, parent: Certificate | None) -> tuple[float | None, str]:
    if check.relative_to is None:
        return None, ""
    ancestor = parent.ancestor(check.relative_to) if parent else None
    value = ancestor.metrics.get(name) if ancestor else None
    if not _is_number(value):
        return None, f"{name} cannot be compared: {check.relative_to} certified no such metric"
    return float(value), ""  # type: ignore[arg-type]  # _is_number is the check


def _reason(name: str, value: Any, low: float | None, high: float | None) -> str:
    if value is None:
        return f"{name} is missing"
    if not _is_number(value):
        return f"{name} is {value}"
    if low is not None and _is_below(value, low):
        return f"{name} {value:.4g} < {low:.4g}"
    if high is not None and value > high:
        return f"{name} {value:.4g} > {high:.4g}"
    return ""


def _is_below(value: Any, low: float) -> bool:
    return _is_number(value) and value < low


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
