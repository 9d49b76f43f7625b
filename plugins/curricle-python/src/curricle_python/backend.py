"""The backend that `curricle.languages` finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curricle.languages import (
    Canaries,
    Command,
    Evaluation,
    LanguageBackend,
    Layout,
    Level,
    Output,
    Prepared,
    Project,
    Trial,
    TrialResult,
)
from curricle.languages.python_operators import PYTHON_OPERATORS
from curricle_python import running, trials
from curricle_python.canaries import make_canaries
from curricle_python.layout import find_layout
from curricle_python.mutmut_tool import Mutmut
from curricle_python.samples import SAMPLES
from curricle_python.toolchain import TOOLCHAIN, folders


class PythonBackend(LanguageBackend):
    """pytest, mypy and ruff, none of which reads a project's own configuration."""

    name = "python"
    toolchain = TOOLCHAIN
    operators = PYTHON_OPERATORS
    mutation_tools = (Mutmut(),)
    metrics = {  # noqa: RUF012 (declared as a ClassVar by the contract)
        Level.TEST: "pytest_pass_rate",
        Level.CHECK: "mypy_clean_rate",
        Level.LINT: "ruff_clean_rate",
    }

    def binds(self) -> Sequence[str]:
        """The interpreter, the tools' packages, and the scripts that run inside."""
        return folders()

    def layout(self, project: Project) -> Layout:
        """A `src` folder or packages at the root; tests in folders or files of their own."""
        return find_layout(project)

    def prepare(self, project: Project) -> Sequence[Command]:
        """Byte code of all that a run imports."""
        return (running.warming_command(project),)

    def commands(
        self, prepared: Prepared, level: Level, tests: Sequence[str] | None = None
    ) -> Sequence[Command]:
        """One command for each level."""
        if level is Level.TEST:
            return (running.test_command(prepared, tests),)
        if level is Level.CHECK:
            return (running.check_command(prepared),)
        return (running.lint_command(prepared),)

    def parse(self, prepared: Prepared, level: Level, outputs: Sequence[Output]) -> Evaluation:
        """Read the level's own report."""
        (output,) = outputs
        return running.PARSERS[level](output)

    def trace(self, prepared: Prepared) -> Sequence[Command]:
        """One run of all tests that notes what each one enters."""
        return (trials.trace_command(prepared),)

    def tests_reaching(
        self, prepared: Prepared, outputs: Sequence[Output]
    ) -> Mapping[str, Sequence[str]]:
        """Read that run's map."""
        return trials.read_reach(outputs)

    def trials(self, prepared: Prepared, wanted: Sequence[Trial]) -> Command:
        """All of them in one process tree, each by two methods."""
        return trials.trials_command(prepared, wanted)

    def read_trials(self, wanted: Sequence[Trial], output: Output) -> Mapping[str, TrialResult]:
        """Read its report."""
        return trials.read_trials(wanted, output)

    def canaries(self, project: Project, seed: int) -> Canaries:
        """Beside the project's first test file, so that they run under its fixtures."""
        files = project.files(project.tests)
        folder = files[0].rpartition("/")[0] if files else ""
        return make_canaries(folder, seed)

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """Two small projects that come with this plugin."""
        return SAMPLES
