"""Environments in processes of their own, so that whatever hangs in one can be killed.

An environment is Python: a regular expression that never ends would stop a training run with it. So
each lives in a worker process. A request that takes too long costs that worker, and its
conversation is masked, not scored; the others that lived there are opened again in another worker
and told again what their models said. Workers import no torch and start within a second.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol

from curricle import errors
from curricle.errors import CurricleError, ExecutionFailed
from curricle.execution.executor import START_S, Answer, Reply, Setup
from curricle.execution.local_executor import Nursery, WorkerProcess
from curricle.execution.worker import resolve

logger = logging.getLogger(__name__)

_MAX_FAILED_STARTS = 3


@dataclass(frozen=True)
class Score:
    """What a finished conversation was worth.

    Attributes:
        reward: ``None`` when nothing is known of it, as after a fault of the machine.
        calls: tool calls that were made or tried.
        valid_calls: of these, the ones that could be carried out.
        note: what is worth telling, such as the fault.
        details: what else an evaluation keeps of it, JSON-able.
    """

    reward: float | None
    calls: int = 0
    valid_calls: int = 0
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Environment(Protocol):
    """What a conversation takes place in. Messages are in their JSON form."""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions of the tools on offer."""

    def start(self) -> Sequence[Mapping[str, Any]]:
        """Return the messages that the model sees first."""

    def step(self, message: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, bool]:
        """Take the model's message; return the observation and whether it is over.

        ``None`` for an observation only when it is.
        """

    def score(self) -> Score:
        """Say what the conversation was worth, however it ended."""


Opener = Callable[[Mapping[str, Any]], Environment]
"""Opens the environment of a task."""

Factory = Callable[[Mapping[str, Any], Mapping[str, Path]], AbstractContextManager[Opener]]
"""What ``environment.function`` names: given settings and stored inputs, a context with an opener;
entered once in each worker."""


