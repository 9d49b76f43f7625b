"""What the nodes of the task pipelines do: fetch, draw, verify, split.

A project that cannot be used is refused with its reason, and the run goes on with the rest. All
executions go through a journal that outlives a run that was killed, and that a later run with other
parameters finds again: it is keyed by what decides each result.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curricle.checkpoints.hashing import hash_value
from curricle.checkpoints.store import Stored
from curricle.config.base import RunSettings
from curricle.config.execution import ExecutorParameters
from curricle.config.tasks import ProjectSource, ProjectsParameters, TaskBudget
from curricle.errors import ConfigError, DataError
from curricle.execution.executor import Setup, create_executor
from curricle.execution.journal import Journal, Outcome, Status
from curricle.execution.projects import LIBRARY, ListedProject, obtain_project
from curricle.execution.study import Study
from curricle.execution.task_worker import OPEN, PROPOSE, STUDY, VERIFY, read_mutant
from curricle.execution.verification import batch_key
from curricle.languages.backend import LanguageBackend
from curricle.languages.engines import BUILTIN, Quota, Seen, builtin_proposals, select
from curricle.languages.project import Project
from curricle.languages.tasks import BugTask, ProjectMutant
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.files import (
    PROJECTS,
    SPLITS,
    read_projects,
    read_rows,
)
from curricle.pipelines.tasks.selection import select_balanced

logger = logging.getLogger(__name__)

_FETCHES = 4
_STUDY_REVISION = 1


@dataclass(frozen=True)
class Places:
    """Folders beside the store that make a repeated run quick, and decide nothing."""

    downloads: Path
    prepared: Path
    journal: Path

    @classmethod
    def of(cls, run: RunSettings, language: str, journal: str = "tasks") -> Places:
        """The places of a language, beside the run's store."""
        beside = run.store.parent
        return cls(
            beside / "01_raw" / "projects", beside / "prepared" / language,
            beside / "journals" / f"{journal}_{language}",
        )  # fmt: skip


def wanted_sources(
    parameters: ProjectsParameters, budget: TaskBudget, backend: LanguageBackend
) -> dict[str, ProjectSource]:
    """The projects of a run, by name, in the order of the list.

    Raises:
        ConfigError: There is none.
    """
    listed = dict(parameters.listed)
    if budget.projects == "samples" or not listed:
        listed = {s["name"]: ProjectSource.model_validate({k: v for k, v in s.items()
                                                           if k != "name"})
                  for s in backend.samples()}  # fmt: skip
    if budget.max_projects is not None:
        taken: Counter[str] = Counter()
        for name, source in tuple(listed.items()):
            taken[source.split] += 1
            if taken[source.split] > budget.max_projects:
                del listed[name]
    if not listed:
        raise ConfigError(
            f"no projects for {backend.name}: list some in tasks_{backend.name}.projects.listed."
        )
    return listed


def fetch_projects(
    folder: Path,
    sources: Mapping[str, ProjectSource],
    backend: LanguageBackend,
    places: Places,
    max_bytes: int,
) -> dict[str, Any]:
    """Fetch every project that can be had; the report names the others with their reasons.

    Raises:
        DataError: None can be had.
    """

    def obtain(name: str) -> ListedProject | DataError:
        try:
            return obtain_project(name, sources[name], backend, folder, places.downloads, max_bytes)
        except DataError as error:
            logger.warning("project %s is refused: %s", name, error)
            return error

    # Fetching mostly waits for the network.
    with ThreadPoolExecutor(_FETCHES) as pool:
        obtained = dict(zip(sources, pool.map(obtain, sources), strict=True))
    found = [project for project in obtained.values() if isinstance(project, ListedProject)]
    refused = {name: str(e) for name, e in obtained.items() if isinstance(e, DataError)}
    _need(found, refused)
    text = json.dumps([listed.to_json() for listed in found], indent=2, sort_keys=True)
    (folder / PROJECTS).write_text(text + "\n")
    return {"projects": len(found), "refused": refused}


