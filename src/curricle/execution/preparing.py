"""Runs a plugin's trusted commands that complete a project's copy and fill its cache.

Nothing of a candidate exists yet. The walls here keep a build from writing anywhere else and, when
it does not ask for the network, from depending on it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from curricle.errors import InfrastructureFault
from curricle.execution.kept import ENVIRONMENT
from curricle.execution.limits import Limits
from curricle.execution.wall import bwrap_path, system, toolchain
from curricle.languages.commands import CACHE, REPORT, WORK, Command, Isolation, Limit, Output

_NAMESPACES = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--disable-userns",
    "--die-with-parent", "--new-session",
)  # fmt: skip
_NETWORK_FILES = ("/etc/resolv.conf", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")
_MACHINE_FILES = ("/etc/hosts", "/etc/nsswitch.conf")


def prepare(
    command: Command, work: Path, cache: Path, limits: Limits, binds: Sequence[str]
) -> Output:
    """Run one command that may write into both folders: see `Sandbox.prepare`."""
    visible = toolchain(binds)
    with tempfile.TemporaryDirectory(prefix="curricle-") as report:
        argv = [str(bwrap_path()), *system(visible)]
        argv += ["--size", str(limits.disk_bytes), "--tmpfs", "/tmp", "--bind", report, REPORT]
        argv += ["--bind", str(work), WORK, "--bind", str(cache), CACHE]
        # Again, above the project: a toolchain may lie where one of our own places is.
        for name in visible:
            if any(Path(name).is_relative_to(place) for place in (WORK, CACHE, REPORT, "/tmp")):
                argv += ["--ro-bind", name, name]
        for name in (*_MACHINE_FILES, *(_NETWORK_FILES if command.network else ())):
            argv += ["--ro-bind-try", name, name]
        argv += ["--chdir", os.path.join(WORK, command.cwd), "--clearenv"]
        for key, value in {**ENVIRONMENT, **command.env}.items():
            argv += ["--setenv", key, value]
        argv += [*_NAMESPACES, *(() if command.network else ("--unshare-net",)), "--"]
        return _run([*argv, *command.argv], command, Path(report), limits)


def _run(argv: list[str], command: Command, report: Path, limits: Limits) -> Output:
    started = time.monotonic()
    hit: set[Limit] = set()
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    try:
        texts = process.communicate(command.stdin.encode(), command.timeout_s or limits.wall_s)
    except subprocess.TimeoutExpired:
        hit.add(Limit.WALL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        texts = process.communicate()
    stdout, stderr = (text[: limits.output_bytes].decode("utf-8", "replace") for text in texts)
    if process.returncode == 1 and stderr.startswith("bwrap: "):
        raise InfrastructureFault(stderr.strip())
    reports = {
        name: (report / name).read_text(errors="replace")
        for name in command.reports
        if (report / name).is_file()
    }
    return Output(
        process.returncode, stdout, stderr, reports, frozenset(hit), time.monotonic() - started,
        Isolation("bubblewrap", "standard", {"wall": "clock"}),
    )  # fmt: skip
