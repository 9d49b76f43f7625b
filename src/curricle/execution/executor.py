"""Many independent executions, each exactly once in the journal, whatever fails around them.

The rules are here, once; where workers live (processes of this machine, actors of a Ray cluster) is
for the subclasses to say. An item is a JSON-able dict. A work function is named by
`"module:function"` and called in a worker as `function(item, state)`. What it returns is the item's
result, and a candidate's failure is one too: it is returned, not raised. What it may raise:

* `InfrastructureFault`: the item is tried again, with another worker, then masked. A worker that
  dies or takes longer than `item_timeout_s` (and is then killed) counts as the same.
* `CurricleError`: the user's to mend; ends the map and is raised again as what it was.
* Anything else is a defect: ends the map as `ExecutionFailed`, with the worker's traceback.

However a map ends, what was finished is in the journal, and the same call continues from there.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from tqdm import tqdm

from curricle import errors
from curricle.checkpoints.hashing import hash_value
from curricle.config.execution import ExecutorParameters
from curricle.errors import CurricleError, ExecutionFailed, Interrupted
from curricle.execution.interruption import held_signals
from curricle.execution.journal import Journal, Outcome, Status

logger = logging.getLogger(__name__)

Item = dict[str, Any]

START_S = 120.0
"""Seconds that a worker may take to set up."""
_TICK_S = 0.25
_SWEEP_S = 0.005
_PROGRESS_AFTER_S = 5.0


def content_key(item: Item) -> str:
    """The hash of an item: the default key, right when the whole item decides the result."""
    return hash_value(item)


class Answer(Enum):
    """What a worker said, or what was seen of it."""

    READY = "ready"
    DONE = "done"
    FAULT = "fault"
    ERROR = "error"


@dataclass(frozen=True)
class Reply:
    """One answer of a worker.

    Attributes:
        answer: Its kind.
        value: The result, with `DONE`.
        duration_s: Seconds that the work function took, with `DONE`.
        text: The fault or error in words.
        error: With `ERROR`, the name of the exception's class.
        trace: With `ERROR` and no `CurricleError`, the worker's traceback.
    """

    answer: Answer
    value: dict[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    text: str = ""
    error: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Setup:
    """What a worker does before its first item.

    Attributes:
        function: `"module:function"`, called as `function(settings)`. Returns a context manager
            that is entered at once and left when the worker is retired; what entering gives is the
            `state` of every work function. `None`: no state.
        settings: JSON-able argument.
    """

    function: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Worker(ABC):
    """One place that answers one item at a time."""

    @abstractmethod
    def submit(self, work: str, item: Item) -> None:
        """Ask for an item; only when the last one was answered."""

    @abstractmethod
    def reply(self) -> Reply | None:
        """The next answer if there is one; never waits. A dead worker answers `FAULT`."""

    @abstractmethod
    def retire(self) -> None:
        """Ask it to leave its context and to end by itself, soon."""

    @abstractmethod
    def ended(self) -> bool:
        """Whether it is gone after `retire`; ends it when it takes too long."""

    @abstractmethod
    def kill(self) -> None:
        """End it and everything below it, now."""


@dataclass(frozen=True)
class _Task:
    key: str
    item: Item
    attempts: int = 1


@dataclass
class _Seat:
    """A worker and what it is at."""

    worker: Worker
    since: float
    ready: bool = False
    task: _Task | None = None


class Executor(ABC):
    """Maps work over items; use it as a context manager.

    Workers stay between maps that share a setup. One map runs at a time.
    """

    def __init__(self, parameters: ExecutorParameters) -> None:
        self.parameters = parameters
        self._setup = Setup()
        self._seats: list[_Seat] = []
        self._retiring: list[Worker] = []
        self._failed_starts = 0
        self._mapping = False

    @property
    @abstractmethod
    def capacity(self) -> int:
        """How many items are worked on at a time."""

    @abstractmethod
    def _start(self, setup: Setup) -> Worker:
        """Begin to start a worker; its first reply is `READY`, or why it cannot be."""

    @abstractmethod
    def _wait(self, workers: Sequence[Worker], timeout_s: float) -> None:
        """Return when a worker may have something to say, at the latest after the timeout."""

    def map(
        self,
        work: str,
        items: Iterable[Item],
        journal: Journal,
        *,
        setup: Setup | None = None,
        key: Callable[[Item], str] = content_key,
        total: int | None = None,
        label: str = "executions",
    ) -> Iterator[tuple[str, Outcome]]:
        """Work on items, and yield each key with its outcome in the order of completion.

        Keys that the journal holds a result for are yielded without work; masked ones are tried
        again. Items with the same key count once. At most `capacity` items are taken from `items`
        ahead of their results, so it may be a generator of any length.

        Args:
            work: `"module:function"`, called in a worker as `function(item, state)`; returns a
                JSON-able dict.
            items: JSON-able dicts.
            journal: Where outcomes are recorded before they are yielded.
            setup: What each worker does first.
            key: Names an item by all that decides its result.
            total: How many items there are, for the progress bar.
            label: What they are, for the progress bar and the log.

        Raises:
            ExecutionFailed: Workers cannot start, or the work function has a defect.
            CurricleError: What the work function or the setup raised.
        """
        if self._mapping:
            raise ValueError("This executor is at work; end that map first, or make another one.")
        self._mapping = True
        try:
            yield from self._map(work, items, journal, setup or Setup(), key, total, label)
        finally:
            self._mapping = False

    def close(self) -> None:
        """End every worker; those that are idle leave their context first."""
        for seat in self._seats:
            if not seat.ready or seat.task is not None:
                seat.worker.kill()
            self._retire(seat.worker)
        self._seats.clear()
        while self._sweep():
            time.sleep(_SWEEP_S)

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _map(
        self,
        work: str,
        items: Iterable[Item],
        journal: Journal,
        setup: Setup,
        key: Callable[[Item], str],
        total: int | None,
        label: str,
    ) -> Iterator[tuple[str, Outcome]]:
        self._use(setup)
        started = time.monotonic()
        counts = {"new": 0, "known": 0, "masked": 0}
        queue: deque[_Task] = deque()
        fresh = _distinct(items, key)
        bar = tqdm(total=total, desc=label, delay=_PROGRESS_AFTER_S, disable=None)
        try:
            more = True
            while True:
                while more and len(queue) < self.capacity - self._busy():
                    task = next(fresh, None)
                    if task is None:
                        more = False
                    elif (known := _result(journal, task.key)) is not None:
                        counts["known"] += 1
                        bar.update()
                        yield task.key, known
                    else:
                        queue.append(task)
                if not queue and not self._busy():
                    break
                with held_signals():
                    self._assign(queue, work)
                    self._sweep()
                    self._wait([seat.worker for seat in self._seats], _TICK_S)
                    finished = list(self._collect(queue, journal))
                for name, outcome in finished:
                    counts["masked" if outcome.status is Status.MASKED else "new"] += 1
                    bar.update()
                    yield name, outcome
        finally:
            with held_signals():
                self._abandon(journal)
                journal.sync()
            bar.close()
            if counts["masked"] or time.monotonic() - started > _PROGRESS_AFTER_S:
                logger.info(
                    "%s: %d new, %d already in the journal, %d masked",
                    label, counts["new"], counts["known"], counts["masked"],
                )  # fmt: skip

    def _use(self, setup: Setup) -> None:
        if setup != self._setup:
            self.close()
            self._setup = setup

    def _busy(self) -> int:
        return sum(seat.task is not None for seat in self._seats)

    def _assign(self, queue: deque[_Task], work: str) -> None:
        now = time.monotonic()
        for seat in self._seats:
            if queue and seat.ready and seat.task is None:
                seat.task, seat.since = queue.popleft(), now
                seat.worker.submit(work, seat.task.item)
        starting = sum(not seat.ready for seat in self._seats)
        room = self.capacity - len(self._seats)
        for _ in range(min(len(queue) - starting, room)):
            self._seats.append(_Seat(self._start(self._setup), time.monotonic()))

    def _collect(self, queue: deque[_Task], journal: Journal) -> Iterator[tuple[str, Outcome]]:
        """Record and yield what is finished; put what has to be tried again at the queue's head."""
        failures = []
        for seat in tuple(self._seats):
            reply = seat.worker.reply() or self._overdue(seat)
            if reply is None:
                continue
            if reply.answer is Answer.READY:
                seat.ready, self._failed_starts = True, 0
                continue
            if reply.answer is not Answer.DONE:
                self._seats.remove(seat)
                self._retire(seat.worker)
            task, seat.task = seat.task, None
            if reply.answer is Answer.ERROR:
                failures.append(_raised(reply, task))
            elif task is None:
                self._failed_starts += 1
                logger.warning("a worker failed: %s", reply.text)
                if self._failed_starts > self.parameters.retries and not self._ready():
                    failures.append(ExecutionFailed(_cannot_start(self._failed_starts, reply.text)))
            elif reply.answer is Answer.FAULT and task.attempts <= self.parameters.retries:
                logger.warning("item %s is tried again: %s", task.key, reply.text)
                queue.appendleft(replace(task, attempts=task.attempts + 1))
            else:
                outcome = _outcome(reply, task, seat.since)
                journal.append(task.key, outcome)
                yield task.key, outcome
        if failures:
            raise failures[0]

    def _retire(self, worker: Worker) -> None:
        worker.retire()
        self._retiring.append(worker)

    def _sweep(self) -> bool:
        """Whether retired workers are still there."""
        self._retiring = [worker for worker in self._retiring if not worker.ended()]
        return bool(self._retiring)

    def _ready(self) -> bool:
        return any(seat.ready for seat in self._seats)

    def _overdue(self, seat: _Seat) -> Reply | None:
        """Kill a worker that takes too long, and say so."""
        if seat.ready and seat.task is None:
            return None
        limit = START_S if seat.task is None else self.parameters.item_timeout_s
        if time.monotonic() - seat.since <= limit:
            return None
        seat.worker.kill()
        what = "its start" if seat.task is None else "one item (item_timeout_s)"
        return Reply(Answer.FAULT, text=f"killed after {limit:g} s at {what}")

    def _abandon(self, journal: Journal) -> None:
        """Record what has been finished meanwhile; kill what is still at work."""
        for seat in tuple(self._seats):
            if seat.task is None:
                continue
            reply = seat.worker.reply()
            if reply is not None and reply.answer is Answer.DONE:
                outcome = _outcome(reply, seat.task, seat.since)
                journal.append(seat.task.key, outcome)
                seat.task = None
            else:
                self._seats.remove(seat)
                seat.worker.kill()
                self._retire(seat.worker)


