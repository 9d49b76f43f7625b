"""Attempts of a model at bug tasks: what IPO learns from, and what an evaluation counts."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from curricle.agents.bug_environment import FACTORY, BugSettings
from curricle.agents.conversation import Trajectory
from curricle.agents.generator import Generator
from curricle.agents.hosting import HostedEnvironments
from curricle.agents.recording import record_rollouts
from curricle.agents.remote import RemoteEnvironments
from curricle.agents.scoring import Attempt
from curricle.agents.tools import offered_schemas
from curricle.checkpoints.store import Store
from curricle.config.agent_data import AgentRolloutParameters
from curricle.engine.generation.opening import open_generator
from curricle.engine.models import load_tokenizer
from curricle.engine.renderers import Renderer, renderer_for
from curricle.errors import DataError
from curricle.languages.commands import Level
from curricle.languages.registry import get_backend
from curricle.languages.tasks import BugTask
from curricle.launch.job import Job, JobResult
from curricle.pipelines.sft.rows import read_rows

logger = logging.getLogger(__name__)

ATTEMPTS = "attempts.jsonl"
TRAJECTORIES = "rollouts.jsonl"


def rollout_job(job: Job) -> JobResult:
    """Try the tasks of a split, and write every attempt with its transcript and its verdict."""
    parameters = AgentRolloutParameters(**job.parameters["rollouts"])
    split, operators = job.parameters["split"], job.parameters.get("operators")
    tasks = stored_tasks(job, split, operators)[: parameters.max_tasks]
    attempts = attempt_tasks(job, job.inputs.get("model"), tasks, parameters)
    write_attempts(job.output / ATTEMPTS, attempts)
    fixed = sum(bool(attempt.verdict.fixed) for attempt in attempts)
    tokens = sum(attempt.prompt_tokens + attempt.tokens for attempt in attempts)
    return JobResult(effective={"attempts": len(attempts), "fixed": fixed, "tokens": tokens})


def stored_tasks(job: Job, split: str, operators: Collection[str] | None = None) -> list[BugTask]:
    """The bug tasks of a split, of every language whose tasks the job was given.

    Args:
        job: names the stored inputs.
        split: of the tasks.
        operators: the sorts of bugs that are taken; ``None`` for all.

    Raises:
        DataError: there are none.
    """
    folders = [path for name, path in sorted(job.inputs.items()) if name.startswith("tasks_")]
    by_language = [
        [BugTask.from_json(row) for _, row in read_rows(folder / f"{split}.jsonl")]
        for folder in folders
    ]
    # In turn, so that the first few of them hold all languages.
    turns = zip_longest(*by_language)
    tasks = [
        task
        for turn in turns
        for task in turn
        if task is not None and (operators is None or task.mutant.mutant.operator in operators)
    ]
    if not tasks:
        some = "" if operators is None else f" of the operators {', '.join(sorted(operators))}"
        raise DataError(
            f"{job.step}: no bug task{some} in the split {split}. Make some: raise mutants."
        )
    return tasks


def attempt_tasks(
    job: Job, checkpoint: Path | None, tasks: Sequence[BugTask], parameters: AgentRolloutParameters
) -> list[Attempt]:
    """Attempt every task as often as asked for; the attempts come in the order of the tasks.

    What was finished when a signal arrived is kept in ``job.resume``. Without a checkpoint there
    must be an endpoint that takes messages, and renders them itself.
    """
    renderer = None
    if checkpoint is not None:
        renderer = renderer_for(load_tokenizer(checkpoint), parameters.renderer, job.step)
    settings = BugSettings(
        session=parameters.session, run_wall_s=parameters.run_wall_s,
        levels=tuple(Level(level) for level in parameters.levels), sandbox=parameters.sandbox,
    )  # fmt: skip
    hosted = HostedEnvironments(
        FACTORY, settings.model_dump(mode="json"), job.inputs,
        workers=parameters.rollout.workers, timeout_s=parameters.rollout.step_timeout_s,
    )  # fmt: skip
    generator = open_generator(
        parameters.generation, checkpoint, renderer.stop_token_ids if renderer else (),
        precision=job.precision, threads=job.threads,
        store=None if checkpoint is None else Store(checkpoint.resolve().parents[1]),
    )  # fmt: skip
    try:
        trajectories = _converse(job, tasks, parameters, renderer, generator, hosted)
    finally:
        generator.close()
    by_name = dict(zip((n for n, _, _ in _named(tasks, parameters.samples)), trajectories,
                       strict=True))  # fmt: skip
    return [
        _attempt(task, sample, by_name[name])
        for name, task, sample in _named(tasks, parameters.samples)
    ]


def write_attempts(path: Path, attempts: Sequence[Attempt]) -> None:
    """Write attempts, one JSON row each."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(attempt.to_json()) + "\n" for attempt in attempts)


def _named(tasks: Sequence[BugTask], samples: int) -> list[tuple[str, BugTask, int]]:
    return [(f"{task.id}/{sample}", task, sample) for task in tasks for sample in range(samples)]


def _converse(
    job: Job,
    tasks: Sequence[BugTask],
    parameters: AgentRolloutParameters,
    renderer: Renderer | None,
    generator: Generator,
    hosted: HostedEnvironments,
) -> list[Trajectory]:
    with RemoteEnvironments(hosted) as room:
        named = _named(tasks, parameters.samples)
        conversations = [
            room.task(
                name,
                task.to_json(),
                offered_schemas(get_backend(task.mutant.language).tools, parameters.session.tools),
                seed=parameters.generation.seed + number,
                temperature=parameters.generation.temperature,
            )
            for number, (name, task, _) in enumerate(named)
        ]
        return record_rollouts(
            job.resume / TRAJECTORIES, conversations, generator, renderer, parameters.rollout,
            max_new_tokens=parameters.generation.max_new_tokens,
        )  # fmt: skip


def _attempt(task: BugTask, sample: int, trajectory: Trajectory) -> Attempt:
    """A conversation as it is counted; one that the machine spoiled is masked."""
    details = trajectory.outcome.get("details")
    if not details:
        return Attempt.masked(task, sample, trajectory.note, trajectory.messages)
    return replace(
        Attempt.from_json(details), sample=sample,
        prompt_tokens=trajectory.read_tokens, tokens=trajectory.generated_tokens,
    )  # fmt: skip
