"""The kept process of a sandbox: forks once for each run, and never touches a candidate's bytes.

Started inside bubblewrap as `python -I server.py [module:main]`. It listens at descriptor 3 (a
stream socket of `curricle.execution.kept`). Without an argument a run is a new program; with one,
a run is a call of `main(argv: list[str]) -> int` in a fork of this process, which has imported
`module` and whatever that imports, and nothing of any project.

    server      waits; holds nothing that a run could want
      keeper    one for each run: builds the cage, waits, collects reports, answers, ends
        init    first process of the run's process namespace: when it ends, all in there end
          run   the candidate: no capabilities, own session, only descriptors 0, 1 and 2

A request is a message of JSON whose descriptors are standard input, output and error. A single
byte `k` between messages asks to end the run, and so does the end of the stream.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

SOCKET = 3
KILL = b"k"
FULL = {"status": -signal.SIGKILL, "reports": {}, "too_long": [], "full": True}
"""The answer when the changes alone exceed the bound: nothing was run."""
_ANSWERED = b"."
HEADER = struct.Struct("!cI")
"""The letter of a message and the length of its JSON in bytes."""

Main = Callable[[list[str]], int | None]
_WITHOUT_ROOM = 1 << 16
"""Bytes that are left of a full disk at most: a writer gives up on its last page."""


def serve(run_main: Main | None) -> NoReturn:
    """Answer requests until the stream ends."""
    from curricle.execution.inside import kernel

    channel = socket.socket(fileno=SOCKET)
    os.set_inheritable(SOCKET, False)
    kernel.set_dumpable(False)
    # What is kept is shared by all forks until one writes to it; collecting would write to it.
    gc.collect()
    gc.freeze()
    kernel.mount("none", "/", flags=kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)
    send(channel, b"r", {})
    while (streams := _await(channel)) is not None:
        told, telling = os.pipe()
        keeper = os.fork()
        if keeper == 0:
            os.close(told)
            _keep(channel, streams, telling, run_main)
        for descriptor in (telling, *streams):
            os.close(descriptor)
        if os.read(told, 1) != _ANSWERED:
            os._exit(1)  # the end of the stream says so
        os.close(told)
        # After its answer a keeper takes some time to end, in nobody's way.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    os._exit(0)


def send(channel: socket.socket, letter: bytes, message: Mapping[str, Any]) -> None:
    """Send a message."""
    body = json.dumps(message).encode()
    channel.sendall(HEADER.pack(letter, len(body)) + body)


def _await(channel: socket.socket) -> list[int] | None:
    """The descriptors of the next request; `None` at the end of the stream.

    The request itself is left for the keeper to read: whatever this process reads would be in the
    memory of every later fork.
    """
    letter = KILL
    while letter == KILL:  # came too late for the run that it was meant for
        letter, descriptors, _, _ = socket.recv_fds(channel, 1, 3)
        if not letter:
            return None
    return descriptors


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = channel.recv(min(count, 1 << 20))
        if not part:
            os._exit(1)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _keep(
    channel: socket.socket, streams: list[int], telling: int, run_main: Main | None
) -> NoReturn:
    """Read the request, build the cage, run, answer."""
    from curricle.execution.inside import cage, kernel

    kernel.die_with_parent(signal.SIGKILL)
    length = struct.unpack("!I", _exactly(channel, 4))[0]
    request = json.loads(_exactly(channel, length))
    try:
        cage.build(request["disk_bytes"], request["has_cache"], request["covered"])
        cage.apply(request["changes"])
    except cage.Refused as error:
        _answer(channel, telling, {"refused": str(error)})
    except cage.Full:
        _answer(channel, telling, FULL)
    except OSError as error:
        _answer(channel, telling, {"fault": f"{error}"})
    statuses, status_end = os.pipe()
    init = os.fork()
    if init == 0:
        channel.close()
        os.close(statuses)
        os.close(telling)
        _init(request, streams, run_main, status_end)
    for descriptor in (status_end, *streams):
        os.close(descriptor)
    _wait(channel, init)
    status = os.read(statuses, 4)
    reports, too_long = collect(request["reports"], request["report_bytes"])
    places = (cage.REPORT, "/tmp", "/dev/shm")
    answer = {
        "status": struct.unpack("!i", status)[0] if status else -signal.SIGKILL,
        "reports": reports,
        "too_long": too_long,
        "full": any(is_full(place) for place in places),
    }
    _answer(channel, telling, answer)


def _answer(channel: socket.socket, telling: int, answer: Mapping[str, Any]) -> NoReturn:
    """Give the answer, let the server take the next request, and end."""
    send(channel, b"a", answer)
    os.write(telling, _ANSWERED)
    os._exit(0)


def _wait(channel: socket.socket, init: int) -> None:
    """Wait for the run, and end it when asked to; then nothing of it is left."""
    ended = os.pidfd_open(init)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(channel, select.POLLIN)
    ready = {descriptor for descriptor, _ in poll.poll()}
    if ended not in ready:
        channel.recv(1)
        signal.pidfd_send_signal(ended, signal.SIGKILL)
    os.waitpid(init, 0)  # returns when the kernel has ended and reaped all of its namespace
    os.close(ended)


def collect(names: Sequence[str], max_bytes: int) -> tuple[dict[str, str], list[str]]:
    """Read the files that were asked for. Their writers are dead, but chose what they are."""
    from curricle.execution.inside import cage

    reports, too_long = {}, []
    folder = os.open(cage.REPORT, os.O_RDONLY | os.O_DIRECTORY)
    for name in names:
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=folder)
        except OSError:
            continue  # absent, or a link
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            continue
        with open(descriptor, "rb") as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            too_long.append(name)
        else:
            reports[name] = content.decode("utf-8", "replace")
    return reports, too_long


def is_full(place: str) -> bool:
    """Whether nothing more can be written in a place."""
    usage = os.statvfs(place)
    is_out_of_files = usage.f_files > 0 and usage.f_favail == 0
    return usage.f_bavail * usage.f_frsize < _WITHOUT_ROOM or is_out_of_files


def _init(
    request: dict[str, Any], streams: list[int], run_main: Main | None, status_end: int
) -> NoReturn:
    """Start the run and reap what it leaves, as the first process of its namespace."""
    from curricle.execution.inside import cage, kernel

    kernel.die_with_parent(signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # from inside, only handled signals reach it
    cage.mount_processes()
    run = os.fork()
    if run == 0:
        os.close(status_end)
        become(request, streams, run_main)
    for stream in streams:
        os.close(stream)
    while True:
        ended, status = os.wait()
        if ended == run:
            os.write(status_end, struct.pack("!i", os.waitstatus_to_exitcode(status)))
            os._exit(0)


def become(request: dict[str, Any], streams: list[int], run_main: Main | None) -> NoReturn:
    """Become the candidate's process."""
    from curricle.execution.inside import filter as call_filter
    from curricle.execution.inside import kernel

    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, 1 << 16)
    os.umask(0o022)
    Path("/proc/self/oom_score_adj").write_text("1000")
    for name, value in request["rlimits"].items():
        # The first signal of processor time tells what ended it, the second is SIGKILL.
        hard = value + 1 if name == "RLIMIT_CPU" else value
        resource.setrlimit(getattr(resource, name), (value, hard))
    kernel.drop_privileges()
    program = call_filter.program()
    if program is not None:
        kernel.filter_calls(program)
    # As after executing a file; only now is there nothing in it that a sibling must not touch.
    kernel.set_dumpable(True)
    try:
        os.chdir(request["cwd"])
        if run_main is None:
            os.execvpe(request["argv"][0], request["argv"], request["env"])
    except OSError as error:
        os.write(2, f"{request['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127)
    _call(run_main, request["argv"], request["env"])


def _call(run_main: Main, argv: list[str], env: dict[str, str]) -> NoReturn:
    """Call the plugin's function as if it were a fresh interpreter's program, and end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = list(argv)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = open(  # type: ignore[misc]
        2, "w", buffering=1, errors="backslashreplace", closefd=False
    )
    if "random" in sys.modules:
        sys.modules["random"].seed()  # else every fork would draw the same numbers
    code: int | str | None = 1
    try:
        code = run_main(list(argv))
    except SystemExit as error:
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def main() -> None:
    """Load what the argument names, and serve."""
    library = str(Path(__file__).resolve().parents[3])
    sys.path.insert(0, library)
    # Once, for every fork.
    from curricle.execution.inside import cage, filter, kernel  # noqa: F401

    sys.path.remove(library)
    run_main: Main | None = None
    if len(sys.argv) > 1:
        module, _, function = sys.argv[1].partition(":")
        run_main = getattr(importlib.import_module(module), function)
    serve(run_main)


if __name__ == "__main__":
    main()
