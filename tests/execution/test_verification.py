"""Mutants are proven by two runs, or rejected with a reason; projects are studied or refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from curricle.checkpoints.hashing import hash_tree
from curricle.config.execution import Limits
from curricle.config.tasks import TaskBudget
from curricle.errors import DataError
from curricle.execution.evaluate import evaluate, prepare_project
from curricle.execution.sandbox import Sandbox
from curricle.execution.study import Study, study_project
from curricle.execution.verification import (
    Proof,
    Verdict,
    choose_tests,
    failure_text,
    judge,
    make_task,
    verify,
)
from curricle.languages import (
    BugTask,
    Evaluation,
    Level,
    Limit,
    Mutant,
    Prepared,
    Project,
    ProjectMutant,
    TestResult,
    TestStatus,
    TrialResult,
)
from tests.execution.python_projects import BACKEND

LIMITS = Limits(wall_s=30)
BUDGET = TaskBudget()
SOURCE = """\
import functools
import os

LIMIT = 3


def trace(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


@trace
def clip(number):
    return min(number, LIMIT) if number > 0 else 0


def doubled(numbers, times=2):
    return [times * number for number in numbers]


def countdown(number):
    while number > 0:
        number -= 1
    return number


def leave(number):
    if number == 1:
        return number
    os._exit(0)


class Counter:
    @property
    def count(self):
        return 1 + 1

    @staticmethod
    def named(text):
        return text.strip()


def halved(number):
    return number // 2


def unseen(number):
    return number + 1
"""
TESTS = """\
import unittest

import pytest
from sums import Counter, clip, countdown, doubled, halved, leave


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6])
def test_clip(number):
    assert clip(number) == min(number, 3)


def test_clip_of_negative_numbers():
    assert clip(-1) == 0


def test_doubled(capsys, tmp_path):
    assert doubled([1]) == [2]


class CounterTest(unittest.TestCase):
    def test_count(self):
        self.assertEqual(Counter().count, 2)

    def test_named(self):
        self.assertEqual(Counter.named(" a "), "a")

    def test_parts(self):
        for number in (1, 2):
            with self.subTest(number=number):
                self.assertEqual(halved(2 * number), number)


def test_parts_of_a_function(subtests):
    for number in (3, 4):
        with subtests.test(number=number):
            assert halved(2 * number) == number


def test_countdown():
    assert countdown(3) == 0


def test_leave():
    assert leave(1) == 1
