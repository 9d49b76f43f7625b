"""Exports a project as a pristine tree: what its authors wrote, and nothing that a tool left.

History, build leftovers and the files of mutation tools hold answers: an installed copy, byte code
or a mutated file next to its original. So they stay behind.
"""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatch
from pathlib import Path

from curricle.errors import DataError

LEFTOVERS = (
    ".git", ".hg", ".svn", "build", "dist", "*.egg-info", "__pycache__", "*.pyc", "*.pyo",
    "*.orig", "*.rej", ".tox", ".nox", ".venv", "venv", ".eggs", ".mypy_cache", ".pytest_cache",
    ".ruff_cache", ".hypothesis", "node_modules", "mutants", ".mutmut-cache", ".stryker-tmp",
    "mutants.out", "mutants.out.old", "target", ".coverage",
)  # fmt: skip
"""Names of files and folders, at any depth, that are no part of a pristine tree."""


def export_tree(source: Path, target: Path, max_bytes: int, keep: tuple[str, ...] = ()) -> None:
    """Copy a project without leftovers.

    Args:
        source: A folder.
        target: Where the tree goes; it must not exist.
        max_bytes: More bytes of files are refused.
        keep: Names that are no leftovers in this project, such as a package called `build`.

    Raises:
        DataError: A symlink leads out of the tree, there is neither file nor folder behind a name,
            or it is too large. The target is gone then.
    """
    source = source.resolve()
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. Correct the project's `path`.")
    total = 0

    def leave_out(folder: str, names: list[str]) -> list[str]:
        nonlocal total
        left = [name for name in names if _is_leftover(name) and name not in keep]
        for name in set(names) - set(left):
            path = Path(folder, name)
            _check_kind(path, source)
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        if total > max_bytes:
            raise DataError(
                f"it has more than {max_bytes:,} bytes of files. Take a smaller part of it, or "
                "raise max_project_bytes."
            )
        return left

    try:
        shutil.copytree(source, target, symlinks=True, ignore=leave_out)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _is_leftover(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in LEFTOVERS)


def _check_kind(path: Path, root: Path) -> None:
    if path.is_symlink():
        aim = Path(os.path.realpath(path))
        if Path(os.readlink(path)).is_absolute() or not aim.is_relative_to(root):
            raise DataError(
                f"{path.relative_to(root)} is a symlink out of the tree. Remove it, or put a copy "
                "in its place."
            )
    elif not (path.is_dir() or path.is_file()):
        raise DataError(f"{path.relative_to(root)} is no ordinary file. Remove it.")
