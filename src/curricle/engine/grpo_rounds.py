"""A round of GRPO: which tasks are drawn, which groups are worth a step, and what was measured.

A group whose rewards are all equal, or masked, has nothing to compare: it is replaced by another
task's a bounded number of times, and counted. Tasks are drawn in an order that the seed decides;
how far a round got in it is part of its record, so that a resumed run draws on from there.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.config.agent_training import GrpoParameters
from curricle.errors import DataError, ExecutionFailed

Task = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """One try of a task, as training sees it.

    Attributes:
        prompt_ids: tokens before the model first spoke.
        completion_ids: all tokens after them, what the environment said included.
        mask: per token of the completion, 1 where the model spoke.
        reward: ``None`` when nothing is known of it: the try is masked.
        ending: why the conversation ended.
        turns: turns of the model.
        calls: of these, the turns that called a tool or tried to.
        valid_calls: of these, the calls that could be carried out.
        overlong: whether it outgrew its length.
        note: what is worth telling of it, such as the fault that masked it.
    """

    prompt_ids: list[int]
    completion_ids: list[int]
    mask: list[int]
    reward: float | None
    ending: str = ""
    turns: int = 0
    calls: int = 0
    valid_calls: int = 0
    overlong: bool = False
    note: str = ""


@dataclass(frozen=True)
class Group:
    """All tries of one task in one round.

    Attributes:
        task: its position among the tasks.
        attempts: as many as ``num_generations``.
    """

    task: int
    attempts: list[Attempt]

    @property
    def rewards(self) -> list[float]:
        """The rewards that are known."""
        return [a.reward for a in self.attempts if a.reward is not None]

    @property
    def differs(self) -> bool:
        """Whether there is anything to compare."""
        return len(set(self.rewards)) > 1


@dataclass(frozen=True)
class Round:
    """What a round trains on, and what it cost.

    Attributes:
        number: from 0.
        groups: what the steps are taken on.
        replaced: groups that were rolled out and had nothing to compare.
        drawn: how many tasks have been drawn since the first round.
    """

    number: int
    groups: list[Group]
    replaced: list[Group] = field(default_factory=list)
    drawn: int = 0

    def measure(self) -> dict[str, float]:
        """Describe everything that was rolled out, what was replaced included."""
        groups = [*self.groups, *self.replaced]
        attempts = [attempt for group in groups for attempt in group.attempts]
        calls = sum(attempt.calls for attempt in attempts)
        rewards = [reward for group in groups for reward in group.rewards]
        return {
            "tries/reward": sum(rewards) / len(rewards),
            "groups/differing": sum(group.differs for group in groups) / len(groups),
            "groups/masked": float(sum(not group.rewards for group in groups)),
            "groups/redrawn": float(len(self.replaced)),
            "tries/masked": float(sum(attempt.reward is None for attempt in attempts)),
            "tries/overlong": float(sum(attempt.overlong for attempt in attempts)),
            "calls/valid": sum(a.valid_calls for a in attempts) / calls if calls else 0.0,
            "turns": sum(attempt.turns for attempt in attempts) / len(attempts),
            "tokens": sum(sum(attempt.mask) for attempt in attempts) / len(attempts),
        }


RollOut = Callable[[Sequence[tuple[str, Task, int]]], list[Attempt]]
"""Tries tasks: given a name, a task and a seed for each try, returns the tries in that order."""


def draw_round(
    number: int, drawn: int, tasks: Sequence[Task], parameters: GrpoParameters, roll_out: RollOut
) -> Round:
    """Roll out a round.

    Args:
        number: of the round, from 0.
        drawn: tasks that earlier rounds have drawn.
        tasks: all of them.
        parameters: of the job.
        roll_out: tries tasks with the model as it is.

    Raises:
        ExecutionFailed: not one try came to a reward.
    """
    kept: list[Group] = []
    idle: list[Group] = []
    for _ in range(1 + parameters.redraws):
        missing = parameters.groups - len(kept)
        if not missing:
            break
        chosen = [
            (position, _task_at(position, len(tasks), parameters.seed))
            for position in range(drawn, drawn + missing)
        ]
        drawn += missing
        tries = [
            (f"{position}.{try_number}", tasks[task], _try_seed(parameters, position, try_number))
            for position, task in chosen
            for try_number in range(parameters.num_generations)
        ]
        attempts = roll_out(tries)
        for place, (_, task) in enumerate(chosen):
            first = place * parameters.num_generations
            group = Group(task, attempts[first : first + parameters.num_generations])
            (kept if group.differs else idle).append(group)
    if not any(group.rewards for group in [*kept, *idle]):
        notes = sorted({a.note for group in idle for a in group.attempts})
        raise ExecutionFailed(
            f"round {number}: not one of its tries came to a reward. The first reasons: "
            f"{'; '.join(notes[:3])}. Mend the environment; the same command goes on with this "
            f"round."
        )
    # What could not be replaced is trained on as it is: it adds nothing, and the step is smaller.
    missing = parameters.groups - len(kept)
    return Round(number, kept + idle[:missing], idle[missing:], drawn)


def require_tasks(tasks: Sequence[Task], step: str) -> None:
    """Make sure that there is something to try.

    Raises:
        DataError: there is not.
    """
    if not tasks:
        raise DataError(f"{step}: there is no task to try. Look at the stage that makes the tasks.")


def _task_at(position: int, count: int, seed: int) -> int:
    """Return which task stands at a position of the endless order: a permutation per pass."""
    turn, place = divmod(position, count)
    order = list(range(count))
    random.Random(f"{seed} tasks {turn}").shuffle(order)
    return order[place]


def _try_seed(parameters: GrpoParameters, position: int, try_number: int) -> int:
    return random.Random(f"{parameters.seed} try {position} {try_number}").getrandbits(63)
