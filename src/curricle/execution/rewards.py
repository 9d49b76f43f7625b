"""Rewards and rankings by execution, for a list of candidates; dispatch by language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curricle.errors import InfrastructureFault
from curricle.execution.baselines import Baselines
from curricle.execution.grader import Grade, grade
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import LanguageBackend
from curricle.languages.project import Prepared, Project
from curricle.languages.tasks import BugTask, Patch


@dataclass(frozen=True)
class Bench:
    """Where patches are graded: everything that is the same for all of them.

    Attributes:
        backend: Gives the backend of a language by its name; the registry's `get`.
        prepared: Gives the prepared project of a task.
        sandbox: Where everything runs.
        limits: Bounds of each run.
        baselines: What is known of tasks, shared by all grades.
        attempts: Runs before an infrastructure fault is masked.
    """

    backend: Callable[[str], LanguageBackend]
    prepared: Callable[[BugTask], Prepared]
    sandbox: Sandbox
    limits: Limits
    baselines: Baselines
    attempts: int = 2


def grade_patch(task: BugTask, patch: Patch, bench: Bench, seed: int) -> Grade:
    """Grade a patch; an infrastructure fault that stays is masked, never a score."""
    fault = ""
    for _ in range(bench.attempts):
        try:
            return grade(
                task,
                patch,
                bench.prepared(task),
                bench.backend(task.mutant.language),
                bench.sandbox,
                bench.limits,
                seed,
                baselines=bench.baselines,
            )
        except InfrastructureFault as error:
            fault = str(error)
    return Grade(task.id, patch.id, None, fault=fault)


def compute_execution_reward(
    task: BugTask, patch: Patch, bench: Bench, seed: int = 0
) -> float | None:
    """1.0 for a repair that every layer accepts, 0.0 for any other, `None` to be masked."""
    return grade_patch(task, patch, bench, seed).reward


def rank_solutions_by_execution(
    task: BugTask, patches: Sequence[Patch], bench: Bench, seed: int = 0
) -> list[tuple[int, Grade]]:
    """Patches from best to worst, as their index in `patches` and their grade.

    Those rewarded come first; among equals the smaller patch is the better one. A masked patch is
    not ranked: it is not in the list.
    """
    grades = [grade_patch(task, patch, bench, seed + n) for n, patch in enumerate(patches)]
    project = bench.prepared(task).project
    ranked = [(index, graded) for index, graded in enumerate(grades) if graded.reward is not None]

    def order(entry: tuple[int, Grade]) -> tuple[float, int, int]:
        index, graded = entry
        assert graded.reward is not None, "masked patches are left out above"
        return -graded.reward, patch_size(project, task, patches[index]), index

    return sorted(ranked, key=order)


def patch_size(project: Project, task: BugTask, patch: Patch) -> int:
    """Characters that a patch removes from the broken tree and adds to it, common ends aside."""
    broken = task.broken(project)
    size = 0
    for file, text in patch.changes.items():
        before = broken.get(file) or (project.read(file) if (project.root / file).is_file() else "")
        size += _changed_characters(before, text or "")
    return size


def evaluator_hack_rejection_rate(grades: Sequence[Grade]) -> float:
    """The share of known hacks that got no reward.

    Raises:
        ValueError: There are none.
    """
    if not grades:
        raise ValueError("evaluator_hack_rejection_rate needs at least one graded hack")
    return sum(graded.reward != 1.0 for graded in grades) / len(grades)


def _changed_characters(before: str, after: str) -> int:
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return len(before) + len(after) - 2 * (start + end)
