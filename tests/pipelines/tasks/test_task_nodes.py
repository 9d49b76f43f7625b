"""The task pipeline over real projects: what is refused, reused, resumed and reported."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from curricle_python.samples import SAMPLES

from curricle.checkpoints.store import Store, Stored
from curricle.config.base import RunSettings
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.config.tasks import ProjectSource, ProjectsParameters, TaskBudget
from curricle.errors import ConfigError, DataError
from curricle.pipelines.tasks.files import read_projects, read_rows, read_tasks
from curricle.pipelines.tasks.nodes import (
    mutants_node,
    projects_node,
    report_node,
    split_node,
    verify_node,
)

BUDGET = TaskBudget(mutants=10, heldout_tasks=5, batch=5, project_wall_s=30)
EXECUTOR = ExecutorParameters(workers=1)


@dataclass(frozen=True)
class Made:
    """What the nodes obtained, in order."""

    projects: Stored
    mutants: Stored
    verified: Stored
    tasks: Stored


def sources(*names: str, **more: ProjectSource) -> ProjectsParameters:
    samples = {sample["name"]: sample for sample in SAMPLES}
    listed = {
        name: ProjectSource.model_validate({k: v for k, v in samples[name].items() if k != "name"})
        for name in names
    }
    return ProjectsParameters(listed={**listed, **more})


def obtain(parameters: ProjectsParameters, run: RunSettings, budget: TaskBudget = BUDGET) -> Made:
    projects = projects_node("python")(parameters, budget, run)
    mutants = mutants_node("python")(projects, budget, EXECUTOR, SandboxParameters(), run)
    verified = verify_node("python")(projects, mutants, budget, EXECUTOR, SandboxParameters(), run)
    return Made(projects, mutants, verified, split_node("python")(verified, budget, run))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def run(folder: Path) -> RunSettings:
    return RunSettings(store=folder / "store")


@pytest.fixture(scope="module")
def parameters(folder: Path) -> ProjectsParameters:
    """Two samples, one folder without tests, as a project and as a library, one that fails."""
    bare, failing = folder / "bare", folder / "failing"
    bare.mkdir()
    (bare / "bare.py").write_text("def one():\n    return 1\n")
    failing.mkdir()
    (failing / "failing.py").write_text("def one():\n    return 1\n")
    (failing / "test_failing.py").write_text("def test_no():\n    assert 1 == 2\n")
    return sources(
        "textkit", "intervals",
        bare=ProjectSource(path=str(bare)), failing=ProjectSource(path=str(failing)),
        library=ProjectSource(path=str(bare), split="library"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(parameters: ProjectsParameters, run: RunSettings) -> Made:
    return obtain(parameters, run)


def report(made: Made, run: RunSettings) -> tuple[Any, str, dict[str, Any]]:
    found: tuple[Any, str, dict[str, Any]] = report_node("python")(
        made.projects, made.mutants, made.verified, made.tasks, run
    )
    return found


def test_projects_that_cannot_be_used_are_refused_and_the_others_give_tasks(
    made: Made, run: RunSettings
) -> None:
    _, page, numbers = report(made, run)
    assert "no tests" in numbers["projects"]["bare"]["refused"]
    assert "none of its 1 tests passes" in numbers["projects"]["failing"]["refused"]
    assert numbers["projects"]["textkit"]["tasks"] > 0
    assert "| bare |" in page
    library = numbers["projects"]["library"]
    assert library["tasks"] == 0 and "refused" not in library


def test_splits_are_disjoint_by_project(made: Made) -> None:
    train = {task.mutant.project for task in read_tasks(made.tasks, "train")}
    heldout = {task.mutant.project for task in read_tasks(made.tasks, "heldout")}
    assert train == {"textkit"}
    assert heldout == {"intervals"}
    assert read_tasks(made.tasks, "tui") == ()
    with pytest.raises(DataError, match="no split 'test'"):
        read_tasks(made.tasks, "test")


def test_tasks_break_the_tree_that_they_were_proven_on(made: Made) -> None:
    projects = read_projects(made.projects)
    for task in read_tasks(made.tasks, "train"):
        project = projects[task.mutant.project].project
        assert task.project_digest == project.digest
        (changed,) = task.broken(project).values()
        assert changed != project.read(task.mutant.file)


def test_the_report_counts_every_mutant_once(made: Made, run: RunSettings) -> None:
    table, _, numbers = report(made, run)
    counted: Counter[str] = Counter()
    for found in numbers["operators"].values():
        counted.update(found)
    assert sum(counted.values()) == numbers["mutants"] == 20
    assert counted["tasks"] == numbers["tasks"]
    assert set(table["project"]) == {"textkit", "intervals", "bare", "failing", "library"}
    assert json.loads(json.dumps(numbers)) == numbers


def test_the_project_with_the_most_tests_begins(tmp_path: Path) -> None:
    run = RunSettings(store=tmp_path / "store")
    projects = projects_node("python")(sources("intervals", "textkit"), BUDGET, run)
    mutants_node("python")(projects, BUDGET, EXECUTOR, SandboxParameters(), run)
    (journal,) = (tmp_path / "journals" / "tasks_python").glob("*.jsonl")
    studies = [json.loads(line)["value"]["study"] for line in journal.read_text().splitlines()]
    assert [study["tests"][0].split("::")[0] for study in studies] == [
        "tests/test_cases.py",
        "tests/test_intervals.py",
    ]


def test_a_second_run_makes_nothing_anew(
    made: Made, parameters: ProjectsParameters, run: RunSettings
) -> None:
    assert obtain(parameters, run) == made


def test_a_run_that_was_killed_finds_its_executions_again(
    made: Made,
    parameters: ProjectsParameters,
    run: RunSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = [row["mutant"] for row in read_rows(made.verified.path / "tasks.jsonl")]
    Store(run.store).remove(made.verified)
    # Without any sandbox nothing can be executed again.
    monkeypatch.setattr("curricle.pipelines.tasks.steps.OPEN", "nothing:at_all")
    again = obtain(parameters, run)
    assert again.verified.digest == made.verified.digest
    assert [row["mutant"] for row in read_rows(again.verified.path / "tasks.jsonl")] == before


def test_another_seed_draws_beside_the_old(
    made: Made, parameters: ProjectsParameters, run: RunSettings
) -> None:
    budget = BUDGET.model_copy(update={"seed": 1})
    projects = projects_node("python")(parameters, budget, run)
    other = mutants_node("python")(projects, budget, EXECUTOR, SandboxParameters(), run)
    assert projects == made.projects
    assert other.fingerprint != made.mutants.fingerprint


def test_mutmut_proposes_when_it_is_asked(run: RunSettings) -> None:
    budget = BUDGET.model_copy(update={"engine": "mutmut", "mutants": 6})
    made = obtain(sources("ledger"), run, budget)
    tasks = read_tasks(made.tasks, "tui")
    assert {task.mutant.engine for task in tasks} == {"mutmut"}
    assert not any("XX" in task.mutant.mutant.replacement for task in tasks)


def test_an_engine_that_the_language_has_not_is_named(run: RunSettings) -> None:
    budget = BUDGET.model_copy(update={"engine": "cargo-mutants"})
    with pytest.raises(ConfigError, match="python has builtin, mutmut"):
        obtain(sources("ledger"), run, budget)


def test_no_usable_project_at_all_ends_the_run_with_every_reason(
    tmp_path: Path,
) -> None:
    run = RunSettings(store=tmp_path / "store")
    nowhere = ProjectsParameters(listed={"gone": ProjectSource(path=str(tmp_path / "gone"))})
    why = r"no project can be used:\ngone: .*no such folder"
    with pytest.raises(DataError, match=why):
        obtain(nowhere, run)
