"""A stronger sandbox: gVisor, a kernel of its own for each run.

Runs are cold, some hundreds of milliseconds each; warm servers are not used. Everything that a run
writes stays in the memory of its sandbox. Needs `runsc` on PATH; works as root, and as a plain user
where `runsc --rootless` does.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curricle.errors import DataError, InfrastructureFault, SandboxUnavailable
from curricle.execution.cgroups import ControlGroup
from curricle.execution.inside import cage, relay
from curricle.execution.kept import ENVIRONMENT
from curricle.execution.limits import MIB, Limits
from curricle.execution.sandbox import Sandbox, SandboxLevel, check_run
from curricle.execution.wall import FILES, base_interpreter, toolchain
from curricle.languages.commands import CACHE, REPORT, WORK, Command, Isolation, Limit, Output, Warm
from curricle.languages.project import Changes, Prepared

_START_S = 30.0
"""What a sandbox may take to start and to end, beside the time of the run."""
_OWN_MEMORY = 192 * MIB
"""Memory of gVisor itself, in the same control group as the run's."""
_OWN_PIDS = 256
"""Threads of gVisor itself: its kernel is a program of many threads."""
_KILLED = {
    "status": -signal.SIGKILL, "outputs": ["", ""], "hit": [], "reports": {}, "too_long": [],
    "full": False,
}  # fmt: skip
_JOIN = (
    'while [ "$1" != -- ]; do echo 0 > "$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@"'
)
_CAPABILITIES = [
    "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETPCAP", "CAP_SYS_RESOURCE",
]  # fmt: skip


def runsc_path() -> Path:
    """GVisor's program.

    Raises:
        SandboxUnavailable: It is not on PATH.
    """
    found = shutil.which("runsc")
    if found is None:
        raise SandboxUnavailable(
            "gVisor is missing. Install runsc (https://gvisor.dev/docs/user_guide/install, or "
            "apt-get install runsc), or set sandbox.backend: bubblewrap."
        )
    return Path(found)


class RunscSandbox(Sandbox):
    """One gVisor sandbox for each run."""

    name = "runsc"
    level = SandboxLevel.STRONG

    def __init__(self) -> None:
        self._program = runsc_path()
        flags = subprocess.run(
            [self._program, "flags"], capture_output=True, text=True, check=False
        )
        known = flags.stdout + flags.stderr
        self._overlay = "--overlay2=all:memory" if "overlay2" in known else "--overlay"

    def run(
        self,
        command: Command,
        prepared: Prepared,
        changes: Changes,
        limits: Limits,
        *,
        binds: Sequence[str] = (),
        warm: Sequence[Warm] = (),
    ) -> Output:
        """Run one command in a fresh view of the project: see `Sandbox.run`."""
        check_run(command, changes)
        started = time.monotonic()
        group = ControlGroup.create()
        try:
            group.bound(limits.memory_bytes + _OWN_MEMORY, limits.pids + _OWN_PIDS)
            with tempfile.TemporaryDirectory(prefix="curricle-runsc-") as name:
                bundle = Path(name)
                config = _configuration(bundle, prepared, limits, toolchain(binds))
                (bundle / "config.json").write_text(json.dumps(config))
                answer, words = self._start(bundle, _request(command, changes, limits), group)
                usage = group.usage()
        finally:
            group.close()
        hit = set()
        if usage.memory_kills:
            hit.add(Limit.MEMORY)
        if usage.pids_refused:
            hit.add(Limit.PIDS)
        if answer is None and not hit:
            raise InfrastructureFault(f"gVisor ended without an answer: {words[-1000:]}")
        answer = answer or _KILLED
        if "refused" in answer:
            raise DataError(f"The changes cannot be laid over the tree: {answer['refused']}.")
        return _output(answer, hit, group.version, self, time.monotonic() - started)

    def close(self) -> None:
        """Nothing is kept."""

    def _start(
        self, bundle: Path, request: dict[str, Any], group: ControlGroup
    ) -> tuple[dict[str, Any] | None, str]:
        """Run the sandbox of a bundle; its answer, and what gVisor said."""
        identifier = f"curricle-{secrets.token_hex(8)}"
        runsc = [
            str(self._program), "--root", str(bundle / "state"), "--network=none",
            "--ignore-cgroups", self._overlay,
        ]  # fmt: skip
        if os.geteuid() != 0:
            runsc.append("--rootless")
        argv = ["/bin/sh", "-c", _JOIN, "sh", *group.places, "--"]
        argv += [*runsc, "run", "--bundle", str(bundle), identifier]
        with tempfile.TemporaryFile() as stdin:
            stdin.write(json.dumps(request).encode())
            stdin.seek(0)
            process = subprocess.Popen(
                argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                start_new_session=True, cwd="/",
            )  # fmt: skip
        try:
            text, words = process.communicate(timeout=request["wall_s"] + _START_S)
        except subprocess.TimeoutExpired:
            text, words = b"", b"it did not end in time"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            subprocess.run(
                [*runsc, "delete", "--force", identifier], capture_output=True, check=False
            )
            process.wait()
        started = relay.STARTED.encode()
        with contextlib.suppress(ValueError):
            return json.loads(text.removeprefix(started)), ""
        if text.startswith(started):
            return _KILLED, ""  # a run may end its own machine
        return None, words.decode("utf-8", "replace")


