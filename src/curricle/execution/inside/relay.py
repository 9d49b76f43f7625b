"""One run in a sandbox that is a machine of its own: its first process.

Reads a request of JSON from standard input, lays the changes over the tree, runs the command
without privileges, ends all that is left, and prints an answer of JSON. Started as a script.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import Any

STARTED = "started\n"
"""Printed before anything untrusted runs: from here on, an end without an answer is the run's."""
_CHUNK = 1 << 16


def main() -> None:
    """Read, run, answer."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from curricle.execution.inside import cage, server

    request = json.load(sys.stdin.buffer)
    try:
        _check_room(request)
        cage.apply(request["changes"])
    except cage.Refused as error:
        answer: dict[str, Any] = {"refused": str(error)}
    except cage.Full:
        answer = {**server.FULL, "outputs": ["", ""], "hit": []}
    else:
        sys.stdout.write(STARTED)
        sys.stdout.flush()
        answer = _run(request)
    sys.stdout.write(json.dumps(answer))


def _check_room(request: dict[str, Any]) -> None:
    """Hold the changes to the bound: the memory that they are laid in has no limit of its own.

    Raises:
        cage.Full: They do not fit.
    """
    from curricle.execution.inside import cage

    texts = [text for text in request["changes"].values() if text is not None]
    if sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) > request["disk_bytes"]:
        raise cage.Full("the changes")


def _run(request: dict[str, Any]) -> dict[str, Any]:
    from curricle.execution.inside import cage, server

    stdin = os.memfd_create("stdin")
    with open(stdin, "wb", closefd=False) as stream:
        stream.write(base64.b64decode(request["stdin"]))
    os.lseek(stdin, 0, os.SEEK_SET)
    outputs = [os.pipe(), os.pipe()]
    run = os.fork()
    if run == 0:
        server.become(request, [stdin, *(writing for _, writing in outputs)], None)
    for _, writing in outputs:
        os.close(writing)
    texts, hit = _listen([reading for reading, _ in outputs], run, request)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    status = -signal.SIGKILL
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, code = os.wait()
            if ended == run:
                status = os.waitstatus_to_exitcode(code)
    reports, too_long = server.collect(request["reports"], request["report_bytes"])
    return {
        "status": status,
        "outputs": [base64.b64encode(text).decode() for text in texts],
        "hit": hit,
        "reports": reports,
        "too_long": too_long,
        "full": any(server.is_full(place) for place in (cage.REPORT, "/tmp", "/dev/shm")),
    }


def _listen(
    descriptors: list[int], run: int, request: dict[str, Any]
) -> tuple[list[bytearray], list[str]]:
    """Read both outputs until the run has ended or hits a bound."""
    texts = {descriptor: bytearray() for descriptor in descriptors}
    deadline = time.monotonic() + request["wall_s"]
    limit = request["report_bytes"]
    ended = os.pipe()

    def notice(*_: object) -> None:
        os.write(ended[1], b".")

    signal.signal(signal.SIGCHLD, notice)
    with selectors.DefaultSelector() as selector:
        for descriptor in (*descriptors, ended[0]):
            selector.register(descriptor, selectors.EVENT_READ)
        is_over = False
        while len(selector.get_map()) > 1 and not is_over:
            for key, _ in selector.select(max(deadline - time.monotonic(), 0)):
                if key.fd == ended[0]:
                    os.read(ended[0], 1)
                    # Reaped later: `WNOWAIT` leaves it.
                    gone = os.waitid(os.P_PID, run, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    is_over = gone is not None
                    continue
                part = os.read(key.fd, _CHUNK)
                texts[key.fd] += part[: max(limit + 1 - len(texts[key.fd]), 0)]
                if not part:
                    selector.unregister(key.fd)
            if sum(map(len, texts.values())) > limit:
                return list(texts.values()), ["output"]
            if time.monotonic() >= deadline:
                return list(texts.values()), ["wall"]
    if is_over:
        _drain(texts, limit)
    else:
        os.waitid(os.P_PID, run, os.WEXITED | os.WNOWAIT)
    return list(texts.values()), []


def _drain(texts: dict[int, bytearray], limit: int) -> None:
    """Take what the run wrote before it ended; others may still hold its outputs open."""
    for descriptor, text in texts.items():
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            while len(text) <= limit and (part := os.read(descriptor, _CHUNK)):
                text.extend(part)


if __name__ == "__main__":
    main()
