"""What an execution showed. Built by a language's parser from machine-readable output alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from curricle.languages.commands import Limit


class TestStatus(StrEnum):
    """The result of one test. Only `passed` counts as passing."""

    __test__ = False  # no test class, whatever its name

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class TestResult:
    """One test.

    Attributes:
        status: What happened.
        message: The failure in the tool's own words, the assertion first; empty when it passed.
        duration_s: Seconds, 0 when the tool does not say.
    """

    __test__ = False

    status: TestStatus
    message: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True)
class Finding:
    """One complaint of a compiler, a type checker or a linter; `line` counts from 1."""

    file: str
    line: int
    code: str
    message: str


@dataclass(frozen=True)
class Evaluation:
    """What one command at one level showed.

    Attributes:
        complete: The tool ran to its end and reported so in machine-readable form, and its exit
            status agrees with that report. False is never a pass.
        compiled: Whether the source compiles; `None` when this level does not say.
        tests: Test id to result; ids are stable between runs.
        findings: Complaints; `None` when this level does not look for any ("not measured").
        limits_hit: The bounds that ended the run.
        duration_s: Wall-clock seconds.
        note: Why it is not complete, for people.
    """

    complete: bool
    compiled: bool | None = None
    tests: Mapping[str, TestResult] = field(default_factory=dict)
    findings: tuple[Finding, ...] | None = None
    limits_hit: frozenset[Limit] = frozenset()
    duration_s: float = 0.0
    note: str = ""

    def ids(self, status: TestStatus) -> frozenset[str]:
        """The ids of the tests that ended with a status."""
        return frozenset(name for name, result in self.tests.items() if result.status is status)

    @property
    def passed(self) -> frozenset[str]:
        """The ids of the tests that passed."""
        return self.ids(TestStatus.PASSED)

    @property
    def failed(self) -> frozenset[str]:
        """The ids of the tests that failed or broke."""
        return self.ids(TestStatus.FAILED) | self.ids(TestStatus.ERROR)