def create_executor(parameters: ExecutorParameters) -> Executor:
    """The executor that the parameters ask for.

    Raises:
        ConfigError: Its library is not installed; names the extra.
    """
    if parameters.backend == "ray":
        from curricle.execution.ray_executor import RayExecutor

        return RayExecutor(parameters)
    from curricle.execution.local_executor import LocalExecutor

    return LocalExecutor(parameters)


def _distinct(items: Iterable[Item], key: Callable[[Item], str]) -> Iterator[_Task]:
    seen = set()
    for item in items:
        name = key(item)
        if name not in seen:
            seen.add(name)
            yield _Task(name, item)


def _result(journal: Journal, key: str) -> Outcome | None:
    known = journal.get(key)
    return known if known is not None and known.status is Status.DONE else None


def _outcome(reply: Reply, task: _Task, since: float) -> Outcome:
    if reply.answer is Answer.DONE:
        return Outcome(Status.DONE, reply.value, task.attempts, reply.duration_s)
    duration_s = round(time.monotonic() - since, 6)
    return Outcome(Status.MASKED, {}, task.attempts, duration_s, reply.text)


def _raised(reply: Reply, task: _Task | None) -> CurricleError:
    """The exception that a worker raised, as its own class where that is one of ours."""
    if not reply.trace:
        kind = getattr(errors, reply.error, CurricleError)
        # `Interrupted` also wants a signal, which reached a worker and not us.
        raised: CurricleError = (CurricleError if kind is Interrupted else kind)(reply.text)
        return raised
    place = "the setup of a worker" if task is None else f"item {task.key}"
    return ExecutionFailed(
        f"{place}: {reply.error}: {reply.text}\nThis is a defect of the work function, which must "
        f"return what candidates do wrong. What was finished is recorded.\n{reply.trace}"
    )


def _cannot_start(times: int, why: str) -> str:
    return (
        f"No worker can be started, tried {times} times; the last one said: {why}\n"
        "Nothing is lost: mend that, and the same command continues."
    )
