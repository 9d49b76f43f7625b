"""Workers as processes of this machine.

They are started as fresh interpreters: never forked, because the parent has threads (torch, tqdm)
whose locks a fork would copy in whatever state they are. Each has a session of its own, so that a
terminal's Ctrl-C reaches the parent alone; a temporary folder of its own, which goes with it; and
its `stderr` in that folder, quoted when it dies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from curricle.config.execution import ExecutorParameters
from curricle.execution import reaper
from curricle.execution.executor import Answer, Executor, Item, Reply, Setup, Worker
from curricle.execution.reaper import MARK, kill_marked

_GRACE_S = 10.0
_LAST_WORDS = 2000


class Nursery:
    """Where worker processes live: a temporary folder, and the reaper that outlives the parent."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="curricle-workers-"))
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(os.getpid()), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reaper.wait()  # it has detached itself

    def close(self) -> None:
        """Kill what is left, remove the folder, and return when the reaper is gone."""
        self._reaper.communicate()


class WorkerProcess(Worker):
    """One process that runs `curricle.execution.worker`."""

    def __init__(self, nursery: Nursery, setup: Setup) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=nursery.folder))
        ours, theirs = socket.socketpair()
        with theirs, (self._folder / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "curricle.execution.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                env={**os.environ, "TMPDIR": str(self._folder), MARK: str(self._folder)},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.connection = Connection(ours.detach())
        self._retired_at: float | None = None
        self._send([setup.function, dict(setup.settings), [os.path.abspath(p) for p in sys.path]])

    def submit(self, work: str, item: Item) -> None:
        """Ask for an item: see `Worker.submit`."""
        self._send([work, item])

    def reply(self) -> Reply | None:
        """The next answer if there is one: see `Worker.reply`."""
        try:
            while self.connection.poll():
                kind, *content = json.loads(self.connection.recv_bytes())
                if kind != "log":
                    return _reply(kind, content)
                name, level, text = content
                logging.getLogger(name).log(level, "%s", text)
        except (EOFError, OSError):
            return self._death()
        # A process below a dead worker can keep its socket open.
        return None if self._process.poll() is None else self._death()

    def retire(self) -> None:
        """Ask it to end by itself: see `Worker.retire`."""
        self._retired_at = time.monotonic()
        self._send(None)

    def ended(self) -> bool:
        """Whether it is gone: see `Worker.ended`."""
        if self._process.poll() is None:
            if self._retired_at is None or time.monotonic() - self._retired_at < _GRACE_S:
                return False
        self.kill()
        return True

    def kill(self) -> None:
        """End it and everything below it: see `Worker.kill`."""
        if self.connection.closed:
            return
        self._process.kill()
        kill_marked(self._folder)
        self._process.wait()
        self.connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it died: `reply` will say so
            self.connection.send_bytes(json.dumps(message).encode("ascii"))

    def _death(self) -> Reply:
        if self.connection.closed:
            return Reply(Answer.FAULT, text="the worker was killed")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        said = (self._folder / "stderr").read_bytes()[-_LAST_WORDS:].decode("utf-8", "replace")
        status = self._process.returncode
        self.kill()
        return Reply(Answer.FAULT, text=f"the worker ended with status {status} {said}".strip())


class LocalExecutor(Executor):
    """Runs items in processes of this machine."""

    def __init__(self, parameters: ExecutorParameters) -> None:
        super().__init__(parameters)
        self._nursery: Nursery | None = None

    @property
    def capacity(self) -> int:
        """As many as asked for, or as there are cores for this process."""
        return self.parameters.workers or len(os.sched_getaffinity(0))

    def close(self) -> None:
        """End every worker; afterwards no process is left."""
        super().close()
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def _start(self, setup: Setup) -> Worker:
        if self._nursery is None:
            self._nursery = Nursery()
        return WorkerProcess(self._nursery, setup)

    def _wait(self, workers: Sequence[Worker], timeout_s: float) -> None:
        connections = [worker.connection for worker in workers if isinstance(worker, WorkerProcess)]
        wait([c for c in connections if not c.closed], timeout_s)


def _reply(kind: str, content: list[Any]) -> Reply:
    """A worker's message, as `curricle.execution.worker` sends it."""
    match kind:
        case "done":
            value, duration_s = content
            return Reply(Answer.DONE, value=value, duration_s=duration_s)
        case "fault":
            return Reply(Answer.FAULT, text=content[0])
        case "error":
            error, text, trace = content
            return Reply(Answer.ERROR, text=text, error=error, trace=trace)
    return Reply(Answer(kind))
