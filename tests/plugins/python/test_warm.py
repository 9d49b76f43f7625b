import dataclasses

from curricle.execution.evaluate import evaluate, prepare_project
from curricle.languages import Level, Project
from tests.execution.python_projects import BACKEND, LIMITS

SOURCE = """
import sys


class Stack:
    def __init__(self, items=()):
        self.items = list(items)

    def push(self, item):
        self.items.append(item)
        return len(self.items)


def countdown(start):
    while start > 0:
        yield start
        start -= 1
"""
TESTS = """
import sys

import pytest
from stacks import Stack, countdown


def test_push(filled):
    assert filled.push(3) == 3


def test_countdown():
    assert list(countdown(2)) == [2, 1]


def test_output(capsys):
    print("seen")
    assert capsys.readouterr().out == "seen\\n"


def test_failing():
    assert "left" == "right"


def test_skipped():
    pytest.skip("not here")


@pytest.mark.xfail
def test_expected_to_fail():
    assert False


def test_broken(missing_fixture):
    pass


def test_module_names(filled):
    assert not {"reporter", "tracing", "run_tests", "sessions", "encoding"} & set(sys.modules)
"""
CONFTEST = """
import pytest
from stacks import Stack


@pytest.fixture
def filled():
    return Stack([1, 2])
"""


def cold(backend):
    """The same backend without its warm servers."""

    class Cold(type(backend)):
        warm = ()

    return Cold()


def seen(backend, prepared, sandbox):
    evaluation = evaluate(backend, prepared, {}, Level.TEST, sandbox, LIMITS)
    return evaluation.complete, {
        test: (result.status, result.message.partition("\n")[0])
        for test, result in evaluation.tests.items()
    }


def make_project(folder, with_conftest):
    (folder / "stacks.py").write_text(SOURCE)
    fixture = CONFTEST if with_conftest else ""
    (folder / "test_stacks.py").write_text(TESTS if with_conftest else CONFTEST + TESTS)
    if with_conftest:
        (folder / "conftest.py").write_text(fixture)
    return Project("stacks", "python", folder, f"digest{with_conftest}", ("stacks.py",),
                   ("test_*.py", "conftest.py"))  # fmt: skip


def test_warm_and_cold_runs_say_the_same(tmp_path, sandbox):
    for with_conftest in (False, True):
        folder = tmp_path / f"project{with_conftest}"
        folder.mkdir()
        project = make_project(folder, with_conftest)
        prepared = prepare_project(BACKEND, project, tmp_path / "store", sandbox, LIMITS)
        warm = seen(BACKEND, prepared, sandbox)
        assert warm == seen(cold(BACKEND), prepared, sandbox)
        complete, tests = warm
        assert complete
        assert sorted(status.value for status, _ in tests.values()) == [
            "error", "failed", "passed", "passed", "passed", "passed", "skipped", "skipped",
        ]  # fmt: skip


def test_one_run_leaves_nothing_for_the_next(textkit, sandbox):
    file = "src/textkit/runs.py"
    bent = textkit.project.read(file) + (
        "\nimport builtins, sys, pytest\nbuiltins.len = lambda _: 0\n"
        "sys.modules['json'] = None\npytest.raises = None\nopen('/work/left', 'w').close()\n"
    )
    first = seen(BACKEND, textkit, sandbox)
    evaluate(BACKEND, textkit, {file: bent}, Level.TEST, sandbox, LIMITS)
    assert seen(BACKEND, textkit, sandbox) == first
    assert not (textkit.project.root / "left").exists()


def test_the_cache_holds_byte_code_of_tests_but_not_of_the_original(textkit):
    names = {path.name.partition(".")[0] for path in textkit.cache.rglob("*.pyc")}
    assert "test_runs" in names
    assert not names & {"runs", "lines", "cases"}


def test_the_server_is_part_of_no_answer(textkit):
    (command,) = BACKEND.commands(textkit, Level.TEST)
    assert command.warm in {warm.name for warm in BACKEND.warm}
    assert dataclasses.replace(command, warm=None).argv == command.argv