class Executions:
    """One executor with its journal, for the steps of a language.

    `opening` and what else a worker has to be told are for other works than those of tasks.
    """

    def __init__(
        self,
        parameters: ExecutorParameters,
        places: Places,
        language: str,
        *,
        opening: str = OPEN,
        **settings: Any,
    ) -> None:
        self._executor = create_executor(parameters)
        self._journal = Journal(places.journal)
        told = {"language": language, "prepared": str(places.prepared), **settings}
        self._setup = Setup(opening, told)

    def __enter__(self) -> Executions:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.close()
        self._journal.close()

    def results(
        self,
        work: str,
        items: Mapping[str, dict[str, Any]],
        label: str,
        costs: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[str, Outcome]]:
        """Each item's outcome by its key, in the order of completion.

        Of known `costs` the longest begin, so that no worker is left with one in the end.
        """
        if costs is not None:
            items = {key: items[key] for key in sorted(items, key=lambda key: -costs[key])}
        keys = {id(item): key for key, item in items.items()}
        yield from self._executor.map(
            work, items.values(), self._journal, setup=self._setup,
            key=lambda item: keys[id(item)], total=len(items), label=label,
        )  # fmt: skip


def draw_mutants(
    folder: Path,
    projects: Stored,
    backend: LanguageBackend,
    budget: TaskBudget,
    executions: Executions,
) -> dict[str, Any]:
    """Study every project, and draw its mutants.

    Raises:
        DataError: No project can be used.
    """
    listed = read_projects(projects)
    rows = {row["name"]: row for row in json.loads((projects.path / PROJECTS).read_text())
            if row["split"] != LIBRARY}  # fmt: skip
    decides = {name: getattr(budget, name) for name in ("min_stable_share", "project_wall_s")}
    items = {
        hash_value(["study", _STUDY_REVISION, row, decides]): {
            "project": row, "folder": str(projects.path), "budget": budget.model_dump(mode="json"),
        }
        for row in rows.values()
    }  # fmt: skip
    names = {key: item["project"]["name"] for key, item in items.items()}
    sizes = {key: _bytes_of_tests(listed[name].project) for key, name in names.items()}
    answers = {names[key]: _value(outcome)
               for key, outcome in executions.results(STUDY, items, "projects", sizes)}  # fmt: skip
    refused = {name: answers[name]["refused"] for name in rows if "refused" in answers[name]}
    for name, reason in refused.items():
        logger.warning("project %s is refused: %s", name, reason)
    usable = [name for name in rows if name not in refused]
    _need(usable, refused)
    proposed = _proposals(usable, listed, items, names, backend, budget, executions)
    (folder / "studies").mkdir()
    seen, report = Seen(), {}
    drawn: list[dict[str, Any]] = []
    for name in usable:
        study = Study.from_json(answers[name]["study"])
        (folder / "studies" / f"{name}.json").write_text(json.dumps(answers[name]) + "\n")
        selection = select(
            listed[name].project, backend.operators, proposed[name], quota(budget),
            reached=study.reach, seen=seen,
        )  # fmt: skip
        drawn.extend(asdict(mutant) for mutant in selection.mutants)
        report[name] = {
            "tests": len(study.durations), "failing": len(study.failing),
            "flaky": len(study.flaky), "functions": len(study.reach),
            "mutants": len(selection.mutants), "dropped": dict(selection.dropped),
        }  # fmt: skip
    write_rows(folder / "mutants.jsonl", drawn)
    return {"projects": report, "refused": refused, "mutants": len(drawn)}


def quota(budget: TaskBudget) -> Quota:
    """A budget as the engines take it."""
    return Quota(
        limit=budget.mutants,
        per_function=budget.mutants_per_function,
        per_operator=max(1, int(budget.operator_share * budget.mutants)),
        per_function_operator=budget.mutants_per_function_operator,
        max_function_lines=budget.max_function_lines,
        seed=budget.seed,
    )


def _proposals(
    usable: Sequence[str],
    listed: Mapping[str, ListedProject],
    items: Mapping[str, dict[str, Any]],
    names: Mapping[str, str],
    backend: LanguageBackend,
    budget: TaskBudget,
    executions: Executions,
) -> dict[str, list[ProjectMutant]]:
    if budget.engine == BUILTIN:
        return {n: builtin_proposals(listed[n].project, backend.operators) for n in usable}
    known = [tool.name for tool in backend.mutation_tools]
    if budget.engine not in known:
        raise ConfigError(
            f"language.tasks.engine={budget.engine!r}: {backend.name} has "
            f"{', '.join([BUILTIN, *known])}."
        )
    more = {"engine": budget.engine, "max_mutants": budget.mutants * 20}
    asked = {
        hash_value([key, more]): {**item, **more}
        for key, item in items.items() if names[key] in usable
    }  # fmt: skip
    found: dict[str, list[ProjectMutant]] = {}
    for key, outcome in executions.results(PROPOSE, asked, budget.engine):
        name = asked[key]["project"]["name"]
        value = _value(outcome)
        if "refused" in value:
            logger.warning("%s finds no mutants of %s: %s", budget.engine, name, value["refused"])
        found[name] = [read_mutant(row) for row in value.get("mutants", ())]
    return found


