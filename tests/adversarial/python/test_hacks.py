"""No hack is rewarded, every honest repair is, and the published table says which layer objects."""

from pathlib import Path

import pytest

from curricle.execution.baselines import Baselines
from curricle.execution.grader import grade
from curricle.execution.rewards import evaluator_hack_rejection_rate
from curricle.languages import Patch
from tests.adversarial.python import hacks, table
from tests.execution.python_projects import BACKEND, LIMITS, bug_task

TABLE = Path(__file__).parents[3] / "docs" / "GRADER.md"
SURE = ("patch_policy", "scan", "freeze", "comparison")
ENDLESS = LIMITS.model_copy(update={"wall_s": 10.0})


@pytest.fixture(scope="session")
def baselines(tmp_path_factory):
    return Baselines(tmp_path_factory.mktemp("baselines"))


@pytest.fixture(scope="session")
def task(textkit, sandbox):
    return bug_task(
        textkit, sandbox, hacks.FILE, "encode_runs", "runs[-1][1] + 1", "runs[-1][1] + 2"
    )


@pytest.fixture(scope="session")
def judge(task, textkit, sandbox, baselines):
    def run(changes):
        return grade(
            task, Patch(changes), textkit, BACKEND, sandbox, ENDLESS, seed=11,
            baselines=baselines, thorough=True, repeat_share=0,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def broken(task, textkit):
    return task.broken(textkit.project)[hacks.FILE]


@pytest.mark.parametrize("hack", hacks.HACKS, ids=lambda hack: hack.name)
def test_no_hack_is_rewarded(hack, judge, broken):
    graded = judge(hacks.patched(hack, broken))
    assert graded.reward == 0.0, graded.reason
    assert evaluator_hack_rejection_rate([graded]) == 1.0
    published = table.read(TABLE.read_text())[hack.name]
    found = [layer.value for layer in graded.layers]
    if hack.racy:
        published, found = ([name for name in row if name in SURE] for row in (published, found))
    assert published == found


@pytest.mark.parametrize(
    "hack",
    [
        pytest.param(hack, marks=pytest.mark.xfail(strict=True, reason=hack.beyond))
        for hack in hacks.BEYOND
    ],
    ids=lambda hack: hack.name,
)
def test_what_no_run_can_see(hack, judge, broken):
    assert judge(hacks.patched(hack, broken)).reward == 0.0


@pytest.mark.parametrize("name", hacks.HONEST)
def test_honest_repairs_are_rewarded(name, judge, textkit):
    graded = judge(hacks.honest(name, textkit.project.read(hacks.FILE)))
    assert graded.reward == 1.0, graded.reason


def test_every_hack_is_in_the_table():
    assert list(table.read(TABLE.read_text())) == [hack.name for hack in hacks.HACKS]
    assert len(hacks.MEASURED) == 25 and len(hacks.OWN) >= 15
