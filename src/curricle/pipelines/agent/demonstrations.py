"""Builds the training data of agent SFT: trajectories that a scripted expert really executed."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from curricle.agents.failures import EDITS
from curricle.agents.questions import Question, library_questions, task_questions
from curricle.agents.scoring import Attempt
from curricle.agents.trajectories import Dropped, Trajectory, balanced, trajectory_statistics
from curricle.agents.works import ANSWER, FIX, OPEN
from curricle.checkpoints.hashing import hash_value
from curricle.config.agent_data import (
    AgentPairParameters,
    DemonstrationParameters,
    ToolLessonParameters,
)
from curricle.config.base import RunSettings
from curricle.config.execution import ExecutorParameters, SandboxParameters
from curricle.errors import DataError
from curricle.execution.journal import Outcome, Status
from curricle.execution.projects import LIBRARY
from curricle.languages.engines import Quota, builtin_proposals, select
from curricle.languages.project import Project
from curricle.pipelines.agent.material import Material, chosen_materials
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.files import read_projects
from curricle.pipelines.tasks.steps import Executions, Places

logger = logging.getLogger(__name__)

_REVISION = 4
_HELDOUT_SHARE = 0.03
CORRECTIONS = "corrections.jsonl"


@dataclass(frozen=True)
class Studio:
    """Where experts work: the run's folders, how it executes and where, the model's tokenizer."""

    run: RunSettings
    executor: ExecutorParameters
    sandbox: SandboxParameters
    tokenizer: Path

    def play(
        self, language: str, work: str, items: Mapping[str, dict[str, Any]], label: str
    ) -> Iterator[Trajectory | Dropped]:
        """What each item gave, in the order of the items."""
        places = Places.of(self.run, language, journal="demonstrations")
        with Executions(
            self.executor,
            places,
            language,
            opening=OPEN,
            tokenizer=str(self.tokenizer),
            sandbox=self.sandbox.model_dump(mode="json"),
        ) as executions:
            outcomes = dict(executions.results(work, items, label))
        for key in items:
            yield _played(key, outcomes[key])


def demonstrate_tasks(
    folder: Path,
    materials: Sequence[Material],
    split: str,
    parameters: DemonstrationParameters,
    studio: Studio,
) -> dict[str, Any]:
    """Write `train.jsonl`: trajectories of bug tasks, short ones first.

    Args:
        folder: Where it goes; it exists.
        materials: By language.
        split: Which side of the tasks.
        parameters: How many, and how the expert works.
        studio: Where it works.

    Returns:
        Counts by operator, detour, project and reason of dropping; lengths in tokens.

    Raises:
        DataError: No task gave a trajectory.
    """
    played: list[Trajectory | Dropped] = []
    for material in chosen_materials(materials, parameters.operators):
        tasks = balanced(
            material.tasks_of(split),
            lambda task: task.mutant.mutant.operator,
            lambda task: task.id,
            seed=parameters.seed, limit=parameters.max_tasks,
            max_share=parameters.operator_share,
        )  # fmt: skip
        rows = material.rows()
        common = {
            "folder": str(material.projects.path), "run_wall_s": parameters.run_wall_s,
            "session": parameters.session.model_dump(mode="json"),
            "expert": parameters.expert.model_dump(mode="json"),
        }  # fmt: skip
        items = {}
        for repeat in range(parameters.repeats):
            for task in tasks:
                item = {
                    **common, "project": rows[task.mutant.project], "task": task.to_json(),
                    "seed": parameters.seed + repeat,
                }  # fmt: skip
                items[_key("fix", item)] = item
        played += studio.play(material.language, FIX, items, "demonstrations")
    return _write(folder, played, parameters.seed)


def demonstrate_corrections(
    folder: Path,
    attempts: Sequence[Attempt],
    materials: Sequence[Material],
    split: str,
    parameters: AgentPairParameters,
    studio: Studio,
) -> dict[str, Any]:
    """Write `corrections.jsonl`: what the expert does in the place of attempts that failed.

    Each row begins with an attempt's own calls, carried out again, and tells which attempt it was
    by `task` and `sample`.

    Returns:
        How many there are, and why others are not.
    """
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for material in materials:
        tasks = {task.id: task for task in material.tasks_of(split)}
        projects = material.rows()
        items: dict[str, dict[str, Any]] = {}
        of: dict[str, Attempt] = {}
        for attempt in attempts:
            if attempt.verdict.fixed is not False or attempt.task not in tasks:
                continue
            for calls in points_to_step_in(attempt.messages, parameters.corrections):
                item = {
                    "folder": str(material.projects.path),
                    "project": projects[attempt.project],
                    "task": tasks[attempt.task].to_json(),
                    "run_wall_s": parameters.rollouts.run_wall_s,
                    "session": parameters.rollouts.session.model_dump(mode="json"),
                    "expert": parameters.expert.model_dump(mode="json"),
                    "seed": parameters.seed, "after": calls,
                }  # fmt: skip
                key = _key("correct", item)
                items[key], of[key] = item, attempt
        if not items:
            continue
        played = studio.play(material.language, FIX, items, "corrections")
        for key, one in zip(items, played, strict=True):
            if isinstance(one, Trajectory):
                rows.append({"task": of[key].task, "sample": of[key].sample,
                             "messages": list(one.messages)})  # fmt: skip
            else:
                dropped[one.reason] += 1
    write_rows(folder / CORRECTIONS, rows)
    return {"corrections": len(rows), "dropped_by_reason": dict(sorted(dropped.items()))}


def points_to_step_in(
    messages: Sequence[Mapping[str, Any]], points: int
) -> list[list[dict[str, Any]]]:
    """The calls of an attempt before its first edit, and after each edit that was carried out.

    Of an attempt that never came to an edit, the calls that it made until it said something else.

    Args:
        messages: The attempt's transcript.
        points: At most so many; a call that cannot be made again ends them.
    """
    found: list[list[dict[str, Any]]] = []
    calls: list[dict[str, Any]] = []
    for message, observation in pairwise(messages):
        if message["role"] != "assistant":
            continue
        made: Sequence[Any] = message.get("tool_calls") or ()
        if len(made) != 1 or message.get("content") or observation["role"] != "tool":
            break
        is_edit = made[0]["name"] in EDITS
        if is_edit and not found:
            found.append(list(calls))
        calls.append({"name": made[0]["name"], "arguments": dict(made[0]["arguments"])})
        if is_edit and not str(observation["content"]).startswith("error:"):
            found.append(list(calls))
    return (found or [calls])[:points]


def demonstrate_answers(
    folder: Path, materials: Sequence[Material], parameters: ToolLessonParameters, studio: Studio
) -> dict[str, Any]:
    """Write `train.jsonl`: answered questions about libraries and the projects of the `tui` split.

    Raises:
        DataError: No question was answered.
    """
    played: list[Trajectory | Dropped] = []
    for material in chosen_materials(materials, parameters.operators):
        backend, tasks = material.backend, material.tasks_of("tui")
        asked: list[Question] = []
        for name, listed in sorted(read_projects(material.projects).items()):
            if listed.split not in ("tui", LIBRARY):
                continue
            quota = Quota(
                limit=parameters.mutants, per_function=parameters.questions.spot_slips,
                per_operator=max(1, parameters.mutants // 5), per_function_operator=1,
                max_function_lines=parameters.questions.max_function_lines, seed=parameters.seed,
            )  # fmt: skip
            project = listed.project
            if listed.split == LIBRARY:
                project = _some_files(project, parameters)
            proposed = [
                slip
                for slip in builtin_proposals(project, backend.operators)
                if material.admits(slip.mutant.operator)
            ]
            slips = select(project, backend.operators, proposed, quota).mutants
            asked += library_questions(
                project, backend, slips, seed=parameters.seed, parameters=parameters.questions
            )
            asked += task_questions(
                listed.project, backend, [t for t in tasks if t.mutant.project == name],
                seed=parameters.seed, parameters=parameters.questions,
            )  # fmt: skip
        chosen = balanced(
            asked, lambda question: str(question.kind), lambda question: question.id,
            seed=parameters.seed, limit=parameters.max_questions,
            max_share=parameters.kind_share,
        )  # fmt: skip
        rows = material.rows()
        items = {}
        for question in chosen:
            item = {
                "folder": str(material.projects.path), "project": rows[question.project],
                "question": {**asdict(question), "kind": str(question.kind),
                             "start": dict(question.start)},
                "seed": parameters.seed, "run_wall_s": parameters.run_wall_s,
                "session": parameters.session.model_dump(mode="json"),
                "questions": parameters.questions.model_dump(mode="json"),
            }  # fmt: skip
            items[_key("answer", item)] = item
        played += studio.play(material.language, ANSWER, items, "answers")
    return _write(folder, played, parameters.seed)


def _some_files(project: Project, parameters: ToolLessonParameters) -> Project:
    """A large library as some of its files: reading all of them would take a minute."""
    files = list(project.files(project.sources))
    random.Random(f"{parameters.seed}:{project.digest}:files").shuffle(files)
    return replace(project, sources=tuple(sorted(files[: parameters.library_files])))


def _key(work: str, item: Mapping[str, Any]) -> str:
    """What decides an item's result: not where the project lies, its digest stands in its row."""
    return hash_value([work, _REVISION, {k: v for k, v in item.items() if k != "folder"}])


