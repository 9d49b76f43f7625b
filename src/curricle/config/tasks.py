"""Parameters of the pipelines that make bug tasks."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from curricle.config.base import Parameters
from curricle.errors import ConfigError

Split = Literal["train", "tui", "heldout", "library"]


class ProjectSource(Parameters):
    """Where one project comes from: a folder, a registry package or a git commit.

    Attributes:
        path: A folder on this machine.
        package: A source distribution of a registry, with `version` and `sha256`.
        version: Its exact version.
        sha256: The hash of its file.
        git: A repository, local or remote, with `commit`.
        commit: The full hash of a commit.
        license: The SPDX expression, for the report.
        split: Which side of the contamination split all of its tasks are on; a `library` gives
            none: its sources are asked about, and nothing of it is run.
        sources: Globs of what may be broken; empty lets the language find out.
        tests: Globs of the tests; empty lets the language find out. A library needs none.
        options: What else the language has to know; overrides what it finds out.
        requires: Packages that the tests import, each `name==version --hash=sha256:...`.
    """

    path: str | None = None
    package: str | None = None
    version: str | None = None
    sha256: str | None = None
    git: str | None = None
    commit: str | None = None
    license: str = ""
    split: Split = "train"
    sources: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    options: dict[str, Any] = Field(default_factory=dict)
    requires: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> ProjectSource:
        given = [name for name in ("path", "package", "git") if getattr(self, name)]
        if len(given) != 1:
            raise ConfigError(
                f"a project needs one of `path`, `package` and `git`, but has {given or 'none'}."
            )
        if self.package and not (self.version and re.fullmatch("[0-9a-f]{64}", self.sha256 or "")):
            raise ConfigError(
                f"project package {self.package!r} needs `version` and the `sha256` of its source "
                "distribution: what a registry serves under a name can change."
            )
        if self.git and not re.fullmatch("[0-9a-f]{40}", self.commit or ""):
            raise ConfigError(
                f"project git {self.git!r} needs `commit`, a full hash of 40 digits: a branch or a "
                "tag can move."
            )
        unpinned = [line for line in self.requires if "==" not in line or "--hash=" not in line]
        if unpinned:
            raise ConfigError(
                f"project requirement {unpinned[0]!r} is not pinned: write "
                "'name==version --hash=sha256:...'."
            )
        return self


class ProjectsParameters(Parameters):
    """The projects of a language.

    Attributes:
        listed: By name; a name that is here may be overridden in an environment.
    """

    listed: dict[str, ProjectSource] = Field(default_factory=dict)


class TaskBudget(Parameters):
    """How many bug tasks are made, and what each must be like.

    Attributes:
        projects: `all` that are listed, or the language's own `samples` alone.
        max_projects: At most so many listed projects of each split, in the order of the list.
        engine: `builtin`, or the name of one of the language's own tools.
        mutants: Mutants drawn from a project.
        mutants_per_function: Of one function.
        mutants_per_function_operator: Of one operator in one function.
        operator_share: One operator's largest share of a project's mutants.
        max_function_lines: Longer functions are not broken.
        max_tests: Tests that a task runs at most; all that reach the function when they are fewer.
        heldout_share: Share of a mutant's failing tests that an agent may not see.
        heldout_tasks: Tasks of the held-out projects that are selected for evaluation.
        heldout_operator_share: One operator's largest share of these.
        min_stable_share: A project is refused when fewer of its tests pass twice.
        max_project_bytes: A project with more bytes of files is refused.
        project_wall_s: Seconds that one run of all of a project's tests may take.
        batch: Mutants that are verified, and recorded, together.
        seed: Decides which mutants are drawn, and which tests are hidden.
    """

    projects: Literal["all", "samples"] = "all"
    max_projects: int | None = Field(default=None, ge=1)
    engine: str = "builtin"
    mutants: int = Field(default=64, ge=1)
    mutants_per_function: int = Field(default=4, ge=1)
    mutants_per_function_operator: int = Field(default=1, ge=1)
    operator_share: float = Field(default=0.2, gt=0, le=1)
    max_function_lines: int = Field(default=40, ge=1)
    max_tests: int = Field(default=120, ge=2)
    heldout_share: float = Field(default=0.3, ge=0, lt=1)
    heldout_tasks: int = Field(default=24, ge=1)
    heldout_operator_share: float = Field(default=0.2, gt=0, le=1)
    min_stable_share: float = Field(default=0.9, gt=0, le=1)
    max_project_bytes: int = Field(default=100_000_000, ge=1)
    project_wall_s: float = Field(default=60.0, gt=0)
    batch: int = Field(default=32, ge=1)
    seed: int = 0
