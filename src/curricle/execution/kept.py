"""A kept process on the other side of the first wall, and the conversation with it.

One of these serves one prepared project, one run at a time. What is said is described in
`curricle.execution.inside.server`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curricle.errors import DataError, InfrastructureFault, SandboxUnavailable
from curricle.execution.cgroups import ControlGroup, Usage
from curricle.execution.inside import filter as call_filter
from curricle.execution.inside import server, stage
from curricle.execution.limits import Limits
from curricle.languages.commands import WORK, Command, Isolation, Limit, Output
from curricle.languages.project import Changes

_START_S = 60.0
"""How long a kept process may take to load what it keeps."""
_GRACE_S = 5.0
"""How long it may take to answer after it was asked to end a run."""
_POLL_S = 0.1
"""How often the processor time of a run is looked at."""
_OWN_PIDS = 5
"""Processes of ours in a control group: bubblewrap's two, the server, the keeper, the init."""
_CHUNK = 1 << 16
_CPU_PER_WALL = 2.0
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
}
"""What a command finds in its environment beside its own `env`."""


@dataclass(frozen=True)
class Plan:
    """How a kept process is started.

    Attributes:
        argv: bubblewrap's arguments.
        sources: Folders that the stage mounts as root: `path`, `place`, `owned`.
        user: Who it becomes when this is root; `None` when it stays who it is.
        files: Small text files of the sandbox's root, by absolute path.
        has_cache: Whether runs see a view of a cache.
        covered: Folders that are shown once more above a run's own places.
    """

    argv: tuple[str, ...]
    sources: tuple[Mapping[str, Any], ...]
    user: int | None
    files: Mapping[str, str]
    has_cache: bool
    covered: tuple[str, ...]


@dataclass
class _Conversation:
    """What has come back from one run so far."""

    streams: dict[int, bytearray]
    hit: set[Limit] = field(default_factory=set)
    answer: dict[str, Any] | None = None
    bytes_of_answer: bytearray = field(default_factory=bytearray)
    is_over: bool = False


