"""Control groups: the bounds on all processes of a sandbox together.

Version 2 where it is delegated to us, version 1 where its hierarchies are writable, and nothing
otherwise. What is missing here is bounded by rlimits, for each process alone, and the record of
the run says so.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from curricle.languages.commands import Limit

_logger = logging.getLogger(__name__)
_numbers = itertools.count()
_PREFIX = "curricle-"
_V1 = {Limit.MEMORY: "memory", Limit.PIDS: "pids", Limit.CPU: "cpuacct"}
_NANOSECOND = 1e-9
_MICROSECOND = 1e-6


@dataclass(frozen=True)
class Usage:
    """What a group has counted since it was made.

    Attributes:
        cpu_s: Seconds of processor time.
        memory_kills: Processes that the kernel ended for want of memory.
        pids_refused: Forks that the kernel refused.
    """

    cpu_s: float = 0.0
    memory_kills: int = 0
    pids_refused: int = 0


class ControlGroup:
    """One group in each hierarchy that bounds something.

    Attributes:
        version: `cgroup-v2`, `cgroup-v1` or, where there is none, an empty text.
        folders: What each limit is enforced by.
    """

    def __init__(self, version: str, folders: dict[Limit, Path]) -> None:
        self.version = version
        self.folders = folders
        self._bounds: tuple[int, int] | None = None

    @classmethod
    def create(cls) -> ControlGroup:
        """Make a group beneath the one that this process is in; empty where none can be made."""
        name = f"{_PREFIX}{os.getpid()}-{next(_numbers)}"
        for version, parents in (("cgroup-v2", _unified()), ("cgroup-v1", _hierarchies())):
            folders: dict[Limit, Path] = {}
            for limit, parent in parents.items():
                with contextlib.suppress(OSError):
                    _remove_abandoned(parent)
                    (parent / name).mkdir(exist_ok=True)
                    folders[limit] = parent / name
            if folders:
                return cls(version, folders)
        return cls("", {})

    @property
    def places(self) -> list[str]:
        """The folders that a process joins, each once."""
        return sorted({str(folder) for folder in self.folders.values()})

    def bound(self, memory_bytes: int, pids: int) -> None:
        """Set the bounds; the same ones again cost nothing."""
        if self._bounds == (memory_bytes, pids):
            return
        if folder := self.folders.get(Limit.MEMORY):
            if self.version == "cgroup-v2":
                (folder / "memory.max").write_text(str(memory_bytes))
                _write_where_known(folder / "memory.swap.max", "0")
            else:
                # The bound with swap may never be the lower one: lift it first, lower it last.
                _write_where_known(folder / "memory.memsw.limit_in_bytes", "-1")
                (folder / "memory.limit_in_bytes").write_text(str(memory_bytes))
                _write_where_known(folder / "memory.memsw.limit_in_bytes", str(memory_bytes))
        if folder := self.folders.get(Limit.PIDS):
            (folder / "pids.max").write_text(str(pids))
        self._bounds = (memory_bytes, pids)

    def resident_bytes(self) -> int:
        """Memory of the processes in the group, without what the kernel could take back."""
        folder = self.folders.get(Limit.MEMORY)
        if folder is None:
            return 0
        key = "anon" if self.version == "cgroup-v2" else "rss"
        return _counter(folder / "memory.stat", key)

    def usage(self) -> Usage:
        """The counters as they are now."""
        cpu_s, kills, refused = 0.0, 0, 0
        if folder := self.folders.get(Limit.CPU):
            cpu_s = self.cpu_s(folder)
        if folder := self.folders.get(Limit.MEMORY):
            name = "memory.events" if self.version == "cgroup-v2" else "memory.oom_control"
            kills = _counter(folder / name, "oom_kill")
        if folder := self.folders.get(Limit.PIDS):
            refused = _counter(folder / "pids.events", "max")
        return Usage(cpu_s, kills, refused)

    def cpu_s(self, folder: Path) -> float:
        """Seconds of processor time so far."""
        if self.version == "cgroup-v2":
            return _counter(folder / "cpu.stat", "usage_usec") * _MICROSECOND
        return int((folder / "cpuacct.usage").read_text()) * _NANOSECOND

    def close(self) -> None:
        """End every process that is left and remove the group."""
        for folder in {*self.folders.values()}:
            for _ in range(200):
                try:
                    members = [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
                    for pid in members:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)  # the kernel empties a group some moments after its processes
                else:
                    break
            else:
                _logger.warning("control group %s could not be removed", folder)
        self.folders = {}


def _mounts(kind: str) -> dict[str, str]:
    """The mount points of one kind of file system, by their superblock options."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields = right.split()
        if fields[0] == kind:
            found[fields[2]] = left.split()[4]
    return found


def _memberships() -> dict[str, str]:
    """Controller to the path of this process's group; the key is empty for version 2."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _hierarchies() -> dict[Limit, Path]:
    """Version 1: a writable folder for each limit."""
    memberships = _memberships()
    found = {}
    for options, place in _mounts("cgroup").items():
        for limit, controller in _V1.items():
            if controller in options.split(",") and controller in memberships:
                folder = Path(place + memberships[controller])
                if os.access(folder, os.W_OK):
                    found[limit] = folder
    return found


def _unified() -> dict[Limit, Path]:
    """Version 2: the delegated folder, when it hands memory and pids on to its children."""
    place = next(iter(_mounts("cgroup2").values()), None)
    membership = _memberships().get("")
    if place is None or membership is None:
        return {}
    own = Path(place + membership.rstrip("/"))
    try:
        available = set((own / "cgroup.controllers").read_text().split())
    except OSError:
        return {}
    if not {"memory", "pids"} <= available or not os.access(own, os.W_OK):
        return {}
    if own.name == f"{_PREFIX}main":
        own = own.parent  # where an earlier call put this process
    try:
        _hand_on(own)
    except OSError as error:
        _logger.debug("control group %s is not usable: %s", own, error)
        return {}
    return dict.fromkeys((Limit.MEMORY, Limit.PIDS, Limit.CPU), own)


def _hand_on(own: Path) -> None:
    """Hand the controllers on. A group with processes cannot, so ours, if alone, moves down."""
    control = own / "cgroup.subtree_control"
    if {"memory", "pids"} <= set(control.read_text().split()):
        return
    if (own / "cgroup.procs").read_text().split() == [str(os.getpid())]:
        leaf = own / f"{_PREFIX}main"
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
    control.write_text("+memory +pids")


def _remove_abandoned(parent: Path) -> None:
    """Remove the groups that processes left which were killed."""
    for folder in parent.glob(f"{_PREFIX}*-*"):
        match = re.fullmatch(rf"{_PREFIX}(\d+)-\d+", folder.name)
        if match and not Path("/proc", match[1]).exists():
            with contextlib.suppress(OSError):  # not empty yet, or somebody else was faster
                folder.rmdir()


def _counter(path: Path, key: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0


def _write_where_known(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):  # a kernel without swap accounting
        path.write_text(text)
