"""What every language plugin promises, as a test-suite that runs over its own samples.

A test module of the plugin inherits it, and needs pytest, a sandbox and the language's toolchain:

    class TestGo(LanguageContract):
        @pytest.fixture(scope="class")
        @classmethod
        def backend(cls):
            return GoBackend()

`limits` and `sandbox` may be overridden likewise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curricle.checkpoints.hashing import hash_tree
from curricle.execution.baselines import Baselines
from curricle.execution.bubblewrap import BubblewrapSandbox
from curricle.execution.evaluate import evaluate, prepare_project
from curricle.execution.grader import Grade, grade
from curricle.execution.layers import Layer, allowed_files
from curricle.execution.limits import Limits
from curricle.execution.sandbox import Sandbox
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Level, Output
from curricle.languages.evaluation import Evaluation
from curricle.languages.mutation import sample as sample_mutants
from curricle.languages.project import Changes, Prepared, Project, is_relative_inside
from curricle.languages.scopes import functions
from curricle.languages.tasks import BugTask, Patch, ProjectMutant

_PROCESS_EVENTS = frozenset(
    {"subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn"}
)
_MUTANTS_TRIED = 12
_started: list[str] = []
_watching: list[bool] = []
_installed: list[object] = []


def _audit(event: str, _arguments: object) -> None:
    if _watching and event in _PROCESS_EVENTS:
        _started.append(event)


@contextmanager
def no_process() -> Iterator[None]:
    """Fails when the code within starts a process: plugins declare and parse."""
    if _audit not in _installed:
        sys.addaudithook(_audit)  # stays, and sees nothing while nobody watches
        _installed.append(_audit)
    _started.clear()
    _watching.append(True)
    try:
        yield
    finally:
        _watching.clear()
    assert not _started, f"the plugin started a process: {_started}"


class LanguageContract:
    """Inherit it and give `backend`."""

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> LanguageBackend:
        """The backend under test."""
        raise NotImplementedError("give the contract a `backend` fixture")

    @pytest.fixture(scope="class")
    @classmethod
    def limits(cls) -> Limits:
        """Bounds of each run; generous, for the first build of a compiled language."""
        return Limits(wall_s=120)

    @pytest.fixture(scope="class")
    @classmethod
    def sandbox(cls) -> Iterator[Sandbox]:
        """Where everything runs."""
        with BubblewrapSandbox() as sandbox:
            yield sandbox

    @pytest.fixture(scope="class")
    @classmethod
    def samples(
        cls,
        backend: LanguageBackend,
        sandbox: Sandbox,
        limits: Limits,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> list[Prepared]:
        """Each sample, prepared."""
        store = tmp_path_factory.mktemp("prepared")
        return [
            prepare_project(backend, _project(backend, source), store, sandbox, limits)
            for source in backend.samples()
        ]

    @pytest.fixture(scope="class")
    @classmethod
    def passing(
        cls, backend: LanguageBackend, samples: list[Prepared], sandbox: Sandbox, limits: Limits
    ) -> list[Evaluation]:
        """All tests of each sample, run as it is."""
        return [evaluate(backend, s, {}, Level.TEST, sandbox, limits) for s in samples]

    @pytest.fixture(scope="class")
    @classmethod
    def task(
        cls,
        backend: LanguageBackend,
        samples: list[Prepared],
        passing: list[Evaluation],
        sandbox: Sandbox,
        limits: Limits,
    ) -> BugTask:
        """The first mutant of the first sample that its tests notice, with one failing held out."""
        prepared, before = samples[0], passing[0]
        for mutant in _mutants(backend, prepared.project):
            broken = mutant.changes(prepared.project)
            after = evaluate(backend, prepared, broken, Level.TEST, sandbox, limits)
            failing = tuple(sorted(before.passed & after.failed))
            if after.complete and failing:
                split = max(1, len(failing) - 1)
                kept = tuple(sorted(before.passed & after.passed))
                return BugTask(
                    mutant, prepared.project.digest, failing[:split], failing[split:], kept, ""
                )
        raise AssertionError(f"no test noticed any of {_MUTANTS_TRIED} mutants")

    def test_it_names_itself_its_tools_and_its_metrics(self, backend: LanguageBackend) -> None:
        """A user has to see what is missing, and how to install it."""
        assert backend.api == 1 and backend.name.isidentifier() and backend.name.islower()
        assert all(tool.install and tool.version_argv for tool in backend.toolchain)
        assert any(not tool.optional for tool in backend.toolchain)
        assert set(backend.metrics) == set(Level)
        assert all(name.endswith("_rate") for name in backend.metrics.values())
        assert backend.operators.language == backend.name
        assert all(Path(folder).is_absolute() for folder in backend.binds())

    def test_every_test_of_every_sample_passes(self, passing: list[Evaluation]) -> None:
        """Samples are what a first run of a curriculum stands on."""
        assert len(passing) > 0
        for evaluation in passing:
            assert evaluation.complete, evaluation.note
            assert evaluation.tests and evaluation.passed == evaluation.tests.keys()

    def test_every_level_of_every_sample_is_clean(
        self, backend: LanguageBackend, samples: list[Prepared], sandbox: Sandbox, limits: Limits
    ) -> None:
        """Else a repair could never be clean either."""
        for prepared in samples:
            for level in (Level.CHECK, Level.LINT):
                evaluation = evaluate(backend, prepared, {}, level, sandbox, limits)
                assert evaluation.complete, evaluation.note
                assert evaluation.compiled is not False and not evaluation.findings

    def test_ids_are_the_same_in_a_second_run(
        self,
        backend: LanguageBackend,
        samples: list[Prepared],
        passing: list[Evaluation],
        sandbox: Sandbox,
        limits: Limits,
    ) -> None:
        """Tasks name tests by them, for ever."""
        again = evaluate(backend, samples[0], {}, Level.TEST, sandbox, limits)
        assert again.tests.keys() == passing[0].tests.keys()

    def test_only_wanted_tests_run(
        self,
        backend: LanguageBackend,
        samples: list[Prepared],
        passing: list[Evaluation],
        sandbox: Sandbox,
        limits: Limits,
    ) -> None:
        """And each of them does."""
        wanted = sorted(passing[0].tests)[::3]
        some = evaluate(backend, samples[0], {}, Level.TEST, sandbox, limits, wanted)
        assert some.complete and some.passed == set(wanted)

    def test_canaries_end_as_they_must_beside_passing_tests(
        self,
        backend: LanguageBackend,
        samples: list[Prepared],
        passing: list[Evaluation],
        sandbox: Sandbox,
        limits: Limits,
    ) -> None:
        """One fails, one raises, one passes, in the run of the real tests."""
        canaries = backend.canaries(samples[0].project, 7)
        assert len(set(canaries.expected.values())) > 1, "some pass and some do not"
        wanted = [*canaries.expected, *sorted(passing[0].tests)]
        found = evaluate(backend, samples[0], canaries.changes, Level.TEST, sandbox, limits, wanted)
        assert found.complete, found.note
        assert {id_: found.tests[id_].status for id_ in canaries.expected} == canaries.expected
        assert passing[0].tests.keys() <= found.passed

    def test_names_of_canaries_come_from_the_seed(
        self, backend: LanguageBackend, samples: list[Prepared]
    ) -> None:
        """A candidate cannot know them."""
        project = samples[0].project
        first, same, other = (backend.canaries(project, seed) for seed in (1, 1, 2))
        assert first == same
        assert not first.expected.keys() & other.expected.keys()

    def test_a_report_that_is_cut_or_contradicts_the_exit_status_is_not_complete(
        self, backend: LanguageBackend, samples: list[Prepared], sandbox: Sandbox, limits: Limits
    ) -> None:
        """So a run that was ended from within is never taken for a pass."""
        prepared = samples[0]
        outputs = [
            sandbox.run(command, prepared, {}, limits, binds=backend.binds(), warm=backend.warm)
            for command in backend.commands(prepared, Level.TEST)
        ]
        assert backend.parse(prepared, Level.TEST, outputs).complete
        for spoiled in _spoiled(outputs[-1]):
            parsed = backend.parse(prepared, Level.TEST, [*outputs[:-1], spoiled])
            assert not parsed.complete, spoiled

    def test_tests_are_protected_and_sources_are_not(
        self, backend: LanguageBackend, samples: list[Prepared]
    ) -> None:
        """Of a file that holds both, the tests are put back."""
        for prepared in samples:
            project = prepared.project
            allowed = allowed_files(backend, project)
            assert allowed and all(is_relative_inside(file) for file in allowed)
            apart = set(project.files(project.tests)) - set(project.files(project.sources))
            assert not allowed & apart

    def test_what_judges_text_is_pure_and_content_with_the_original(
        self, backend: LanguageBackend, samples: list[Prepared]
    ) -> None:
        """The same twice, no process started, and nothing against the pristine text."""
        for prepared in samples:
            for file in sorted(allowed_files(backend, prepared.project)):
                text = prepared.project.read(file)
                with no_process():
                    assert backend.scan(text, text) == backend.scan(text, text)
                    assert not backend.scan(text, text) and not backend.freeze(text, text)
                    assert backend.restore(file, text, text) == text
                    assert backend.changed_functions(text, text) in (None, [], ())

    def test_declaring_starts_no_process(
        self, backend: LanguageBackend, samples: list[Prepared], task: BugTask
    ) -> None:
        """The core executes."""
        prepared = samples[0]
        with no_process():
            backend.binds()
            backend.prepare(prepared.project)
            backend.trace(prepared)
            backend.canaries(prepared.project, 3)
            backend.protected_paths(prepared.project)
            for level in Level:
                backend.commands(prepared, level)

    def test_the_original_is_rewarded_and_doing_nothing_is_not(
        self,
        backend: LanguageBackend,
        samples: list[Prepared],
        task: BugTask,
        sandbox: Sandbox,
        limits: Limits,
    ) -> None:
        """Through every layer of the grader, and a second run of everything."""
        baselines, project = Baselines(), samples[0].project
        file = task.mutant.file

        def graded(changes: Changes) -> Grade:
            return grade(
                task, Patch(changes), samples[0], backend, sandbox, limits, 5,
                baselines=baselines, thorough=True, repeat_share=1.0,
            )  # fmt: skip

        right = graded({file: project.read(file)})
        assert right.reward == 1.0, right.reason
        wrong = graded(task.broken(project))
        assert wrong.reward == 0.0 and Layer.EXPECTED in wrong.layers
        assert (backend.comparison is None) or Layer.COMPARISON in wrong.layers


def _project(backend: LanguageBackend, source: Mapping[str, Any]) -> Project:
    root = Path(source["path"])
    project = Project(
        source["name"], backend.name, root, hash_tree(root), tuple(source.get("sources", ())),
        tuple(source.get("tests", ())), source.get("options", {}),
    )  # fmt: skip
    if project.sources and project.tests:
        return project
    layout = backend.layout(project)
    return replace(
        project,
        sources=project.sources or tuple(layout.sources),
        tests=project.tests or tuple(layout.tests),
        options={**layout.options, **project.options},
    )


def _mutants(backend: LanguageBackend, project: Project) -> Iterator[ProjectMutant]:
    for file in sorted(allowed_files(backend, project)):
        source = project.read(file)
        for mutant in sample_mutants(source, backend.operators, 0, limit=_MUTANTS_TRIED):
            for function in functions(source, backend.operators):
                if function.start_byte <= mutant.start_byte < function.end_byte:
                    yield ProjectMutant(
                        project.name, backend.name, file, function.name, mutant, "builtin", "1"
                    )


def _spoiled(output: Output) -> Sequence[Output]:
    """The same output cut in half, without its report, and with another exit status."""
    half = {name: text[: len(text) // 2] for name, text in output.reports.items()}
    cut = replace(output, reports=half, stdout=output.stdout[: len(output.stdout) // 2])
    missing = replace(output, reports={}, stdout="")
    return [cut, missing, replace(output, exit_code=1), replace(output, exit_code=-9)]
