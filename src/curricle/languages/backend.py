"""The contract of a language plugin: it declares and parses, and the core executes.

How it fits languages beside Python:

* Compiled languages (Rust, Go): `prepare` builds once into `/cache` (a `target/`, a `GOCACHE`),
  which every run sees copy-on-write; `Level.CHECK` says whether a mutant compiles at all, and
  `Evaluation.compiled` keeps "does not build" apart from "a test failed", which exit codes mix.
* Workspaces: `Project.options` names the package; `Command.cwd` and `argv` select it.
* Tests inside source files (Rust): `restore` puts the pristine test items back into a candidate's
  text, and `freeze` names what else has to stay as it was.
* Transpilers (TypeScript): `Level.CHECK` runs the type checker, `Level.TEST` only transpiles;
  `reports` collects what a runner writes to a file instead of its standard output.
* Own mutation tools (cargo-mutants, StrykerJS, gremlins): `MutationTool` gives a command and a
  parser; spans come back as `Mutant`, and verdicts of the tool are ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from curricle.errors import DataError
from curricle.languages.commands import Command, Level, Output, Warm
from curricle.languages.evaluation import Evaluation, TestStatus
from curricle.languages.mutation import OperatorTable
from curricle.languages.project import Changes, Layout, Prepared, Project
from curricle.languages.tasks import BugTask, ProjectMutant
from curricle.languages.toolchain import Tool
from curricle.languages.trials import Trial, TrialResult


@dataclass(frozen=True)
class MutationTool(ABC):
    """A language's own mutation tool, as a generator of mutants."""

    name: str

    def binds(self) -> Sequence[str]:
        """Absolute folders that the tool needs beside those of the backend."""
        return ()

    @abstractmethod
    def command(self, project: Project, max_mutants: int) -> Command:
        """The command that lists mutants, run in a disposable view of the project."""

    @abstractmethod
    def parse(self, project: Project, output: Output) -> Sequence[ProjectMutant]:
        """The mutants of its output, with spans in the pristine text and no give-away text.

        Raises:
            DataError: The tool failed or its format is not the one that was pinned.
        """


@dataclass(frozen=True)
class Canaries:
    """Tests of known outcome that run beside the real ones, in the same process.

    Attributes:
        changes: Test files to add, named at random for each run.
        expected: Their ids and the only status that each may have. One fails by plain assertion,
            one raises, one passes.
    """

    changes: Changes
    expected: Mapping[str, TestStatus]


class Comparison(ABC):
    """Compares a candidate's function with the original where the candidate cannot see the answer.

    Inputs are drawn over the original tree and the original's results are kept outside; then a
    process that holds the candidate alone is asked for its results on the same inputs. Nothing in
    that process knows what is right, so nothing a candidate does there helps but being right.
    """

    @abstractmethod
    def draw(
        self, prepared: Prepared, task: BugTask, trace: Sequence[Output], seed: int
    ) -> Command | None:
        """Draws inputs and calls the original with them; run over the pristine tree.

        Args:
            prepared: The project.
            task: Names the function.
            trace: Output of the backend's `trace`, which may hold calls that tests made.
            seed: Another seed draws other inputs.

        Returns:
            `None` when nothing is known to call the function with.
        """

    @abstractmethod
    def replay(self, prepared: Prepared, task: BugTask, drawn: Output) -> Command:
        """Calls the candidate's function with the same inputs."""

    def join(self, test: Command, replay: Command) -> Command | None:
        """One command that does both, as a second run costs as much as its sandbox.

        The replay has a process of its own, in which nothing of the tests has run, and meets the
        candidate only when the tests are over: before, it could change them on disk.

        Returns:
            `None` when they have to be run one after the other.
        """
        return None

    @abstractmethod
    def differences(self, drawn: Output, replayed: Output) -> Sequence[str]:
        """Where the two disagree, each in a sentence; a report that is cut is a difference."""


@dataclass(frozen=True)
class ToolSpec:
    """An agent's tool beside the common ones, over the backend's own commands.

    Attributes:
        name: What the model calls, such as `lint`.
        description: One sentence for the model.
        level: The level whose findings it prints.
    """

    name: str
    description: str
    level: Level


@dataclass(frozen=True)
class Curriculum:
    """A pipeline that a plugin contributes as data: stage names with parents and kinds.

    Attributes:
        name: The pipeline's name, such as `rust_agent`.
        stages: For each stage its name, the kind of stage, and what it starts from.
    """

    name: str
    stages: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


