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
from curricle.agents.tools import offered_schemas
from curricle.agents.trajectories import balanced
from curricle.config.agent_data import AgentPairParameters, PracticeParameters
from curricle.errors import DataError
from curricle.languages.registry import get_backend
from curricle.pipelines.agent.demonstrations import CORRECTIONS
from curricle.pipelines.agent.material import Material, chosen_materials
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.files import read_rows
from curricle.reporting.attempts import ATTEMPTS, read_attempts

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
    folder: Path, attempts: Path, corrections: Path, parameters: AgentPairParameters
) -> dict[str, Any]:
    """Write `train.jsonl`: rows of `prompt`, `chosen`, `rejected` and `tools`.

    Both sides were really executed. The chosen one fixed its bug, by the full grader or in the
    expert's hands; the rejected one did not, and not through a fault of the machine. They part
    where the model first said something else. An attempt with a call that does not fit its tool is
    left out and counted: no renderer writes one.

    Args:
        folder: Where it goes.
        attempts: What the rollout job wrote.
        corrections: What the expert did in the place of attempts that failed.
        parameters: How many pairs, and how much of each.

    Raises:
        DataError: No task gives a pair.
    """
    from_task: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in read_attempts(attempts / ATTEMPTS):
        from_task[attempt.task].append(attempt)
    corrected: dict[tuple[str, int], list[Messages]] = defaultdict(list)
    for row in read_rows(corrections / CORRECTIONS):
        corrected[row["task"], row["sample"]].append(row["messages"])
    rows = []
    unfit = 0
    for task, tried in sorted(from_task.items()):
        own = get_backend(tried[0].language).tools
        tools = offered_schemas(own, parameters.rollouts.session.tools)
        fit = [attempt for attempt in tried if _can_be_rendered(attempt, tools)]
        unfit += len(tried) - len(fit)
        failed = [attempt for attempt in fit if attempt.verdict.fixed is False]
        found = [
            (pair, "attempts")
            for better in fit if better.verdict.fixed
            for worse in failed
            if not differ_in_length_only(better.messages, worse.messages)
            for pair in _pairs(better.messages, worse.messages, parameters.turns)
        ]  # fmt: skip
        found += [
            (pair, "corrections")
            for worse in failed
            for better in corrected[task, worse.sample]
            for pair in _pairs(better, worse.messages, parameters.turns)
        ]
        random.Random(f"{parameters.seed}:{task}").shuffle(found)
        rows += [
            {
                **pair, "tools": tools, "task": task, "operator": tried[0].operator,
                "source": source, "id": f"{task}/{number}",
            }
            for number, (pair, source) in enumerate(found[: parameters.per_task])
        ]  # fmt: skip
    if not rows:
        fixed = sum(bool(a.verdict.fixed) for tried in from_task.values() for a in tried)
        raise DataError(
            f"no pair among {sum(map(len, from_task.values()))} attempts, of which {fixed} fixed "
            "their bug. Raise samples or max_tasks, or allow corrections."
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


def _pairs(chosen: Messages, rejected: Messages, turns: int | None) -> Iterator[dict[str, Any]]:
    """The pair, if both go on with a turn of the model where they part."""
    shared = _shared(chosen, rejected)
    sides = (chosen[shared:], rejected[shared:])
    if sides[0] and sides[0][0].get("train") is False:
        return  # what the model did, done again, printed something else: an address, a time
    if not shared or not all(side and side[0]["role"] == "assistant" for side in sides):
        return
    better, worse = (_spoken(side, turns) for side in sides)
    if [_bare(message) for message in better] == [_bare(message) for message in worse]:
        return  # so far they did the same, and only what was printed differs
    yield {"prompt": list(chosen[:shared]), "chosen": better, "rejected": worse}


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


def _spoken(messages: Messages, turns: int | None) -> list[dict[str, Any]]:
    """The messages up to the model's last word, or up to so many of its turns."""
    spoken = [n for n, message in enumerate(messages) if message["role"] == "assistant"][:turns]
    return [dict(message) for message in messages[: spoken[-1] + 1]]


def _counted(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, int]:
    return dict(sorted(Counter(str(row[key]) for row in rows).items()))
