"""Does a sandbox hold, on this machine, today? Asked from inside, before anything is trusted to it.

A success is remembered until the next boot; a failure never is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curricle.errors import InfrastructureFault
from curricle.execution import inside, probe_script
from curricle.execution.limits import MIB, Limits
from curricle.execution.sandbox import Sandbox, SandboxLevel
from curricle.execution.wall import base_interpreter
from curricle.languages.commands import Command, Output
from curricle.languages.project import Prepared, Project

_logger = logging.getLogger(__name__)
_LIMITS = Limits(wall_s=20, memory_bytes=96 * MIB, pids=24, disk_bytes=8 * MIB)
_MEMORY = """
blocks = []
for _ in range(64):
    blocks.append(bytearray(b"x") * (8 << 20))
print("unbounded")
"""
_PIDS = """
import os, time
for _ in range(200):
    if os.fork() == 0:
        time.sleep(10)
        os._exit(0)
print("unbounded")
"""
_DISK = """
with open("/tmp/filler", "wb") as stream:
    for _ in range(64):
        stream.write(bytes(1 << 20))
        stream.flush()
print("unbounded")
"""
_CHILD = """
import subprocess, sys
code = "import time, sys; time.sleep(60)"
subprocess.Popen([sys.executable, "-c", code, sys.argv[1]], start_new_session=True)
open("/tmp/left", "w").close()
open("left", "w").close()
"""
_LEFT = 'import os; print("left" if os.path.exists("/tmp/left") or os.path.exists("left") else "")'


@dataclass(frozen=True)
class ProbeReport:
    """What a probe found.

    Attributes:
        failures: What did not hold, in the words of a sentence; empty when all held.
        limits: What enforced each limit.
    """

    failures: tuple[str, ...] = ()
    limits: dict[str, str] = field(default_factory=dict)


def probe(sandbox: Sandbox) -> ProbeReport:
    """Try to get out of a sandbox, and to exceed its bounds."""
    with tempfile.TemporaryDirectory(prefix="curricle-probe-") as name:
        tree = Path(name, "tree")
        tree.mkdir()
        project = Project("probe", "python", tree, "probe", (), ())
        prepared = Prepared(project, None, f"probe-{secrets.token_hex(4)}")

        def run(program: str, *arguments: str) -> Output:
            argv = (base_interpreter(), "-I", "-S", "-", *arguments)
            return sandbox.run(Command(argv, stdin=program), prepared, {}, _LIMITS)

        try:
            with _machine(Path(name)) as (machine, received):
                machine["is_own_kernel"] = sandbox.level is SandboxLevel.STRONG
                if not machine["is_own_kernel"]:  # there, each run has devices of its own
                    machine["folders"].append("/dev")
                script = Path(probe_script.__file__).read_text()
                output = run(script, json.dumps(machine))
                failures = _findings(output)
                failures += received()
            for bound, program in (("memory", _MEMORY), ("pids", _PIDS), ("disk", _DISK)):
                bounded = run(program)
                if bounded.exit_code == 0 or "unbounded" in bounded.stdout:
                    failures.append(f"limits: {bound} is not bounded")
            mark = secrets.token_hex(8)
            run(_CHILD, mark)
            if _is_running(mark):
                failures.append("processes: a child outlives its run")
            if run(_LEFT).stdout.strip() != "":
                failures.append("files: a run sees what the run before it left")
        except InfrastructureFault as fault:
            return ProbeReport((f"start: {fault}",))
    return ProbeReport(tuple(failures), dict(output.isolation.limits))


def probe_once(sandbox: Sandbox, program: Path) -> ProbeReport:
    """The remembered success of this machine since it started, else a new probe.

    Args:
        sandbox: Whom to probe.
        program: The program that isolates; another one is probed anew.
    """
    path = _memory(sandbox, program)
    if path is not None and path.is_file():
        with contextlib.suppress(OSError, ValueError):
            return ProbeReport((), json.loads(path.read_text())["limits"])
    report = probe(sandbox)
    if path is not None and not report.failures:
        with contextlib.suppress(OSError):  # it is only asked again
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(dataclasses.asdict(report)))
            partial.replace(path)
    return report


def _memory(sandbox: Sandbox, program: Path) -> Path | None:
    """Where a success is remembered: named after all that it depends on."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        status = program.stat()
    except OSError:
        return None
    code = hashlib.sha256()
    for module in sorted(Path(inside.__file__).parent.glob("*.py")):
        code.update(module.read_bytes())
    parts = (
        sandbox.name, boot, os.geteuid(), base_interpreter(), program, status.st_mtime_ns,
        code.hexdigest(), os.uname().release,
    )  # fmt: skip
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "curricle" / "sandbox" / f"{key}.json"


def _findings(output: Output) -> list[str]:
    try:
        found = json.loads(output.stdout)
    except ValueError:
        words = (output.stderr or output.stdout).strip()[-500:]
        return [f"start: the probe ended with {output.exit_code}: {words}"]
    return [f"{subject}: {what}" for subject, items in found.items() for what in items]


@contextlib.contextmanager
def _machine(folder: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Things of the machine that a run must not reach, and a look at what arrived."""
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_text(secrets.token_hex())
    abstract = f"curricle-{secrets.token_hex(8)}"
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(b"\0" + abstract.encode())
        unix.listen()

        def received() -> list[str]:
            try:
                udp.recv(64)
            except BlockingIOError:
                return []
            return ["network: a UDP packet reached the machine"]

        yield (
            {
                "tcp": tcp.getsockname(), "udp": udp.getsockname(), "abstract": abstract,
                "secret": str(secret), "folders": [str(folder), "/usr", "/etc", "/"],
            },
            received,
        )  # fmt: skip


def _is_running(mark: str) -> bool:
    """Whether a process of the machine has the mark among its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                return True
    return False
