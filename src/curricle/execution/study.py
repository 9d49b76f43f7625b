"""What a project's own tests show before anything is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curricle.errors import DataError
from curricle.execution.evaluate import evaluate
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation, TestStatus
from curricle.languages.project import Prepared
from curricle.languages.tasks import ProjectMutant


@dataclass(frozen=True)
class Study:
    """What the unmodified project showed.

    Attributes:
        durations: The tests that passed both times, with their seconds.
        failing: Tests that failed or were skipped both times.
        flaky: Tests that did not end alike.
        reach: `file::function` to the passing tests that reach it; empty when nobody knows.
    """

    durations: Mapping[str, float]
    failing: tuple[str, ...]
    flaky: tuple[str, ...]
    reach: Mapping[str, tuple[str, ...]]

    def tests_of(self, mutant: ProjectMutant) -> tuple[str, ...]:
        """The tests that can tell a mutant from the original."""
        if not self.reach:
            return tuple(self.durations)
        return self.reach.get(f"{mutant.file}::{mutant.function}", ())

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form that `from_json` reads back; each test's id stands there once."""
        names = list(self.durations)
        numbers = {name: number for number, name in enumerate(names)}
        return {
            "tests": names,
            "durations": list(self.durations.values()),
            "failing": list(self.failing),
            "flaky": list(self.flaky),
            "reach": {key: [numbers[t] for t in tests] for key, tests in self.reach.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Study:
        """Rebuild a study from its JSON form."""
        names = content["tests"]
        return cls(
            dict(zip(names, content["durations"], strict=True)),
            tuple(content["failing"]),
            tuple(content["flaky"]),
            {key: tuple(names[n] for n in found) for key, found in content["reach"].items()},
        )


def study_project(
    backend: LanguageBackend,
    prepared: Prepared,
    sandbox: Sandbox,
    limits: Limits,
    min_stable_share: float,
) -> Study:
    """Run a project's tests as they are, twice; the second time traced, where the backend can.

    Raises:
        DataError: It cannot be used; says why.
        InfrastructureFault: The sandbox failed.
    """
    first = evaluate(backend, prepared, {}, Level.TEST, sandbox, limits)
    second, reach = _traced(backend, prepared, sandbox, limits)
    for run in (first, second):
        if run.limits_hit:
            raise DataError(
                f"its tests, unmodified, exceed a limit: {', '.join(sorted(run.limits_hit))}. "
                "Name fewer `tests`, or raise the limit."
            )
        if not run.complete:
            raise DataError(f"its tests, unmodified, do not run to their end: {run.note[:400]}")
    ids = sorted({*first.tests, *second.tests})
    passing = first.passed & second.passed
    flaky = [name for name in ids if _status(first, name) is not _status(second, name)]
    failing = [name for name in ids if name not in passing and name not in flaky]
    skipped = first.ids(TestStatus.SKIPPED)
    if not passing:
        raise DataError(f"none of its {len(ids)} tests passes unmodified. {_why(first, failing)}")
    counted = len(ids) - len(skipped - set(flaky))
    if len(passing) < min_stable_share * counted:
        raise DataError(
            f"only {len(passing)} of {counted} tests pass twice unmodified ({len(flaky)} flake). "
            f"{_why(first, failing or flaky)}"
        )
    durations = {name: round(first.tests[name].duration_s, 4) for name in sorted(passing)}
    kept = {key: tuple(sorted(passing & set(tests))) for key, tests in sorted(reach.items())}
    return Study(durations, tuple(failing), tuple(flaky),
                 {key: tests for key, tests in kept.items() if tests})  # fmt: skip


def _traced(
    backend: LanguageBackend, prepared: Prepared, sandbox: Sandbox, limits: Limits
) -> tuple[Evaluation, Mapping[str, Sequence[str]]]:
    commands = backend.trace(prepared)
    if not commands:
        return evaluate(backend, prepared, {}, Level.TEST, sandbox, limits), {}
    outputs = [
        sandbox.run(command, prepared, {}, limits, binds=backend.binds(), warm=backend.warm)
        for command in commands
    ]
    run = backend.parse(prepared, Level.TEST, outputs)
    return run, backend.tests_reaching(prepared, outputs) if run.complete else {}


def _status(run: Evaluation, name: str) -> TestStatus | None:
    return run.tests[name].status if name in run.tests else None


def _why(run: Evaluation, names: Sequence[str]) -> str:
    """One failing test and the commonest error, which often names what is missing."""
    messages = Counter(run.tests[n].message.split("\n", 1)[0] for n in names if n in run.tests)
    if not messages:
        return ""
    (message, count), *_ = messages.most_common(1)
    return f"{names[0]}: {message[:200]} ({count} tests say so)"
