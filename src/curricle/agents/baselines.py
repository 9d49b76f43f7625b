"""What a worker of the executor does for baselines: repairs without a model, graded like a model's.

Rules are tried on training tasks to choose the best one; on held-out tasks stand the empty patch,
the original text, the chosen rule, and the first rule whose repair passes the visible tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricle.agents.judging import Judge
from curricle.agents.prompts import sandboxed_run
from curricle.agents.rules import (
    RULES,
    no_op_patch,
    oracle_patch,
    rule_patch,
    rule_results,
    searched_patch,
)
from curricle.agents.scoring import Verdict
from curricle.execution.baselines import Baselines
from curricle.execution.limits import Limits
from curricle.execution.task_worker import TaskWorker, open_worker
from curricle.languages.commands import Level
from curricle.languages.tasks import BugTask, Patch

OPEN = "curricle.agents.baselines:open_grader"
TRY_RULES = "curricle.agents.baselines:rules_item"
MEASURE = "curricle.agents.baselines:baselines_item"

BASELINES = ("no_op", "oracle", "best_rule", "searched_rules")
"""What is measured of each held-out task, by the names that reports give them."""


@dataclass(frozen=True)
class Grader:
    """What stays between the items of one worker."""

    worker: TaskWorker
    kept: Baselines

    def judge(self, item: Mapping[str, Any]) -> Judge:
        """Who judges the patches of an item."""
        levels = tuple(Level(level) for level in item.get("levels", ()))
        limits = Limits(wall_s=item["run_wall_s"])
        return Judge(self.worker.sandbox, limits, self.kept, levels, item["seed"])


@contextmanager
def open_grader(settings: Mapping[str, Any]) -> Iterator[Grader]:
    """Set a worker up: as for bug tasks, and the folder of what grades have `kept`."""
    with open_worker(settings) as worker:
        yield Grader(worker, Baselines(Path(settings["kept"])))


def rules_item(item: Mapping[str, Any], grader: Grader) -> dict[str, Any]:
    """Try every rule on a training task: `{"fixed": {rule: whether}}`.

    Raises:
        InfrastructureFault: A run failed; the item is tried again.
    """
    worker, judge = grader.worker, grader.judge(item)
    prepared = worker.prepare(item, judge.limits)

    def fixes(task: BugTask, patch: Patch) -> bool | None:
        return judge.verdict(task, patch, prepared, worker.backend).fixed

    task = BugTask.from_json(item["task"])
    return {"fixed": rule_results(task, prepared.project, worker.backend, fixes)}


def baselines_item(item: Mapping[str, Any], grader: Grader) -> dict[str, Any]:
    """Measure a held-out task: `{"verdicts": {baseline: verdict}}`.

    The item names the `rules` from the best on; the first is the best rule, and the search takes
    them in that order, at most `tries`.

    Raises:
        InfrastructureFault: A run failed; the item is tried again.
    """
    worker, judge = grader.worker, grader.judge(item)
    backend, prepared = worker.backend, worker.prepare(item, judge.limits)
    task, project = BugTask.from_json(item["task"]), prepared.project
    by_name = {rule.name: rule for rule in RULES}
    rules = [by_name[name] for name in item["rules"]]
    run = sandboxed_run(backend, prepared, worker.sandbox, judge.limits)
    patches = (
        no_op_patch(),
        oracle_patch(task, project),
        rule_patch(rules[0], task, project, backend),
        searched_patch(task, project, backend, run, item["tries"], rules),
    )
    verdicts: dict[str, Verdict] = {}
    for patch in patches:
        if patch.id not in verdicts:
            verdicts[patch.id] = judge.verdict(task, patch, prepared, backend)
    return {
        "verdicts": {
            name: verdicts[patch.id].to_json()
            for name, patch in zip(BASELINES, patches, strict=True)
        }
    }
