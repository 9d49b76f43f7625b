"""Pairs for preference training, made of finished rollouts of the same task.

Chosen is a conversation that succeeded, rejected one that was really executed and failed. A pair
teaches at the place where the two part, so they share their beginning as far as it is the same, and
pairs that part late are taken first. What differs in length only teaches brevity or chatter, not
debugging: such pairs are left out, and so is what was masked, of which nothing is known.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.config.agent_training import PairParameters

Message = Mapping[str, Any]


@dataclass(frozen=True)
class FinishedRollout:
    """A conversation that is over.

    Attributes:
        task: what was tried; only conversations of one task are compared.
        operator: the kind of task, such as the mutation that made the bug.
        messages: all of them, in their JSON form.
        reward: ``None`` when it is masked.
        tools: on offer.
    """

    task: str
    operator: str
    messages: Sequence[Message]
    reward: float | None
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Pairs:
    """Pairs and what became of the rest.

    Attributes:
        rows: ``prompt``, ``chosen``, ``rejected``, ``tools``, ``task`` and ``operator``.
        counts: rollouts that were masked, tasks without both outcomes, pairs that differ in length
            only, pairs beyond a bound, and pairs by operator.
    """

    rows: list[dict[str, Any]]
    counts: dict[str, Any] = field(default_factory=dict)


def make_pairs(rollouts: Iterable[FinishedRollout], parameters: PairParameters) -> Pairs:
    """Pair what succeeded with what failed, within the bounds.

    Args:
        rollouts: of any tasks, in any order.
        parameters: the bounds.

    Returns:
        Pairs in an order that the seed decides; the same ones for the same rollouts.
    """
    counts = {"masked": 0, "one_sided_tasks": 0, "length_only": 0, "over_bound": 0}
    by_task: dict[str, list[FinishedRollout]] = defaultdict(list)
    for rollout in rollouts:
        if rollout.reward is None:
            counts["masked"] += 1
        else:
            by_task[rollout.task].append(rollout)
    made: list[dict[str, Any]] = []
    for task in sorted(by_task):
        good = [r for r in by_task[task] if _reward(r) >= parameters.succeeded]
        bad = [r for r in by_task[task] if _reward(r) <= parameters.failed]
        if not (good and bad):
            counts["one_sided_tasks"] += 1
            continue
        candidates = [(chosen, rejected) for chosen in good for rejected in bad]
        kept = [pair for pair in candidates if not differ_in_length_only(*pair)]
        counts["length_only"] += len(candidates) - len(kept)
        chosen_pairs = list(_within(kept, parameters))
        counts["over_bound"] += len(kept) - len(chosen_pairs)
        made += [_row(chosen, rejected) for chosen, rejected in chosen_pairs]
    random.Random(parameters.seed).shuffle(made)
    rows: list[dict[str, Any]] = []
    by_operator: dict[str, int] = defaultdict(int)
    for row in made:
        operator = row["operator"]
        if parameters.per_operator is not None and by_operator[operator] >= parameters.per_operator:
            counts["over_bound"] += 1
            continue
        by_operator[operator] += 1
        rows.append(row)
    return Pairs(
        rows, {**counts, "pairs": len(rows), "by_operator": dict(sorted(by_operator.items()))}
    )


def differ_in_length_only(first: FinishedRollout, second: FinishedRollout) -> bool:
    """Say whether two conversations did the same things, one of them more often or for longer.

    Turns that a model repeats, and turns after the end of the shorter one, are length.
    """
    shorter, longer = sorted((_deeds(first), _deeds(second)), key=len)
    return longer[: len(shorter)] == shorter


def shared_messages(first: Sequence[Message], second: Sequence[Message]) -> int:
    """Return how many messages both begin with, up to where the assistant is to speak."""
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += 1
    while shared and (
        first[shared - 1]["role"] == "assistant"
        or any(
            len(talk) == shared or talk[shared]["role"] != "assistant" for talk in (first, second)
        )
    ):
        shared -= 1
    return shared


def _within(
    pairs: list[tuple[FinishedRollout, FinishedRollout]], parameters: PairParameters
) -> Iterator[tuple[FinishedRollout, FinishedRollout]]:
    """Yield pairs that part latest first, each conversation in few of them."""
    used: dict[int, int] = defaultdict(int)
    taken = 0
    for chosen, rejected in sorted(
        pairs, key=lambda pair: -shared_messages(pair[0].messages, pair[1].messages)
    ):
        if taken >= parameters.per_task:
            return
        if max(used[id(chosen)], used[id(rejected)]) >= parameters.per_rollout:
            continue
        used[id(chosen)] += 1
        used[id(rejected)] += 1
        taken += 1
        yield chosen, rejected


def _row(chosen: FinishedRollout, rejected: FinishedRollout) -> dict[str, Any]:
    shared = shared_messages(chosen.messages, rejected.messages)
    return {
        "prompt": [dict(message) for message in chosen.messages[:shared]],
        "chosen": [dict(message) for message in chosen.messages[shared:]],
        "rejected": [dict(message) for message in rejected.messages[shared:]],
        "tools": [dict(tool) for tool in chosen.tools],
        "task": chosen.task,
        "operator": chosen.operator,
    }


def _deeds(rollout: FinishedRollout) -> list[tuple[str, str]]:
    """What the model called and said, without what it had already done before."""
    deeds: list[tuple[str, str]] = []
    for message in rollout.messages:
        if message["role"] == "assistant":
            deed = (str(message.get("content") or ""), str(message.get("tool_calls") or ()))
            if deed not in deeds:
                deeds.append(deed)
    return deeds


def _reward(rollout: FinishedRollout) -> float:
    assert rollout.reward is not None
    return rollout.reward