"""


def project_of(folder: Path, files: Mapping[str, str]) -> Project:
    root = folder / "tree"
    root.mkdir()
    for name, text in files.items():
        (root / name).write_text(text)
    return Project("sums", "python", root, hash_tree(root), ("sums.py",), ("test_*.py",))


@pytest.fixture
def prepared_of(sandbox: Sandbox, tmp_path: Path) -> Callable[[Mapping[str, str]], Prepared]:
    def prepare(files: Mapping[str, str]) -> Prepared:
        project = project_of(tmp_path, files)
        return prepare_project(BACKEND, project, tmp_path / "prepared", sandbox, LIMITS)

    return prepare


@pytest.fixture(scope="module")
def sums(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("sums")
    project = project_of(folder, {"sums.py": SOURCE, "test_sums.py": TESTS})
    return prepare_project(BACKEND, project, folder / "prepared", sandbox, LIMITS)


@pytest.fixture(scope="module")
def study(sums: Prepared, sandbox: Sandbox) -> Study:
    return study_project(BACKEND, sums, sandbox, LIMITS, 0.9)


def mutant(function: str, original: str, replacement: str) -> ProjectMutant:
    start = SOURCE.index(original, SOURCE.index(f"def {function.split('.')[-1]}"))
    change = Mutant(
        "by_hand", start, start + len(original), original, replacement,
        SOURCE.count("\n", 0, start) + 1,
    )  # fmt: skip
    return ProjectMutant("sums", "python", "sums.py", function, change, "builtin", "1")


CLIPPED = mutant("clip", "min(number, LIMIT)", "number")
MUTANTS = {
    "decorated": CLIPPED,
    "property": mutant("Counter.count", "1 + 1", "1 + 2"),
    "staticmethod": mutant("Counter.named", "text.strip()", "text"),
    "default": mutant("doubled", "times=2", "times=3"),
    "in parts": mutant("halved", "number // 2", "number // 3"),
    "survivor": mutant("clip", "number > 0", "number >= 0"),
    "endless": mutant("countdown", "number -= 1", "number += 1"),
    "exit": mutant("leave", "number == 1", "number == 2"),
    "unreached": mutant("unseen", "number + 1", "number - 1"),
}


@pytest.fixture(scope="module")
def verdicts(sums: Prepared, study: Study, sandbox: Sandbox) -> dict[str, Verdict]:
    """All of them in one batch, where a bad one must not spoil the others."""
    found = verify(BACKEND, sums, study, list(MUTANTS.values()), sandbox, LIMITS, BUDGET, "heldout")
    return dict(zip(MUTANTS, found, strict=True))


def task_of(verdict: Verdict) -> BugTask:
    assert verdict.task is not None, verdict.reason
    return verdict.task


def test_a_study_knows_which_tests_reach_a_function(study: Study) -> None:
    assert len(study.durations) == 14
    assert study.failing == study.flaky == ()
    assert study.tests_of(MUTANTS["staticmethod"]) == ("test_sums.py::CounterTest::test_named",)
    assert len(study.tests_of(CLIPPED)) == 7
    assert Study.from_json(study.to_json()) == study


def test_a_killed_mutant_becomes_a_task_with_some_tests_set_aside(
    verdicts: dict[str, Verdict],
) -> None:
    task = task_of(verdicts["decorated"])
    assert {*task.failing, *task.heldout} == {f"test_sums.py::test_clip[{n}]" for n in (4, 5, 6)}
    assert len(task.heldout) == 1
    assert "test_sums.py::test_clip_of_negative_numbers" in task.passing
    assert len(task.passing) == 4
    assert task.split == "heldout"
    assert BugTask.from_json(task.to_json()) == task


def test_the_failure_begins_with_a_visible_test_and_its_assertion(
    verdicts: dict[str, Verdict],
) -> None:
    task = task_of(verdicts["decorated"])
    assert task.failure.startswith(f"{task.failing[0]}\nassert ")
    assert not any(hidden in task.failure for hidden in task.heldout)


@pytest.mark.parametrize("name", ["decorated", "property", "staticmethod", "default", "in parts"])
def test_a_task_holds_under_the_ordinary_commands(
    name: str, verdicts: dict[str, Verdict], sums: Prepared, sandbox: Sandbox
) -> None:
    task = task_of(verdicts[name])
    tests = sorted(task.expected)
    original = evaluate(BACKEND, sums, {}, Level.TEST, sandbox, LIMITS, tests)
    broken = evaluate(BACKEND, sums, task.broken(sums.project), Level.TEST, sandbox, LIMITS, tests)
    assert original.passed == task.expected
    assert broken.failed == {*task.failing, *task.heldout}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("survivor", "survived"),
        ("endless", "too slow"),
        ("exit", "ends the test run"),
        ("unreached", "no test reaches it"),
    ],
)
def test_a_mutant_that_proves_nothing_is_rejected_with_its_reason(
    name: str, reason: str, verdicts: dict[str, Verdict]
) -> None:
    assert verdicts[name].task is None
    assert verdicts[name].reason == reason


def test_the_same_mutants_give_the_same_verdicts(
    verdicts: dict[str, Verdict], sums: Prepared, study: Study, sandbox: Sandbox
) -> None:
    chosen = [MUTANTS["decorated"], MUTANTS["default"]]
    again = verify(BACKEND, sums, study, chosen, sandbox, LIMITS, BUDGET, "heldout")
    assert again == [verdicts["decorated"], verdicts["default"]]


REFUSED = {
    "no test passes": (
        "def test_no():\n    assert 1 == 2\n", "none of its 1 tests passes unmodified",
    ),
    "the network is needed": (
        "import urllib.request\n\n\ndef test_net():\n"
        "    urllib.request.urlopen('http://192.0.2.1', timeout=3)\n",
        "none of its 1 tests passes unmodified. .*URLError",
    ),
    "tests never end": ("def test_loop():\n    while True:\n        pass\n", "exceed a limit"),
    "tests print without end": (
        "def test_flood(capfd):\n    with capfd.disabled():\n        while True:\n"
        "            print('x' * 10000)\n",
        "exceed a limit: output",
    ),
    "tests cannot be collected": ("import nothing_of_the_kind\n", "nothing_of_the_kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_project_that_cannot_be_used_is_refused_with_its_reason(
    name: str, prepared_of: Callable[[Mapping[str, str]], Prepared], sandbox: Sandbox
) -> None:
    text, reason = REFUSED[name]
    with pytest.raises(DataError, match=reason):
        prepared = prepared_of({"sums.py": SOURCE, "test_sums.py": text})
        study_project(BACKEND, prepared, sandbox, Limits(wall_s=4, output_bytes=1 << 20), 0.9)


def test_a_flaky_test_is_set_aside_and_too_many_refuse_the_project(
    prepared_of: Callable[[Mapping[str, str]], Prepared], sandbox: Sandbox
) -> None:
    coins = "import os\n\n\ndef test_yes():\n    pass\n" + "".join(
        f"\n\ndef test_coin_{n}():\n    assert os.urandom(1)[0] % 2\n" for n in range(12)
    )
    prepared = prepared_of({"sums.py": SOURCE, "test_sums.py": coins})
    with pytest.raises(DataError, match=r"tests pass twice unmodified \(\d+ flake\)"):
        study_project(BACKEND, prepared, sandbox, LIMITS, 0.9)
    study = study_project(BACKEND, prepared, sandbox, LIMITS, 0.05)
    assert "test_sums.py::test_yes" in study.durations
    assert study.flaky or study.failing


def evaluation(complete: bool = True, **statuses: str) -> Evaluation:
    tests = {name: TestResult(TestStatus(status), "assert 1 == 2\nm.py:3\n\nmore")
             for name, status in statuses.items()}  # fmt: skip
    return Evaluation(complete, True, tests)


ORIGINAL = TrialResult(evaluation(a="passed", b="passed"), evaluation(a="passed", b="passed"))


def test_two_runs_that_disagree_prove_nothing() -> None:
    result = TrialResult(evaluation(a="failed", b="passed"), evaluation(a="passed", b="passed"))
    assert judge(CLIPPED, ("a", "b"), ORIGINAL, result) == "not the same twice"
    result = TrialResult(evaluation(a="failed", b="passed"), evaluation(a="failed", b="failed"))
    assert judge(CLIPPED, ("a", "b"), ORIGINAL, result) == "not the same twice"


def test_a_test_that_fails_on_the_original_in_this_selection_does_not_count() -> None:
    original = TrialResult(evaluation(a="passed", b="passed"), evaluation(a="failed", b="passed"))
    result = TrialResult(evaluation(a="failed", b="passed"), evaluation(a="failed"))
    assert judge(CLIPPED, ("a", "b"), original, result) == "fails only where the original does"


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (Evaluation(False, compiled=False), "does not compile"),
        (Evaluation(False, limits_hit=frozenset({Limit.WALL})), "too slow"),
        (Evaluation(False), "ends the test run"),
    ],
)
def test_a_run_that_is_not_whole_says_why(first: Evaluation, reason: str) -> None:
    assert judge(CLIPPED, ("a",), ORIGINAL, TrialResult(first)) == reason


def test_one_failing_test_stays_visible(sums: Prepared) -> None:
    proof = Proof(CLIPPED, ("a",), (), evaluation(a="failed"))
    task = make_task(proof, sums, BUDGET, "train")
    assert (task.failing, task.heldout) == (("a",), ())
    assert task.failure == "a\nassert 1 == 2\nm.py:3"


def test_a_failure_text_is_short_and_holds_no_addresses() -> None:
    message = "<object at 0x7f8a12345678> " + "x" * 5000
    long = Evaluation(True, tests={n: TestResult(TestStatus.FAILED, message) for n in "abc"})
    text = failure_text(long, ("a", "b", "c"))
    assert len(text) < 700
    assert "0x7f8a" not in text
    assert text.endswith("and 1 more")


def test_a_sample_of_many_tests_is_spread_over_the_test_functions() -> None:
    names = [f"t.py::test_{letter}[{n}]" for letter in "abcd" for n in range(100)]
    study = Study(dict.fromkeys(names, 0.01), (), (), {"sums.py::clip": tuple(names)})
    chosen = choose_tests(study, CLIPPED, TaskBudget(max_tests=20))
    assert len(chosen) == 20
    assert all(sum(f"test_{letter}[" in name for name in chosen) == 5 for letter in "abcd")
    assert chosen == choose_tests(study, CLIPPED, TaskBudget(max_tests=20))
