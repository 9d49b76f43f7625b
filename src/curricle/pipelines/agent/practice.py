"""Data from attempts: tasks to try, and pairs of what fixed a bug and what did not."""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curricle.agents.messages import check_conversation, read_messages, read_tools
from curricle.agents.pairs import differ_in_length_only
from curricle.agents.scoring import Attempt
from curricle.agents.trajectories import balanced
from curricle.config.agent_data import AgentPairParameters, PracticeParameters
from curricle.errors import DataError
from curricle.pipelines.agent.material import Material, chosen_materials
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.files import read_rows

logger = logging.getLogger(__name__)

Messages = Sequence[Mapping[str, Any]]


def lay_out_tasks(
    folder: Path, materials: Sequence[Material], split: str, parameters: PracticeParameters
) -> dict[str, Any]:
    """Write `train.jsonl`: bug tasks, balanced over operators.

    Raises:
        DataError: There is none.
    """
    chosen_of = chosen_materials(materials, parameters.operators)
    tasks = [task for material in chosen_of for task in material.tasks_of(split)]
    if not tasks:
        raise DataError(
            f"no bug task in the split {split}. Make some: raise language.tasks.mutants, or name "
            "more operators."
        )
    chosen = balanced(
        tasks, lambda task: task.mutant.mutant.operator, lambda task: task.id,
        seed=parameters.seed, limit=parameters.max_tasks, max_share=parameters.operator_share,
    )  # fmt: skip
    write_rows(folder / "train.jsonl", (task.to_json() for task in chosen))
    operators = Counter(task.mutant.mutant.operator for task in chosen)
    return {"tasks": len(chosen), "by_operator": dict(sorted(operators.items()))}


def pair_attempts(
    folder: Path, attempts: Path, demonstrations: Path, parameters: AgentPairParameters
) -> dict[str, Any]:
    """Write `train.jsonl`: rows of `prompt`, `chosen`, `rejected` and `tools`.

    Both sides were really executed. The chosen one fixed its bug, by the full grader; the rejected
    one did not, and not through a fault of the machine. They part where the model first said
    something else. An attempt with a call that does not fit its tool is left out and counted: no
    renderer writes one.

    Args:
        folder: Where it goes.
        attempts: What the rollout job wrote.
        demonstrations: What the stage before was trained on.
        parameters: How many pairs, and whether demonstrations may stand in.

    Raises:
        DataError: No task gives a pair.
    """
    from_task: dict[str, list[Attempt]] = defaultdict(list)
    for row in read_rows(attempts / "attempts.jsonl"):
        attempt = Attempt.from_json(row)
        from_task[attempt.task].append(attempt)
    shown = {row["task"]: row for row in read_rows(demonstrations / "train.jsonl")}
    tools: list[Any] = next((row["tools"] for row in shown.values() if row["tools"]), [])
    rows = []
    unfit = 0
    for task, tried in sorted(from_task.items()):
        fit = [attempt for attempt in tried if _can_be_rendered(attempt, tools)]
        unfit += len(tried) - len(fit)
        better: list[Messages] = [a.messages for a in fit if a.verdict.fixed]
        worse: list[Messages] = [a.messages for a in fit if a.verdict.fixed is False]
        source = "attempts"
        if not better and parameters.demonstrations and task in shown:
            better, source = [shown[task]["messages"]], "demonstrations"
        draw = random.Random(f"{parameters.seed}:{task}")
        found = list(_pairs(better, worse))
        draw.shuffle(found)
        rows += [
            {
                **pair, "tools": tools, "task": task, "operator": tried[0].operator,
                "source": source, "id": f"{task}/{number}",
            }
            for number, pair in enumerate(found[: parameters.per_task])
        ]  # fmt: skip
    if not rows:
        fixed = sum(bool(a.verdict.fixed) for tried in from_task.values() for a in tried)
        raise DataError(
            f"no pair among {sum(map(len, from_task.values()))} attempts, of which {fixed} fixed "
            "their bug. Raise samples or max_tasks, or allow demonstrations."
        )
    chosen = balanced(
        rows, lambda row: str(row["operator"]), lambda row: str(row["id"]),
        seed=parameters.seed, max_share=parameters.operator_share,
    )  # fmt: skip
    write_rows(folder / "train.jsonl", chosen)
    report = {
        "pairs": len(chosen),
        "attempts": sum(map(len, from_task.values())),
        "attempts_with_invalid_calls": unfit,
        "by_operator": _counted(chosen, "operator"),
        "by_source": _counted(chosen, "source"),
    }
    logger.info("pairs: %s", report)
    return report


def _can_be_rendered(attempt: Attempt, tools: Sequence[Any]) -> bool:
    """Whether every call of an attempt fits its tool."""
    try:
        messages = read_messages(attempt.messages, attempt.task)
        check_conversation(messages, read_tools(tools, attempt.task), attempt.task)
    except DataError:
        return False
    return True


def _pairs(better: Sequence[Messages], worse: Sequence[Messages]) -> Iterator[dict[str, Any]]:
    """Every pair that parts at a turn of the model, in which both sides go on and do otherwise."""
    for chosen in better:
        for rejected in worse:
            if differ_in_length_only(chosen, rejected):
                continue
            shared = _shared(chosen, rejected)
            sides = (chosen[shared:], rejected[shared:])
            if shared and all(side and side[0]["role"] == "assistant" for side in sides):
                yield {
                    "prompt": list(chosen[:shared]),
                    "chosen": _spoken(sides[0]),
                    "rejected": _spoken(sides[1]),
                }


def _shared(first: Messages, second: Messages) -> int:
    """How many messages two conversations begin with alike, up to a turn of the model."""
    shared = 0
    for one, other in zip(first, second, strict=False):
        if _bare(one) != _bare(other):
            break
        shared += 1
    while shared and first[shared - 1]["role"] == "assistant":
        shared -= 1
    return shared


def _bare(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message without what decides nothing of what a model reads."""
    return {key: value for key, value in message.items() if value and key != "train"}


def _spoken(messages: Messages) -> list[dict[str, Any]]:
    """The messages up to the model's last word."""
    last = max(n for n, message in enumerate(messages) if message["role"] == "assistant")
    return [dict(message) for message in messages[: last + 1]]


def _counted(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, int]:
    return dict(sorted(Counter(str(row[key]) for row in rows).items()))
