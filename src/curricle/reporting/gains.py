"""What each agent stage gained over the checkpoint that it started from, on the same tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curricle.agents.scoring import Attempt, against
from curricle.agents.statistics import wilson_rate
from curricle.checkpoints.store import Store, Stored
from curricle.reporting.attempts import judged_attempts, read_attempts, stored_attempts
from curricle.reporting.state import StageState


def stage_gains(states: Sequence[StageState]) -> list[dict[str, Any]]:
    """Return a paired comparison for each stage that tried bug tasks, as its parent did.

    A stage without attempts, or with a parent that has none, or none at the same tasks, is left
    out: a curriculum that never ran, or one of another kind, has nothing to show here.
    """
    rows = []
    for state in states:
        if not (state.candidate and state.parent):
            continue
        own, before = _attempts(state.stage, state.candidate), _parents(state)
        if own is None or before is None:
            continue
        compared = against(read_attempts(before), read_attempts(own)).to_json()
        if compared["tasks"]:
            rows.append({"stage": state.stage, "parent": state.parent, **compared})
    return rows


def call_rates(state: StageState) -> dict[str, float]:
    """Return the share of valid tool calls by language, of a stage that tried bug tasks."""
    path = _attempts(state.stage, state.candidate) if state.candidate else None
    by_language: dict[str, list[Attempt]] = {}
    for attempt in [] if path is None else read_attempts(path):
        if attempt.verdict.fixed is not None:
            by_language.setdefault(attempt.language, []).append(attempt)
    return {
        language: round(_valid(attempts), 4) for language, attempts in sorted(by_language.items())
    }


def _valid(attempts: Sequence[Attempt]) -> float:
    calls = sum(attempt.calls for attempt in attempts)
    return wilson_rate(sum(attempt.valid_calls for attempt in attempts), calls).value


def _attempts(stage: str, candidate: Stored) -> Path | None:
    return stored_attempts(_store(candidate), f"{stage}.evaluate", "candidate", candidate.digest)


def _parents(state: StageState) -> Path | None:
    """What the stage's gate report is about was trained from: not what its parent is by now."""
    assert state.candidate is not None
    manifest = state.manifest
    start = manifest.identity.get("inputs", {}).get("start", "") if manifest else ""
    return judged_attempts(_store(state.candidate), start)


def _store(candidate: Stored) -> Store:
    return Store(candidate.path.parents[1])
