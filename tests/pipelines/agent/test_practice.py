"""Pairs of attempts: what IPO prefers to what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curricle.agents.tools import COMMON_TOOLS
from curricle.config.agent_data import AgentPairParameters
from curricle.errors import DataError
from curricle.pipelines.agent.practice import pair_attempts
from curricle.pipelines.sft.rows import write_rows

TOOLS = [tool.function_schema() for tool in COMMON_TOOLS]
ASKED = [{"role": "system", "content": "Tools."}, {"role": "user", "content": "Fix it."}]


def attempt(task: str, sample: int, fixed: bool, **arguments: str) -> dict[str, Any]:
    call = {"name": "edit", "arguments": arguments}
    return {
        "task": task, "project": "p", "operator": "swap", "sample": sample, "fixed": fixed,
        "clean": {}, "failure": None if fixed else "wrong_fix", "turns": 2, "calls": 1,
        "valid_calls": 1, "prompt_tokens": 9, "tokens": 9, "ending": "concluded", "outcomes": {},
        "messages": [
            *ASKED,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": "edit", "content": "edited"},
            {"role": "assistant", "content": "Done."},
        ],
    }  # fmt: skip


def paired(folder: Path, *attempts: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    write_rows(folder / "attempts.jsonl", attempts)
    shown = {"task": "other", "tools": TOOLS, "messages": []}
    write_rows(folder / "train.jsonl", [shown])
    report = pair_attempts(folder, folder, folder, AgentPairParameters(demonstrations=False))
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return rows, report


def test_what_fixed_is_preferred_to_what_did_not(tmp_path: Path) -> None:
    (row,), report = paired(
        tmp_path,
        attempt("a", 0, fixed=True, old="x", new="y"),
        attempt("a", 1, fixed=False, old="x", new="z"),
    )
    chosen, rejected = (
        row[side][0]["tool_calls"][0]["arguments"] for side in ("chosen", "rejected")
    )
    assert (chosen["new"], rejected["new"]) == ("y", "z")
    assert row["prompt"] == ASKED and row["tools"] == TOOLS
    assert report["attempts_with_invalid_calls"] == 0


def test_an_attempt_with_a_call_that_lacks_an_argument_is_left_out_and_counted(
    tmp_path: Path,
) -> None:
    valid = (
        attempt("a", 0, fixed=True, old="x", new="y"),
        attempt("a", 1, fixed=False, old="x", new="z"),
    )
    rows, report = paired(tmp_path, *valid, attempt("a", 2, fixed=False, old="x"))
    assert len(rows) == 1 and report["attempts_with_invalid_calls"] == 1
    with pytest.raises(DataError, match="no pair among 2 attempts"):
        paired(tmp_path / "none", valid[0], attempt("a", 2, fixed=False, old="x"))
