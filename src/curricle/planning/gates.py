"""Gates name stages and metrics that exist, before a night is spent on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curricle.planning.parameters import did_you_mean
from curricle.stages.spec import StageSpec


def gate_problems(
    specs: tuple[StageSpec, ...], running: tuple[StageSpec, ...], gates: Mapping[str, Any]
) -> Iterator[str]:
    """Yield one message for each gate that could never be judged as it is written.

    Args:
        specs: all stages.
        running: the stages of this run; each needs a policy.
        gates: stage to metric to check.
    """
    by_name = {spec.name: spec for spec in specs}
    for stage, policy in gates.items():
        if stage not in by_name:
            yield f"gates.{stage}: there is no such stage; {did_you_mean(stage, by_name)}"
            continue
        for metric, check in policy.items():
            yield from _check_problems(by_name, by_name[stage], metric, check)
    for spec in running:
        if not gates.get(spec.name):
            yield (
                f"gates.{spec.name} is missing: the stage has no gate policy, and its gate would "
                f"judge nothing. Give it a bound on one of {', '.join(spec.metric_names)}, in "
                f"conf/base/gates.yml."
            )


def _check_problems(
    by_name: Mapping[str, StageSpec], spec: StageSpec, metric: str, check: Mapping[str, Any]
) -> Iterator[str]:
    where = f"gates.{spec.name}.{metric}"
    if metric not in spec.metric_names:
        yield (
            f"{where}: {spec.name} produces no such metric; "
            f"{did_you_mean(metric, spec.metric_names)} "
            f"It produces {', '.join(spec.metric_names)}."
        )
    reference = check.get("relative_to")
    if reference is None:
        return
    ancestors = list(_ancestors(by_name, spec))
    if reference not in ancestors:
        yield (
            f"{where}: relative_to={reference} is not a stage before {spec.name}; "
            f"before it: {', '.join(ancestors) or 'none'}."
        )
    elif metric in spec.metric_names and metric not in by_name[reference].metric_names:
        yield (
            f"{where}: {reference} does not measure {metric}; it measures "
            f"{', '.join(by_name[reference].metric_names)}."
        )


def _ancestors(by_name: Mapping[str, StageSpec], spec: StageSpec) -> Iterator[str]:
    parent = spec.parent
    while parent is not None:
        yield parent
        parent = by_name[parent].parent if parent in by_name else None
