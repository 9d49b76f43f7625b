"""Runs a function in a forked process and brings its JSON result back, within a time."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import select
import signal
import struct
import time

_LENGTH = struct.Struct("!Q")
WALL = 6
"""How many times longer than its processor time a child may take: the machine may be busy."""


def in_child(function, limit_s):
    """What `function` delivers from a child process, or `{"timeout": True}`, or `{"died": status}`.

    `limit_s` is processor time, so that a busy machine makes nobody late who is not; a child that
    waits for something has `WALL` times as long by the clock.

    The function gets `deliver`, which sends its one argument and ends the child at once: what a
    library would still tidy up afterwards is not worth its time.

    The child leads a process group of its own, which is killed once the result is there: nothing
    that it started goes on.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _serve(function, reader, writer, limit_s)
    os.close(writer)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    deadline = time.monotonic() + WALL * limit_s
    text = _read(reader, deadline)
    late = time.monotonic() >= deadline
    os.close(reader)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if text is not None:
        return json.loads(text)
    late = late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU)
    return {"timeout": True} if late else {"died": status}


def _serve(function, reader, writer, limit_s):
    try:
        seconds = math.ceil(limit_s)
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        os.setpgid(0, 0)
        os.close(reader)

        def deliver(result):
            text = json.dumps(result).encode()
            message = _LENGTH.pack(len(text)) + text
            while message:
                message = message[os.write(writer, message) :]
            os._exit(0)

        function(deliver)
    finally:
        os._exit(0)  # nothing of the parent may run twice: no handlers, no buffers


def _read(reader, deadline):
    """One message with its length before it: a grandchild may keep the pipe open for longer."""
    received, wanted = b"", _LENGTH.size
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reader], [], [], left)[0]:
            return None
        chunk = os.read(reader, 1 << 16)
        if not chunk:
            return None
        received += chunk
        if wanted == _LENGTH.size and len(received) >= wanted:
            wanted += _LENGTH.unpack(received[: _LENGTH.size])[0]
        if wanted > _LENGTH.size and len(received) >= wanted:
            return received[_LENGTH.size : wanted]