def verify_mutants(
    folder: Path, projects: Stored, mutants: Stored, budget: TaskBudget, executions: Executions
) -> dict[str, Any]:
    """Verify every mutant; `tasks.jsonl` has the proven ones, `rejected.jsonl` the others."""
    rows = {row["name"]: row for row in json.loads((projects.path / PROJECTS).read_text())}
    by_project: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in read_rows(mutants.path / "mutants.jsonl"):
        by_project[row["project"]].append(row)
    items: dict[str, dict[str, Any]] = {}
    costs: dict[str, float] = {}
    for name, found in by_project.items():
        place = mutants.path / "studies" / f"{name}.json"
        content = json.loads(place.read_text())
        study = Study.from_json(content["study"])
        for batch in _batches(found, budget.batch):
            key = batch_key(
                content["prepared"], study, [read_mutant(row) for row in batch], budget,
                rows[name]["split"],
            )  # fmt: skip
            items[key] = {
                "project": rows[name], "folder": str(projects.path), "study": str(place),
                "mutants": batch, "budget": budget.model_dump(mode="json"),
            }  # fmt: skip
            costs[key] = sum(study.durations[test] for row in batch
                             for test in study.tests_of(read_mutant(row)))  # fmt: skip
    outcomes = dict(executions.results(VERIFY, items, "batches of mutants", costs))
    tasks, rejected = [], []
    for key, item in items.items():  # in the order of the mutants, whichever came first
        masked = outcomes[key].status is Status.MASKED
        for row, verdict in zip(
            item["mutants"],
            [{}] * len(item["mutants"]) if masked else outcomes[key].value["verdicts"],
            strict=True,
        ):
            if verdict.get("task"):
                tasks.append(verdict["task"])
            else:
                reason = verdict.get("reason", "the infrastructure failed")
                rejected.append({"mutant": row, "reason": reason})
    write_rows(folder / "tasks.jsonl", tasks)
    write_rows(folder / "rejected.jsonl", rejected)
    write_rows(
        folder / "batches.jsonl",
        [{"key": key, "project": item["project"]["name"], "mutants": len(item["mutants"])}
         for key, item in items.items()],
    )  # fmt: skip
    return {"tasks": len(tasks), "rejected": _counts(row["reason"] for row in rejected)}


def split_tasks(folder: Path, verified: Stored, budget: TaskBudget) -> dict[str, Any]:
    """One file for each split; of the held-out tasks a balanced selection."""
    tasks = [BugTask.from_json(row) for row in read_rows(verified.path / "tasks.jsonl")]
    if not tasks:
        raise DataError(
            "no mutant became a bug task. Look at rejected.jsonl in the store's step "
            f"{verified.step}, and at the projects' tests."
        )
    report: dict[str, Any] = {}
    for split in SPLITS:
        kept: Sequence[BugTask] = [task for task in tasks if task.split == split]
        if split == "heldout":
            kept = select_balanced(
                kept, budget.heldout_tasks, budget.heldout_operator_share, budget.seed
            )
        write_rows(folder / f"{split}.jsonl", (task.to_json() for task in kept))
        report[split] = {
            "tasks": len(kept),
            "operators": _counts(task.mutant.mutant.operator for task in kept),
            "projects": _counts(task.mutant.project for task in kept),
        }
    return report


def _batches(rows: list[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _bytes_of_tests(project: Project) -> int:
    return sum((project.root / file).stat().st_size for file in project.files(project.tests))


def _counts(names: Iterator[str] | Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _value(outcome: Outcome) -> dict[str, Any]:
    if outcome.status is Status.MASKED:
        return {"refused": f"the infrastructure failed: {outcome.note}"}
    return outcome.value


def _need(found: Sequence[Any], refused: Mapping[str, str]) -> None:
    if not found:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in refused.items())
        raise DataError(f"no project can be used:\n{reasons}")
