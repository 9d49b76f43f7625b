"""Conversations that were really executed, with what training needs to know of them.

A trajectory is plain JSON: it can be stored, counted and rendered without the project that it was
recorded in. Mistaken turns are kept, because what follows them shows how to recover; they carry
`"train": false`, so that nobody learns to make them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

import numpy as np

from curricle.agents.messages import check_conversation, read_messages, read_tools
from curricle.agents.records import Message
from curricle.checkpoints.hashing import hash_value
from curricle.errors import DataError

_ID_DIGITS = 16
Item = TypeVar("Item")

CountTokens: TypeAlias = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], int]
"""Tokens of messages and of the tools' schemas, as the model's renderer writes them."""


class Detour(StrEnum):
    """A way that is not the shortest one."""

    SEARCH = "search"
    WRONG_READ = "wrong_read"
    MISCOPIED = "miscopied"
    AMBIGUOUS = "ambiguous"
    WRONG_FIX = "wrong_fix"
    WRONG_LINE = "wrong_line"


@dataclass(frozen=True)
class Trajectory:
    """An executed conversation.

    Attributes:
        task: Id of the task or question.
        kind: `repair` for a bug task, else the kind of question.
        language: The backend's name.
        project: The project's name; a split is by project.
        operator: What broke the code; empty when nothing is broken.
        messages: The whole conversation; observations are what the tools printed.
        tools: Schemas of the tools on offer.
        detours: Which ways it took beside the shortest.
        verified: Whether tests proved that the answer is right; an exact comparison otherwise.
        tokens: Length as rendered.
    """

    task: str
    kind: str
    language: str
    project: str
    operator: str
    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...]
    detours: tuple[str, ...]
    verified: bool
    tokens: int

    @property
    def id(self) -> str:
        """Hash of the conversation."""
        return hash_value([self.task, self.kind, list(self.messages)])[:_ID_DIGITS]

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form that `from_json` reads back."""
        return {"id": self.id, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Trajectory:
        """Read a trajectory, and check that it is a conversation and came to its end.

        Raises:
            DataError: A key is missing, or turns do not follow each other; names the trajectory.
        """
        fields = {key: value for key, value in content.items() if key != "id"}
        name = content.get("id", "without an id")
        try:
            trajectory = cls(
                **{
                    **fields,
                    "messages": tuple(fields["messages"]),
                    "tools": tuple(fields["tools"]),
                    "detours": tuple(fields["detours"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise DataError(
                f"trajectory {name}: {error}. See docs/DATA_FORMATS.md, Trajectories."
            ) from error
        where = f"trajectory {name}"
        tools = read_tools(list(trajectory.tools), where)
        messages = read_messages(trajectory.messages, where)
        check_conversation(messages, tools, where)
        if messages[-1].role != "assistant" or messages[-1].tool_calls:
            raise DataError(f"{where}: it must end with an assistant's conclusion.")
        return trajectory


@dataclass(frozen=True)
class Dropped:
    """A task that gave no trajectory.

    Attributes:
        task: Its id.
        operator: What broke it.
        reason: Few words, to be counted.
    """

    task: str
    operator: str
    reason: str


def trajectory_statistics(results: Iterable[Trajectory | Dropped]) -> dict[str, Any]:
    """What was made and what was not, JSON-able.

    Returns:
        `made` and `dropped` counts; `by_operator`, `by_detour`, `by_kind`, `by_project`;
        `dropped_by_reason`; `tokens` with `total`, `mean`, `p10`, `p50`, `p90`, `max`; mean
        `turns`; and `trained_turns`, the share of the assistant's turns that carry loss.
    """
    made: list[Trajectory] = []
    dropped: list[Dropped] = []
    for result in results:
        if isinstance(result, Trajectory):
            made.append(result)
        else:
            dropped.append(result)
    lengths = np.array([trajectory.tokens for trajectory in made] or [0])
    turns = [
        sum(message["role"] == "assistant" for message in trajectory.messages)
        for trajectory in made
    ]
    untrained = sum(
        message.get("train") is False for trajectory in made for message in trajectory.messages
    )
    detours = Counter(detour for trajectory in made for detour in trajectory.detours or ("none",))
    return {
        "made": len(made),
        "dropped": len(dropped),
        "dropped_by_reason": _sorted(Counter(one.reason for one in dropped)),
        "by_operator": _sorted(Counter(trajectory.operator for trajectory in made)),
        "by_detour": _sorted(detours),
        "by_kind": _sorted(Counter(trajectory.kind for trajectory in made)),
        "by_project": _sorted(Counter(trajectory.project for trajectory in made)),
        "tokens": {
            "total": int(lengths.sum()),
            "mean": round(float(lengths.mean()), 1),
            **{f"p{q}": int(np.percentile(lengths, q)) for q in (10, 50, 90)},
            "max": int(lengths.max()),
        },
        "turns": round(sum(turns) / len(turns), 2) if turns else 0.0,
        "trained_turns": round(1 - untrained / sum(turns), 4) if turns else 0.0,
    }


def balanced(
    items: Iterable[Item],
    group: Callable[[Item], str],
    identity: Callable[[Item], str],
    *,
    seed: int,
    limit: int | None = None,
    max_share: float = 1.0,
) -> list[Item]:
    """Some items, drawn from their groups in turn, so that no group fills the sample.

    Args:
        items: What to draw from; their order does not matter.
        group: Such as the operator of a task.
        identity: Tells two items apart.
        seed: Another seed draws another sample.
        limit: At most so many.
        max_share: No group has more than this share of what is drawn. Of few groups with few
            items, everything that the share allows; of too few groups for any sample to keep the
            share, an even one.
    """
    draw = random.Random(seed)
    waiting: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=identity):
        waiting[group(item)].append(item)
    for members in waiting.values():
        draw.shuffle(members)
    total = sum(map(len, waiting.values()))
    wanted = total if limit is None else min(limit, total)
    caps = _caps({name: len(members) for name, members in waiting.items()}, wanted, max_share)
    names = sorted(waiting)
    draw.shuffle(names)
    chosen: list[Item] = []
    for turn in range(max(caps.values(), default=0)):
        for name in names:
            if turn < caps[name] and len(chosen) < wanted:
                chosen.append(waiting[name][turn])
    return chosen


def _caps(sizes: Mapping[str, int], wanted: int, max_share: float) -> dict[str, int]:
    """The most of each group, for the largest sample in which none is above the share."""
    if max_share * len(sizes) < 1:  # so few groups cannot keep it: as even as they can be
        max_share = 1.0
    for size in range(wanted, 0, -1):
        cap = max(1, int(max_share * size + 1e-9))  # one of each is as even as it gets
        caps = {name: min(count, cap) for name, count in sizes.items()}
        if sum(caps.values()) >= size:
            # The smallest level that still reaches the size keeps the groups even.
            return caps if sum(caps.values()) == size else _levelled(sizes, size, cap)
    return dict.fromkeys(sizes, 0)


def _levelled(sizes: Mapping[str, int], wanted: int, cap: int) -> dict[str, int]:
    taken = dict.fromkeys(sizes, 0)
    left = wanted
    while left:
        for name in sorted(sizes):
            if left and taken[name] < min(sizes[name], cap):
                taken[name] += 1
                left -= 1
    return taken


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
