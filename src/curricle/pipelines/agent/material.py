"""What agents learn from in one language: its projects, its bug tasks, its sorts of bugs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curricle.checkpoints.store import Stored
from curricle.errors import ConfigError
from curricle.languages.backend import LanguageBackend
from curricle.languages.registry import get_backend
from curricle.languages.tasks import BugTask
from curricle.pipelines.tasks.files import PROJECTS, read_tasks


@dataclass(frozen=True)
class Material:
    """One language's projects and bug tasks.

    Attributes:
        language: The backend's name.
        projects: The listed projects.
        tasks: The bug tasks, by split.
        operators: The sorts of bugs that are learned from; `None` takes all.
    """

    language: str
    projects: Stored
    tasks: Stored
    operators: frozenset[str] | None = None

    @property
    def backend(self) -> LanguageBackend:
        """The language's backend."""
        return get_backend(self.language)

    def admits(self, operator: str) -> bool:
        """Whether this sort of bug is learned from."""
        return self.operators is None or operator in self.operators

    def rows(self) -> dict[str, dict[str, Any]]:
        """The listed projects as the executor's items name them."""
        rows = json.loads((self.projects.path / PROJECTS).read_text())
        return {row["name"]: row for row in rows}

    def tasks_of(self, split: str) -> list[BugTask]:
        """The bug tasks of a split that are learned from."""
        kept = read_tasks(self.tasks, split)
        return [task for task in kept if self.admits(task.mutant.mutant.operator)]


def chosen_materials(
    materials: Sequence[Material], operators: Collection[str] | None
) -> list[Material]:
    """The same materials, of some sorts of bugs alone.

    Raises:
        ConfigError: An operator is none of any language's, or a language has none of them.
    """
    if operators is None:
        return list(materials)
    wanted = frozenset(operators)
    known: set[str] = set()
    for material in materials:
        own = {operator.name for operator in material.backend.operators.operators}
        if not own & wanted:
            raise ConfigError(
                f"operators: none of them is {material.language}'s, of which nothing would be "
                f"learned. There are: {', '.join(sorted(own))}."
            )
        known |= own
    if unknown := sorted(wanted - known):
        raise ConfigError(
            f"operators: no language here has {', '.join(unknown)}. "
            f"There are: {', '.join(sorted(known))}."
        )
    return [replace(material, operators=wanted) for material in materials]
