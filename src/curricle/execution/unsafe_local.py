"""No isolation at all: for machines that allow none and people who know what they run.

Only `open_sandbox` makes one, after an explicit choice and an acknowledgement. A run works in a
temporary copy; `/work`, `/cache` and `/report` in arguments and environment become its places.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from curricle.errors import DataError
from curricle.execution.kept import ENVIRONMENT
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox, SandboxLevel, check_run
from curricle.languages.commands import CACHE, REPORT, WORK, Command, Isolation, Limit, Output, Warm
from curricle.languages.project import Changes, Prepared

_POLL_S = 0.02
_PLACES = re.compile(rf"(?:{'|'.join((WORK, CACHE, REPORT))})(?=/|:|$)")


class UnsafeLocalSandbox(Sandbox):
    """A plain child process with the rights of whoever started curricle."""

    name = "unsafe_local"
    level = SandboxLevel.NONE

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
        """Run one command in a copy of the project: see `Sandbox.run`."""
        check_run(command, changes)
        with tempfile.TemporaryDirectory(prefix="curricle-unsafe-") as name:
            folder = Path(name)
            shutil.copytree(prepared.project.root, folder / "work", symlinks=True)
            if prepared.cache is not None:
                shutil.copytree(prepared.cache, folder / "cache", symlinks=True)
            (folder / "report").mkdir()
            _apply(folder / "work", changes)
            return self._run(command, folder, limits)

    def _run(self, command: Command, folder: Path, limits: Limits) -> Output:
        def placed(text: str) -> str:
            return _PLACES.sub(lambda match: f"{folder}{match[0]}", text)

        started = time.monotonic()
        deadline = started + (command.timeout_s or limits.wall_s)
        environment = {**ENVIRONMENT, "HOME": str(folder), **command.env}
        hit: set[Limit] = set()
        outputs = [folder / "stdout", folder / "stderr"]
        with (folder / "stdin").open("w+") as stdin, contextlib.ExitStack() as stack:
            stdin.write(command.stdin)
            stdin.seek(0)
            streams = [stack.enter_context(path.open("wb")) for path in outputs]
            try:
                process = subprocess.Popen(
                    [placed(part) for part in command.argv],
                    cwd=folder / "work" / command.cwd,
                    env={key: placed(value) for key, value in environment.items()},
                    stdin=stdin, stdout=streams[0], stderr=streams[1], start_new_session=True,
                )  # fmt: skip
            except FileNotFoundError as error:
                return self._output(127, "", str(error), {}, hit, started)
            with contextlib.suppress(ProcessLookupError):
                disk = (limits.disk_bytes, limits.disk_bytes)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, disk)
            while process.poll() is None and not hit:
                time.sleep(_POLL_S)
                if time.monotonic() > deadline:
                    hit.add(Limit.WALL)
                if sum(path.stat().st_size for path in outputs) > limits.output_bytes:
                    hit.add(Limit.OUTPUT)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        texts = [_head(path, limits.output_bytes) for path in outputs]
        reports = {
            name: _head(folder / "report" / name, limits.output_bytes)
            for name in command.reports
            if (folder / "report" / name).is_file() and not (folder / "report" / name).is_symlink()
        }
        return self._output(status, texts[0], texts[1], reports, hit, started)

    def _output(
        self,
        status: int,
        stdout: str,
        stderr: str,
        reports: dict[str, str],
        hit: set[Limit],
        started: float,
    ) -> Output:
        isolation = Isolation(self.name, "none", {"wall": "clock", "output": "poll"})
        duration_s = time.monotonic() - started
        return Output(status, stdout, stderr, reports, frozenset(hit), duration_s, isolation)

    def close(self) -> None:
        """Nothing is kept."""


def _apply(work: Path, changes: Changes) -> None:
    for relative, text in changes.items():
        target = work / relative
        if not target.parent.resolve().is_relative_to(work.resolve()):
            raise DataError(f"{relative}: a folder on the way is a symbolic link.")
        target.unlink(missing_ok=True)
        if text is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)


def _head(path: Path, max_bytes: int) -> str:
    with path.open("rb") as stream:
        return stream.read(max_bytes).decode("utf-8", "replace")