class Kept:
    """A started process, its control group and the stream to it."""

    def __init__(self, plan: Plan, isolation: Isolation) -> None:
        """Start it and wait until it listens.

        Raises:
            InfrastructureFault: It ended or did not answer; the message holds its last words.
            SandboxUnavailable: The machine cannot show the project to a plain user.
        """
        self._plan = plan
        self._group = ControlGroup.create()
        self._isolation = isolation
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(_START_S)
        with theirs, tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", stage.__file__],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors,
                pass_fds=(theirs.fileno(),), start_new_session=True, cwd="/",
            )  # fmt: skip
            order = {
                "argv": plan.argv, "sources": plan.sources, "user": plan.user,
                "files": plan.files, "socket": theirs.fileno(),
                "control_groups": self._group.places,
                "environment": {"PATH": ENVIRONMENT["PATH"]},
            }  # fmt: skip
            assert self._process.stdin is not None
            with contextlib.suppress(BrokenPipeError), self._process.stdin as stream:
                stream.write(json.dumps(order).encode())
            theirs.close()
            letter = b""
            with contextlib.suppress(OSError):  # a time-out, or an end while it speaks
                letter = self._channel.recv(server.HEADER.size + 2)
            if not letter:
                self.close()
                errors.seek(0)
                words = errors.read()[-2000:].decode("utf-8", "replace").strip()
                if self._process.returncode == stage.HOPELESS:
                    raise SandboxUnavailable(words)
                raise InfrastructureFault(
                    f"The sandbox did not start: {words or 'no answer in time'}"
                )
        self._channel.settimeout(None)
        self._resident = self._group.resident_bytes()

    @property
    def is_alive(self) -> bool:
        """Whether it can serve another run."""
        return self._process.poll() is None

    def run(self, command: Command, changes: Changes, limits: Limits) -> Output:
        """Run one command in a cage of its own: see `Sandbox.run`."""
        self._group.bound(limits.memory_bytes + self._resident, limits.pids + _OWN_PIDS)
        cpu_limit_s = limits.cpu_s or _CPU_PER_WALL * limits.wall_s
        before = self._group.usage()
        started = time.monotonic()
        outputs = [os.pipe(), os.pipe()]
        stdin = _readable(command.stdin)
        try:
            self._request(command, changes, limits, cpu_limit_s, (stdin, *(p[1] for p in outputs)))
        except OSError as error:
            for reading, _ in outputs:
                os.close(reading)
            self.close()
            raise InfrastructureFault(f"The sandbox has ended: {error}") from error
        finally:
            for descriptor in (stdin, *(writing for _, writing in outputs)):
                os.close(descriptor)
        conversation = _Conversation({reading: bytearray() for reading, _ in outputs})
        deadline = started + (command.timeout_s or limits.wall_s)
        try:
            self._listen(conversation, deadline, before.cpu_s + cpu_limit_s, limits.output_bytes)
        finally:
            for reading, _ in outputs:
                os.close(reading)
        duration_s = time.monotonic() - started
        return self._output(conversation, before, cpu_limit_s, limits, duration_s)

    def _request(
        self,
        command: Command,
        changes: Changes,
        limits: Limits,
        cpu_limit_s: float,
        streams: tuple[int, ...],
    ) -> None:
        body = json.dumps(
            {
                "argv": command.argv,
                "env": {**ENVIRONMENT, **command.env},
                "cwd": os.path.join(WORK, command.cwd),
                "changes": dict(changes),
                "reports": command.reports,
                "report_bytes": limits.output_bytes,
                "disk_bytes": limits.disk_bytes,
                "has_cache": self._plan.has_cache,
                "covered": self._plan.covered,
                "rlimits": self._rlimits(limits, cpu_limit_s),
            }
        ).encode()
        socket.send_fds(self._channel, [b"q"], streams)
        self._channel.sendall(struct.pack("!I", len(body)) + body)

    def _rlimits(self, limits: Limits, cpu_limit_s: float) -> dict[str, int]:
        """Bounds for each process; those of a missing control group among them."""
        bounds = {"RLIMIT_CORE": 0, "RLIMIT_FSIZE": limits.disk_bytes, "RLIMIT_NOFILE": 4096}
        if Limit.MEMORY not in self._group.folders:
            # Not the address space: runtimes reserve far more of that than they use.
            bounds["RLIMIT_DATA"] = limits.memory_bytes
        if Limit.PIDS not in self._group.folders:
            bounds["RLIMIT_NPROC"] = limits.pids + 2
        if Limit.CPU not in self._group.folders:
            bounds["RLIMIT_CPU"] = math.ceil(cpu_limit_s)
        return bounds

    def _listen(
        self, conversation: _Conversation, deadline: float, cpu_end_s: float, output_bytes: int
    ) -> None:
        """Read until the run has ended; end it when a bound is hit."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            for stream in conversation.streams:
                selector.register(stream, selectors.EVENT_READ)
            cpu = self._group.folders.get(Limit.CPU)
            while selector.get_map():
                left_s = deadline - time.monotonic()
                if cpu and not conversation.hit:
                    left_s = min(left_s, _POLL_S)
                for key, _ in selector.select(max(left_s, 0)):
                    if key.fileobj is self._channel:
                        is_open = not self._hear(conversation)
                    else:
                        is_open = _read(conversation.streams[key.fd], key.fd, output_bytes)
                    if not is_open:
                        selector.unregister(key.fileobj)
                is_late = time.monotonic() >= deadline
                if conversation.hit and is_late:
                    return  # it does not even end
                reached = None
                if sum(map(len, conversation.streams.values())) > output_bytes:
                    reached = Limit.OUTPUT
                elif is_late and not conversation.is_over:
                    reached = Limit.WALL
                elif cpu and not conversation.is_over and self._group.cpu_s(cpu) > cpu_end_s:
                    reached = Limit.CPU
                if reached and not conversation.hit:
                    conversation.hit.add(reached)
                    deadline = time.monotonic() + _GRACE_S
                    with contextlib.suppress(OSError):
                        self._channel.send(server.KILL)

    def _hear(self, conversation: _Conversation) -> bool:
        """Take in a part of the answer; whether the answer, or the stream, is at its end."""
        try:
            part = self._channel.recv(1 << 20)
        except OSError:
            part = b""
        conversation.bytes_of_answer += part
        text = conversation.bytes_of_answer
        if len(text) >= server.HEADER.size:
            _, length = server.HEADER.unpack_from(text)
            if len(text) >= server.HEADER.size + length:
                conversation.answer = json.loads(text[server.HEADER.size :])
        conversation.is_over = not part or conversation.answer is not None
        return conversation.is_over

    def _output(
        self,
        conversation: _Conversation,
        before: Usage,
        cpu_limit_s: float,
        limits: Limits,
        duration_s: float,
    ) -> Output:
        answer, hit = conversation.answer, set(conversation.hit)
        after = self._group.usage()
        if after.memory_kills > before.memory_kills:
            hit.add(Limit.MEMORY)
        if after.pids_refused > before.pids_refused:
            hit.add(Limit.PIDS)
        if answer is None:
            self.close()
            if not hit:
                raise InfrastructureFault("The sandbox ended during a run.")
            answer = {"status": -signal.SIGKILL, "reports": {}, "too_long": [], "full": False}
        if "fault" in answer:
            raise InfrastructureFault(f"The sandbox could not be set up: {answer['fault']}")
        if "refused" in answer:
            raise DataError(f"The changes cannot be laid over the tree: {answer['refused']}.")
        if answer["full"]:
            hit.add(Limit.DISK)
        if answer["too_long"]:
            hit.add(Limit.OUTPUT)
        if answer["status"] == -signal.SIGXCPU:
            hit.add(Limit.CPU)
        texts = [
            bytes(stream).decode("utf-8", "replace") for stream in conversation.streams.values()
        ]
        return Output(
            answer["status"], texts[0], texts[1], answer["reports"], frozenset(hit), duration_s,
            Isolation(self._isolation.backend, self._isolation.level, self._enforced()),
        )  # fmt: skip

    def _enforced(self) -> dict[str, str]:
        """What enforced each limit."""
        rlimits = {Limit.MEMORY: "rlimit-data", Limit.PIDS: "rlimit", Limit.CPU: "rlimit"}
        by = {
            limit.value: self._group.version if limit in self._group.folders else fallback
            for limit, fallback in rlimits.items()
        }
        calls = "unfiltered" if call_filter.program() is None else "seccomp"
        return {**by, "wall": "clock", "output": "pipe", "disk": "tmpfs", "calls": calls}

    def close(self) -> None:
        """End it and all that it started; remove its control group."""
        self._channel.close()  # which is how it is told
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._group.close()


def _readable(text: str) -> int:
    """A descriptor that text is read from; a reader that stops early blocks nobody."""
    if not text:
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.memfd_create("stdin")
    with open(descriptor, "wb", closefd=False) as stream:
        stream.write(text.encode("utf-8", "surrogatepass"))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read(text: bytearray, descriptor: int, max_bytes: int) -> bool:
    """Take in a part of an output; whether there may be more. What exceeds the bound is cut."""
    part = os.read(descriptor, _CHUNK)
    text += part[: max(max_bytes + 1 - len(text), 0)]
    return bool(part)
