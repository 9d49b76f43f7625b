"""Runs what a backend declares and hands the output back to it: the one way to an `Evaluation`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from curricle.checkpoints.hashing import hash_value
from curricle.errors import DataError
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Command, Level
from curricle.languages.evaluation import Evaluation
from curricle.languages.project import Changes, Prepared, Project


def evaluate(
    backend: LanguageBackend,
    prepared: Prepared,
    changes: Changes,
    level: Level,
    sandbox: Sandbox,
    limits: Limits,
    tests: Sequence[str] | None = None,
) -> Evaluation:
    """What one level shows of a project with some changes laid over it.

    Args:
        backend: The project's language.
        prepared: The project.
        changes: Laid over the pristine tree; empty evaluates the project as it is.
        level: Compile, test or lint.
        sandbox: Where the commands run, each in a fresh view.
        limits: Bounds of each command.
        tests: Run only these ids, at `Level.TEST`.

    Raises:
        InfrastructureFault: The sandbox failed; nothing is known of the changes.
    """
    outputs = [
        sandbox.run(command, prepared, changes, limits, binds=backend.binds(), warm=backend.warm)
        for command in backend.commands(prepared, level, tests)
    ]
    return backend.parse(prepared, level, outputs)


def prepare_project(
    backend: LanguageBackend, project: Project, store: Path, sandbox: Sandbox, limits: Limits
) -> Prepared:
    """Make a project ready for many runs: its packages and warm caches, in one folder.

    `options["packages"]`, when a project has it, is an absolute folder of packages that its tests
    need; runs see a copy of it at `/cache/packages`. What the commands write into the tree stays
    in a copy of it, which becomes the prepared project's `root`.

    Args:
        backend: The project's language.
        project: A pristine tree whose tests pass.
        store: The folder that keeps prepared projects; one that is there already is used.
        sandbox: Where `backend.prepare` runs.
        limits: Bounds of each of its commands.

    Raises:
        DataError: A command of `backend.prepare` failed, or the packages are not there.
        InfrastructureFault: The sandbox failed.
    """
    commands = backend.prepare(project)
    recipe = [[c.argv, c.cwd, dict(c.env), c.stdin] for c in commands]
    digest = hash_value([backend.name, project.digest, dict(project.options), recipe])
    folder = store / digest
    if not folder.is_dir():
        partial = store / f"{digest}.{os.getpid()}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        _fill(partial, backend, project, commands, sandbox, limits)
        _settle(partial, folder)
    return Prepared(replace(project, root=folder / "work"), folder / "cache", digest)


def _fill(
    partial: Path,
    backend: LanguageBackend,
    project: Project,
    commands: Sequence[Command],
    sandbox: Sandbox,
    limits: Limits,
) -> None:
    work, cache = partial / "work", partial / "cache"
    cache.mkdir(parents=True)
    shutil.copytree(project.root, work, symlinks=True)
    packages = project.options.get("packages")
    if packages is not None:
        if not Path(packages).is_dir():
            raise DataError(f"{project.name}: options.packages names {packages}: no such folder.")
        shutil.copytree(packages, cache / "packages")
    for command in commands:
        output = sandbox.prepare(command, work, cache, limits, binds=backend.binds())
        if output.exit_code != 0:
            tail = (output.stdout + output.stderr)[-1000:]
            raise DataError(
                f"{project.name}: preparing failed with {output.exit_code}: "
                f"{' '.join(command.argv)}\n{tail}"
            )


def _settle(partial: Path, folder: Path) -> None:
    """Another process may have prepared the same project meanwhile; then its folder stays."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)
