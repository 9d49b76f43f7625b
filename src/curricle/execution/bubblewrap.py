"""The default sandbox: two walls. bubblewrap builds the first, over named folders only.

A kept process lives behind the first wall, one for each prepared project; it runs trusted code
alone. Each run is forked from it into namespaces of its own, the second wall
(`curricle.execution.inside.cage`). So the price of the first wall and of loading an interpreter is
paid once for a project, and a run that breaks the second wall has still met nothing of the machine.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from curricle.execution.kept import Kept
from curricle.execution.limits import Limits
from curricle.execution.preparing import prepare
from curricle.execution.sandbox import Sandbox, SandboxLevel, check_run
from curricle.execution.wall import first_wall
from curricle.languages.commands import Command, Isolation, Output, Warm
from curricle.languages.project import Changes, Prepared

_MAX_KEPT = 12
"""Projects (and warm servers) that are kept at a time; the one not used for longest goes first."""


class BubblewrapSandbox(Sandbox):
    """Own mounts, processes, network and user, by bubblewrap and once more for each run."""

    name = "bubblewrap"
    level = SandboxLevel.STANDARD

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], Kept] = OrderedDict()

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
        server = next((one for one in warm if one.name == command.warm), None)
        return self._keep(prepared, tuple(binds), server).run(command, changes, limits)

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
        return prepare(command, work, cache, limits, binds)

    def close(self) -> None:
        """End every kept process."""
        while self._kept:
            self._kept.popitem()[1].close()

    def _keep(self, prepared: Prepared, binds: tuple[str, ...], warm: Warm | None) -> Kept:
        """The kept process for a project, started when there is none."""
        identity = (
            prepared.digest, prepared.project.root, prepared.cache, binds,
            warm and (warm.name, warm.argv, tuple(sorted(warm.env.items()))),
        )  # fmt: skip
        kept = self._kept.pop(identity, None)
        if kept is not None and not kept.is_alive:
            kept.close()
            kept = None
        if kept is None:
            while len(self._kept) >= _MAX_KEPT:
                self._kept.popitem(last=False)[1].close()
            isolation = Isolation(self.name, self.level.name.lower())
            kept = Kept(first_wall(prepared, binds, warm), isolation)
        self._kept[identity] = kept
        return kept