def _request(command: Command, changes: Changes, limits: Limits) -> dict[str, Any]:
    cpu_s = limits.cpu_s or 2 * limits.wall_s
    return {
        "argv": command.argv,
        "env": {**ENVIRONMENT, **command.env},
        "cwd": os.path.join(WORK, command.cwd),
        "stdin": base64.b64encode(command.stdin.encode("utf-8", "surrogatepass")).decode(),
        "changes": dict(changes),
        "reports": command.reports,
        "report_bytes": limits.output_bytes,
        "disk_bytes": limits.disk_bytes,
        "wall_s": command.timeout_s or limits.wall_s,
        "rlimits": {
            "RLIMIT_CORE": 0,
            "RLIMIT_FSIZE": limits.disk_bytes,
            "RLIMIT_NOFILE": 4096,
            "RLIMIT_CPU": max(round(cpu_s), 1),
            "RLIMIT_NPROC": limits.pids,
        },
    }


def _configuration(
    bundle: Path, prepared: Prepared, limits: Limits, visible: Sequence[str]
) -> dict[str, Any]:
    """The description of a sandbox in the format of the Open Container Initiative."""
    root = bundle / "rootfs"
    mounts: list[dict[str, Any]] = [{"destination": "/proc", "type": "proc", "source": "proc"}]
    for path in ("/tmp", "/dev/shm", REPORT):
        options = [f"size={limits.disk_bytes}", "mode=1777"]
        mounts.append({"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options})

    def bind(source: str, destination: str, mode: str) -> None:
        place = root / destination.lstrip("/")
        if os.path.isdir(source):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        mounts.append({"destination": destination, "type": "bind",
                       "source": os.path.realpath(source), "options": [mode, "rbind"]})  # fmt: skip

    for name in ("/proc", "/tmp", "/dev/shm", REPORT, WORK, CACHE, "/etc"):
        (root / name.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for path, text in FILES.items():
        (root / path.lstrip("/")).write_text(text)
    bind(str(prepared.project.root), WORK, "rw")  # what is written stays in memory
    if prepared.cache is not None:
        bind(str(prepared.cache), CACHE, "rw")
    for name in visible:
        bind(name, name, "ro")
    for name in ("/etc/alternatives", "/etc/ld.so.cache"):
        if os.path.exists(name):
            bind(name, name, "ro")
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            (root / name.lstrip("/")).symlink_to(os.readlink(name))
        elif os.path.isdir(name):
            bind(name, name, "ro")
    inside = f"{cage.LIBRARY}/curricle/execution/inside"
    bind(str(Path(cage.__file__).parent), inside, "ro")
    owner = os.stat(prepared.project.root)
    return {
        "ociVersion": "1.0.0",
        "hostname": "sandbox",
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "process": {
            "user": {"uid": owner.st_uid, "gid": owner.st_gid},
            "args": [base_interpreter(), "-I", "-S", "-B", f"{inside}/relay.py"],
            "env": [f"{key}={value}" for key, value in ENVIRONMENT.items()],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
        },
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "mount", "ipc", "uts")]
        },
    }


def _output(
    answer: dict[str, Any], hit: set[Limit], version: str, sandbox: Sandbox, duration_s: float
) -> Output:
    hit |= {Limit(name) for name in answer["hit"]}
    if answer["full"]:
        hit.add(Limit.DISK)
    if answer["too_long"]:
        hit.add(Limit.OUTPUT)
    if answer["status"] == -signal.SIGXCPU:
        hit.add(Limit.CPU)
    texts = [base64.b64decode(text).decode("utf-8", "replace") for text in answer["outputs"]]
    enforced = {
        "memory": version or "none", "pids": version or "none", "cpu": "rlimit", "wall": "clock",
        "output": "pipe", "disk": "tmpfs", "calls": "gvisor",
    }  # fmt: skip
    return Output(
        answer["status"], texts[0], texts[1], answer["reports"], frozenset(hit), duration_s,
        Isolation(sandbox.name, sandbox.level.name.lower(), enforced),
    )  # fmt: skip
