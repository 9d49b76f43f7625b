"""Workers as actors of a Ray cluster.

An actor is a thin shell around the same worker process that the local executor runs, so that the
reaper clears up after a killed actor on every node. The driver keeps the journal; an actor or a
node that dies is an infrastructure fault, and its item goes to another actor. Every node needs
curricle, its plugins and their tools, installed at the same versions.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from curricle.config.execution import ExecutorParameters
from curricle.errors import ConfigError
from curricle.execution.executor import Answer, Executor, Item, Reply, Setup, Worker
from curricle.execution.local_executor import Nursery, WorkerProcess

_GRACE_S = 15.0
_POLL_S = 0.5


class RayExecutor(Executor):
    """Runs items on a Ray cluster: one that this process joined already, or joins now."""

    def __init__(self, parameters: ExecutorParameters) -> None:
        """Join the cluster.

        Raises:
            ConfigError: Ray is not installed, or there is no cluster at the address.
        """
        super().__init__(parameters)
        self._ray = _import_ray()
        self._joined = not self._ray.is_initialized()
        if self._joined:
            _join(self._ray, parameters.ray_address)
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self._capacity = parameters.workers or max(cores, 1)

    @property
    def capacity(self) -> int:
        """As many as asked for, or as the cluster had cores when it was joined."""
        return self._capacity

    def close(self) -> None:
        """End every actor, and leave the cluster if this executor joined it."""
        super().close()
        if self._joined:
            self._ray.shutdown()

    def _start(self, setup: Setup) -> Worker:
        return _RayWorker(self._ray, setup)

    def _wait(self, workers: Sequence[Worker], timeout_s: float) -> None:
        awaited = [w.awaited for w in workers if isinstance(w, _RayWorker) and w.awaited]
        if awaited:
            self._ray.wait(awaited, num_returns=1, timeout=timeout_s)
        else:
            time.sleep(timeout_s)


class _RayWorker(Worker):
    """An actor, seen from the driver."""

    def __init__(self, ray: Any, setup: Setup) -> None:
        self._ray = ray
        path = [os.path.abspath(entry) for entry in sys.path]
        # One core each, so that Ray spreads actors; never restarted, because we count attempts.
        shell = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Shell)
        self._actor = shell.remote(setup, path)
        self.awaited: Any = self._actor.ready.remote()
        self._retired_at: float | None = None
        self._killed = False

    def submit(self, work: str, item: Item) -> None:
        """Ask for an item: see `Worker.submit`."""
        self.awaited = self._actor.work.remote(work, item)

    def reply(self) -> Reply | None:
        """The next answer if there is one: see `Worker.reply`."""
        if self.awaited is None or not self._arrived(self.awaited):
            return None
        awaited, self.awaited = self.awaited, None
        try:
            reply: Reply = self._ray.get(awaited)
        except self._ray.exceptions.RayError as error:
            return Reply(Answer.FAULT, text=f"the actor ended: {error}")
        return reply

    def retire(self) -> None:
        """Ask it to end by itself: see `Worker.retire`."""
        self._retired_at = time.monotonic()
        if not self._killed:
            self.awaited = self._actor.leave.remote()

    def ended(self) -> bool:
        """Whether it is gone: see `Worker.ended`."""
        assert self._retired_at is not None
        late = time.monotonic() - self._retired_at > _GRACE_S
        if self._killed or late or self._arrived(self.awaited):
            self.kill()
            return True
        return False

    def kill(self) -> None:
        """End it: its reaper ends what is below it."""
        if not self._killed:
            self._killed = True
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(self._actor)

    def _arrived(self, awaited: Any) -> bool:
        return bool(self._ray.wait([awaited], timeout=0)[0])


class _Shell:
    """What runs in an actor's process: one worker process, and its reaper."""

    def __init__(self, setup: Setup, path: list[str]) -> None:
        sys.path[:] = path
        self._nursery = Nursery()
        self._worker = WorkerProcess(self._nursery, setup)

    def ready(self) -> Reply:
        """Wait until the worker is set up, or cannot be."""
        return self._answer()

    def work(self, work: str, item: Item) -> Reply:
        """Wait for the answer to an item."""
        self._worker.submit(work, item)
        return self._answer()

    def leave(self) -> None:
        """Let the worker leave its context, and clear up."""
        self._worker.retire()
        while not self._worker.ended():
            time.sleep(0.005)
        self._nursery.close()

    def _answer(self) -> Reply:
        while (reply := self._worker.reply()) is None:
            self._worker.connection.poll(_POLL_S)
        return reply


def _import_ray() -> Any:
    # Before the import, which reads it: this project reports to nobody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(
            "Executions are to run on Ray (executor backend: ray), which is not installed. "
            "Install it: pip install 'curricle[ray]'; or set backend: local."
        ) from error


def _join(ray: Any, address: str | None) -> None:
    try:
        ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
    except ConnectionError as error:
        raise ConfigError(
            f"There is no Ray cluster at {address!r}: {error}. Start one (ray start --head), mend "
            "ray_address, or leave it out to start one on this machine."
        ) from error
