"""What a session is given and what it leaves: calls, endings, and the tests on view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation
from curricle.languages.project import Changes
from curricle.languages.tasks import Patch

Message: TypeAlias = dict[str, Any]
"""`role`, `content`; of an assistant `thinking`, `tool_calls` (`name`, `arguments`) and `train`; of
a tool its `name`."""

INVALID_CALLS = frozenset({"malformed_call", "unknown_tool", "bad_arguments"})
"""Outcomes of calls that no tool could have carried out."""


class Run(Protocol):
    """Executes some tests or checks of a project with changes laid over it, in a sandbox."""

    def __call__(
        self, changes: Changes, level: Level, tests: Sequence[str] | None = None
    ) -> Evaluation:
        """What the level shows.

        Raises:
            InfrastructureFault: The sandbox failed; nothing is known of the changes.
        """


class Ending(StrEnum):
    """Why a session is over."""

    CONCLUDED = "concluded"
    TURNS = "turns"
    INVALID = "invalid"
    REPEATS = "repeats"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True)
class VisibleTests:
    """The tests that an agent may run.

    Attributes:
        failing: Those that the bug breaks, in the task's order.
        passing: Those that pass and must go on doing so.
        reaching: Function (`file::name`) to the tests that reach it; empty when nobody knows.
    """

    failing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    reaching: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """One tool call, as statistics see it.

    Attributes:
        turn: The assistant's turn, counted from 0.
        tool: The name that was called; empty when no call could be read.
        arguments: As they were given, if they were an object.
        outcome: `ok`; `failed` for tests or checks that complain; else why it was not carried out,
            such as `absent`, `ambiguous`, `unknown_tool` or `bad_arguments`.
        seconds: Wall-clock seconds that the tool took.
    """

    turn: int
    tool: str
    arguments: Mapping[str, Any]
    outcome: str
    seconds: float

    @property
    def is_valid(self) -> bool:
        """Whether the call could be read, named a tool and fitted its schema."""
        return self.outcome not in INVALID_CALLS


@dataclass(frozen=True)
class SessionRecord:
    """What happened in a session.

    Attributes:
        ending: Why it is over; `None` while it goes on.
        turns: Assistant messages.
        calls: Every call.
        patch: What the agent changed.
        tried: The last change that was taken back because tests failed.
        answer: The concluding text.
        note: What failed, for `Ending.INFRASTRUCTURE`.
    """

    ending: Ending | None
    turns: int
    calls: tuple[Call, ...]
    patch: Patch
    answer: str = ""
    note: str = ""
    tried: Changes = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        content = asdict(self)
        return {**content, "patch": dict(self.patch.changes), "tried": dict(self.tried)}
