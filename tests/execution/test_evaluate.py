import pytest

from curricle.errors import DataError
from curricle.execution.evaluate import evaluate, prepare_project
from curricle.execution.limits import Limits
from curricle.languages import Level, Project, TestStatus
from tests.execution.python_projects import BACKEND, LIMITS, sample_project


@pytest.mark.parametrize("level", Level)
def test_a_sample_is_clean_at_every_level(level, textkit, sandbox):
    evaluation = evaluate(BACKEND, textkit, {}, level, sandbox, LIMITS)
    assert evaluation.complete, evaluation.note
    assert not evaluation.failed and not evaluation.findings
    assert (len(evaluation.passed) > 20) is (level is Level.TEST)


def test_a_failing_test_says_its_assertion_first(textkit, sandbox):
    file = "src/textkit/cases.py"
    broken = textkit.project.read(file).replace("word[0].upper()", "word[0]")
    evaluation = evaluate(BACKEND, textkit, {file: broken}, Level.TEST, sandbox, LIMITS)
    assert evaluation.complete
    (failed,) = evaluation.failed
    assert failed == "tests/test_cases.py::test_initials"
    first, *_ = evaluation.tests[failed].message.splitlines()
    assert first == "AssertionError: assert 'a.k.l.' == 'A.K.L.'"
    assert evaluation.tests[failed].status is TestStatus.FAILED


def test_only_the_wanted_tests_run(textkit, sandbox):
    wanted = ["tests/test_cases.py::test_initials", "tests/test_lines.py::test_indent"]
    evaluation = evaluate(BACKEND, textkit, {}, Level.TEST, sandbox, LIMITS, wanted)
    assert evaluation.complete and evaluation.passed == set(wanted)


def test_a_source_that_does_not_compile_says_so(textkit, sandbox):
    file = "src/textkit/cases.py"
    for level in (Level.TEST, Level.CHECK):
        evaluation = evaluate(BACKEND, textkit, {file: "def (:\n"}, level, sandbox, LIMITS)
        assert evaluation.compiled is False, level


def test_types_and_style_are_found(textkit, sandbox):
    file = "src/textkit/cases.py"
    text = textkit.project.read(file) + "\nimport os\n\nCOUNT: int = 'one'\n"
    check = evaluate(BACKEND, textkit, {file: text}, Level.CHECK, sandbox, LIMITS)
    lint = evaluate(BACKEND, textkit, {file: text}, Level.LINT, sandbox, LIMITS)
    assert [(f.file, f.code) for f in check.findings or ()] == [(file, "assignment")]
    assert {f.code for f in lint.findings or ()} >= {"F401"}
    assert {f.file for f in lint.findings or ()} == {file}


def test_a_run_without_end_is_incomplete_and_names_the_limit(textkit, sandbox):
    file = "src/textkit/cases.py"
    changes = {file: "while True:\n    pass\n"}
    evaluation = evaluate(BACKEND, textkit, changes, Level.TEST, sandbox, Limits(wall_s=2))
    assert not evaluation.complete and "wall" in evaluation.note


def test_preparing_twice_uses_what_is_there(textkit, sandbox):
    store = textkit.cache.parents[1]
    again = prepare_project(BACKEND, sample_project("textkit"), store, sandbox, LIMITS)
    assert again == textkit and len(list(store.iterdir())) == 1


def test_packages_that_tests_need_come_from_a_folder(tmp_path, sandbox):
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "needed.py").write_text("ANSWER = 42\n")
    root = tmp_path / "project"
    root.mkdir()
    (root / "answer.py").write_text("def answer():\n    return 42\n")
    (root / "test_answer.py").write_text(
        "from needed import ANSWER\nfrom answer import answer\n\n"
        "def test_answer():\n    assert answer() == ANSWER\n"
    )
    project = Project(
        "answer", "python", root, "digest", ("answer.py",), ("test_*.py",),
        {"packages": str(packages)},
    )  # fmt: skip
    prepared = prepare_project(BACKEND, project, tmp_path / "store", sandbox, LIMITS)
    evaluation = evaluate(BACKEND, prepared, {}, Level.TEST, sandbox, LIMITS)
    assert evaluation.passed == {"test_answer.py::test_answer"}


def test_a_project_that_cannot_be_collected_is_refused_with_its_error(tmp_path, sandbox):
    (tmp_path / "test_broken.py").write_text("import nothing_of_that_name\n")
    project = Project("broken", "python", tmp_path, "digest", (), ("test_*.py",))
    with pytest.raises(DataError, match="nothing_of_that_name"):
        prepare_project(BACKEND, project, tmp_path.parent / "store", sandbox, LIMITS)
