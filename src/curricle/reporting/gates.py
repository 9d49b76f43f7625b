"""The verdict of each gate now: of its report, its candidate and the policy in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curricle.reporting.state import StageState


@dataclass(frozen=True)
class GateState:
    """A gate as it stands.

    Attributes:
        state: its stage.
        checks: the verdicts of the last report on the current candidate; empty without one.
        is_open: whether the certificate in force is that of the current candidate and policy.
        note: what a reader must know besides: judged by another policy, never judged, ...
        fix: the command that would mend it, where there is one.
    """

    state: StageState
    checks: tuple[dict[str, Any], ...]
    is_open: bool
    note: str
    fix: str = ""


def gate_states(states: tuple[StageState, ...], gates: Mapping[str, Any]) -> tuple[GateState, ...]:
    """Return every gate.

    Args:
        states: of the stages.
        gates: the policies in force: stage to metric to check.
    """
    return tuple(_gate(state, gates.get(state.stage, {})) for state in states)


def _gate(state: StageState, policy: Mapping[str, Any]) -> GateState:
    if not (state.report and state.is_judged):
        note = "no candidate yet" if state.candidate is None else "its candidate was never judged"
        if state.certificate:
            note += "; the certificate is of an older candidate"
        return GateState(state, (), False, note)
    checks = tuple(state.report["checks"])
    if state.report["policy"] != policy:
        fix = f"judge it again: kedro run --pipelines {state.stage} --tags gate"
        return GateState(state, checks, False, "judged by another policy", fix)
    if state.status == "certified":
        return GateState(state, checks, True, "certificate of the current candidate")
    older = "; the certificate is of an older candidate" if state.certificate else ""
    if state.report["passed"]:
        return GateState(state, checks, False, f"passed, not certified{older}")
    return GateState(state, checks, False, f"closed{older}")
