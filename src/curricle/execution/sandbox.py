"""One interface to isolation, and the rule that it never falls back in silence.

A sandbox runs one command over a disposable view of a prepared project with a candidate's changes
laid over it. Backends differ in strength; the contract suite in `curricle.execution.contract` is
the same for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import ClassVar

from curricle.errors import ConfigError, DataError, SandboxUnavailable
from curricle.execution.limits import Limits
from curricle.languages.commands import REPORT, Command, Output, Warm
from curricle.languages.project import Changes, Prepared, is_relative_inside


class SandboxLevel(IntEnum):
    """How strong an isolation is; each level includes those below it."""

    NONE = 0
    """No isolation: only by explicit choice, and stamped on every record."""
    WEAK = 1
    """Path rules and rlimits: UDP stays open, processes are visible."""
    STANDARD = 2
    """Own mounts, processes, network and user; limits on everything."""
    STRONG = 3
    """A kernel of its own."""


class Sandbox(ABC):
    """Runs commands isolated from the machine and from each other.

    Implementations are used by one thread at a time and hold no state that one run could leave for
    the next.
    """

    name: ClassVar[str]
    level: ClassVar[SandboxLevel]

    @abstractmethod
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
        """Run one command in a fresh view of the project.

        Args:
            command: What to run; `network` is refused here.
            prepared: The project and its cache, both copy-on-write.
            changes: Laid over the tree first.
            limits: Bounds; hitting one ends the run and is reported, never raised.
            binds: Absolute folders of the toolchain, read-only inside at the same place.
            warm: Servers that `command.warm` may name.

        Raises:
            ConfigError: The command asks for what no sandbox gives.
            DataError: A change names a place outside the tree, or leaves it through a link.
            InfrastructureFault: The sandbox itself failed; the run says nothing of the candidate.
            SandboxUnavailable: This machine cannot isolate at all.
        """

    def prepare(
        self,
        command: Command,
        work: Path,
        cache: Path,
        limits: Limits,
        *,
        binds: Sequence[str] = (),
    ) -> Output:
        """Run one trusted command that may write into a project's copy and its cache.

        Nothing of a candidate exists yet, and `command.network` is honoured.

        Args:
            command: What to run.
            work: A copy of the project, writable at `/work`.
            cache: The folder that later runs see at `/cache`, writable.
            limits: Bounds, as for `run`.
            binds: Absolute folders of the toolchain, read-only inside at the same place.

        Raises:
            InfrastructureFault: The sandbox itself failed.
            SandboxUnavailable: This backend cannot prepare projects.
        """
        raise SandboxUnavailable(
            f"{self.name} cannot prepare projects. Prepare them with sandbox.backend=bubblewrap."
        )

    @abstractmethod
    def close(self) -> None:
        """End what is kept warm. Afterwards no process, mount or control group is left."""

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_run(command: Command, changes: Changes) -> None:
    """Refuse what no sandbox runs.

    Raises:
        ConfigError: The command asks for the network, or for a report outside `/report`.
        DataError: A change names a place outside the tree.
    """
    if command.network:
        raise ConfigError(f"{command.argv[0]}: a sandboxed command cannot have the network.")
    for name in command.reports:
        if "/" in name or name in ("", ".", ".."):
            raise ConfigError(f"{name!r} is not the name of a file in {REPORT}.")
    for path in changes:
        if not is_relative_inside(path):
            raise DataError(f"{path!r} is not a path inside the project.")