def _played(key: str, outcome: Outcome) -> Trajectory | Dropped:
    if outcome.status is not Status.DONE:
        return Dropped(key, "", "infrastructure")
    assert outcome.value is not None, "a finished item has a value"
    if "trajectory" in outcome.value:
        return Trajectory.from_json(outcome.value["trajectory"])
    return Dropped(key, outcome.value["operator"], outcome.value["dropped"])


def _write(folder: Path, played: Sequence[Trajectory | Dropped], seed: int) -> dict[str, Any]:
    made = [one for one in played if isinstance(one, Trajectory)]
    report = trajectory_statistics(played)
    if not made:
        raise DataError(
            f"no trajectory was made: {report['dropped_by_reason']}. Look at the tasks, or raise "
            "max_tokens."
        )
    random.Random(seed).shuffle(made)
    # What a merged adapter is compared on; the model's worth is measured on other projects.
    kept = max(1, round(len(made) * _HELDOUT_SHARE))
    for name, rows in (("heldout", made[:kept]), ("train", made[kept:] or made)):
        write_rows(folder / f"{name}.jsonl", (trajectory.to_json() for trajectory in rows))
    logger.info("demonstrations: %d made of %d tokens; %d dropped: %s", len(made),
                report["tokens"]["total"], report["dropped"],
                report["dropped_by_reason"])  # fmt: skip
    return report
