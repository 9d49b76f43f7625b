"""Turns what a list of projects names into `Project`s, and says which cannot be used and why."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curricle.checkpoints.hashing import hash_tree
from curricle.config.tasks import ProjectSource
from curricle.errors import DataError
from curricle.execution.pristine import export_tree
from curricle.execution.project_sources import describe_package, fetch, install_requirements
from curricle.languages.backend import LanguageBackend
from curricle.languages.project import Project

TREES = "trees"
PACKAGES = "packages"
LIBRARY = "library"
"""The split of projects that are only read."""


@dataclass(frozen=True)
class ListedProject:
    """A project with what the list says of it.

    Attributes:
        project: The project.
        split: Which side its tasks are on, or `LIBRARY`.
        license: As the list states it.
        origin: Where it came from, for people.
    """

    project: Project
    split: str
    license: str
    origin: str

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; the tree's place is left to whoever reads it."""
        project = self.project
        return {
            "name": project.name, "language": project.language, "digest": project.digest,
            "sources": list(project.sources), "tests": list(project.tests),
            "options": {k: v for k, v in project.options.items() if k != "packages"},
            "packages": "packages" in project.options,
            "split": self.split, "license": self.license, "origin": self.origin,
        }  # fmt: skip


def listed_project(content: Mapping[str, Any], folder: Path) -> ListedProject:
    """Rebuild a project from its JSON form and the folder that holds its tree."""
    name = content["name"]
    options = dict(content["options"])
    if content["packages"]:
        options["packages"] = str(folder / PACKAGES / name)
    project = Project(
        name, content["language"], folder / TREES / name, content["digest"],
        tuple(content["sources"]), tuple(content["tests"]), options,
    )  # fmt: skip
    return ListedProject(project, content["split"], content["license"], content["origin"])


def obtain_project(
    name: str,
    source: ProjectSource,
    backend: LanguageBackend,
    folder: Path,
    downloads: Path,
    max_bytes: int,
) -> ListedProject:
    """Fetch a project into `folder`, as a pristine tree with the packages that its tests need.

    Raises:
        DataError: It cannot be fetched or used; nothing of it is left then.
    """
    root, packages = folder / TREES / name, folder / PACKAGES / name
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="curricle-") as scratch:
            published = fetch(source, downloads, Path(scratch))
            export_tree(published, root, max_bytes, tuple(source.options.get("keep", ())))
        if source.requires:
            install_requirements(source.requires, packages)
        if source.package:
            describe_package(root, source.package, packages)
        return _described(name, source, backend, root, packages)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(packages, ignore_errors=True)
        raise


def _described(
    name: str, source: ProjectSource, backend: LanguageBackend, root: Path, packages: Path
) -> ListedProject:
    options = dict(source.options)
    # What the packages hold decides results as the tree does.
    digest = hash_tree(root)
    if packages.is_dir():
        options["packages"] = str(packages)
        digest = hash_tree(root.parent.parent / PACKAGES / name)[:16] + digest[:48]
    project = Project(name, backend.name, root, digest, source.sources, source.tests, options)
    if not source.sources or not (source.tests or source.split == LIBRARY):
        found = backend.layout(project)
        project = replace(
            project,
            sources=source.sources or found.sources,
            tests=source.tests or found.tests,
            options={**found.options, **options},
        )
    if not project.files(project.sources):
        raise DataError(f"no source file matches {list(project.sources)}. Set `sources`.")
    if source.split != LIBRARY and not project.files(project.tests):
        raise DataError("it has no tests. Take a release that ships them, or set `tests`.")
    origin = source.path or source.git or f"{source.package}=={source.version}"
    if source.git:
        origin = f"{source.git}@{(source.commit or '')[:12]}"
    return ListedProject(project, source.split, source.license, origin)
