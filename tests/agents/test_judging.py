"""One judge for attempts and for baselines: the grader's word, and no new findings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curricle.agents.judging import Judge
from curricle.agents.rules import no_op_patch, oracle_patch
from curricle.execution.baselines import Baselines
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.languages.commands import Command, Level, Output
from curricle.languages.tasks import BugTask, Patch
from tests.agents.conftest import BACKEND, FILE, LIMITS, Bench


class Counting(BubblewrapSandbox):
    """A sandbox that remembers what it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[Command] = []

    def run(self, command: Command, *args: Any, **kwargs: Any) -> Output:
        self.commands.append(command)
        return super().run(command, *args, **kwargs)


@pytest.fixture
def sandbox() -> Iterator[Counting]:
    with Counting() as sandbox:
        yield sandbox


def judge(sandbox: Counting, folder: Path, *levels: Level) -> Judge:
    return Judge(sandbox, LIMITS, Baselines(folder), levels)


def test_nothing_fixes_nothing_and_is_measured_at_the_other_levels(
    bench: Bench, boundary: BugTask, sandbox: Counting, tmp_path: Path
) -> None:
    found = judge(sandbox, tmp_path, Level.LINT).verdict(
        boundary, no_op_patch(), bench.prepared, BACKEND
    )
    assert (found.fixed, found.clean) == (False, {Level.LINT: True})


def test_the_original_is_fixed_and_clean(
    bench: Bench, boundary: BugTask, sandbox: Counting, tmp_path: Path
) -> None:
    patch = oracle_patch(boundary, bench.prepared.project)
    found = judge(sandbox, tmp_path, Level.LINT).verdict(boundary, patch, bench.prepared, BACKEND)
    assert (found.fixed, found.clean) == (True, {Level.LINT: True})


def test_a_repair_that_adds_a_finding_is_not_clean(
    bench: Bench, boundary: BugTask, sandbox: Counting, tmp_path: Path
) -> None:
    text = bench.prepared.project.read(FILE)
    patch = Patch({FILE: text.replace("def merge(", "import os\n\n\ndef merge(")})
    found = judge(sandbox, tmp_path, Level.LINT).verdict(boundary, patch, bench.prepared, BACKEND)
    assert found.clean == {Level.LINT: False}


def test_what_holds_no_candidate_is_measured_once_for_all_processes(
    bench: Bench, boundary: BugTask, sandbox: Counting, tmp_path: Path
) -> None:
    for _ in range(2):  # another judge is another process
        judge(sandbox, tmp_path, Level.LINT).verdict(
            boundary, no_op_patch(), bench.prepared, BACKEND
        )
    assert len(sandbox.commands) == 2, "the original, and the bug as it was found"


def test_what_could_not_be_measured_is_not_kept(
    bench: Bench, boundary: BugTask, sandbox: Counting, tmp_path: Path
) -> None:
    hurried = Judge(
        sandbox, LIMITS.model_copy(update={"wall_s": 0.001}), Baselines(tmp_path), (Level.CHECK,)
    )  # fmt: skip
    found = hurried.verdict(boundary, no_op_patch(), bench.prepared, BACKEND)
    assert found.clean == {Level.CHECK: None}
    assert list(tmp_path.iterdir()) == []
