"""The second wall: one run's own namespaces, inside the kept sandbox that bubblewrap made.

`build` is called in a process of trusted code that was forked for one run, before the first byte
of a candidate is read. Afterwards that process sees what the run will see: `/work` and `/cache`
copy-on-write over the pristine folders, everything that it may write on memory of a bounded size,
no network, no way to what lies beneath.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Mapping, Sequence

from curricle.execution.inside import kernel

HIDDEN = "/.cage"
"""What the kept sandbox knows and no run may see; covered by `build`."""
TREE = f"{HIDDEN}/tree"
LIBRARY = f"{HIDDEN}/library"
SCRATCH = f"{HIDDEN}/scratch"
WORK = "/work"
CACHE = "/cache"
REPORT = "/report"

USER = 1000
"""Who a run is, by its own view."""
_WRITABLE = kernel.MS_NOSUID | kernel.MS_NODEV
_INODES = 1 << 17
"""Files and folders that one run may make in each place: they cost memory of the kernel."""


class Refused(Exception):
    """The changes cannot be laid over the tree; says why."""


class Full(Exception):
    """The changes need more room than a run may have."""


def build(disk_bytes: int, has_cache: bool, covered: Sequence[str]) -> None:
    """Enter new namespaces, with fresh places to write.

    The new process namespace is that of the next child, which calls `mount_processes`.

    Args:
        disk_bytes: How much may be written to the views and reports, and to each of `/tmp` and
            `/dev/shm`.
        has_cache: Whether there is a folder at `/cache` to lay a view over.
        covered: Folders and files of the toolchain that lie where the fresh places are; they stay
            visible.

    Raises:
        OSError: The kernel refused; nothing untrusted has run.
    """
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(
        kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    )  # fmt: skip
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{USER} {user} 1")
    _write("/proc/self/gid_map", f"{USER} {group} 1")
    # Nothing in this namespace can make another one, so nobody here gains capabilities again.
    _write("/proc/sys/user/max_user_namespaces", "0")
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    beneath = {place: os.open(place, os.O_PATH) for place in (WORK, CACHE, REPORT, "/tmp")}
    bounds = f"size={disk_bytes},nr_inodes={_INODES}"
    kernel.mount("scratch", SCRATCH, "tmpfs", _WRITABLE, f"{bounds},mode=755")
    os.mkdir(f"{SCRATCH}/report")
    _overlay("work", TREE, WORK)
    if has_cache:
        _overlay("cache", CACHE, CACHE)
    kernel.mount(f"{SCRATCH}/report", REPORT, flags=kernel.MS_BIND)
    kernel.mount("tmp", "/tmp", "tmpfs", _WRITABLE, f"{bounds},mode=1777")
    kernel.mount("shm", "/dev/shm", "tmpfs", _WRITABLE, f"{bounds},mode=1777")
    kernel.mount(
        "devpts", "/dev/pts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC,
        "newinstance,ptmxmode=0666,mode=620",
    )  # fmt: skip
    _show_again(covered, beneath)
    for descriptor in beneath.values():
        os.close(descriptor)
    # The tree is pristine: for a bug task it holds the answer.
    kernel.mount("none", HIDDEN, "tmpfs", _WRITABLE | kernel.MS_RDONLY, "size=4k,mode=000")
    kernel.raise_loopback()
    socket.sethostname("sandbox")


def mount_processes() -> None:
    """Show the own processes alone; called by the first process of the new namespace."""
    kernel.mount("proc", "/proc", "proc", _WRITABLE | kernel.MS_NOEXEC)


def apply(changes: Mapping[str, str | None]) -> None:
    """Write a candidate's changes into its own view of the tree. Its bytes are never run here.

    Every file is removed first and made anew: a link in the tree is replaced, never followed.

    Raises:
        Refused: A folder on the way is a link or no folder, or the name is impossible.
        Full: They do not fit.
    """
    for relative, text in changes.items():
        target = f"{WORK}/{relative}"
        folder = os.path.dirname(target)
        if os.path.realpath(folder) != folder:
            raise Refused(f"{relative}: a folder on the way is a symbolic link")
        try:
            _replace(target, folder, text)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EFBIG):
                raise Full(relative) from error
            raise Refused(f"{relative}: {error.strerror}") from error


def _replace(target: str, folder: str, text: str | None) -> None:
    mode = 0o644
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(target).st_mode & 0o777
        os.unlink(target)
    if text is None:
        return
    os.makedirs(folder, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(target, flags, mode), "wb") as stream:
        # Text that is no Unicode is the candidate's to answer for: its compiler will say so.
        stream.write(text.encode("utf-8", "surrogatepass"))


def _show_again(covered: Sequence[str], beneath: Mapping[str, int]) -> None:
    """Bind what the fresh places cover above them, as high as nothing of theirs is hidden."""
    shown: list[str] = []
    for name in covered:
        if any(name.startswith(f"{other}/") for other in shown):
            continue
        place = next(place for place in beneath if name.startswith(f"{place}/"))
        parts = name[len(place) + 1 :].split("/")
        depth = 1
        while depth < len(parts) and os.path.lexists(os.path.join(place, *parts[:depth])):
            depth += 1
        target = os.path.join(place, *parts[:depth])
        source = f"/proc/self/fd/{beneath[place]}/{'/'.join(parts[:depth])}"
        if os.path.isdir(source):
            os.makedirs(target, exist_ok=True)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o600))
        kernel.mount(source, target, flags=kernel.MS_BIND | kernel.MS_REC)
        shown.append(target)


def _overlay(name: str, lower: str, target: str) -> None:
    upper, work = f"{SCRATCH}/{name}-upper", f"{SCRATCH}/{name}-work"
    os.mkdir(upper)
    os.mkdir(work)
    kernel.mount(
        "overlay", target, "overlay", _WRITABLE,
        f"lowerdir={lower},upperdir={upper},workdir={work},userxattr",
    )  # fmt: skip


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
