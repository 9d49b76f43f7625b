"""Environments in other processes, as the rollout loop's threads see them.

The loop calls environments in threads; `curricle.agents.hosting` keeps them in processes that can
be killed. Here one thread owns the processes, and the loop's threads wait for its answers.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from curricle.agents.conversation import RolloutTask
from curricle.agents.hosting import Answered, HostedEnvironments
from curricle.errors import InfrastructureFault

_POLL_S = 0.01
_IDLE_S = 0.1
_MASKED = "the environment is gone"

Message = Mapping[str, Any]


class RemoteEnvironments:
    """Opens environments that live in the processes of a host; use it as a context manager."""

    def __init__(self, hosted: HostedEnvironments) -> None:
        self._hosted = hosted
        self._requests: SimpleQueue[tuple[str, str, Any]] = SimpleQueue()
        self._answers: dict[str, SimpleQueue[Answered | BaseException]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="environments", daemon=True)

    def __enter__(self) -> RemoteEnvironments:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def task(
        self,
        name: str,
        row: Mapping[str, Any],
        tools: Sequence[Mapping[str, Any]],
        *,
        seed: int = 0,
        temperature: float = 0.0,
    ) -> RolloutTask:
        """A conversation in the environment of a task; its outcome is a `Score` as JSON."""

        def finish(environment: Any) -> Mapping[str, Any]:
            scored: Mapping[str, Any] = environment.score()
            return scored

        return RolloutTask(
            name, lambda: RemoteEnvironment(self, name, row), tools, seed, temperature, finish
        )

    def ask(self, verb: str, name: str, item: Any = None) -> Mapping[str, Any]:
        """Have a request carried out, and wait for it.

        Raises:
            InfrastructureFault: it was not: it took too long, or its process died.
        """
        answers = self._answers.setdefault(name, SimpleQueue())
        self._requests.put((verb, name, item))
        answer = self._wait(answers)
        if verb == "score":
            self._answers.pop(name, None)
        if isinstance(answer, BaseException):
            raise answer
        if answer.fault:
            raise InfrastructureFault(answer.fault)
        return answer.value

    def _wait(self, answers: SimpleQueue[Answered | BaseException]) -> Answered | BaseException:
        while True:
            try:
                return answers.get(timeout=1.0)
            except Empty:
                if not self._thread.is_alive():
                    return InfrastructureFault(_MASKED)

    def _serve(self) -> None:
        """Pass requests on and answers back, until closed or broken."""
        try:
            with self._hosted as hosted:
                while not self._closing.is_set():
                    # Whoever has nothing to do must sleep: this thread shares its interpreter with
                    # the one that generates.
                    self._pass_on(hosted, 0.0 if hosted.is_busy else _IDLE_S)
                    for answer in hosted.poll(_POLL_S):
                        waiting = self._answers.get(answer.name)
                        if waiting is not None:
                            waiting.put(answer)
        except BaseException as error:  # whoever waits learns of it
            self._closing.set()
            for waiting in list(self._answers.values()):
                waiting.put(error)

    def _pass_on(self, hosted: HostedEnvironments, timeout_s: float) -> None:
        while True:
            try:
                verb, name, item = self._requests.get(timeout_s > 0, timeout_s or None)
            except Empty:
                return
            timeout_s = 0.0
            try:
                if verb == "open":
                    hosted.open(name, item)
                elif verb == "step":
                    hosted.step(name, item)
                else:
                    hosted.score(name)
            except ValueError:  # lost with its process
                if name in self._answers:
                    self._answers[name].put(InfrastructureFault(_MASKED))


class RemoteEnvironment:
    """One environment in another process."""

    def __init__(self, room: RemoteEnvironments, name: str, row: Mapping[str, Any]) -> None:
        self._room, self._name = room, name
        self._opened = room.ask("open", name, row)

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions of the tools on offer."""
        tools: Sequence[Mapping[str, Any]] = self._opened["tools"]
        return tools

    def start(self) -> Sequence[Message]:
        """The messages that the agent sees first."""
        messages: Sequence[Message] = self._opened["messages"]
        return messages

    def step(self, message: Message) -> tuple[Message | None, bool]:
        """Take the agent's message; give the observation and whether it was the last."""
        answered = self._room.ask("step", self._name, message)
        return answered["observation"], bool(answered["done"])

    def score(self) -> Mapping[str, Any]:
        """What it was worth, as a `curricle.agents.hosting.Score` in its JSON form."""
        return self._room.ask("score", self._name)
