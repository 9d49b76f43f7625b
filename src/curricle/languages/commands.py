"""What a plugin asks the core to run, and what came back. Plugins start no process themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

WORK = "/work"
"""Where a command sees the project: a copy-on-write view, discarded afterwards."""
CACHE = "/cache"
"""Where a command sees the prepared cache: copy-on-write, discarded afterwards."""
REPORT = "/report"
"""An empty folder for machine-readable output; what `Command.reports` names there is collected."""

WARM_SERVER = "/.cage/library/curricle/execution/inside/server.py"
"""Where a sandbox has the program that turns a Python function into a warm server."""


class Level(StrEnum):
    """How much of an evaluation a command gives."""

    CHECK = "check"
    """Does it compile, or type-check: `cargo check`, `mypy`, `tsc`, `go build`."""
    TEST = "test"
    """Each test's result: `cargo test`, `pytest`, `jest`, `go test`."""
    LINT = "lint"
    """Findings of a linter: `clippy`, `ruff`, `eslint`, `go vet`."""


@dataclass(frozen=True)
class Command:
    """One process with a fixed argument vector; never a shell line, never a project's script.

    Attributes:
        argv: The program, by absolute path or by a name on the sandbox's PATH, and its arguments.
        cwd: Working folder, relative to `/work`.
        env: Added to the sandbox's few variables; the caller's own environment is not passed.
        stdin: Text for standard input.
        reports: Names of files in `/report` to collect.
        timeout_s: Wall-clock limit in seconds; `None` takes the limits of the run.
        network: Only honoured while preparing, where nothing of a candidate runs.
        warm: Name of a `Warm` of the backend that can serve this command faster; the answer is the
            same as that of a cold run of `argv`.
    """

    argv: tuple[str, ...]
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: str = ""
    reports: tuple[str, ...] = ()
    timeout_s: float | None = None
    network: bool = False
    warm: str | None = None


@dataclass(frozen=True)
class Warm:
    """A server that has loaded what is trusted and forks once for each command.

    The server runs inside a sandbox of its own and imports nothing of any project. For every
    command it forks; the child enters a further sandbox (own mounts, processes, network, no
    privileges) before the first byte of a candidate is read, serves that one command and ends.

    A server is a Python function. A plugin has a module, say `curricle_python.warm`, which imports
    at its top whatever is worth keeping, and has `main(argv: list[str]) -> int`: it gets the
    `Command.argv` and answers the exit code that a cold run of that vector would have. When it is
    called, the working folder, `os.environ` (only the command's), `sys.argv`, standard input and
    outputs are those of the run; `sys.path` and everything else are as the server's imports left
    them, so put the working folder on `sys.path` where the cold command would have it. The backend
    then declares

        Warm("pytest", (python, "-I", "-B", WARM_SERVER, "curricle_python.warm:main"))

    with an interpreter that can import the module, and the folders of both among `binds()`.

    Attributes:
        name: What `Command.warm` refers to.
        argv: Starts the server, as above.
        env: The environment of the server while it imports; `PYTHONHASHSEED` belongs here.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


class Limit(StrEnum):
    """A bound that a run can hit."""

    WALL = "wall"
    CPU = "cpu"
    MEMORY = "memory"
    PIDS = "pids"
    OUTPUT = "output"
    DISK = "disk"


@dataclass(frozen=True)
class Isolation:
    """How isolated a run was; stamped on every record.

    Attributes:
        backend: Such as `bubblewrap`, `runsc`, `docker` or `unsafe_local`.
        level: `strong`, `standard`, `weak` or `none`.
        limits: What enforced each limit, such as `{"memory": "cgroup-v1", "cpu": "rlimit"}`.
    """

    backend: str
    level: str
    limits: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """What one command did.

    Attributes:
        exit_code: 0 to 255, or minus the signal's number.
        stdout: Standard output, cut at the output limit; undecodable bytes are replaced.
        stderr: Standard error, likewise.
        reports: The collected files by name, as text; a missing one is absent.
        limits_hit: The bounds that ended it.
        duration_s: Wall-clock seconds.
        isolation: How isolated it was.
    """

    exit_code: int
    stdout: str
    stderr: str
    reports: Mapping[str, str]
    limits_hit: frozenset[Limit]
    duration_s: float
    isolation: Isolation
