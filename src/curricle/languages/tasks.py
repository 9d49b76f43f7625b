"""Mutants of projects, and the bug tasks that execution made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from curricle.checkpoints.hashing import hash_value
from curricle.languages.mutation import Mutant, apply
from curricle.languages.project import Changes, Project

_ID_DIGITS = 16


@dataclass(frozen=True)
class ProjectMutant:
    """One small change to one file of a project.

    Its status is no part of it: that is always derived by our own evaluation, never taken from the
    tool that proposed it.

    Attributes:
        project: The project's name.
        language: The backend's name.
        file: Relative path of the changed file.
        function: Qualified name of the function around the change, such as `Codec.encode`; empty at
            module level.
        mutant: Operator, span, original and replacement.
        engine: What proposed it: `builtin`, `mutmut`, `cargo-mutants`, ...
        engine_version: That tool's version.
    """

    project: str
    language: str
    file: str
    function: str
    mutant: Mutant
    engine: str
    engine_version: str

    @property
    def id(self) -> str:
        """Hash of file, span and replacement: two engines that make the same change agree."""
        change = (self.mutant.start_byte, self.mutant.end_byte, self.mutant.replacement)
        return hash_value([self.language, self.project, self.file, *change])[:_ID_DIGITS]

    def changes(self, project: Project) -> dict[str, str | None]:
        """The changed file's text, to be laid over the pristine tree."""
        return {self.file: apply(project.read(self.file), self.mutant)}


@dataclass(frozen=True)
class BugTask:
    """A mutant proven by execution: the original passes, the mutant fails, twice alike.

    Attributes:
        mutant: What was broken.
        project_digest: The tree that this was proven on.
        failing: Ids that the mutant fails and that an agent may see.
        heldout: Further failing ids, kept from the agent and run by the grader.
        passing: Ids that pass on the original and on the mutant, and must still pass.
        failure: What the visible failing tests print on the mutant, the assertion first.
        split: `train`, `tui` or `heldout`; a project is in one split only.
    """

    mutant: ProjectMutant
    project_digest: str
    failing: tuple[str, ...]
    heldout: tuple[str, ...]
    passing: tuple[str, ...]
    failure: str
    split: str = "train"

    @property
    def id(self) -> str:
        """The mutant's id."""
        return self.mutant.id

    @property
    def expected(self) -> frozenset[str]:
        """Every id that a repair must pass."""
        return frozenset((*self.failing, *self.heldout, *self.passing))

    def broken(self, project: Project) -> dict[str, str | None]:
        """The changes that make the bug: where an agent's work begins."""
        return self.mutant.changes(project)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> BugTask:
        """Rebuild a task from its JSON form."""
        mutant = ProjectMutant(
            **{**content["mutant"], "mutant": Mutant(**content["mutant"]["mutant"])}
        )
        lists = {name: tuple(content[name]) for name in ("failing", "heldout", "passing")}
        return cls(**{**content, **lists, "mutant": mutant})


@dataclass(frozen=True)
class Patch:
    """What a candidate wants changed, against the broken tree: relative path to its new text."""

    changes: Changes = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Hash of the changes."""
        return hash_value(dict(self.changes))[:_ID_DIGITS]
