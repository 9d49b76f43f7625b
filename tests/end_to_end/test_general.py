"""The general curriculum as a user meets it: what is reused, what forks, what a gate does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.conftest import STAGES, Project

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

AGAIN = """
import sys
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
with KedroSession.create(env="tiny") as session:
    session.run(pipeline_names=["general"])
assert "torch" not in sys.modules, "nothing was built, and yet torch was imported"
"""


def written(project: Project) -> dict[str, int]:
    """When each file and folder of the store was last written."""
    return {
        path.relative_to(project.store).as_posix(): path.stat().st_mtime_ns
        for path in project.store.rglob("*")
        if path.name != ".lock"
    }


def made_beside(project: Project, reference: Project) -> set[str]:
    """The steps with results that the reference has not."""
    before = reference.digests()
    return {step for step, found in project.digests().items() if found != before.get(step)}


def test_every_stage_is_certified(reference: Project) -> None:
    assert set(reference.certificates()) == set(STAGES)
    assert not list(reference.store.glob("*/*.partial"))


def test_a_run_with_nothing_changed_builds_nothing_and_never_imports_torch(
    reference: Project,
) -> None:
    before, certificates = written(reference), reference.certificates()
    again = reference.python(AGAIN)
    assert again.returncode == 0, again.stdout[-3000:]
    assert written(reference) == before
    assert reference.certificates() == certificates


def test_a_changed_parameter_forks_the_curriculum_there_and_keeps_the_old_branch(
    reference: Project, tmp_path: Path
) -> None:
    project = reference.copy(tmp_path / "project")
    done = project.run("--pipelines", "general", "--params", "dpo.train.beta=0.3")
    assert done.returncode == 0, done.stdout[-3000:]
    forked = {"dpo.train", "dpo.evaluate", "lora.train", "lora.evaluate"}
    assert made_beside(project, reference) == forked
    for step, old in reference.digests().items():
        kept = project.digests()[step]
        assert old.items() <= kept.items()
        assert len(kept) == (2 if step in forked else 1)
    before, after = reference.certificates(), project.certificates()
    assert {stage for stage in STAGES if before[stage] != after[stage]} == {"dpo", "lora"}


@pytest.fixture(scope="module")
def learned_nothing(
    reference: Project, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Project, int, str]:
    """A project that pretrained with a rate of zero, the exit status, and what was said."""
    project = reference.copy(tmp_path_factory.mktemp("learned_nothing") / "project")
    project.certificate("pretrain").unlink()
    done = project.run("--pipelines", "pretrain", "--params", "pretrain.train.learning_rate=0")
    return project, done.returncode, done.stdout


def test_a_model_that_learned_nothing_closes_its_gate_and_leaves_no_checkpoint(
    learned_nothing: tuple[Project, int, str],
) -> None:
    project, status, said = learned_nothing
    assert status == 1
    assert "pretrain: gate closed: perplexity" in said
    assert "--pipelines pretrain --tags gate" in said
    assert not project.certificate("pretrain").exists()
    assert (project.path / "data" / "08_reporting" / "gates" / "pretrain.json").exists()


def test_a_looser_policy_opens_the_gate_without_training(
    learned_nothing: tuple[Project, int, str],
) -> None:
    project, _, _ = learned_nothing
    before = written(project)
    looser = "gates.pretrain.perplexity.max=1000000"
    done = project.run("--pipelines", "pretrain", "--tags", "gate", "--params", looser)
    assert done.returncode == 0, done.stdout[-3000:]
    assert project.certificate("pretrain").exists()
    assert written(project) == before