class LanguageBackend(ABC):
    """A programming language: how to break it, run it, judge it.

    A subclass is registered under the entry-point group `curricle.languages`. Nothing here starts a
    process, reads a clock or looks at the machine; every method is a function of its arguments.
    """

    api: ClassVar[int] = 1
    name: ClassVar[str]
    toolchain: ClassVar[Sequence[Tool]] = ()
    operators: ClassVar[OperatorTable]
    warm: ClassVar[Sequence[Warm]] = ()
    mutation_tools: ClassVar[Sequence[MutationTool]] = ()
    tools: ClassVar[Sequence[ToolSpec]] = ()
    curricula: ClassVar[Sequence[Curriculum]] = ()
    comparison: ClassVar[Comparison | None] = None
    metrics: ClassVar[Mapping[Level, str]]
    """The rate that each level gives, such as `{Level.TEST: "pytest_pass_rate"}`."""

    def binds(self) -> Sequence[str]:
        """Absolute folders of the toolchain that runs must see read-only, beside `/usr`."""
        return ()

    def layout(self, project: Project) -> Layout:
        """Where a project keeps sources and tests, found out from its files alone.

        Args:
            project: Its `sources` and `tests` may be empty.

        Raises:
            DataError: It follows no custom of the language; names what to set.
        """
        raise DataError(f"{project.name}: set `sources` and `tests` of the project.")

    def prepare(self, project: Project) -> Sequence[Command]:
        """Commands that warm `/cache` or complete `/work`, before any candidate exists."""
        return ()

    @abstractmethod
    def commands(
        self, prepared: Prepared, level: Level, tests: Sequence[str] | None = None
    ) -> Sequence[Command]:
        """The commands of a level, each one fixed argument vector.

        Args:
            prepared: The project.
            level: What is asked for.
            tests: Run only these ids, at `Level.TEST`; `None` runs all.
        """

    @abstractmethod
    def parse(self, prepared: Prepared, level: Level, outputs: Sequence[Output]) -> Evaluation:
        """What the outputs of `commands` show; nothing that a candidate printed counts."""

    def protected_paths(self, project: Project) -> Sequence[str]:
        """Globs that no candidate may add, change or delete: tests, configuration, build files."""
        return ()

    def restore(self, file: str, pristine: str, candidate: str) -> str:
        """The candidate's text with test items of the pristine text put back."""
        return candidate

    def freeze(self, pristine: str, candidate: str) -> Sequence[str]:
        """What had to stay and did not, such as a changed signature; empty when all stayed."""
        return ()

    def scan(self, pristine: str, candidate: str) -> Sequence[str]:
        """Known hacks that the candidate's text adds to the pristine one, each in a sentence."""
        return ()

    @abstractmethod
    def canaries(self, project: Project, seed: int) -> Canaries:
        """Tests of known outcome, with names drawn from the seed."""

    def differential(
        self, prepared: Prepared, task: BugTask, candidate: str, seed: int
    ) -> Canaries | None:
        """Tests that compare the candidate's function with the original; `None` when none can."""
        return None

    def changed_functions(self, pristine: str, candidate: str) -> Sequence[str] | None:
        """Qualified names of the functions whose bodies alone differ between two texts of a file.

        `None` when anything else differs too, or when the backend cannot tell: then every test
        counts.
        """
        return None

    def tests_reaching(
        self, prepared: Prepared, outputs: Sequence[Output]
    ) -> Mapping[str, Sequence[str]]:
        """Function to the ids of the tests that reach it, read from a traced baseline run.

        Keys are `file::function`, with the names of `changed_functions`. A function that ran
        outside any one test, while files were loaded or for several tests at once, is reached by
        all of those. Empty when the backend cannot tell, and then every test counts.
        """
        return {}

    def trace(self, prepared: Prepared) -> Sequence[Command]:
        """The commands of that traced baseline run; `parse` reads it as one of `Level.TEST`."""
        return ()

    def trials(self, prepared: Prepared, wanted: Sequence[Trial]) -> Command | None:
        """One command that runs many mutants; `None` when each needs commands of its own."""
        return None

    def read_trials(self, wanted: Sequence[Trial], output: Output) -> Mapping[str, TrialResult]:
        """What that command showed, by trial; one that was not run is absent.

        Raises:
            DataError: The project could not be loaded, so no trial was run at all.
        """
        return {}

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """Project sources that work, as the `projects` parameter takes them."""
        return ()
