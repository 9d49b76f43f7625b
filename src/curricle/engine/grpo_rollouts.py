"""Tries of tasks: conversations between the model that is being trained and environments.

All tries of a round run side by side: while one waits for its environment, the others generate. A
conversation is a list of tokens from its first to its last, never rendered again, so what the model
is trained on is what it read and said, token for token.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from curricle.agents.generator import Completion, Generator, Turn
from curricle.agents.hosting import Answered, HostedEnvironments
from curricle.config.agent_training import GrpoParameters
from curricle.engine.grpo_rounds import Attempt, Task
from curricle.engine.renderers import Renderer
from curricle.errors import DataError, Interrupted
from curricle.launch.signals import StopRequest

logger = logging.getLogger(__name__)

_IDLE_WAIT_S = 0.1


@dataclass
class _Conversation:
    """A try in progress."""

    seed: int
    prompt: list[int] = field(default_factory=list)
    completion: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    turns: int = 0
    was_cut: bool = False
    ending: str = ""

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.completion)


class Rollouts:
    """Tries tasks; called once or more per round, always with the same generator."""

    def __init__(
        self,
        generator: Generator,
        renderer: Renderer,
        environments: HostedEnvironments,
        parameters: GrpoParameters,
        stop: StopRequest,
    ) -> None:
        self._generator = generator
        self._renderer = renderer
        self._environments = environments
        self._parameters = parameters
        self._stop = stop
        self._active: dict[str, _Conversation] = {}
        self._done: dict[str, Attempt] = {}
        self._speaking: set[str] = set()

    def __call__(self, tries: Sequence[tuple[str, Task, int]]) -> list[Attempt]:
        """Try each (name, task, seed), and return the tries in that order.

        Raises:
            Interrupted: a signal arrived; nothing of the round is kept.
        """
        waiting = deque(tries)
        self._done = {}
        while waiting or self._active:
            if self._stop:
                raise Interrupted(
                    f"stopped by {self._stop.signal_name} between two steps. The same command "
                    f"continues from the last saved step.",
                    self._stop.signal_name,
                )
            while waiting and len(self._active) < self._parameters.concurrency:
                name, task, seed = waiting.popleft()
                self._active[name] = _Conversation(seed)
                self._environments.open(name, task)
            for answer in self._environments.poll(0.0 if self._speaking else _IDLE_WAIT_S):
                self._take_answer(answer)
            if self._speaking:
                for completion in self._generator.poll(_IDLE_WAIT_S):
                    self._take_turn(completion)
        return [self._done[name] for name, _, _ in tries]

    def _take_answer(self, answer: Answered) -> None:
        talk = self._active.get(answer.name)
        if talk is None:
            return
        if answer.fault:
            self._finish(answer.name, None, note=answer.fault)
        elif answer.verb == "score":
            value = answer.value
            self._finish(
                answer.name, value["reward"],
                calls=value["calls"], valid_calls=value["valid_calls"], note=value["note"],
            )  # fmt: skip
        elif answer.verb == "open":
            self._open(answer.name, talk, answer.value)
        elif answer.value["done"]:
            talk.ending = "done"
            self._environments.score(answer.name)
        else:
            self._go_on(answer.name, talk, answer.value["observation"])

    def _open(self, name: str, talk: _Conversation, opened: dict[str, Any]) -> None:
        try:
            talk.prompt = self._renderer.prompt(opened["messages"], opened["tools"], name)
        except DataError as error:
            self._give_up(name, str(error))
            return
        if talk.length >= self._parameters.max_length:
            self._give_up(name, f"the prompt alone has {talk.length} tokens")
            return
        self._speak(name, talk, talk.prompt)

    def _go_on(self, name: str, talk: _Conversation, observation: dict[str, Any]) -> None:
        """Let the model read what its turn led to, and speak again."""
        # A turn that was cut off has no end of its own: the next one must not begin inside it.
        appended = [self._renderer.stop_token_ids[0]] if talk.was_cut else []
        try:
            appended += self._renderer.continuation([observation])
        except DataError as error:  # it spells a special token: nothing that a model may be shown
            self._give_up(name, str(error))
            return
        if talk.length + len(appended) >= self._parameters.max_length:
            self._end_overlong(name, talk)
            return
        talk.completion += appended
        talk.mask += [0] * len(appended)
        self._speak(name, talk, appended)

    def _speak(self, name: str, talk: _Conversation, appended: Sequence[int]) -> None:
        p = self._parameters
        self._speaking.add(name)
        self._generator.submit(
            Turn(
                name, tuple(appended),
                max_new_tokens=min(p.max_turn_tokens, p.max_length - talk.length),
                temperature=p.temperature,
                seed=talk.seed,
            )
        )  # fmt: skip

    def _take_turn(self, completion: Completion) -> None:
        name = completion.conversation
        self._speaking.discard(name)
        talk = self._active[name]
        if completion.ending in ("context", "failed") or not completion.tokens:
            if completion.ending == "failed":
                self._give_up(name, completion.error or "generation failed")
            else:
                self._end_overlong(name, talk)
            return
        talk.completion += completion.tokens
        talk.mask += [1] * len(completion.tokens)
        talk.turns += 1
        talk.was_cut = completion.ending != "stop"
        if talk.was_cut and talk.length >= self._parameters.max_length:
            self._end_overlong(name, talk)
            return
        self._environments.step(name, self._renderer.answer(completion.tokens))

    def _end_overlong(self, name: str, talk: _Conversation) -> None:
        talk.ending = "overlong"
        if self._parameters.overlong == "scored":
            self._environments.score(name)
        else:
            self._give_up(name, "")

    def _give_up(self, name: str, note: str) -> None:
        """End a try of which no reward will be known."""
        self._environments.drop(name)
        self._finish(name, None, note=note)

    def _finish(self, name: str, reward: float | None, **described: Any) -> None:
        talk = self._active.pop(name)
        self._speaking.discard(name)
        self._generator.drop(name)
        self._done[name] = Attempt(
            talk.prompt, talk.completion, talk.mask, reward,
            ending=talk.ending or ("masked" if reward is None else "done"),
            turns=talk.turns,
            overlong=talk.ending == "overlong",
            **described,
        )  # fmt: skip
