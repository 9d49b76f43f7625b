"""Conversations between a generator and environments, many side by side, each of them bounded.

One thread drives the generator and decides; calls into environments run in threads of their own,
so that conversations generate while the tools of others run. Every conversation ends: by itself, by
a budget of turns, tokens or time, or with a fault that is counted. A call that does not return is
left behind after its time, so that one hanging environment holds up nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from curricle.agents.conversation import (
    End,
    Environment,
    Message,
    Renderer,
    RolloutTask,
    Trajectory,
)
from curricle.agents.generator import Completion, Generator, Turn
from curricle.agents.messages import truncate
from curricle.config.generation import RolloutParameters
from curricle.errors import DataError, InfrastructureFault

logger = logging.getLogger(__name__)

_POLL_S = 0.05
_UNSHOWABLE = "error: the output cannot be shown: it spells a control token of the model"
_SHORTEST_CHARS = 80


@dataclass
class _Conversation:
    """A conversation under way."""

    task: RolloutTask
    started: float
    environment: Environment | None = None
    messages: list[Message] = field(default_factory=list)
    turns: int = 0
    malformed: int = 0
    tokens: int = 0
    generated: int = 0
    read: int = 0
    end: End | None = None
    note: str = ""
    call_started: float | None = None  # of the call into the environment, if one is under way
    queued: bool = False  # a call waits for a worker
    generating: bool = False
    prompt_ids: list[int] = field(default_factory=list)
    completion_ids: list[int] = field(default_factory=list)
    written: list[int] = field(default_factory=list)
    spent: list[tuple[int, ...]] = field(default_factory=list)  # answers that would change nothing

    def keep(self, tokens: Sequence[int], written: bool) -> None:
        """Remember tokens that were read or written, in their order."""
        if not (written or self.completion_ids):
            self.prompt_ids += tokens
            return
        self.completion_ids += tokens
        self.written += [int(written)] * len(tokens)


@dataclass(frozen=True)
class _Returned:
    """What a call into an environment gave."""

    conversation: _Conversation
    call: str
    result: Any = None
    error: BaseException | None = None


def run_rollouts(
    tasks: Sequence[RolloutTask],
    generator: Generator,
    renderer: Renderer | None,
    parameters: RolloutParameters,
    *,
    max_new_tokens: int = 128,
    should_stop: Callable[[], bool] = lambda: False,
    keep_tokens: bool = False,
) -> Iterator[Trajectory]:
    """Have all conversations, and yield each as it ends.

    Args:
        tasks: in the order in which they begin.
        generator: answers; stays open.
        renderer: of the generator's model; ``None`` for one that takes messages.
        parameters: budgets.
        max_new_tokens: of one answer.
        should_stop: when it says so, what is under way is dropped and the iteration ends.
        keep_tokens: whether trajectories carry their tokens, for training on them.

    Raises:
        ValueError: two tasks have one name.
    """
    if len({task.name for task in tasks}) != len(tasks):
        raise ValueError("two rollout tasks have one name")
    rollouts = _Rollouts(
        tasks, generator, renderer, parameters, max_new_tokens, keep_tokens
    )  # fmt: skip
    try:
        while not rollouts.is_over and not should_stop():
            yield from rollouts.advance()
    finally:
        rollouts.drop_all()


class _Rollouts:
    """The loop's state; all of it belongs to one thread."""

    def __init__(
        self,
        tasks: Sequence[RolloutTask],
        generator: Generator,
        renderer: Renderer | None,
        parameters: RolloutParameters,
        max_new_tokens: int,
        keep_tokens: bool,
    ) -> None:
        self._keep_tokens = keep_tokens
        self._tasks = deque(tasks)
        self._generator = generator
        self._renderer = renderer
        self._parameters = parameters
        self._max_new_tokens = max_new_tokens
        self._avoids_repeats = parameters.avoid_repeats and generator.heeds_unlike
        if parameters.avoid_repeats and not generator.heeds_unlike:
            logger.warning("avoid_repeats: this generator cannot; its conversations may repeat")
        self._open: dict[str, _Conversation] = {}
        self._calls: deque[tuple[_Conversation, str, Callable[[], Any]]] = deque()
        self._returned: SimpleQueue[_Returned] = SimpleQueue()

    @property
    def is_over(self) -> bool:
        return not self._tasks and not self._open

    def drop_all(self) -> None:
        for name in self._open:
            self._generator.drop(name)
        self._open.clear()
        self._calls.clear()

    def advance(self) -> list[Trajectory]:
        """Do what can be done now, or wait a moment; return what ended."""
        ended: list[Trajectory] = []
        while self._tasks and len(self._open) < self._parameters.side_by_side:
            self._begin(self._tasks.popleft())
        self._start_calls()
        generating = any(entry.generating for entry in self._open.values())
        if generating:
            for completion in self._generator.poll(_POLL_S):
                conversation = self._open.get(completion.conversation)
                if conversation is not None and conversation.generating:
                    self._take_answer(conversation, completion)
        ended += self._take_returned(0.0 if generating else _POLL_S)
        ended += self._end_overdue()
        return ended

    # Calls into environments

    def _begin(self, task: RolloutTask) -> None:
        conversation = _Conversation(task, time.monotonic())
        self._open[task.name] = conversation

        def start() -> tuple[Environment, Sequence[Message]]:
            environment = task.open()
            return environment, environment.start()

        self._call(conversation, "start", start)

    def _call(self, conversation: _Conversation, name: str, call: Callable[[], Any]) -> None:
        conversation.queued = True
        self._calls.append((conversation, name, call))

    def _start_calls(self) -> None:
        running = sum(entry.call_started is not None for entry in self._open.values())
        while self._calls and running < self._parameters.workers:
            conversation, name, call = self._calls.popleft()
            if self._open.get(conversation.task.name) is not conversation:
                continue
            conversation.queued = False
            conversation.call_started = time.monotonic()
            running += 1
            # A daemon: one that never returns must not keep the process from ending.
            threading.Thread(
                target=self._run, args=(conversation, name, call), daemon=True,
                name=f"rollout {conversation.task.name}",
            ).start()  # fmt: skip

    def _run(self, conversation: _Conversation, name: str, call: Callable[[], Any]) -> None:
        try:
            self._returned.put(_Returned(conversation, name, call()))
        except BaseException as error:  # raised again, or counted, in the loop's own thread
            self._returned.put(_Returned(conversation, name, error=error))

    def _take_returned(self, timeout_s: float) -> list[Trajectory]:
        ended: list[Trajectory] = []
        while True:
            try:
                returned = self._returned.get(timeout=timeout_s) if timeout_s else (
                    self._returned.get_nowait()
                )  # fmt: skip
            except Empty:
                return ended
            timeout_s = 0.0
            conversation = returned.conversation
            if self._open.get(conversation.task.name) is not conversation:
                continue  # it was overdue
            conversation.call_started = None
            if isinstance(returned.error, (InfrastructureFault, DataError)):
                logger.warning("%s: %s: %s", conversation.task.name, returned.call, returned.error)
                conversation.note = conversation.note or str(returned.error)
                if returned.call == "finish":
                    conversation.end = "infrastructure"
                    ended.append(self._close(conversation))
                else:
                    self._end(conversation, "infrastructure")
            elif returned.error is not None:
                raise returned.error
            elif returned.call == "start":
                conversation.environment, opening = returned.result
                self._open_conversation(conversation, opening)
            elif returned.call == "step":
                self._take_observation(conversation, *returned.result)
            else:
                ended.append(self._close(conversation, returned.result))

    def _end_overdue(self) -> list[Trajectory]:
        now, ended = time.monotonic(), []
        for conversation in list(self._open.values()):
            called = conversation.call_started
            if called is not None and now - called > self._parameters.step_timeout_s:
                conversation.end = "infrastructure"
                conversation.note = (
                    f"a call into the environment took more than "
                    f"{self._parameters.step_timeout_s:g} s and was left behind"
                )
                logger.warning("%s: %s", conversation.task.name, conversation.note)
                ended.append(self._close(conversation))
            elif conversation.generating or (conversation.queued and conversation.end is None):
                if now - conversation.started > self._parameters.conversation_timeout_s:
                    self._calls = deque(c for c in self._calls if c[0] is not conversation)
                    self._end(conversation, "time")
        return ended

    # Turns

    def _open_conversation(self, conversation: _Conversation, opening: Sequence[Message]) -> None:
        conversation.messages = list(opening)
        prompt: list[int] = []
        if self._renderer is not None:
            prompt = self._renderer.prompt(opening, _offered(conversation))
        self._ask(conversation, prompt)

    def _ask(self, conversation: _Conversation, tokens: Sequence[int]) -> None:
        """Have the next turn, if the budgets allow for one."""
        conversation.tokens += len(tokens)
        room = self._parameters.max_tokens - conversation.tokens
        if conversation.turns >= self._parameters.max_turns:
            self._end(conversation, "turns")
        elif room <= 0:
            self._end(conversation, "tokens")
        elif time.monotonic() - conversation.started > self._parameters.conversation_timeout_s:
            self._end(conversation, "time")
        else:
            task = conversation.task
            conversation.generating = True
            conversation.keep(tokens, written=False)
            self._generator.submit(Turn(
                task.name, tokens, min(self._max_new_tokens, room), task.temperature, task.seed,
                messages=tuple(conversation.messages), tools=_offered(conversation),
                unlike=tuple(conversation.spent),
            ))  # fmt: skip

    def _take_answer(self, conversation: _Conversation, completion: Completion) -> None:
        conversation.generating = False
        conversation.read += completion.read_tokens
        conversation.generated += completion.length
        conversation.tokens += completion.length
        if self._renderer is None:
            # The server counts the whole conversation; nothing else does.
            conversation.tokens = completion.read_tokens + completion.length
        if completion.ending == "failed":
            conversation.note = completion.error
            self._end(conversation, "generator")
            return
        if completion.ending == "context" and not completion.tokens:
            self._end(conversation, "tokens")
            return
        conversation.turns += 1
        conversation.keep(completion.tokens, written=True)
        if completion.message is not None:
            message = dict(completion.message)
        else:
            assert self._renderer is not None, "tokens without a renderer"
            message = self._renderer.answer(completion.tokens)
        conversation.malformed += bool(message.get("malformed"))
        conversation.messages.append(message)
        environment = conversation.environment
        assert environment is not None
        self._call(conversation, "step", lambda: (*environment.step(message), completion))

    def _take_observation(
        self,
        conversation: _Conversation,
        observation: Message | None,
        done: bool,
        completion: Completion,
    ) -> None:
        tokens: list[int] = []
        if observation is not None:
            observation, spent = _addressed(observation), observation.get("spent", False)
            if not spent:
                conversation.spent.clear()
            elif self._avoids_repeats:
                conversation.spent.append(tuple(completion.tokens))
            if self._renderer is not None:
                observation, tokens = self._shown(self._renderer, observation)
                # What the agent sees next stands after an ended turn.
                if completion.ending != "stop":
                    tokens = [self._renderer.stop_token_ids[0], *tokens]
            conversation.messages.append(observation)
        if done or observation is None:
            self._end(conversation, "done")
        else:
            self._ask(conversation, tokens)

    def _shown(self, renderer: Renderer, observation: Message) -> tuple[Message, list[int]]:
        """Return an observation that fits its budget, and its tokens."""
        limit = self._parameters.observation_tokens
        text = str(observation.get("content", ""))
        # Nothing is tokenised that is hopelessly long: a token rarely has more than 16 characters.
        shown = truncate(text, 16 * limit)
        while True:
            observation = {**observation, "content": shown}
            try:
                tokens = renderer.continuation([observation])
            except DataError:
                if shown == _UNSHOWABLE:
                    raise
                shown = _UNSHOWABLE
                continue
            if len(tokens) <= limit or len(shown) <= _SHORTEST_CHARS:
                return observation, tokens
            fitting = len(shown) * limit * 9 // (10 * len(tokens))
            shown = truncate(text, max(fitting, _SHORTEST_CHARS))

    # Ends

    def _end(self, conversation: _Conversation, end: End) -> None:
        """No more turns: the generator forgets it, and the task's own end is called."""
        conversation.end = end
        conversation.generating = False
        self._generator.drop(conversation.task.name)
        environment, finish = conversation.environment, conversation.task.finish
        if environment is None or finish is None:
            self._call(conversation, "finish", dict)
        else:
            self._call(conversation, "finish", lambda: finish(environment))

    def _close(
        self, conversation: _Conversation, outcome: Mapping[str, Any] | None = None
    ) -> Trajectory:
        name = conversation.task.name
        self._generator.drop(name)
        del self._open[name]
        assert conversation.end is not None
        return Trajectory(
            name,
            tuple(conversation.messages),
            conversation.end,
            turns=conversation.turns,
            malformed=conversation.malformed,
            tokens=conversation.tokens,
            generated_tokens=conversation.generated,
            read_tokens=conversation.read,
            seconds=time.monotonic() - conversation.started,
            outcome=outcome or {},
            note=conversation.note,
            **(_kept(conversation) if self._keep_tokens else {}),
        )


def _kept(conversation: _Conversation) -> dict[str, tuple[int, ...]]:
    return {
        "prompt_ids": tuple(conversation.prompt_ids),
        "completion_ids": tuple(conversation.completion_ids),
        "written": tuple(conversation.written),
    }


def _offered(conversation: _Conversation) -> Sequence[Mapping[str, Any]]:
    """Return the tools that the task names, or else those that its environment has."""
    tools: Sequence[Mapping[str, Any]] = conversation.task.tools
    return tools or getattr(conversation.environment, "tools", ())


def _addressed(observation: Message) -> Message:
    """Return an observation that no tool gave, of a call that could not be read, as the user's."""
    if observation.get("role") == "tool" and not observation.get("name"):
        return {"role": "user", "content": observation.get("content", "")}
    return {name: value for name, value in observation.items() if name != "spent"}
