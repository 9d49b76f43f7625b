"""The GRPO job: a checkpoint, tasks and an environment in; a checkpoint and its rounds out.

The job knows of no language and no bug. What a task is, and what it is worth to have done it, is
the environment's to say; here tries are made, recorded, compared and learnt from.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from curricle.agents.hosting import HostedEnvironments
from curricle.agents.remote import RemoteEnvironments
from curricle.config.agent_training import GrpoParameters
from curricle.config.generation import GenerationParameters
from curricle.engine.adapters import adapter_arguments, save_trained
from curricle.engine.generation.batching import BatchedGenerator
from curricle.engine.generation.opening import generator_of
from curricle.engine.grpo_journal import JOURNAL_NAME, RoundJournal
from curricle.engine.grpo_rollouts import Rollouts
from curricle.engine.grpo_rounds import Round, Task, draw_round, require_tasks
from curricle.engine.grpo_trainer import GroupTrainer, grpo_arguments
from curricle.engine.models import load_model, load_tokenizer
from curricle.engine.post_training import write_curve
from curricle.engine.renderers import Renderer, attach_agent_template, renderer_for
from curricle.engine.trainers import train
from curricle.errors import StoreError
from curricle.launch.job import Job, JobResult
from curricle.pipelines.sft.rows import read_rows

logger = logging.getLogger(__name__)

REWARDS_NAME = "rewards.jsonl"
"""Beside the checkpoint: what each round tried and what it was worth."""


def grpo_job(job: Job) -> JobResult:
    """Train on the rewards of tries; resumed rounds are replayed from the journal."""
    parameters = GrpoParameters(**job.parameters)
    tokenizer = load_tokenizer(job.inputs["start"])
    renderer = renderer_for(tokenizer, parameters.renderer, job.step)
    if parameters.renderer in ("plain", "json"):
        attach_agent_template(tokenizer, parameters.renderer)
    tasks = [row for _, row in read_rows(job.inputs["data"] / "train.jsonl")]
    require_tasks(tasks, job.step)
    journal = RoundJournal(job.resume)
    workers = environment_workers(job, parameters)
    with RemoteEnvironments(environments(job, parameters, workers)) as room:
        rounds = Rounds(parameters, tasks, renderer, room, workers, journal)

        def make_trainer(micro_batch: int) -> GroupTrainer:
            model = load_model(job.inputs["start"])
            return GroupTrainer(
                parameters, rounds,
                model=model,
                args=grpo_arguments(parameters, job, micro_batch),
                train_dataset=Dataset.from_dict({"prompt": [""] * parameters.groups}),
                processing_class=tokenizer,
                start=lambda: load_model(job.inputs["start"]),
                **adapter_arguments(model, parameters.adapter, job.step),
            )  # fmt: skip

        trainer, curve, measured = train(job, parameters, make_trainer)
    trained = save_trained(trainer, tokenizer, job)
    write_curve(job.output, curve)
    write_rewards(job.output, journal.rounds)
    return JobResult(
        effective={**trained, **count_rounds(journal.rounds), "tasks": len(tasks)},
        measured={**measured, "rollout_s": round(rounds.seconds, 2)},
    )


def environment_workers(job: Job, parameters: GrpoParameters) -> int:
    """Return how many processes environments live in."""
    cores = job.threads or len(os.sched_getaffinity(0))
    return min(parameters.environment.workers or cores, parameters.concurrency)


def environments(job: Job, parameters: GrpoParameters, workers: int) -> HostedEnvironments:
    """Return where the tries take place."""
    source = parameters.environment
    return HostedEnvironments(
        source.function, source.settings, job.inputs,
        workers=workers, timeout_s=source.step_timeout_s,
    )  # fmt: skip


class Rounds:
    """Gives a trainer its rounds: from the journal, or rolled out and then recorded.

    Attributes:
        seconds: what rolling out took in this process.
    """

    def __init__(
        self,
        parameters: GrpoParameters,
        tasks: list[Task],
        renderer: Renderer,
        room: RemoteEnvironments,
        workers: int,
        journal: RoundJournal,
    ) -> None:
        self._parameters = parameters
        self._tasks = tasks
        self._renderer = renderer
        self._room = room
        self._workers = workers
        self._journal = journal
        self.seconds = 0.0

    def __call__(self, trainer: GroupTrainer, number: int) -> Round:
        """Return a round, tried with the trainer's weights as they are."""
        recorded = self._journal.find(number)
        if recorded is not None:
            return recorded
        if number != len(self._journal.rounds):
            raise StoreError(
                f"{JOURNAL_NAME} ends before round {number}, which a saved step has already been "
                f"trained on. Remove the folder that it is in, and train from the beginning."
            )
        started = time.monotonic()
        drawn = self._journal.rounds[-1].drawn if number else 0
        with generator(trainer, self._parameters, self._renderer) as drawing:
            roll_out = Rollouts(
                drawing, self._renderer, self._room, self._parameters, self._workers, trainer.stop
            )
            done = draw_round(number, drawn, self._tasks, self._parameters, roll_out)
        self._journal.record(done)
        self.seconds += time.monotonic() - started
        return done


