"""Draws the held-out tasks: even over operators and projects, whatever was there to draw from.

What an easy rule fixes (in one trial: dropping a `not`, a fifth of all tasks) must not carry an
evaluation, so no operator may have more than its share of what is selected.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from curricle.languages.tasks import BugTask


def select_balanced(
    tasks: Sequence[BugTask], count: int, operator_share: float, seed: int
) -> tuple[BugTask, ...]:
    """At most `count` tasks, no operator with more than its share of those selected.

    With too few operators for that (`1 / operator_share`), each has the same number.

    Args:
        tasks: What there is; their order does not matter.
        count: How many are wanted.
        operator_share: The largest share of one operator.
        seed: Another seed draws another selection.
    """
    shuffled = sorted(tasks, key=lambda task: task.id)
    random.Random(f"selection:{seed}").shuffle(shuffled)
    cap = max(1, int(count * operator_share))
    while True:
        chosen = _draw(shuffled, count, cap)
        tighter = max(1, int(len(chosen) * operator_share))
        if tighter >= cap:
            return tuple(sorted(chosen, key=lambda task: task.id))
        cap = tighter


def _draw(tasks: Sequence[BugTask], count: int, cap: int) -> list[BugTask]:
    """Take again and again from the operator, and in it from the project, that has least so far."""
    waiting = list(tasks)
    operators: Counter[str] = Counter()
    projects: Counter[str] = Counter()
    functions: Counter[tuple[str, str]] = Counter()
    chosen: list[BugTask] = []
    while waiting and len(chosen) < count:
        open_ = [task for task in waiting if operators[_operator(task)] < cap]
        if not open_:
            break
        task = min(
            open_,
            key=lambda task: (
                projects[task.mutant.project], operators[_operator(task)],
                functions[task.mutant.file, task.mutant.function],
            ),
        )  # fmt: skip
        waiting.remove(task)
        chosen.append(task)
        operators[_operator(task)] += 1
        projects[task.mutant.project] += 1
        functions[task.mutant.file, task.mutant.function] += 1
    return chosen


def _operator(task: BugTask) -> str:
    return task.mutant.mutant.operator
