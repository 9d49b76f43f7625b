"""What agents learn from, as the nodes store it: what is trained is what a session shows."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from curricle_python.samples import SAMPLES

from curricle.agents.scoring import Attempt
from curricle.checkpoints.certificate import Certificate
from curricle.checkpoints.store import Stored
from curricle.config.agent_data import (
    CorrectionParameters,
    DemonstrationParameters,
    ToolLessonParameters,
)
from curricle.config.agents import ExpertParameters, QuestionParameters
from curricle.config.base import RunSettings
from curricle.config.corpus import TokenizerParameters
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.config.tasks import ProjectSource, ProjectsParameters, TaskBudget
from curricle.engine.agent_rows import render_samples
from curricle.engine.models import load_tokenizer
from curricle.engine.renderers import renderer_for
from curricle.errors import ConfigError
from curricle.pipelines.agent.demonstrations import (
    Studio,
    demonstrate_corrections,
    demonstrate_tasks,
)
from curricle.pipelines.agent.material import Material, chosen_materials
from curricle.pipelines.agent.nodes import demonstrations_node, tool_lessons_node
from curricle.pipelines.corpus.tokenizer import train_tokenizer
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.files import read_tasks
from curricle.pipelines.tasks.nodes import mutants_node, projects_node, split_node, verify_node

BUDGET = TaskBudget(mutants=6, heldout_tasks=5, batch=6, project_wall_s=30)
EXECUTOR = ExecutorParameters(workers=1)
SANDBOX = SandboxParameters()
NO_PARENT = cast(Certificate, None)
"""Nothing is asked of it where the parent tries nothing."""


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
        "lessons": tool_lessons_node("tui_tools", "tui")(**common, **material, parameters=lessons),
        "repairs": demonstrations_node("tui_agent", "tui")(
            **common, **material, parent=NO_PARENT, parameters=repairs
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


def test_questions_are_asked_along_with_repairs_when_there_are_lessons(
    run: RunSettings, material: dict[str, Stored], tokenizer: Path, made: dict[str, Stored]
) -> None:
    lessons = ToolLessonParameters(mutants=8, questions=QuestionParameters(per_kind=3))
    repairs = DemonstrationParameters(expert=ExpertParameters(max_tokens=4000), lessons=lessons)
    both = demonstrations_node("tui_agent", "tui")(
        Stored("foundation.model", "0", "0", tokenizer), NO_PARENT, EXECUTOR, SANDBOX, repairs, run,
        **material,
    )  # fmt: skip
    kinds = Counter(row["kind"] for row in rows(both))
    assert 0 < kinds["repair"] < kinds.total() and kinds["spot"] > 0
    assert all_ids(both) == all_ids(made["repairs"]) | all_ids(made["lessons"])


def test_the_expert_goes_on_from_the_mistakes_of_a_model_and_nobody_learns_those(
    run: RunSettings,
    material: dict[str, Stored],
    tokenizer: Path,
    made: dict[str, Stored],
    tmp_path: Path,
) -> None:
    """Attempts that quote a line and write it again, as small models do."""
    straight = [row for row in rows(made["repairs"]) if not row["detours"]]
    attempts = []
    for row in straight:
        task = {task.id: task for task in read_tasks(material["tasks_python"], "tui")}[row["task"]]
        edit = next(n for n, m in enumerate(row["messages"])
                    if "edit" in [call["name"] for call in m.get("tool_calls", ())])  # fmt: skip
        old = row["messages"][edit]["tool_calls"][0]["arguments"]["old"]
        same = {"name": "edit", "arguments": {"old": old, "new": old}}
        refused = {"role": "tool", "name": "edit", "content": "error: nothing would change"}
        said = {"role": "assistant", "content": "", "tool_calls": [same]}
        messages = (*row["messages"][:edit], said, refused, {"role": "assistant", "content": "Hm."})
        masked = Attempt.masked(task, 0, "", messages)
        attempts.append(replace(masked, verdict=replace(masked.verdict, fixed=False)))
    python = Material("python", material["projects_python"], material["tasks_python"])
    studio = Studio(run, EXECUTOR, SANDBOX, tokenizer)
    how = CorrectionParameters(corrections=2, expert=ExpertParameters(max_tokens=4000))
    report = demonstrate_corrections(tmp_path, attempts, [python], "tui", how, studio)
    assert straight and report["corrections"] == 2 * len(straight)

    learned = tmp_path / "learned"
    learned.mkdir()
    parameters = DemonstrationParameters(expert=ExpertParameters(max_tokens=4000))
    report = demonstrate_tasks(learned, [python], "tui", parameters, studio, tmp_path)
    assert report["by_kind"]["correction"] == 2 * len(straight)
    written = [json.loads(line) for name in ("train", "heldout")
               for line in (learned / f"{name}.jsonl").read_text().splitlines()]  # fmt: skip
    taken_over = [row for row in written if row["kind"] == "correction"]
    for row in taken_over:
        spoken = [m for m in row["messages"] if m["role"] == "assistant"]
        edit = [m for m in spoken if "old" in str(m.get("tool_calls"))][-1]
        masked = [m.get("train") is False for m in spoken]
        assert masked[0] and masked == sorted(masked, reverse=True), "the model's turns come first"
        assert "train" not in edit and spoken[-1]["content"].startswith("Fixed ")
    mistaken = [m for row in taken_over for m in row["messages"]
                if m.get("train") is False and m["tool_calls"][0]["name"] == "edit"]  # fmt: skip
    assert len(mistaken) == len(straight), "one of the two points is after the refused edit"


def all_ids(stored: Stored) -> set[str]:
    files = [stored.path / f"{name}.jsonl" for name in ("train", "heldout")]
    return {json.loads(line)["id"] for file in files for line in file.read_text().splitlines()}


class TestChosenOperators:
    """What is learned from can be fewer sorts of bugs than there are."""

    def test_nothing_else_is_learned_from(
        self, run: RunSettings, material: dict[str, Stored], tokenizer: Path
    ) -> None:
        chosen = {"comparison_flipped", "not_inserted"}
        lessons = ToolLessonParameters(
            mutants=8, questions=QuestionParameters(per_kind=3), operators=tuple(chosen)
        )
        made = tool_lessons_node("tui_tools", "tui")(
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
