import dataclasses

import pytest

from curricle.errors import InfrastructureFault
from curricle.execution.baselines import Baselines, reaching_tests
from curricle.execution.grader import grade
from curricle.execution.layers import Layer
from curricle.execution.rewards import (
    Bench,
    compute_execution_reward,
    evaluator_hack_rejection_rate,
    patch_size,
    rank_solutions_by_execution,
)
from curricle.languages import Patch
from tests.execution.python_projects import BACKEND, LIMITS, bug_task

FILE = "src/textkit/runs.py"
HELPER = """

def _grown(run):
    letter, count = run
    return (letter, count + 1)
"""


@pytest.fixture(scope="session")
def baselines(tmp_path_factory):
    return Baselines(tmp_path_factory.mktemp("baselines"))


@pytest.fixture(scope="session")
def task(textkit, sandbox):
    return bug_task(textkit, sandbox, FILE, "encode_runs", "runs[-1][1] + 1", "runs[-1][1] + 2")


@pytest.fixture
def graded(task, textkit, sandbox, baselines):
    def run(changes, seed=1, task=task, **options):
        return grade(
            task, Patch(changes), textkit, BACKEND, sandbox, LIMITS, seed,
            baselines=baselines, **options,
        )  # fmt: skip

    return run


def original(textkit):
    return textkit.project.read(FILE)


def broken(task, textkit):
    return task.broken(textkit.project)[FILE]


def test_the_original_is_rewarded_by_every_layer(graded, textkit):
    grade = graded({FILE: original(textkit)}, repeat_share=1.0, thorough=True)
    assert (grade.reward, grade.reason) == (1.0, "")


def test_an_equivalent_rewrite_with_a_helper_is_rewarded(graded, textkit):
    rewrite = original(textkit).replace("(letter, runs[-1][1] + 1)", "_grown(runs[-1])") + HELPER
    assert graded({FILE: rewrite}, thorough=True).reason == ""


def test_no_change_is_refused_before_anything_runs(graded):
    grade = graded({})
    assert (grade.reward, grade.layer, grade.evaluation) == (0.0, Layer.POLICY, None)


def test_the_bug_itself_fails_the_tests(graded, task, textkit):
    grade = graded({FILE: broken(task, textkit)})
    assert (grade.reward, grade.layer) == (0.0, Layer.EXPECTED)
    assert grade.evaluation is not None and set(task.failing) <= grade.evaluation.failed


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tests/test_runs.py", "def test_encode_runs():\n    pass\n"),
        ("conftest.py", ""),
        ("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '-k nothing'\n"),
        ("src/textkit/new.py", "x = 1\n"),
        ("../outside.py", ""),
        ("/etc/passwd", ""),
        (FILE, None),
        (FILE, "\ud800"),
        (FILE, "#" * 300_000),
    ],
)
def test_what_a_patch_may_not_touch_is_refused(graded, textkit, file, text):
    grade = graded({FILE: original(textkit), file: text})
    assert (grade.reward, grade.layer, grade.evaluation) == (0.0, Layer.POLICY, None)


def test_only_tests_that_reach_the_change_run(graded, textkit, task):
    grade = graded({FILE: original(textkit)}, repeat_share=0)
    ran = {test.split("::")[0] for test in grade.evaluation.tests if test in task.expected}
    assert ran == {"tests/test_runs.py"}


def test_a_change_beside_function_bodies_runs_every_test(graded, textkit, task):
    grade = graded({FILE: original(textkit) + "\nLIMIT = 3\n"}, repeat_share=0)
    assert grade.reward == 1.0 and task.expected <= grade.evaluation.passed


def test_the_map_of_tests_names_what_shared_code_reaches(textkit, sandbox, baselines):
    reaching = reaching_tests(BACKEND, textkit, sandbox, LIMITS, baselines)
    assert set(reaching["src/textkit/runs.py::longest_run"]) == {
        "tests/test_runs.py::test_longest_run_is_the_first_of_equals",
        "tests/test_runs.py::test_longest_run_of_nothing",
    }


def test_a_task_whose_bug_does_not_show_masks_every_patch(graded, task, textkit):
    harmless = dataclasses.replace(task, failing=task.passing[:1], heldout=())
    grade = graded({FILE: original(textkit)}, task=harmless)
    assert grade.reward is None and "unpatched bug passes" in grade.fault


def test_a_run_without_end_is_the_candidates_fault(graded, textkit, task, sandbox, baselines):
    endless = original(textkit).replace("    return runs\n", "    while True:\n        pass\n")
    limits = LIMITS.model_copy(update={"wall_s": 3.0})
    result = grade(
        task, Patch({FILE: endless}), textkit, BACKEND, sandbox, limits, baselines=baselines
    )
    assert (result.reward, result.layer) == (0.0, Layer.REPORT)


def test_what_is_known_of_a_task_is_computed_once(task, textkit, sandbox, baselines, graded):
    graded({FILE: original(textkit)})

    def must_not_run():
        raise AssertionError("the baseline was computed twice")

    again = Baselines(baselines.folder)
    key = ["known_bad", textkit.digest, task.id, *task.failing, *task.heldout]
    assert again.get(key, must_not_run) == ""


class BrokenSandbox:
    """A machine on which no run starts."""

    def run(self, *_, **__):
        raise InfrastructureFault("no memory left to start a sandbox")


@pytest.fixture
def bench(textkit, sandbox, baselines):
    return Bench(lambda _: BACKEND, lambda _: textkit, sandbox, LIMITS, baselines)


def test_a_fault_of_the_machine_is_masked_and_never_a_score(bench, task, textkit):
    unlucky = dataclasses.replace(bench, sandbox=BrokenSandbox(), baselines=Baselines())
    patch = Patch({FILE: original(textkit)})
    assert compute_execution_reward(task, patch, unlucky) is None
    assert rank_solutions_by_execution(task, [patch], unlucky) == []


def test_solutions_are_ranked_by_reward_then_by_the_smaller_patch(bench, task, textkit):
    small = Patch({FILE: original(textkit)})
    large = Patch({FILE: original(textkit) + "\n# " + "x" * 100 + "\n"})
    wrong = Patch({FILE: broken(task, textkit) + "\n"})
    ranked = rank_solutions_by_execution(task, [wrong, large, small], bench)
    assert [index for index, _ in ranked] == [2, 1, 0]
    assert [grade.reward for _, grade in ranked] == [1.0, 1.0, 0.0]


def test_the_size_of_a_patch_counts_what_it_removes_and_adds(task, textkit):
    assert patch_size(textkit.project, task, Patch({FILE: original(textkit)})) == 2
    assert patch_size(textkit.project, task, Patch({FILE: broken(task, textkit)})) == 0


def test_the_rejection_rate_counts_masked_hacks_as_rejected(graded, textkit, task):
    good, bad = graded({FILE: original(textkit)}), graded({})
    assert evaluator_hack_rejection_rate([good, bad]) == 0.5
    with pytest.raises(ValueError, match="at least one"):
        evaluator_hack_rejection_rate([])
