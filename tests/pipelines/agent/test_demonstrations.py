"""What agents learn from, as the nodes store it: what is trained is what a session shows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from curricle_python.samples import SAMPLES

from curricle.checkpoints.store import Stored
from curricle.config.agent_data import DemonstrationParameters, ToolLessonParameters
from curricle.config.agents import ExpertParameters, QuestionParameters
from curricle.config.base import RunSettings
from curricle.config.corpus import TokenizerParameters
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.config.tasks import ProjectSource, ProjectsParameters, TaskBudget
from curricle.engine.agent_rows import render_samples
from curricle.engine.models import load_tokenizer
from curricle.engine.renderers import renderer_for
from curricle.errors import ConfigError
from curricle.pipelines.agent.material import Material, chosen_materials
from curricle.pipelines.agent.nodes import demonstrations_node, tool_lessons_node
from curricle.pipelines.corpus.tokenizer import train_tokenizer
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.nodes import mutants_node, projects_node, split_node, verify_node

BUDGET = TaskBudget(mutants=6, heldout_tasks=5, batch=6, project_wall_s=30)
EXECUTOR = ExecutorParameters(workers=1)
SANDBOX = SandboxParameters()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    return RunSettings(store=tmp_path_factory.mktemp("demonstrations") / "store")


@pytest.fixture(scope="module")
def material(run: RunSettings) -> dict[str, Stored]:
    """A project to demonstrate on, and a library to ask about."""
    listed = {
        sample["name"]: ProjectSource.model_validate(
            {**{k: v for k, v in sample.items() if k != "name"}, "split": split}
        )
        for sample, split in zip(SAMPLES, ("tui", "library"), strict=False)
    }
    projects = projects_node("python")(ProjectsParameters(listed=listed), BUDGET, run)
    mutants = mutants_node("python")(projects, BUDGET, EXECUTOR, SANDBOX, run)
    verified = verify_node("python")(projects, mutants, BUDGET, EXECUTOR, SANDBOX, run)
    return {
        "projects_python": projects,
        "tasks_python": split_node("python")(verified, BUDGET, run),
    }


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    documents, folder = (tmp_path_factory.mktemp(name) for name in ("documents", "tokenizer"))
    text = Path(__file__).read_text()
    row = {"id": "0", "text": text, "kind": "code", "path": "test.py", "source": "own"}
    write_rows(documents / "train.jsonl", [row])
    train_tokenizer(folder, documents, TokenizerParameters(vocab_size=512))
    return folder


@pytest.fixture(scope="module")
def made(run: RunSettings, material: dict[str, Stored], tokenizer: Path) -> dict[str, Stored]:
    foundation = Stored("foundation.model", "0", "0", tokenizer)
    common = {"foundation": foundation, "executor": EXECUTOR, "sandbox": SANDBOX, "run": run}
    lessons = ToolLessonParameters(mutants=8, questions=QuestionParameters(per_kind=3))
    repairs = DemonstrationParameters(expert=ExpertParameters(max_tokens=4000))
    return {
        "lessons": tool_lessons_node("tui_tools")(**common, **material, parameters=lessons),
        "repairs": demonstrations_node("tui_agent", "tui")(
            **common, **material, parameters=repairs
        ),
    }


def rows(stored: Stored) -> list[dict[str, Any]]:
    lines = (stored.path / "train.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", ["lessons", "repairs"])
def test_training_begins_with_the_prompt_that_a_rollout_has(
    made: dict[str, Stored], tokenizer: Path, name: str
) -> None:
    renderer = renderer_for(load_tokenizer(tokenizer), "plain", "a test")
    samples = render_samples(renderer.tokenizer, made[name].path / "train.jsonl", "plain", "a test")
    for row, sample in zip(rows(made[name]), samples, strict=True):
        if not row["tools"]:
            continue
        prompt = renderer.prompt(row["messages"][:2], row["tools"])
        assert sample.input_ids[: len(prompt)].tolist() == list(prompt)
        shown = renderer.tokenizer.decode(prompt)
        assert "read_file(path, name?, from_line?)" in shown
        assert "edit(old, why?, new, path?)" in shown


@pytest.mark.parametrize("name", ["lessons", "repairs"])
def test_an_edit_quotes_what_stands_there_then_says_what_is_wrong_and_then_replaces_it(
    made: dict[str, Stored], name: str
) -> None:
    calls = [call for row in rows(made[name]) for message in row["messages"]
             for call in message.get("tool_calls", ())]  # fmt: skip
    orders = {tuple(call["arguments"]) for call in calls if call["name"] == "edit"}
    assert orders == {("old", "why", "new")}
    assert ("path", "name") in {tuple(call["arguments"]) for call in calls}


def test_libraries_are_asked_about_and_never_run(made: dict[str, Stored]) -> None:
    asked = Counter((row["project"], row["kind"]) for row in rows(made["lessons"]))
    projects = [sample["name"] for sample in SAMPLES[:2]]
    assert {project for project, _ in asked} == set(projects)
    assert asked[projects[1], "mend"] > 0 and asked[projects[1], "spot"] > 0
    assert asked[projects[1], "failing"] == 0


class TestChosenOperators:
    """What is learned from can be fewer sorts of bugs than there are."""

    def test_nothing_else_is_learned_from(
        self, run: RunSettings, material: dict[str, Stored], tokenizer: Path
    ) -> None:
        chosen = {"comparison_flipped", "not_inserted"}
        lessons = ToolLessonParameters(
            mutants=8, questions=QuestionParameters(per_kind=3), operators=tuple(chosen)
        )
        made = tool_lessons_node("tui_tools")(
            Stored("foundation.model", "0", "0", tokenizer), EXECUTOR, SANDBOX, lessons, run,
            **material,
        )  # fmt: skip
        broken = {name for row in rows(made) for name in row["operator"].split("+")} - {""}
        assert broken and broken <= chosen

    @pytest.mark.parametrize(
        ("named", "reason"),
        [
            (("comparison_flipped", "mutant"), "no language here has mutant"),
            (("mutant",), "none of them is python's"),
        ],
    )
    def test_one_that_does_not_exist_is_an_error(
        self, material: dict[str, Stored], named: tuple[str, ...], reason: str
    ) -> None:
        python = Material("python", material["projects_python"], material["tasks_python"])
        with pytest.raises(ConfigError, match=reason):
            chosen_materials([python], named)
