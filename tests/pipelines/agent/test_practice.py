"""Pairs of attempts: what IPO prefers to what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from curricle.agents.tools import offered_tools
from curricle.config.agent_data import AgentPairParameters
from curricle.errors import DataError
from curricle.languages.registry import get_backend
from curricle.pipelines.agent.demonstrations import CORRECTIONS, points_to_step_in
from curricle.pipelines.agent.practice import pair_attempts
from curricle.pipelines.sft.rows import write_rows

TOOLS = [tool.function_schema() for tool in offered_tools(get_backend("python").tools, None)]
ASKED = [{"role": "system", "content": "Tools."}, {"role": "user", "content": "Fix it."}]


def attempt(task: str, sample: int, fixed: bool, **arguments: str) -> dict[str, Any]:
    call = {"name": "edit", "arguments": arguments}
    return {
        "task": task, "project": "p", "operator": "swap", "sample": sample, "fixed": fixed,
        "clean": {}, "failure": None if fixed else "wrong_fix", "turns": 2, "calls": 1,
        "valid_calls": 1, "prompt_tokens": 9, "tokens": 9, "ending": "concluded", "outcomes": {},
        "language": "python",
        "messages": [
            *ASKED,
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": "edit", "content": "edited"},
            {"role": "assistant", "content": "Done."},
        ],
    }  # fmt: skip


def paired(
    folder: Path,
    *attempts: dict[str, Any],
    corrections: Sequence[dict[str, Any]] = (),
    parameters: AgentPairParameters | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    write_rows(folder / "attempts.jsonl", attempts)
    write_rows(folder / CORRECTIONS, corrections)
    report = pair_attempts(folder, folder, folder, parameters or AgentPairParameters())
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


def test_turns_that_are_the_same_are_no_pair_though_the_tools_printed_something_else(
    tmp_path: Path,
) -> None:
    better = attempt("a", 0, fixed=True, old="x", new="y")
    worse = attempt("a", 1, fixed=False, old="x", new="y")
    worse["messages"][3] = {"role": "tool", "name": "edit", "content": "edited in 0.2 s"}
    worse["messages"][4] = {"role": "assistant", "content": "Hm."}
    alone = AgentPairParameters(turns=1)
    with pytest.raises(DataError, match="no pair among 2 attempts"):
        paired(tmp_path, better, worse, parameters=alone)
    (row,), _ = paired(tmp_path, better, worse)
    assert row["chosen"] != row["rejected"], "all of what followed is one"


def said(name: str, **arguments: str) -> dict[str, Any]:
    return {"role": "assistant", "content": "",
            "tool_calls": [{"name": name, "arguments": arguments}]}  # fmt: skip


def printed(name: str, content: str) -> dict[str, Any]:
    return {"role": "tool", "name": name, "content": content}


WRONG = [said("edit", old="x", new="z"), printed("edit", "edited\nthe edit is taken back")]
AGAIN = [said("edit", old="x", new="z"), printed("edit", "error: this was tried")]
RIGHT = [said("edit", old="x", new="y"), printed("edit", "edited\nPASSED 1 tests")]
READ = [said("read_file", path="a.py"), printed("read_file", "x")]
END = {"role": "assistant", "content": "Done."}


def test_a_correction_is_preferred_to_what_the_model_did_in_its_place(tmp_path: Path) -> None:
    failed = attempt("a", 3, fixed=False, old="x", new="z")
    failed["messages"] = [*ASKED, *WRONG, *AGAIN, END]
    corrected = {"task": "a", "sample": 3, "messages": [*ASKED, *WRONG, *RIGHT, END]}
    (row,), report = paired(
        tmp_path, failed, corrections=[corrected], parameters=AgentPairParameters(turns=1)
    )
    assert row["prompt"] == [*ASKED, *WRONG]
    assert (row["chosen"], row["rejected"]) == ([RIGHT[0]], [AGAIN[0]]), "the decision alone"
    assert report["by_source"] == {"corrections": 1}
    printed_otherwise = [WRONG[0], printed("edit", "edited at 0x2")]
    astray = [*ASKED, {**WRONG[0], "train": False}, printed_otherwise[1], *RIGHT, END]
    with pytest.raises(DataError, match="no pair among 1 attempts"):
        paired(tmp_path / "astray", failed, corrections=[{**corrected, "messages": astray}])
    of_another = {**corrected, "sample": 4}
    with pytest.raises(DataError, match="no pair among 1 attempts"):
        paired(tmp_path / "other", failed, corrections=[of_another])


def test_the_expert_steps_in_before_the_first_edit_and_after_each_that_was_made() -> None:
    def names(messages: list[dict[str, Any]], points: int = 9) -> list[list[str]]:
        return [[call["name"] for call in calls] for calls in points_to_step_in(messages, points)]

    whole = [*ASKED, *READ, *WRONG, *AGAIN, *WRONG, END]
    read, edit = "read_file", "edit"
    assert names(whole) == [[read], [read, edit], [read, edit, edit, edit]]
    assert names(whole, 1) == [[read]]
    unread = {"role": "assistant", "content": "$ edit"}
    assert names([*ASKED, *READ, unread, printed("", "error"), *WRONG]) == [[read]]
    assert names([*ASKED, unread, printed("", "error")]) == [[]], "in the very beginning"
