"""A real project, really prepared, with bugs that were proven by running its tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from curricle_python.backend import PythonBackend

from curricle.agents.outline import function_at
from curricle.agents.prompts import sandboxed_run
from curricle.agents.records import Run
from curricle.checkpoints.hashing import hash_value
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.evaluate import evaluate, prepare_project
from curricle.execution.limits import Limits
from curricle.languages.commands import Level
from curricle.languages.evaluation import Evaluation
from curricle.languages.mutation import Mutant
from curricle.languages.project import Changes, Prepared
from curricle.languages.tasks import BugTask, ProjectMutant
from tests.execution.python_projects import sample_project

BACKEND = PythonBackend()
LIMITS = Limits(wall_s=30.0)
FILE = "intervals.py"


@dataclass(frozen=True)
class Bench:
    """A prepared project with all that runs it."""

    prepared: Prepared
    run: Run

    def task(
        self, original: str, replacement: str, operator: str, heldout: int = 0, nth: int = 0
    ) -> BugTask:
        """A bug, made by replacing text and proven by running the tests."""
        source = self.prepared.project.read(FILE)
        start = -1
        for _ in range(nth + 1):
            start = source.index(original, start + 1)
        start_byte = len(source[:start].encode())
        mutant = Mutant(
            operator,
            start_byte,
            start_byte + len(original.encode()),
            original,
            replacement,
            source.count("\n", 0, start) + 1,
        )
        function = function_at(source, BACKEND.operators.grammar, mutant.line)
        project_mutant = ProjectMutant(
            "intervals", "python", FILE, function.name if function else "", mutant, "builtin", "1"
        )
        evaluation = self.run(project_mutant.changes(self.prepared.project), Level.TEST)
        failing = tuple(sorted(evaluation.failed))
        assert failing, "the tests notice nothing"
        visible = failing[: len(failing) - heldout]
        return BugTask(
            project_mutant,
            self.prepared.project.digest,
            visible,
            failing[len(visible) :],
            tuple(sorted(evaluation.passed)),
            evaluation.tests[failing[0]].message,
        )


def remembered(run: Run) -> Run:
    """Executes each state of the project once: many tests here look at the same few."""
    known: dict[str, Evaluation] = {}

    def remembering(
        changes: Changes, level: Level, tests: Sequence[str] | None = None
    ) -> Evaluation:
        key = hash_value([dict(changes), level, None if tests is None else list(tests)])
        if key not in known:
            known[key] = run(changes, level, tests)
        return known[key]

    return remembering


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The sample project `intervals`, ready to run."""
    folder: Path = tmp_path_factory.mktemp("prepared")
    with BubblewrapSandbox() as sandbox:
        prepared = prepare_project(BACKEND, sample_project("intervals"), folder, sandbox, LIMITS)
        run = remembered(sandboxed_run(BACKEND, prepared, sandbox, LIMITS))
        evaluation = evaluate(BACKEND, prepared, {}, Level.TEST, sandbox, LIMITS)
        assert evaluation.complete and not evaluation.failed
        yield Bench(prepared, run)


@pytest.fixture(scope="session")
def boundary(bench: Bench) -> BugTask:
    """`merge` no longer joins neighbours."""
    return bench.task("start <= merged", "start < merged", "comparison_flipped")
