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
from curricle_python.canaries import first_test_folder, make_canaries
from curricle_python.comparing import PythonComparison
from curricle_python.freezing import changed_functions, freeze
from curricle_python.layout import find_layout
from curricle_python.mutmut_tool import Mutmut
from curricle_python.samples import SAMPLES
from curricle_python.scanning import scan
from curricle_python.toolchain import TOOLCHAIN, folders
from curricle_python.tracing import reaching

_PROTECTED = (
    "**/conftest.py", "**/test_*.py", "**/*_test.py", "**/sitecustomize.py",
    "**/usercustomize.py", "*.toml", "*.ini", "*.cfg", "*.txt", "**/*.pth", "**/*.pyc", "**/*.so",
    "setup.py", "noxfile.py", "tasks.py", "Makefile", "**/pytest.py", "**/_pytest/**",
)  # fmt: skip


class PythonBackend(LanguageBackend):
    """pytest, mypy and ruff, none of which reads a project's own configuration."""

    name = "python"
    toolchain = TOOLCHAIN
    operators = PYTHON_OPERATORS
    warm = running.WARM
    comparison = PythonComparison()
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
            return (running.test_command(prepared.project, tests),)
        if level is Level.CHECK:
            return (running.check_command(prepared),)
        return (running.lint_command(prepared),)

    def parse(self, prepared: Prepared, level: Level, outputs: Sequence[Output]) -> Evaluation:
        """Read the level's own report."""
        (output,) = outputs
        return running.PARSERS[level](output)

    def trials(self, prepared: Prepared, wanted: Sequence[Trial]) -> Command:
        """All of them in one process tree, each by two methods."""
        return trials.trials_command(prepared, wanted)

    def read_trials(self, wanted: Sequence[Trial], output: Output) -> Mapping[str, TrialResult]:
        """Read its report."""
        return trials.read_trials(wanted, output)

    def protected_paths(self, project: Project) -> Sequence[str]:
        """Tests, configuration, and whatever pytest or the interpreter would load by its name."""
        return (*project.tests, *_PROTECTED)

    def freeze(self, pristine: str, candidate: str) -> Sequence[str]:
        """Names, signatures, decorators and bases of classes stay."""
        return freeze(pristine, candidate)

    def scan(self, pristine: str, candidate: str) -> Sequence[str]:
        """Exits, reflection, the test framework, equality overridden, and the like."""
        return scan(pristine, candidate)

    def changed_functions(self, pristine: str, candidate: str) -> Sequence[str] | None:
        """By comparing syntax trees, so that comments and layout change nothing."""
        return changed_functions(pristine, candidate)

    def canaries(self, project: Project, seed: int) -> Canaries:
        """Beside the project's first test file, so that they run under its fixtures."""
        return make_canaries(first_test_folder(project.root, project.tests), seed)

    def trace(self, prepared: Prepared) -> Sequence[Command]:
        """Every test once, under a trace function."""
        return (running.test_command(prepared.project, None, trace=True),)

    def tests_reaching(
        self, prepared: Prepared, outputs: Sequence[Output]
    ) -> Mapping[str, Sequence[str]]:
        """Functions with the tests that were seen to enter them."""
        return reaching(outputs)

    def samples(self) -> Sequence[Mapping[str, Any]]:
        """Small projects that come with this plugin, one for each split."""
        return SAMPLES
