"""A real project in one language: a pristine tree, and what was prepared around it.

The tree never changes. An attempt to change it is a mapping of relative paths to new contents
(`Changes`), laid over the tree in a disposable view, so that nothing a run writes can reach the
next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from curricle.errors import DataError

Changes: TypeAlias = Mapping[str, str | None]
"""Relative path to new text; `None` deletes the file."""


@dataclass(frozen=True)
class Project:
    """A project whose tests pass, as the core hands it to a language backend.

    Attributes:
        name: Unique among the projects of its language, such as `"idna"`.
        language: The backend's name.
        root: The pristine tree: no history, no build leftovers, read-only for every run.
        digest: Hash of the tree; part of the key of every result.
        sources: Globs of the files that mutation may change and a candidate may patch, relative to
            `root`, such as `("src/idna/*.py",)`.
        tests: Globs of the files and folders that hold tests.
        options: What else the backend needs to know, such as a crate within a workspace (`package`)
            or the folder that imports start from (`import_root`); JSON-able.
    """

    name: str
    language: str
    root: Path
    digest: str
    sources: tuple[str, ...]
    tests: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def files(self, globs: tuple[str, ...]) -> tuple[str, ...]:
        """The files of the tree that some globs match, sorted, as relative POSIX paths."""
        found = {
            path.relative_to(self.root).as_posix()
            for pattern in globs
            for path in self.root.glob(pattern)
            if path.is_file() and not path.is_symlink()
        }
        return tuple(sorted(found))

    def read(self, file: str) -> str:
        """The pristine text of a file.

        Raises:
            DataError: The path leaves the tree, or there is no such text file.
        """
        if not is_relative_inside(file):
            raise DataError(f"{self.name}: {file!r} is not a path inside the project.")
        try:
            return (self.root / file).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.name}: {file} cannot be read as text: {error}.") from error


@dataclass(frozen=True)
class Layout:
    """Where a project keeps what: the fields of `Project` that a language can find out."""

    sources: tuple[str, ...]
    tests: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A project with its dependencies and warm caches, made by trusted commands alone.

    Attributes:
        project: The project; its `root` already holds whatever `prepare` writes into a tree.
        cache: A folder that runs see at `/cache`, copy-on-write (a `target/`, a `GOCACHE`,
            `node_modules`, byte code); `None` when the language needs none.
        digest: Hash of the tree, the cache's recipe and the toolchain's versions.
    """

    project: Project
    cache: Path | None
    digest: str


def is_relative_inside(path: str) -> bool:
    """Whether a path is relative, normal, and stays inside the folder that it is relative to."""
    pure = PurePosixPath(path)
    return (
        bool(path)
        and "\0" not in path
        and not pure.is_absolute()
        and ".." not in pure.parts
        and pure.as_posix() == path
        and path != "."
    )
