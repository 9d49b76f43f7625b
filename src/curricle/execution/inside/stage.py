"""Before bubblewrap: joins the control group, and gives up root where there is root to give up.

Started once for each kept sandbox as `python -I -S stage.py`, with a plan as JSON on standard
input. As root it makes a mount namespace of its own, where the named folders appear at places that
an unprivileged user can reach, the project's as owned by that user (so that a run may write to its
view of them), and becomes that user. Then bubblewrap replaces it. No candidate is near.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

STAGE = "/tmp"
"""Covered by a private file system as root: a place that exists everywhere and all can enter."""
SOCKET = 3
"""The descriptor over which the kept process hears from the sandbox."""
HOPELESS = 78  # EX_CONFIG of sysexits.h
"""The exit status when it will be no better tomorrow."""


class Hopeless(Exception):
    """The machine cannot do what is asked, and the user has to change something."""


def main() -> None:
    """Read the plan, set up, become bubblewrap."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from curricle.execution.inside import kernel

    kernel.die_with_parent(signal.SIGKILL)
    plan = json.load(sys.stdin)
    os.dup2(plan["socket"], SOCKET)
    for folder in plan["control_groups"]:
        Path(folder, "cgroup.procs").write_text("0")
    if plan["user"] is not None:
        _stage(plan["sources"], plan["user"])
        os.setgroups([])
        os.setresgid(plan["user"], plan["user"], plan["user"])
        os.setresuid(plan["user"], plan["user"], plan["user"])
        kernel.die_with_parent(signal.SIGKILL)  # the change of user has taken it back
    argv = list(plan["argv"])
    for path, text in plan["files"].items():
        descriptor = os.memfd_create(path, 0)
        os.write(descriptor, text.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        argv[1:1] = ["--perms", "0444", "--file", str(descriptor), path]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execve(argv[0], argv, plan["environment"])


def _stage(sources: list[dict[str, Any]], user: int) -> None:
    """Mount the sources at their places."""
    from curricle.execution.inside import kernel

    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    trees = []
    for source in sources:
        tree = kernel.open_tree(source["path"], recursive=not source["owned"])
        if source["owned"]:
            status = os.stat(source["path"])
            namespace = _namespace(status.st_uid, status.st_gid, user)
            try:
                kernel.map_owner(tree, namespace)
            except OSError as error:
                raise Hopeless(
                    f"{source['path']} lies on a file system that cannot map owners ({error}). "
                    "Move it to another one, or start curricle as a plain user."
                ) from error
            os.close(namespace)
        trees.append((tree, os.path.isdir(source["path"])))
    kernel.mount("stage", STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    for source, (tree, is_folder) in zip(sources, trees, strict=True):
        place = Path(source["place"])
        place.parent.mkdir(parents=True, exist_ok=True)
        if is_folder:
            place.mkdir()
        else:
            place.touch()
        kernel.attach_tree(tree, str(place))
        os.close(tree)


def _namespace(owner: int, group: int, user: int) -> int:
    """A user namespace that shows the files of one owner as those of the user."""
    from curricle.execution.inside import kernel

    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(ready[1], b".")
            os.close(done[1])
            os.read(done[0], 1)
        finally:
            os._exit(1)
    os.close(ready[1])
    is_ready = os.read(ready[0], 1)
    try:
        if not is_ready:
            raise OSError("No permission to create a user namespace")
        Path(f"/proc/{child}/uid_map").write_text(f"{owner} {user} 1")
        Path(f"/proc/{child}/gid_map").write_text(f"{group} {user} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready[0], *done):
            os.close(descriptor)
        os.waitpid(child, 0)


if __name__ == "__main__":
    try:
        main()
    except Hopeless as reason:
        sys.stderr.write(f"{reason}\n")
        sys.exit(HOPELESS)
