"""What a rollout is given and what it leaves: tasks, environments, renderers, rollouts' records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

Message: TypeAlias = Mapping[str, Any]
End = Literal["done", "turns", "tokens", "time", "generator", "infrastructure"]
"""Why a conversation ended: the environment was done; a budget; the generator gave nothing usable;
the environment failed for a reason that is not the agent's, so that it is masked, never scored."""


class Environment(Protocol):
    """What an agent acts in, such as ``curricle.agents.session.ToolSession``."""

    def start(self) -> Sequence[Message]:
        """Return the messages that the agent sees first."""

    def step(self, message: Message) -> tuple[Message | None, bool]:
        """Take the agent's message; return the observation, and whether it was the last.

        Whatever the agent writes gives an observation. ``malformed`` says why a call could not be
        read. An observation that is ``spent`` says that the answer changed nothing, so that the
        same one would give the same again; the agent does not see the word.

        Raises:
            InfrastructureFault: the environment failed, not the agent.
        """


class Renderer(Protocol):
    """How messages become tokens and back, such as ``curricle.engine.renderers.Renderer``."""

    @property
    def stop_token_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer."""

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[int]:
        """Return the tokens after which the agent is to write."""

    def continuation(self, observations: Sequence[Message]) -> list[int]:
        """Return what follows an answer and its stop token, up to where the agent writes again."""

    def answer(self, ids: Sequence[int]) -> dict[str, Any]:
        """Read an answer as a message; ``malformed`` says why it could not be read."""


@dataclass(frozen=True)
class RolloutTask:
    """One conversation to have.

    Attributes:
        name: unique among the tasks; with several attempts at one bug, say ``<task>/3``.
        open: makes the environment; called in a thread.
        tools: schemas of the tools; without any, those that the environment has as ``tools``.
        seed: of drawn answers.
        temperature: 0 is greedy.
        finish: called in a thread when the conversation is over, to grade and to clean up; what it
            returns is the trajectory's ``outcome``.
    """

    name: str
    open: Callable[[], Environment]
    tools: Sequence[Mapping[str, Any]] = ()
    seed: int = 0
    temperature: float = 0.0
    finish: Callable[[Environment], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Trajectory:
    """A conversation that took place.

    Attributes:
        task: the task's name.
        messages: all of them, observations as the agent saw them.
        end: why it ended.
        turns: answers of the agent.
        malformed: answers of which a call could not be read.
        tokens: of the whole conversation, as the generator counts them.
        generated_tokens: of the answers.
        read_tokens: that the generator read; the rest it had kept.
        seconds: wall clock.
        outcome: what the task's ``finish`` returned; JSON-able.
        note: what failed, if something did.
        prompt_ids: tokens before the agent first wrote; like the next two only when asked for.
        completion_ids: all tokens after them, as the agent read and wrote them.
        written: per token of these, 1 where the agent wrote it.
    """

    task: str
    messages: tuple[Message, ...]
    end: End
    turns: int = 0
    malformed: int = 0
    tokens: int = 0
    generated_tokens: int = 0
    read_tokens: int = 0
    seconds: float = 0.0
    outcome: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    written: tuple[int, ...] = ()

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Trajectory:
        """Read the JSON form.

        Raises:
            TypeError: it is none.
        """
        return cls(**{**row, "messages": tuple(row["messages"])})
