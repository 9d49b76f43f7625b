"""The stored baselines of a language: the best rule, chosen on training tasks, and verdicts."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curricle.agents.baselines import BASELINES, MEASURE, TRY_RULES
from curricle.agents.rules import choose_rule
from curricle.agents.scoring import Baselines, Verdict
from curricle.agents.trajectories import balanced
from curricle.checkpoints.hashing import hash_value
from curricle.checkpoints.store import Stored
from curricle.config.evaluation import EvaluationParameters
from curricle.errors import DataError
from curricle.execution.journal import Status
from curricle.languages.tasks import BugTask
from curricle.pipelines.sft.rows import write_rows
from curricle.pipelines.tasks.files import PROJECTS, read_rows, read_tasks
from curricle.pipelines.tasks.steps import Executions
from curricle.stages.build import read_report

logger = logging.getLogger(__name__)

ROWS = "baselines.jsonl"
_REVISION = 1


def heldout_tasks(tasks: Stored, limit: int) -> tuple[BugTask, ...]:
    """The tasks of an evaluation: the same for models and for baselines.

    Raises:
        DataError: There is none.
    """
    found = read_tasks(tasks, "heldout")[:limit]
    if not found:
        raise DataError(
            "no held-out bug task: nothing can be evaluated. List a project with the split "
            "heldout, or raise language.tasks.mutants."
        )
    return found


def measure_baselines(
    folder: Path,
    projects: Stored,
    tasks: Stored,
    parameters: EvaluationParameters,
    executions: Executions,
) -> dict[str, Any]:
    """Write `baselines.jsonl`, a row a held-out task; the report names the rule and its choice.

    Raises:
        DataError: There is no held-out task.
    """
    chosen = parameters.baselines
    heldout = heldout_tasks(tasks, parameters.attempts.max_tasks)
    training = balanced(
        read_tasks(tasks, "train") or read_tasks(tasks, "tui"),
        lambda task: task.mutant.mutant.operator, lambda task: task.id,
        seed=chosen.seed, limit=chosen.rule_tasks, max_share=chosen.operator_share,
    )  # fmt: skip
    shared = {
        "folder": str(projects.path), "run_wall_s": parameters.attempts.run_wall_s,
        "seed": chosen.seed,
    }  # fmt: skip
    results = _values(executions, TRY_RULES, _items(projects, training, shared), "rules")
    tried = [value["fixed"] for value in results.values() if value is not None]
    choice = choose_rule(tried)
    order = sorted(choice.scores, key=lambda name: -choice.scores[name])  # stable: rules' order
    more = {"levels": list(parameters.attempts.levels), "rules": order, "tries": chosen.tries}
    measured = _values(
        executions, MEASURE, _items(projects, heldout, {**shared, **more}), "baselines"
    )
    nothing = Verdict(None).to_json()
    rows = [
        {
            "task": task.id, "project": task.mutant.project,
            "operator": task.mutant.mutant.operator,
            **((measured[task.id] or {}).get("verdicts") or dict.fromkeys(BASELINES, nothing)),
        }
        for task in heldout
    ]  # fmt: skip
    write_rows(folder / ROWS, rows)
    refused = [row["task"] for row in rows if row["oracle"]["fixed"] is not True]
    if refused:
        logger.warning(
            "baselines: of %d held-out tasks the original itself is not accepted, so no model can "
            "fix them: %s", len(refused), ", ".join(task[:12] for task in refused),
        )  # fmt: skip
    report = {
        "rule": choice.rule.name, "rule_fixed": choice.fixed, "rule_tasks": choice.tasks,
        "scores": dict(choice.scores), "tasks": len(heldout),
        "masked": sum(value is None for value in measured.values()),
        "original_refused": refused,
    }  # fmt: skip
    logger.info("baselines: the best rule is %s: it fixes %d of %d training tasks",
                choice.rule.name, choice.fixed, choice.tasks)  # fmt: skip
    return report


def read_baselines(stored: Stored) -> Baselines:
    """The verdicts of all baselines, by held-out task."""
    by_name: dict[str, dict[str, Verdict]] = defaultdict(dict)
    for row in read_rows(stored.path / ROWS):
        for name in BASELINES:
            by_name[name][row["task"]] = Verdict.from_json(row[name])
    no_op, oracle, rule, searched = (by_name[name] for name in BASELINES)
    return Baselines(no_op, oracle, rule, read_report(stored)["rule"], searched)


def _items(
    projects: Stored, tasks: Sequence[BugTask], shared: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Task's id to its item."""
    rows = {row["name"]: row for row in json.loads((projects.path / PROJECTS).read_text())}
    return {
        task.id: {**shared, "project": rows[task.mutant.project], "task": task.to_json()}
        for task in tasks
    }


def _values(
    executions: Executions, work: str, items: Mapping[str, dict[str, Any]], label: str
) -> dict[str, dict[str, Any] | None]:
    """Each task's result; `None` of what the machine spoiled, which is counted, never scored."""
    keys = {
        hash_value([work, _REVISION, {k: v for k, v in item.items() if k != "folder"}]): name
        for name, item in items.items()
    }  # fmt: skip
    keyed = {key: items[name] for key, name in keys.items()}
    return {
        keys[key]: outcome.value if outcome.status is Status.DONE else None
        for key, outcome in executions.results(work, keyed, label)
    }
