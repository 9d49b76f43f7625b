"""What a worker of the executor does for bug tasks: study a project, verify a batch of mutants."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curricle.config.execution import Limits, SandboxParameters
from curricle.config.tasks import TaskBudget
from curricle.errors import DataError
from curricle.execution.evaluate import prepare_project
from curricle.execution.opening import open_sandbox
from curricle.execution.projects import LIBRARY, listed_project
from curricle.execution.sandbox import Sandbox
from curricle.execution.study import Study, study_project
from curricle.execution.verification import Verdict, verify
from curricle.languages.backend import LanguageBackend
from curricle.languages.commands import Command, Output
from curricle.languages.mutation import Mutant
from curricle.languages.project import Prepared
from curricle.languages.registry import get_backend
from curricle.languages.tasks import ProjectMutant

STUDY = "curricle.execution.task_worker:study_item"
VERIFY = "curricle.execution.task_worker:verify_item"
PROPOSE = "curricle.execution.task_worker:propose_item"
_OUTPUT_BYTES = 32 << 20
OPEN = "curricle.execution.task_worker:open_worker"


@dataclass(frozen=True)
class TaskWorker:
    """What stays between the items of one worker."""

    backend: LanguageBackend
    sandbox: Sandbox
    prepared: Path

    def prepare(self, item: Mapping[str, Any], limits: Limits) -> Prepared:
        """The item's project, prepared once for all workers; of a library nothing is ever run."""
        listed = listed_project(item["project"], Path(item["folder"]))
        project = listed.project
        if listed.split == LIBRARY:
            return Prepared(project, None, project.digest)
        return prepare_project(self.backend, project, self.prepared, self.sandbox, limits)


@contextmanager
def open_worker(settings: Mapping[str, Any]) -> Iterator[TaskWorker]:
    """Set a worker up.

    Args:
        settings: `language`, the folder `prepared` that keeps prepared projects, and the
            parameters of the `sandbox` when they are not the default.
    """
    with open_sandbox(SandboxParameters.model_validate(settings.get("sandbox", {}))) as sandbox:
        yield TaskWorker(get_backend(settings["language"]), sandbox, Path(settings["prepared"]))


def limits_of(budget: TaskBudget) -> Limits:
    """The bounds of a run of all of a project's tests, and of a batch of mutants."""
    # A trace names every test of every function; what is cut short counts as unknown.
    return Limits(wall_s=budget.project_wall_s, output_bytes=_OUTPUT_BYTES)


def study_item(item: Mapping[str, Any], worker: TaskWorker) -> dict[str, Any]:
    """Study a project: `{"study": ...}`, or `{"refused": reason}`."""
    budget = TaskBudget.model_validate(item["budget"])
    limits = limits_of(budget)
    try:
        prepared = worker.prepare(item, limits)
        study = study_project(
            worker.backend, prepared, worker.sandbox, limits, budget.min_stable_share
        )
    except DataError as error:
        return {"refused": str(error)}
    return {"study": study.to_json(), "prepared": prepared.digest}


def propose_item(item: Mapping[str, Any], worker: TaskWorker) -> dict[str, Any]:
    """Ask one of the language's own tools for mutants: `{"mutants": [...]}`, or `refused`."""
    budget = TaskBudget.model_validate(item["budget"])
    tool = next(t for t in worker.backend.mutation_tools if t.name == item["engine"])
    limits = limits_of(budget)
    try:
        prepared = worker.prepare(item, limits)
        command: Command = tool.command(prepared.project, item["max_mutants"])
        binds = sorted({*worker.backend.binds(), *tool.binds()})
        output: Output = worker.sandbox.run(command, prepared, {}, limits, binds=binds)
        found = tool.parse(prepared.project, output)
    except DataError as error:
        return {"refused": str(error)}
    return {"mutants": [asdict(mutant) for mutant in found]}


def verify_item(item: Mapping[str, Any], worker: TaskWorker) -> dict[str, Any]:
    """Verify a batch: `{"verdicts": [...]}`, in the order of its mutants."""
    budget = TaskBudget.model_validate(item["budget"])
    limits = limits_of(budget)
    prepared = worker.prepare(item, limits)
    study = Study.from_json(json.loads(Path(item["study"]).read_text())["study"])
    mutants = [read_mutant(row) for row in item["mutants"]]
    try:
        verdicts = verify(
            worker.backend, prepared, study, mutants, worker.sandbox, limits, budget,
            item["project"]["split"],
        )  # fmt: skip
    except DataError as error:  # it was studied, and yet cannot be loaded: the others go on
        verdicts = [Verdict(mutant, None, str(error).split("\n", 1)[0]) for mutant in mutants]
    return {"verdicts": [verdict.to_json() for verdict in verdicts]}


def read_mutant(content: Mapping[str, Any]) -> ProjectMutant:
    """Rebuild a mutant from its JSON form."""
    return ProjectMutant(**{**content, "mutant": Mutant(**content["mutant"])})