@dataclass(frozen=True)
class Answered:
    """What came of a request.

    Attributes:
        name: the conversation's.
        verb: ``open``, ``step`` or ``score``.
        value: what it gave; empty after a fault.
        fault: why there is no value; the conversation is gone then.
    """

    name: str
    verb: str
    value: dict[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class _Request:
    name: str
    verb: str
    item: dict[str, Any]
    is_repeated: bool = False


@dataclass
class _Seat:
    """A worker and the conversations in it."""

    worker: WorkerProcess
    since: float
    is_ready: bool = False
    current: _Request | None = None
    queue: deque[_Request] = field(default_factory=deque)
    names: set[str] = field(default_factory=set)


@dataclass
class _Talk:
    """All that a conversation has asked; the first ``answered`` of it have their answers."""

    requests: list[_Request]
    answered: int = 0


class HostedEnvironments:
    """Environments of many conversations, side by side; use it as a context manager."""

    def __init__(
        self,
        function: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Path],
        *,
        workers: int,
        timeout_s: float,
    ) -> None:
        """Say where environments come from; workers start with the first conversation.

        Args:
            function: ``module:function``, a :data:`Factory`.
            settings: what it is told, JSON-able.
            inputs: stored folders that it may read.
            workers: processes.
            timeout_s: seconds that a request may take.
        """
        self._setup = Setup(
            "curricle.agents.hosting:host",
            {"function": function, "settings": dict(settings),
             "inputs": {name: str(path) for name, path in inputs.items()}},
        )  # fmt: skip
        self._workers = workers
        self._timeout_s = timeout_s
        self._seats: list[_Seat] = []
        self._talks: dict[str, _Talk] = {}
        self._nursery: Nursery | None = None
        self._failed_starts = 0

    def __enter__(self) -> HostedEnvironments:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every worker and whatever it started."""
        for seat in self._seats:
            seat.worker.kill()
        self._seats.clear()
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def open(self, name: str, task: Mapping[str, Any]) -> None:
        """Ask for an environment; its answer has ``messages`` and ``tools``."""
        request = _Request(name, "open", {"name": name, "task": dict(task)})
        self._talks[name] = _Talk([request])
        self._settle(name, [request])

    def step(self, name: str, message: Mapping[str, Any]) -> None:
        """Pass on the model's message; the answer has ``observation`` and ``done``."""
        self._ask(_Request(name, "step", {"name": name, "message": dict(message)}))

    def score(self, name: str) -> None:
        """Ask what it was worth; the answer is a :class:`Score` as JSON. It is closed then."""
        self._ask(_Request(name, "score", {"name": name}))

    def drop(self, name: str) -> None:
        """Forget a conversation; nothing more is answered for it."""
        self._talks.pop(name, None)
        for seat in self._seats:
            if name in seat.names:
                seat.names.discard(name)
                seat.queue = deque(request for request in seat.queue if request.name != name)
                seat.queue.append(_Request(name, "close", {"name": name}))

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to wait for."""
        return any(seat.current or seat.queue or not seat.is_ready for seat in self._seats)

    def poll(self, timeout_s: float) -> list[Answered]:
        """Return what was answered, waiting for at most ``timeout_s`` if there is anything to come.

        Raises:
            ExecutionFailed: workers cannot start, or the environment has a defect.
            CurricleError: what the environment raised for the user to mend.
        """
        self._hand_out()
        busy = [seat.worker.connection for seat in self._seats if seat.current or not seat.is_ready]
        if busy:
            wait([c for c in busy if not c.closed], timeout_s)
        answered = [answer for seat in list(self._seats) for answer in self._collect(seat)]
        self._hand_out()
        return answered

    def _settle(self, name: str, requests: Sequence[_Request]) -> None:
        """Give a conversation a place in a worker, a new one while there are few."""
        if len(self._seats) < self._workers:
            if self._nursery is None:
                self._nursery = Nursery()
            worker = WorkerProcess(self._nursery, self._setup)
            self._seats.append(_Seat(worker, time.monotonic()))
        seat = min(self._seats, key=lambda seat: len(seat.names))
        seat.names.add(name)
        seat.queue.extend(requests)

    def _ask(self, request: _Request) -> None:
        if request.name not in self._talks:
            raise ValueError(f"{request.name} has no environment")
        self._talks[request.name].requests.append(request)
        (seat,) = (seat for seat in self._seats if request.name in seat.names)
        seat.queue.append(request)

    def _hand_out(self) -> None:
        for seat in self._seats:
            if seat.is_ready and seat.current is None and seat.queue:
                seat.current, seat.since = seat.queue.popleft(), time.monotonic()
                work = f"curricle.agents.hosting:{seat.current.verb}_environment"
                seat.worker.submit(work, seat.current.item)

    def _collect(self, seat: _Seat) -> Iterator[Answered]:
        reply = seat.worker.reply() or self._overdue(seat)
        if reply is None:
            return
        if reply.answer is Answer.READY:
            seat.is_ready, self._failed_starts = True, 0
            return
        if reply.answer is Answer.ERROR:
            raise _as_raised(reply)
        request, seat.current = seat.current, None
        if reply.answer is Answer.DONE:
            assert request is not None
            yield from self._pass_on(seat, request, reply.value)
        elif request is not None and not seat.worker.connection.closed:
            yield from self._mask(request, reply.text)
        else:
            yield from self._bury(seat, request, reply.text)

    def _pass_on(self, seat: _Seat, request: _Request, value: dict[str, Any]) -> Iterator[Answered]:
        if request.is_repeated or request.name not in seat.names:  # known, or dropped meanwhile
            return
        self._talks[request.name].answered += 1
        if request.verb == "score":
            del self._talks[request.name]
            seat.names.discard(request.name)
            if value["reward"] is None:
                logger.warning("a conversation is masked: %s", value["note"])
        yield Answered(request.name, request.verb, value)

    def _mask(self, request: _Request, fault: str) -> Iterator[Answered]:
        if request.name in self._talks:
            logger.warning("a conversation is masked: %s", fault)
            self.drop(request.name)
            yield Answered(request.name, request.verb, {}, fault)

    def _bury(self, seat: _Seat, request: _Request | None, fault: str) -> Iterator[Answered]:
        """Mask the conversation that cost a worker, and move the others to another one."""
        seat.worker.kill()
        self._seats.remove(seat)
        if request is None:  # it never started, or ended by itself
            self._failed_starts += 1
            if self._failed_starts >= _MAX_FAILED_STARTS:
                raise ExecutionFailed(f"environments cannot be kept: {fault}")
        else:
            yield from self._mask(request, fault)
        for name in sorted(seat.names & self._talks.keys()):
            talk = self._talks[name]
            known = [replace(asked, is_repeated=True) for asked in talk.requests[: talk.answered]]
            self._settle(name, [*known, *talk.requests[talk.answered :]])

    def _overdue(self, seat: _Seat) -> Reply | None:
        limit = self._timeout_s if seat.is_ready else START_S
        waits = seat.current is not None or not seat.is_ready
        if not waits or time.monotonic() - seat.since <= limit:
            return None
        seat.worker.kill()
        verb = seat.current.verb if seat.current else "starting"
        return Reply(Answer.FAULT, text=f"{verb} took longer than {limit:g} s and was killed")


def _as_raised(reply: Reply) -> Exception:
    """What an environment raised, as what it was."""
    kind = getattr(errors, reply.error, None)
    if isinstance(kind, type) and issubclass(kind, CurricleError):
        return kind(reply.text)
    return ExecutionFailed(f"the environment failed: {reply.error}: {reply.text}\n{reply.trace}")


@dataclass
class _Host:
    """What a worker holds."""

    opener: Opener
    environments: dict[str, Environment] = field(default_factory=dict)


@contextlib.contextmanager
def host(settings: Mapping[str, Any]) -> Iterator[_Host]:
    """Set a worker up: enter the factory's context."""
    inputs = {name: Path(path) for name, path in settings["inputs"].items()}
    with resolve(settings["function"])(settings["settings"], inputs) as opener:
        yield _Host(opener)


def open_environment(item: Mapping[str, Any], state: _Host) -> dict[str, Any]:
    """Open the environment of a task, in a worker."""
    environment = state.opener(item["task"])
    state.environments[item["name"]] = environment
    return {
        "messages": [dict(message) for message in environment.start()],
        "tools": [dict(tool) for tool in environment.tools],
    }


def step_environment(item: Mapping[str, Any], state: _Host) -> dict[str, Any]:
    """Pass the model's message on, in a worker."""
    observation, done = state.environments[item["name"]].step(item["message"])
    return {"observation": None if observation is None else dict(observation), "done": done}


def score_environment(item: Mapping[str, Any], state: _Host) -> dict[str, Any]:
    """Score and forget, in a worker."""
    return asdict(state.environments.pop(item["name"]).score())


def close_environment(item: Mapping[str, Any], state: _Host) -> dict[str, Any]:
    """Forget without a score, in a worker."""
    state.environments.pop(item["name"], None)
    return {}