@contextlib.contextmanager
def generator(
    trainer: GroupTrainer, parameters: GrpoParameters, renderer: Renderer
) -> Iterator[BatchedGenerator]:
    """Generate with the trainer's present weights, an adapter included.

    The whole distribution is drawn from, and in the arithmetic that the loss is computed in: others
    would be another policy than the one whose ratios it is made of.
    """
    settings = GenerationParameters(
        compute_type="bfloat16" if trainer.args.bf16 else "float32",
        batch_size=parameters.concurrency,
        cache_tokens=max(65_536, parameters.concurrency * (parameters.max_length + 256)),
    )
    with torch.no_grad(), merged(trainer.accelerator.unwrap_model(trainer.model)) as model:
        made = generator_of(model, settings, renderer.stop_token_ids)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def merged(model: PreTrainedModel | PeftModel) -> Iterator[PreTrainedModel]:
    """Within the block a model's weights are those with its adapter; afterwards the very same.

    Merging and unmerging by PEFT would leave every weight a rounding error away from where it was.
    """
    if not isinstance(model, PeftModel):
        yield model
        return
    adapted = [module for module in model.modules() if isinstance(module, LoraLayer)]
    before = [layer.get_base_layer().weight.data for layer in adapted]
    try:
        for layer, weight in zip(adapted, before, strict=True):
            (name,) = layer.active_adapters
            layer.get_base_layer().weight.data = weight + layer.get_delta_weight(name)
        yield model.get_base_model()
    finally:
        for layer, weight in zip(adapted, before, strict=True):
            layer.get_base_layer().weight.data = weight


def count_rounds(rounds: list[Round]) -> dict[str, Any]:
    """Return what became of all tries."""
    groups = [group for done in rounds for group in [*done.groups, *done.replaced]]
    attempts = [attempt for group in groups for attempt in group.attempts]
    return {
        "rounds": len(rounds),
        "tries": len(attempts),
        "tokens": sum(len(a.prompt_ids) + len(a.completion_ids) for a in attempts),
        "tries_masked": sum(attempt.reward is None for attempt in attempts),
        "tries_overlong": sum(attempt.overlong for attempt in attempts),
        "groups": len(groups),
        "groups_differing": sum(group.differs for group in groups),
        "groups_masked": sum(not group.rewards for group in groups),
        "groups_replaced": sum(len(done.replaced) for done in rounds),
    }


def write_rewards(folder: Path, rounds: list[Round]) -> None:
    """Write a line per group: round, task, rewards, how each try ended."""
    with (folder / REWARDS_NAME).open("w") as lines:
        for done in rounds:
            for group in [*done.groups, *done.replaced]:
                row = {
                    "round": done.number,
                    "task": group.task,
                    "rewards": [attempt.reward for attempt in group.attempts],
                    "endings": [attempt.ending for attempt in group.attempts],
                    "notes": sorted({a.note for a in group.attempts if a.note}),
                }
                lines.write(json.dumps(row) + "\n")
